//! A user's own jobs that have ended: their names, and their removal.

use diesel::prelude::*;

use super::{Store, StoreError, check_original_name, jobs::PENDING, schema::jobs};

impl Store {
    /// Gives a job of a user another name, and returns true if there is one.
    ///
    /// # Errors
    /// When the name does not fit or the database cannot be changed.
    pub fn rename_job(&self, user_id: i32, id: i64, name: &str) -> Result<bool, StoreError> {
        check_original_name(name)?;
        let own = jobs::table.find(id).filter(jobs::user_id.eq(user_id));
        let changed = diesel::update(own)
            .set(jobs::original_name.eq(name))
            .execute(&mut *self.connection()?)?;
        Ok(changed > 0)
    }

    /// Returns true when another job of the user ended with the same file.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_other_job(&self, user_id: i32, id: i64, hash: &str) -> Result<bool, StoreError> {
        let other = jobs::table
            .filter(jobs::user_id.eq(user_id))
            .filter(jobs::id.ne(id))
            .filter(jobs::hashed_name.eq(hash))
            .select(jobs::id)
            .first::<i64>(&mut *self.connection()?)
            .optional()?;
        Ok(other.is_some())
    }

    /// Removes the row of a job of a user that has ended, and returns true if there was one.
    ///
    /// # Errors
    /// When the database cannot be changed.
    pub fn remove_job(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let own = jobs::table
            .find(id)
            .filter(jobs::user_id.eq(user_id))
            .filter(jobs::state.ne_all(PENDING));
        Ok(diesel::delete(own).execute(&mut *self.connection()?)? > 0)
    }
}
