//! Removing files whose rows are gone. The transaction that removes the row notes the file, so that a process that is killed
//! in between leaves a note, and not a file that nobody claims.

use std::{collections::BTreeSet, fs, io, path::Path};

use diesel::prelude::*;

use super::{
    Store, StoreError,
    connection::AnyConnection,
    files::{absolute, is_stored_name, sync_folder},
    schema::{glb_files, removed_files},
    spools,
};

/// Notes that the file of a row is to be removed: in the transaction that removes the row.
pub(super) fn note(conn: &mut AnyConnection, file_path: &str) -> QueryResult<()> {
    diesel::delete(removed_files::table.find(file_path)).execute(conn)?;
    diesel::insert_into(removed_files::table)
        .values(removed_files::file_path.eq(file_path))
        .execute(conn)
        .map(|_| ())
}

impl Store {
    /// Removes the files of these notes, makes that last, and forgets the notes. What cannot be removed is tried again at the
    /// next start: for the caller the row is what counts.
    pub(super) fn remove_noted(&self, file_paths: &[String]) {
        if file_paths.is_empty() {
            return;
        }
        if let Err(e) = self.try_remove_noted(file_paths) {
            tracing::warn!("cannot remove a deleted file now: {e}");
        }
    }

    /// Removes the files whose rows are gone, and returns their number.
    pub(super) fn finish_removals(&self) -> Result<usize, StoreError> {
        let all = removed_files::table
            .filter(removed_files::since.is_null())
            .select(removed_files::file_path);
        let noted: Vec<String> = all.load(&mut *self.connection()?)?;
        self.try_remove_noted(&noted)
    }

    fn try_remove_noted(&self, file_paths: &[String]) -> Result<usize, StoreError> {
        let (mut removed, mut folders) = (0, BTreeSet::new());
        for file_path in file_paths {
            // Tables of others may name a file twice, and a row that was brought back has its file.
            if self.is_wanted(file_path)? {
                continue;
            }
            let path = absolute(&self.out_root, file_path);
            spools::remove_beside(&path);
            if let Some(remote) = &self.remote {
                remote.remove(file_path)?;
                removed += 1;
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&path, e)),
            }
            folders.extend(path.parent().map(Path::to_owned));
        }
        for folder in folders {
            match sync_folder(&folder) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&folder, e)),
                _ => {}
            }
        }
        for some in file_paths.chunks(100) {
            diesel::delete(removed_files::table.filter(removed_files::file_path.eq_any(some)))
                .execute(&mut *self.connection()?)?;
        }
        Ok(removed)
    }

    fn is_wanted(&self, file_path: &str) -> Result<bool, StoreError> {
        let of_path = glb_files::table.filter(glb_files::file_path.eq(file_path));
        let mut pooled = self.connection()?;
        let conn = &mut *pooled;
        let name = Path::new(file_path).file_name().and_then(|n| n.to_str());
        // The name is the hash, which has an index; the path has none.
        let rows: i64 = match name.filter(|name| is_stored_name(name)) {
            Some(name) => of_path
                .filter(glb_files::hashed_name.eq(name.trim_end_matches(".glb")))
                .count()
                .get_result(conn)?,
            None => of_path.count().get_result(conn)?,
        };
        Ok(rows > 0)
    }
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Files {
        what: "remove",
        path: path.to_owned(),
        source,
    }
}
