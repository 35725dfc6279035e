//! The table `drafts`: jobs that are made before their files arrive.
//!
//! A draft has the number that its job will have, and no row in `jobs`: nothing that lists or runs jobs has to know of drafts.

use diesel::prelude::*;
use jiff::{SignedDuration, Timestamp};

use super::{
    Job, JobKind, NewJob, Store, StoreError,
    connection::{AnyConnection, columns},
    draft_files::{self, DraftFile},
    glb_files::{check_original_name, no_such_user},
    jobs as job_rows,
    queue::{Admission, check_places},
    schema::{drafts, jobs, users},
    time::{column, now, parse_time},
    users::ACTIVE,
};

/// How long a draft stays after its last byte: a day, so that an upload that broke off in the evening goes on in the morning.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// Most drafts of a user: several times as many as may wait in the queue by default, and few enough for one page of a list.
const PER_USER: i64 = 16;

/// A job to be made before its files.
#[derive(Debug, Clone)]
pub struct NewDraft {
    /// User who owns it.
    pub user_id: i32,
    /// Options, in the form in which the queue reads them back.
    pub options_json: String,
    /// Folder of the files, relative to [`Store::jobs_dir`].
    pub dir: String,
}

/// A job whose files arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The number of the job, never reused.
    pub id: i64,
    /// User who owns it.
    pub user_id: i32,
    /// Options as they were stored.
    pub options_json: String,
    /// Folder of the files; [`Store::job_dir`] resolves it.
    pub dir: String,
    /// Number of the next file.
    pub next_file: i32,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it is removed unless bytes arrive.
    pub expires_at: Option<Timestamp>,
    /// Its files, in the order in which they were announced.
    pub files: Vec<DraftFile>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = drafts)]
struct DraftRow {
    id: i64,
    user_id: i32,
    options_json: String,
    dir: String,
    next_file: i32,
    created_at: String,
    expires_at: String,
}

impl From<DraftRow> for Draft {
    fn from(row: DraftRow) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            options_json: row.options_json,
            dir: row.dir,
            next_file: row.next_file,
            created_at: parse_time(&row.created_at),
            expires_at: parse_time(&row.expires_at),
            files: Vec::new(),
        }
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = drafts::table.select(DraftRow::as_select()).limit(0);
    all.load(conn)?;
    draft_files::probe(conn)
}

/// Returns the folders of a user's drafts.
pub(super) fn dirs_of(conn: &mut AnyConnection, user_id: i32) -> QueryResult<Vec<String>> {
    let own = drafts::table.filter(drafts::user_id.eq(user_id));
    own.select(drafts::dir).load(conn)
}

impl Store {
    /// Makes a draft. Once this returns it is on the disk.
    ///
    /// # Errors
    /// When the user has too many, there is no such user, or the row cannot be written.
    pub fn add_draft(&self, new: &NewDraft) -> Result<Draft, StoreError> {
        let time = now();
        self.connection()?.write(|conn| {
            let own = drafts::table.filter(drafts::user_id.eq(new.user_id));
            let count: i64 = own.count().get_result(conn)?;
            if count >= PER_USER {
                return Err(StoreError::TooManyDrafts(count));
            }
            let row: DraftRow = diesel::insert_into(drafts::table)
                .values((
                    drafts::id.eq(next_id(conn, new)?),
                    drafts::user_id.eq(new.user_id),
                    drafts::options_json.eq(&new.options_json),
                    drafts::dir.eq(&new.dir),
                    drafts::created_at.eq(column(time)),
                    drafts::expires_at.eq(column(time + LIFE)),
                ))
                .returning(columns::<DraftRow>())
                .get_result(conn)?;
            Ok(row.into())
        })
    }

    /// Returns all drafts, also those whose time is over, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drafts(&self) -> Result<Vec<Draft>, StoreError> {
        let mut pooled = self.connection()?;
        let conn = &mut *pooled;
        let all = drafts::table.order(drafts::id);
        let rows: Vec<DraftRow> = all.select(DraftRow::as_select()).load(conn)?;
        with_files(conn, rows)
    }

    /// Returns the drafts of a user, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drafts_of(&self, user_id: i32) -> Result<Vec<Draft>, StoreError> {
        let mut pooled = self.connection()?;
        let conn = &mut *pooled;
        let rows: Vec<DraftRow> = drafts::table
            .filter(drafts::user_id.eq(user_id))
            .filter(drafts::expires_at.gt(column(now())))
            .order(drafts::id)
            .select(DraftRow::as_select())
            .load(conn)?;
        with_files(conn, rows)
    }

    /// Returns a draft of a user; `None` when the user has no such draft, or its time is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn draft_of(&self, user_id: i32, id: i64) -> Result<Option<Draft>, StoreError> {
        let mut pooled = self.connection()?;
        let conn = &mut *pooled;
        let row: Option<DraftRow> = drafts::table
            .find(id)
            .filter(drafts::user_id.eq(user_id))
            .filter(drafts::expires_at.gt(column(now())))
            .select(DraftRow::as_select())
            .first(conn)
            .optional()?;
        Ok(with_files(conn, row.into_iter().collect())?.pop())
    }

    /// Returns the numbers of the drafts that stay: their time is not over, and their users may log in.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drafts_that_stay(&self) -> Result<Vec<i64>, StoreError> {
        let stay = drafts::table
            .inner_join(users::table.on(users::id.eq(drafts::user_id)))
            .filter(drafts::expires_at.gt(column(now())))
            .filter(users::status.eq(ACTIVE));
        Ok(stay.select(drafts::id).load(&mut *self.connection()?)?)
    }

    /// Removes a draft with its files' rows, and returns true if there was one.
    ///
    /// # Errors
    /// When the rows cannot be removed.
    pub fn remove_draft(&self, id: i64) -> Result<bool, StoreError> {
        Ok(diesel::delete(drafts::table.find(id)).execute(&mut *self.connection()?)? > 0)
    }

    /// Makes a job of a draft, under its number, and removes the draft. `None`, and nothing is changed, when the draft has been
    /// removed or has other files than it had.
    ///
    /// # Errors
    /// When the name does not fit or the rows cannot be written.
    pub fn start_draft(&self, draft: &Draft, job: &NewJob) -> Result<Option<Job>, StoreError> {
        check_original_name(&job.original_name)?;
        let started = self.connection()?.write(|conn| {
            let count = draft_files::all_of(conn, draft.id)?.len();
            let same = drafts::table
                .find(draft.id)
                .filter(drafts::next_file.eq(draft.next_file));
            let is_same = count == draft.files.len();
            if !is_same || diesel::delete(same).execute(conn)? == 0 {
                return Ok(None);
            }
            check_places(conn, job.user_id, &job.admission)?;
            let row = job_rows::insert(conn, job, Some(draft.id))
                .map_err(|e| no_such_user(e, job.user_id))?;
            Ok::<_, StoreError>(Some(row))
        })?;
        if let Some(row) = &started {
            self.prune_after(row.id, row.user_id);
        }
        Ok(started)
    }
}

/// Takes the next number of a job: that of a row that is not there any more when the transaction ends.
fn next_id(conn: &mut AnyConnection, new: &NewDraft) -> Result<i64, StoreError> {
    let job = NewJob {
        user_id: new.user_id,
        kind: JobKind::Images,
        original_name: String::new(),
        options_json: String::new(),
        input_key: String::new(),
        dir: String::new(),
        admission: Admission::default(),
        // Nobody takes it for one that waits.
        hash: Some(String::new()),
    };
    let row = job_rows::insert(conn, &job, None).map_err(|e| no_such_user(e, new.user_id))?;
    diesel::delete(jobs::table.find(row.id)).execute(conn)?;
    Ok(row.id)
}

fn with_files(conn: &mut AnyConnection, rows: Vec<DraftRow>) -> Result<Vec<Draft>, StoreError> {
    let mut drafts: Vec<Draft> = rows.into_iter().map(Draft::from).collect();
    for draft in &mut drafts {
        draft.files = draft_files::all_of(conn, draft.id)?;
    }
    Ok(drafts)
}
