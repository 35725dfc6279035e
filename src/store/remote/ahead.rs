//! Objects that are put into the bucket before the row that names them: nobody sees them without it. A note beside the rows tells of
//! each, and goes in the transaction that writes the row; without that the object goes again.

use std::path::Path;

use diesel::prelude::*;

use super::{Remote, key, packs, spool_prefix};
use crate::store::{
    SpoolToKeep, Store, StoreError,
    connection::AnyConnection,
    queue::process_name,
    schema::removed_files,
    time::{column, now},
};

/// A result in the bucket that has no row yet. Dropped without one it is removed.
pub(in crate::store) struct Ahead<'a> {
    store: &'a Store,
    remote: &'a Remote,
    file_path: &'a str,
    has_row: bool,
}

impl Store {
    /// Puts a file into the bucket as the result of this `file_path`.
    ///
    /// # Errors
    /// When the note cannot be written or the object not be stored.
    pub(in crate::store) fn send_ahead<'a>(
        &'a self,
        remote: &'a Remote,
        file_path: &'a str,
        from: &Path,
    ) -> Result<Ahead<'a>, StoreError> {
        diesel::insert_into(removed_files::table)
            .values((
                removed_files::file_path.eq(file_path),
                removed_files::since.eq(column(now())),
                removed_files::process.eq(process_name()),
            ))
            .execute(&mut *self.connection()?)?;
        let ahead = Ahead {
            store: self,
            remote,
            file_path,
            has_row: false,
        };
        match remote.bucket.put_file(&key(file_path), from) {
            Ok(_) => Ok(ahead),
            Err(e) if e.is_passing() => {
                // A bucket that does not answer would not do so again now: it is removed later.
                ahead.has_row();
                self.condemn(&[file_path.to_owned()])?;
                Err(e.into())
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Ahead<'_> {
    /// Puts what is to be kept with the result beside it. Returns false when it is not kept: the result is stored without it.
    pub(in crate::store) fn send_spool(&self, spool: &SpoolToKeep) -> bool {
        let prefix = spool_prefix(&key(self.file_path));
        match packs::keep(&self.remote.bucket, &prefix, spool) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("cannot keep the spool of {}: {e}", self.file_path);
                if let Err(e) = self.remote.bucket.delete_prefix(&prefix) {
                    tracing::warn!("cannot remove a part of it: {e}");
                }
                false
            }
        }
    }

    /// Removes the note, in the transaction that writes the row.
    ///
    /// # Errors
    /// When it is gone: another process took this one for ended, and removes the object.
    pub(in crate::store) fn claim(&self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        let note = removed_files::table
            .find(self.file_path)
            .filter(removed_files::since.is_not_null());
        match diesel::delete(note).execute(conn)? {
            0 => Err(StoreError::Write {
                path: self.remote.named(&key(self.file_path)),
                source: std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    "another process has taken this one for ended",
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The row is written: the object stays.
    pub(in crate::store) fn has_row(mut self) {
        self.has_row = true;
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        if self.has_row {
            return;
        }
        let path = [self.file_path.to_owned()];
        match self.store.condemn(&path) {
            Ok(()) => self.store.remove_noted(&path),
            // Later, when this process has ended.
            Err(e) => tracing::warn!("cannot remove a result that was not stored: {e}"),
        }
    }
}

impl Store {
    /// Makes notes of what is being stored such of what is to be removed: who stores it cannot write its row any more.
    pub(super) fn condemn(&self, file_paths: &[String]) -> Result<(), StoreError> {
        for some in file_paths.chunks(100) {
            let noted = removed_files::table.filter(removed_files::file_path.eq_any(some));
            diesel::update(noted)
                .set(removed_files::since.eq(None::<String>))
                .execute(&mut *self.connection()?)?;
        }
        Ok(())
    }
}
