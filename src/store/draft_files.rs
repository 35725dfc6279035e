//! The table `draft_files`: files of drafts, and how much of each has arrived.

use diesel::prelude::*;
use jiff::Timestamp;

use super::{
    Store, StoreError,
    connection::{AnyConnection, columns},
    drafts::LIFE,
    schema::{draft_files, draft_parts, drafts},
    time::{column, now},
};

/// A file to be added to a draft.
#[derive(Debug, Clone)]
pub struct NewDraftFile {
    /// Name, 255 characters at most; `None` for one that tells the position.
    pub name: Option<String>,
    /// What the client tells of it, as it was sent.
    pub metadata: String,
    /// Size in bytes.
    pub length: u64,
}

/// A file of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftFile {
    /// Number in its draft, never reused.
    pub number: i32,
    /// Name.
    pub name: String,
    /// What the client told of it, as it was sent.
    pub metadata: String,
    /// Size in bytes.
    pub length: u64,
    /// So many bytes are on the disk.
    pub received: u64,
}

impl DraftFile {
    /// Returns the name of the file in the folder of its draft. Not the name that a job's input has: files may be removed, so that the
    /// numbers have gaps.
    pub fn name_in_folder(number: i32) -> String {
        format!("upload_{number:05}")
    }

    /// Returns true when the whole file is there.
    pub fn is_complete(&self) -> bool {
        self.received == self.length
    }
}

/// Bytes of a file of a draft that are an object of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftPart {
    /// The byte of the file with which it begins.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
    /// Name of the object, among those of the draft.
    pub name: String,
}

impl DraftPart {
    /// Names the part of a file that has this number. Of two that begin at the same byte, `mark` tells which is meant.
    pub fn new(number: i32, start: u64, length: u64, mark: &str) -> Self {
        let file = DraftFile::name_in_folder(number);
        Self {
            start,
            length,
            name: format!("{file}.{start:015}-{mark}"),
        }
    }
}

/// How much one draft may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftLimits {
    /// Number of files.
    pub files: u32,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What became of a file that was to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedFile {
    /// It is there.
    Added {
        /// The file.
        file: DraftFile,
        /// When its draft is removed unless bytes arrive.
        expires_at: Timestamp,
    },
    /// There is no such draft.
    NoDraft,
    /// The draft has as many files as it may have.
    TooMany,
    /// The files would be longer than they may be.
    TooLong,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = draft_files)]
struct FileRow {
    number: i32,
    name: String,
    metadata: String,
    length: i64,
    received: i64,
}

impl From<FileRow> for DraftFile {
    fn from(row: FileRow) -> Self {
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        Self {
            number: row.number,
            name: row.name,
            metadata: row.metadata,
            length: unsigned(row.length),
            received: unsigned(row.received),
        }
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = draft_files::table.select(FileRow::as_select()).limit(0);
    all.load(conn).map(|_| ())
}

/// Returns the files of a draft, in the order in which they were announced.
pub(super) fn all_of(conn: &mut AnyConnection, draft_id: i64) -> QueryResult<Vec<DraftFile>> {
    let rows: Vec<FileRow> = draft_files::table
        .filter(draft_files::draft_id.eq(draft_id))
        .order(draft_files::number)
        .select(FileRow::as_select())
        .load(conn)?;
    Ok(rows.into_iter().map(DraftFile::from).collect())
}

impl Store {
    /// Adds a file to a draft, of which no byte is there yet.
    ///
    /// # Errors
    /// When the rows cannot be read or written.
    pub fn add_draft_file(
        &self,
        draft_id: i64,
        new: &NewDraftFile,
        limits: DraftLimits,
    ) -> Result<AddedFile, StoreError> {
        let expires_at = now() + LIFE;
        self.connection()?.write(|conn| {
            let draft = drafts::table.find(draft_id).select(drafts::next_file);
            let Some(number) = draft.first::<i32>(conn).optional()? else {
                return Ok(AddedFile::NoDraft);
            };
            let files = draft_files::table.filter(draft_files::draft_id.eq(draft_id));
            let lengths: Vec<i64> = files.select(draft_files::length).load(conn)?;
            if lengths.len() >= limits.files as usize {
                return Ok(AddedFile::TooMany);
            }
            let all = lengths.iter().map(|length| length.unsigned_abs());
            let all = all.fold(new.length, u64::saturating_add);
            if all > limits.bytes.min(i64::MAX as u64) {
                return Ok(AddedFile::TooLong);
            }
            let name = match &new.name {
                Some(name) => name.clone(),
                None => format!("image {}", number.saturating_add(1)),
            };
            let row: FileRow = diesel::insert_into(draft_files::table)
                .values((
                    draft_files::draft_id.eq(draft_id),
                    draft_files::number.eq(number),
                    draft_files::name.eq(name),
                    draft_files::metadata.eq(&new.metadata),
                    draft_files::length.eq(i64::try_from(new.length).unwrap_or(i64::MAX)),
                ))
                .returning(columns::<FileRow>())
                .get_result(conn)?;
            diesel::update(drafts::table.find(draft_id))
                .set((
                    drafts::next_file.eq(number.saturating_add(1)),
                    drafts::expires_at.eq(column(expires_at)),
                ))
                .execute(conn)?;
            Ok(AddedFile::Added {
                file: row.into(),
                expires_at,
            })
        })
    }

    /// Removes a file of a draft and returns true if there was one.
    ///
    /// # Errors
    /// When the row cannot be removed.
    pub fn remove_draft_file(&self, draft_id: i64, number: i32) -> Result<bool, StoreError> {
        let file = draft_files::table.find((draft_id, number));
        Ok(diesel::delete(file).execute(&mut *self.connection()?)? > 0)
    }

    /// Returns whether a draft has this file.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn has_draft_file(&self, draft_id: i64, number: i32) -> Result<bool, StoreError> {
        let file = draft_files::table.find((draft_id, number));
        let count: i64 = file.count().get_result(&mut *self.connection()?)?;
        Ok(count > 0)
    }

    /// Notes that so many bytes of a file are on the disk, and returns until when its draft stays; `None` when it is gone.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub fn note_received(
        &self,
        draft_id: i64,
        number: i32,
        received: u64,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.connection()?.write(|conn| {
            let file = draft_files::table.find((draft_id, number));
            let changed = diesel::update(file)
                .set(draft_files::received.eq(signed(received)))
                .execute(conn)?;
            match changed {
                0 => Ok(None),
                _ => Ok(Some(extend(conn, draft_id)?)),
            }
        })
    }

    /// Notes that a part of a file is in the bucket, which begins where the file ended, and returns until when its draft stays; `None`
    /// when the file is gone or has grown meanwhile.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub fn note_part(
        &self,
        draft_id: i64,
        number: i32,
        part: &DraftPart,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (start, length) = (signed(part.start), signed(part.length));
        self.connection()?.write(|conn| {
            let file = draft_files::table
                .find((draft_id, number))
                .filter(draft_files::received.eq(start));
            let changed = diesel::update(file)
                .set(draft_files::received.eq(start.saturating_add(length)))
                .execute(conn)?;
            if changed == 0 {
                return Ok(None);
            }
            insert_part(conn, draft_id, number, part)?;
            Ok(Some(extend(conn, draft_id)?))
        })
    }

    /// Returns the parts of a file in the bucket, in their order.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn draft_parts(&self, draft_id: i64, number: i32) -> Result<Vec<DraftPart>, StoreError> {
        let rows: Vec<(i64, i64, String)> = draft_parts::table
            .filter(draft_parts::draft_id.eq(draft_id))
            .filter(draft_parts::number.eq(number))
            .order(draft_parts::start)
            .select((draft_parts::start, draft_parts::length, draft_parts::name))
            .load(&mut *self.connection()?)?;
        let parts = rows.into_iter().map(|(start, length, name)| DraftPart {
            start: start.unsigned_abs(),
            length: length.unsigned_abs(),
            name,
        });
        Ok(parts.collect())
    }
}

/// Adds a part to those of a file.
pub(super) fn insert_part(
    conn: &mut AnyConnection,
    draft_id: i64,
    number: i32,
    part: &DraftPart,
) -> QueryResult<()> {
    diesel::insert_into(draft_parts::table)
        .values((
            draft_parts::draft_id.eq(draft_id),
            draft_parts::number.eq(number),
            draft_parts::start.eq(signed(part.start)),
            draft_parts::length.eq(signed(part.length)),
            draft_parts::name.eq(&part.name),
        ))
        .execute(conn)
        .map(|_| ())
}

/// Has a draft stay for some time from now on.
fn extend(conn: &mut AnyConnection, draft_id: i64) -> QueryResult<Timestamp> {
    let expires_at = now() + LIFE;
    diesel::update(drafts::table.find(draft_id))
        .set(drafts::expires_at.eq(column(expires_at)))
        .execute(conn)?;
    Ok(expires_at)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
