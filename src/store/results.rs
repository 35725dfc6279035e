//! The table `results`: stored results of inputs that a user sent before.

use diesel::prelude::*;

use super::{
    GlbFile, Store, StoreError,
    connection::AnyConnection,
    glb_files as glbs,
    schema::{glb_files, results},
    time::{column, now},
};

impl Store {
    /// Returns the stored result of the same input of the same user, if its file still exists.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn cached_result(
        &self,
        user_id: i32,
        input_key: &str,
    ) -> Result<Option<GlbFile>, StoreError> {
        let row: Option<glbs::GlbFileRow> = results::table
            .inner_join(glb_files::table)
            .filter(results::user_id.eq(user_id))
            .filter(results::input_key.eq(input_key))
            // A key of a file can have been given again by a program that knows nothing of this table.
            .filter(glb_files::user_id.eq(user_id))
            .select(glbs::GlbFileRow::as_select())
            .first(&mut *self.connection()?)
            .optional()?;
        let row = row.map(GlbFile::from);
        Ok(row.filter(|row| self.open_glb(row).is_ok()))
    }

    /// Remembers which file is the result of an input, in place of an older one.
    ///
    /// # Errors
    /// When the row cannot be written. A hash that is not one of the user's files is ignored.
    pub fn remember_result(
        &self,
        user_id: i32,
        input_key: &str,
        hash: &str,
    ) -> Result<(), StoreError> {
        self.connection()?
            .write(|conn| match glbs::find(conn, hash)?.map(GlbFile::from) {
                Some(row) if row.user_id == user_id => remember(conn, user_id, input_key, row.id),
                _ => Ok(()),
            })
    }
}

pub(super) fn remember(
    conn: &mut AnyConnection,
    user_id: i32,
    input_key: &str,
    glb_id: i32,
) -> Result<(), StoreError> {
    diesel::delete(results::table.find((user_id, input_key))).execute(conn)?;
    diesel::insert_into(results::table)
        .values((
            results::user_id.eq(user_id),
            results::input_key.eq(input_key),
            results::glb_id.eq(glb_id),
            results::created_at.eq(column(now())),
        ))
        .execute(conn)?;
    Ok(())
}
