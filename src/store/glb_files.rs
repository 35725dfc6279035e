//! The table `glb_files`: finding, publishing and deleting files. Storing one is in `save.rs`.

use std::path::PathBuf;

use diesel::prelude::*;
use jiff::Timestamp;

use super::{
    Store, StoreError, connection::AnyConnection, error::shortened, files::absolute, removed::note,
    schema::glb_files, time::parse_time,
};

/// The column's width, in characters.
const ORIGINAL_NAME_MAX: usize = 256;

/// A stored GLB file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlbFile {
    /// The primary key.
    pub id: i32,
    /// 64 hex digits by which the file is requested.
    pub hashed_name: String,
    /// Name that the file had when it was stored.
    pub original_name: String,
    /// `out/YYYY-MM-DD/<hashed_name>.glb`; [`Store::glb_path`] resolves it.
    pub file_path: String,
    /// User who owns the file.
    pub user_id: i32,
    /// Size of the GLB in bytes.
    pub file_size: u64,
    /// Time at which it was stored, where that is known.
    pub created_at: Option<Timestamp>,
    /// True when everybody may fetch it.
    pub is_public: bool,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = glb_files)]
pub(super) struct GlbFileRow {
    pub(super) id: i32,
    hashed_name: String,
    original_name: Option<String>,
    file_path: String,
    user_id: i32,
    file_size: Option<i64>,
    created_at: Option<String>,
    is_public: Option<bool>,
}

impl From<GlbFileRow> for GlbFile {
    fn from(row: GlbFileRow) -> Self {
        Self {
            id: row.id,
            hashed_name: row.hashed_name,
            original_name: row.original_name.unwrap_or_default(),
            file_path: row.file_path,
            user_id: row.user_id,
            file_size: row
                .file_size
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(0),
            created_at: row.created_at.as_deref().and_then(parse_time),
            is_public: row.is_public == Some(true),
        }
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = glb_files::table.select(GlbFileRow::as_select());
    all.limit(0).load(conn).map(|_| ())
}

impl Store {
    /// Returns the file of this hash, of any user.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn find_glb(&self, hash: &str) -> Result<Option<GlbFile>, StoreError> {
        let row = find(&mut *self.connection()?, &hash.to_ascii_lowercase())?;
        Ok(row.map(GlbFile::from))
    }

    /// Returns the file of this hash if it is one of the user's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn find_glb_of(&self, user_id: i32, hash: &str) -> Result<Option<GlbFile>, StoreError> {
        let found = self.find_glb(hash)?;
        Ok(found.filter(|row| row.user_id == user_id))
    }

    /// Returns those of these files that are the user's, in no order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn glbs_of(&self, user_id: i32, hashes: &[String]) -> Result<Vec<GlbFile>, StoreError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<GlbFileRow> = glb_files::table
            .filter(glb_files::user_id.eq(user_id))
            .filter(glb_files::hashed_name.eq_any(hashes))
            .select(GlbFileRow::as_select())
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().map(GlbFile::from).collect())
    }

    /// Returns the path of a file.
    pub fn glb_path(&self, row: &GlbFile) -> PathBuf {
        absolute(&self.out_root, &row.file_path)
    }

    /// Returns the files of a user, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list_glbs(&self, user_id: i32) -> Result<Vec<GlbFile>, StoreError> {
        let rows: Vec<GlbFileRow> = glb_files::table
            .filter(glb_files::user_id.eq(user_id))
            .order((glb_files::created_at.desc(), glb_files::id.desc()))
            .select(GlbFileRow::as_select())
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().map(GlbFile::from).collect())
    }

    /// Returns at most `limit` files of a user, the last stored first, from those stored before the row `before`.
    ///
    /// In the order of the keys, which is that of the time and needs no sorting, so that a page costs the same wherever it is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page_of_glbs(
        &self,
        user_id: i32,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<GlbFile>, StoreError> {
        // Keys are positive and have 31 bits.
        let before = before.map_or(i32::MAX, |id| id.clamp(0, i64::from(i32::MAX)) as i32);
        let rows: Vec<GlbFileRow> = glb_files::table
            .filter(glb_files::user_id.eq(user_id))
            .filter(glb_files::id.lt(before))
            .order(glb_files::id.desc())
            .limit(limit.into())
            .select(GlbFileRow::as_select())
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().map(GlbFile::from).collect())
    }

    /// Removes a file of a user and returns true if there was one. If the file cannot be removed now, the next start does.
    ///
    /// # Errors
    /// When the folder is not there or the row cannot be removed.
    pub fn delete_glb(&self, user_id: i32, hash: &str) -> Result<bool, StoreError> {
        self.guard()?;
        let gone = self.connection()?.write(|conn| {
            let gone: Option<String> = diesel::delete(owned(user_id, hash))
                .returning(glb_files::file_path)
                .get_result(conn)
                .optional()?;
            if let Some(file_path) = &gone {
                note(conn, file_path)?;
            }
            Ok::<_, StoreError>(gone)
        })?;
        self.remove_noted(gone.as_slice());
        Ok(gone.is_some())
    }

    /// Gives a file of a user another name, and returns true if there is one.
    ///
    /// # Errors
    /// When the name does not fit or the database cannot be changed.
    pub fn rename_glb(&self, user_id: i32, hash: &str, name: &str) -> Result<bool, StoreError> {
        check_original_name(name)?;
        let changed = diesel::update(owned(user_id, hash))
            .set(glb_files::original_name.eq(name))
            .execute(&mut *self.connection()?)?;
        Ok(changed > 0)
    }

    /// Publishes a file of a user or makes it private, and returns true if there is one.
    ///
    /// # Errors
    /// When the database cannot be changed.
    pub fn set_public(&self, user_id: i32, hash: &str, public: bool) -> Result<bool, StoreError> {
        let changed = diesel::update(owned(user_id, hash))
            .set(glb_files::is_public.eq(public))
            .execute(&mut *self.connection()?)?;
        Ok(changed > 0)
    }
}

#[diesel::dsl::auto_type(no_type_alias)]
fn owned<'a>(user_id: i32, hash: &'a str) -> _ {
    let hash: String = hash.to_ascii_lowercase();
    glb_files::table
        .filter(glb_files::user_id.eq(user_id))
        .filter(glb_files::hashed_name.eq(hash))
}

pub(super) fn all(conn: &mut AnyConnection) -> QueryResult<Vec<GlbFile>> {
    let all = glb_files::table
        .order(glb_files::id)
        .select(GlbFileRow::as_select());
    let rows: Vec<GlbFileRow> = all.load(conn)?;
    Ok(rows.into_iter().map(GlbFile::from).collect())
}

pub(super) fn find(conn: &mut AnyConnection, hash: &str) -> QueryResult<Option<GlbFileRow>> {
    glb_files::table
        .filter(glb_files::hashed_name.eq(hash))
        .select(GlbFileRow::as_select())
        .first(conn)
        .optional()
}

/// Checks that an original name fits into its column: not empty, at most 256 characters, no control characters.
///
/// # Errors
/// When it does not.
pub fn check_original_name(name: &str) -> Result<(), StoreError> {
    let why = if name.trim().is_empty() {
        "it is empty"
    } else if name.chars().count() > ORIGINAL_NAME_MAX {
        "it is longer than 256 characters"
    } else if name.chars().any(char::is_control) {
        "it holds control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::BadOriginalName {
        name: shortened(name),
        why,
    })
}

/// Maps the error of a row whose user was removed in the meantime.
pub(super) fn no_such_user(e: diesel::result::Error, user_id: i32) -> StoreError {
    use diesel::result::{DatabaseErrorKind::ForeignKeyViolation, Error::DatabaseError};
    match e {
        DatabaseError(ForeignKeyViolation, _) => StoreError::UnknownUserId(user_id),
        e => e.into(),
    }
}
