//! The table `kept_spools`: results in the form from which other files are made without the network. Each is a folder beside
//! its GLB, under the same name, and follows from it: what is lost of it is no loss.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use diesel::prelude::*;

use super::{
    FilePart, GlbFile, Store, StoreError,
    connection::AnyConnection,
    files::{absolute, is_stale, is_stored_name, sync_folder},
    private::{private_folder, remove_folder},
    removed::note,
    schema::{glb_files, kept_spools},
};

/// Extension of a folder, in the place of the GLB's.
pub(super) const EXTENSION: &str = "spool";

/// Name of the file in it that says who uses it.
pub(super) const LOCK: &str = "lock";

/// Rows of one query: few milliseconds.
const BATCH: i64 = 100;

/// A finished spool, in a folder on the same disk, that is to be kept with its GLB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolToKeep {
    /// The folder.
    pub folder: PathBuf,
    /// Size of its files in bytes.
    pub bytes: u64,
    /// Where the files are in a bucket: keys of the packs that are there already, in their order.
    pub packs: Vec<String>,
    /// Where the files are in a bucket: what these packs lack; `None`: all of it.
    pub rest: Option<Vec<FilePart>>,
}

/// A folder that was made beside a GLB of which nobody knows yet.
#[derive(Debug)]
pub(super) struct Beside(PathBuf);

impl Beside {
    /// Removes it: the GLB is not stored after all. What it was made of is where it was.
    pub(super) fn remove(self) {
        remove_folder(&self.0);
    }
}

/// Returns the `file_path` of the folder that belongs to a GLB's.
fn beside(file_path: &str) -> String {
    let stem = file_path.strip_suffix(".glb").unwrap_or(file_path);
    format!("{stem}.{EXTENSION}")
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = kept_spools::table.limit(0);
    all.load::<(i32, i32, i64)>(conn).map(|_| ())
}

impl Store {
    /// Gives the files of a spool a second name beside the GLB whose result it is, in the transaction that stores the GLB: the folder
    /// of the job is whole until that has happened. Returns the folder, for a transaction that fails after all.
    ///
    /// What cannot be linked is not kept, and the result is stored without it.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub(super) fn keep_spool(
        &self,
        conn: &mut AnyConnection,
        glb: &GlbFile,
        spool: &SpoolToKeep,
    ) -> QueryResult<Option<Beside>> {
        let path = self.spool_path(glb);
        let kept = Beside(path.clone());
        // In a bucket it is beside the GLB already.
        if self.remote.is_none()
            && let Err(e) = link_files(&spool.folder, &path).and_then(|()| sync_folder(&path))
        {
            tracing::warn!("cannot keep the spool of {}: {e}", glb.hashed_name);
            kept.remove();
            return Ok(None);
        }
        let written = diesel::insert_into(kept_spools::table)
            .values((
                kept_spools::glb_id.eq(glb.id),
                kept_spools::user_id.eq(glb.user_id),
                kept_spools::bytes.eq(i64::try_from(spool.bytes).unwrap_or(i64::MAX)),
            ))
            .execute(conn);
        match written {
            Ok(_) => Ok(Some(kept)),
            Err(e) => {
                kept.remove();
                Err(e)
            }
        }
    }

    /// Returns whether a folder is kept with a GLB.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_spool(&self, glb: &GlbFile) -> Result<bool, StoreError> {
        let rows: i64 = kept_spools::table
            .find(glb.id)
            .count()
            .get_result(&mut *self.connection()?)?;
        Ok(rows > 0 && (self.remote.is_some() || self.spool_path(glb).is_dir()))
    }

    /// Returns the folder that is kept with a GLB, if one is. From a bucket it is fetched, and stays for a while.
    ///
    /// # Errors
    /// When the database or the bucket cannot be read, or the folder not be written.
    pub fn spool_of(&self, glb: &GlbFile) -> Result<Option<PathBuf>, StoreError> {
        if !self.has_spool(glb)? {
            return Ok(None);
        }
        let path = self.spool_path(glb);
        match &self.remote {
            Some(remote) => Ok(self.fetch_kept(remote, glb, &path)?.then_some(path)),
            None => Ok(Some(path)),
        }
    }

    /// Links the files that are kept with a GLB into a new folder on the same disk. None of them is ever written again. Where the files are
    /// in a bucket, the folder stays empty: see [`JobObjects::copy_kept`](super::JobObjects::copy_kept).
    ///
    /// # Errors
    /// When they cannot be read or linked.
    pub fn link_spool(&self, glb: &GlbFile, folder: &Path) -> Result<(), StoreError> {
        self.guard()?;
        if self.remote.is_some() {
            return private_folder(folder).map_err(|source| StoreError::Files {
                what: "create",
                path: folder.to_owned(),
                source,
            });
        }
        let from = self.spool_path(glb);
        link_files(&from, folder).map_err(|source| StoreError::Files {
            what: "link the files of",
            path: from.clone(),
            source,
        })
    }

    /// Removes the oldest of these folders, those of `user` or of all users, until so many bytes are free. Returns how many
    /// that are, which is less where there are no more. The results themselves stay.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn drop_spools(&self, user: Option<i32>, bytes: u64) -> Result<u64, StoreError> {
        self.guard()?;
        if self.remote.is_some() && user.is_none() {
            // The disk has only those that were fetched.
            return Ok(self.drop_fetched(bytes));
        }
        let mut freed: u64 = 0;
        while freed < bytes {
            let paths = self.connection()?.write(|conn| {
                let mut all = kept_spools::table
                    .inner_join(glb_files::table)
                    .order(kept_spools::glb_id)
                    .limit(BATCH)
                    .select((
                        kept_spools::glb_id,
                        kept_spools::bytes,
                        glb_files::file_path,
                    ))
                    .into_boxed();
                if let Some(user) = user {
                    all = all.filter(kept_spools::user_id.eq(user));
                }
                let oldest: Vec<(i32, i64, String)> = all.load(conn)?;
                let mut paths = Vec::new();
                for (id, size, file_path) in oldest {
                    if freed >= bytes {
                        break;
                    }
                    diesel::delete(kept_spools::table.find(id)).execute(conn)?;
                    let path = beside(&file_path);
                    note(conn, &path)?;
                    paths.push(path);
                    freed += size.max(0).unsigned_abs();
                }
                Ok::<_, StoreError>(paths)
            })?;
            if paths.is_empty() {
                break;
            }
            tracing::info!(
                "removed {} kept spools to make space: other files of their results need the network again",
                paths.len()
            );
            self.remove_noted(&paths);
        }
        Ok(freed)
    }

    /// Removes folders whose GLB has no row any more, and forgets those that are missing. For the start of a server.
    pub(super) fn sweep_spools(&self, found: &[PathBuf]) -> Result<(), StoreError> {
        let rows: Vec<(i32, String)> = kept_spools::table
            .inner_join(glb_files::table)
            .select((kept_spools::glb_id, glb_files::file_path))
            .load(&mut *self.connection()?)?;
        let kept = rows.into_iter().map(|(id, path)| {
            let path = absolute(&self.out_root, &beside(&path));
            (path, id)
        });
        let mut kept: std::collections::HashMap<PathBuf, i32> = kept.collect();
        for path in found {
            // Where others work with the folder, the row may be about to be written.
            if kept.remove(path).is_none() && (is_stale(path) || self.is_left(path)) {
                remove_folder(path);
            }
        }
        let missing = kept.into_iter().filter(|(path, _)| !path.is_dir());
        let missing: Vec<i32> = missing.map(|(_, id)| id).collect();
        for some in missing.chunks(BATCH as usize) {
            diesel::delete(kept_spools::table.filter(kept_spools::glb_id.eq_any(some)))
                .execute(&mut *self.connection()?)?;
        }
        Ok(())
    }

    pub(super) fn spool_path(&self, glb: &GlbFile) -> PathBuf {
        absolute(&self.out_root, &beside(&glb.file_path))
    }
}

/// Gives the files of a folder a second name in a new one.
fn link_files(from: &Path, folder: &Path) -> io::Result<()> {
    private_folder(folder)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // A process that reads the one must not lock the other.
        if entry.file_type()?.is_file() && entry.file_name() != LOCK {
            fs::hard_link(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Removes the folder that belongs to a file that is gone.
pub(super) fn remove_beside(glb: &Path) {
    let folder = glb.with_extension(EXTENSION);
    if folder.symlink_metadata().is_ok() {
        remove_folder(&folder);
    }
}

/// Returns the name of the GLB that a folder of this name belongs to.
pub(super) fn glb_name(name: &str) -> Option<String> {
    let hash = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let glb = format!("{hash}.glb");
    is_stored_name(&glb).then_some(glb)
}
