//! The identifier that a database and its folder of files have in common, so that a misspelt path or a disk that is not
//! mounted is noticed before anything is written, removed or found missing.
//!
//! | database | folder | then |
//! |---|---|---|
//! | has one | the same | they belong together |
//! | has one | another | refused |
//! | none | has one | refused: it belongs to another database |
//! | any | none, and at least half of the files of the rows | the folder gets it |
//! | any | none, and fewer | not there: its disk may not be mounted |
//! | any | none, and there are no rows | the folder gets it, unless it holds files of others |

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use diesel::prelude::*;

use super::{
    GlbFile, Store, StoreError,
    files::{JOBS, sync_folder},
    glb_files as glbs,
    private::{check_folder, open_no_link, private_folder},
    random::{hex, random},
    schema::identity,
    time::{column, now},
};
use crate::atomic_file::AtomicFile;

/// The file of the identifier in the folder.
pub(super) const FILE: &str = ".vggt_id";

/// Random bytes of an identifier.
const BYTES: usize = 16;

/// Longest content of the file that is read: what is longer is none of ours.
const LONGEST: u64 = 256;

/// What to do when there is no folder yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Create it if the database has no files.
    Create,
    /// Leave it at that if the database has no files.
    Leave,
}

impl Store {
    /// Checks that the folder belongs to the database. A new pair, or one of an earlier version, gets its identifier, and a
    /// new folder is created. To be called before the folder is used; cheap once it succeeded.
    ///
    /// # Errors
    /// [`StoreError::NoFolder`] and [`StoreError::FilesMissing`] when the folder is not there (yet),
    /// [`StoreError::OtherFolder`] when it belongs to another database.
    pub fn bind_folder(&self) -> Result<(), StoreError> {
        self.bind(Missing::Create)
    }

    /// Makes the folder that of this database, whatever it was before. For after a restore, on request only.
    ///
    /// # Errors
    /// When there is no such folder, or it cannot be written.
    pub fn adopt_folder(&self) -> Result<(), StoreError> {
        if let Some(remote) = &self.remote {
            remote.bucket.check()?;
        } else if !self.out_root.is_dir() {
            return Err(self.no_folder());
        }
        let identifier = self.identifier_or_new()?;
        if let Some(remote) = &self.remote {
            remote.set_identifier(&identifier)?;
        } else if self.in_folder()?.as_deref() != Some(identifier.as_str()) {
            let path = self.out_root.join(FILE);
            let write = || {
                let mut file = AtomicFile::create_private(&path)?;
                writeln!(file, "{identifier}")?;
                file.commit()?;
                sync_folder(&self.out_root)
            };
            write().map_err(|source| StoreError::Write {
                path: path.clone(),
                source,
            })?;
        }
        self.bound_to(identifier);
        Ok(())
    }

    /// As [`Store::bind_folder`], and a folder that does not exist is left so if the database has no files.
    ///
    /// # Errors
    /// As [`Store::bind_folder`].
    pub fn check_folder(&self) -> Result<(), StoreError> {
        self.bind(Missing::Leave)
    }

    /// Checks that the folder is the right one if either of the pair has an identifier. For every operation on files.
    pub(super) fn guard(&self) -> Result<(), StoreError> {
        if self.is_bound_bucket() {
            return Ok(());
        }
        let in_folder = self.in_folder()?;
        let is_known = in_folder.is_some() && in_folder == *self.lock_bound();
        if is_known || in_folder.is_none() && self.identifier()?.is_none() {
            return Ok(());
        }
        self.bind(Missing::Create)
    }

    fn bind(&self, missing: Missing) -> Result<(), StoreError> {
        if self.is_bound_bucket() {
            return Ok(());
        }
        let known = self.lock_bound().clone();
        let in_folder = self.in_folder()?;
        if let (Some(known), Some(found)) = (&known, &in_folder)
            && known == found
        {
            return Ok(());
        }
        let in_database = self.identifier()?;
        if let Some(found) = in_folder {
            if in_database.as_deref() != Some(found.as_str()) {
                return Err(self.other_folder());
            }
            self.check_folders()?;
            self.bound_to(found);
            return Ok(());
        }
        let exists = match &self.remote {
            Some(remote) => remote.bucket.check().map(|()| true)?,
            None => self.out_root.is_dir(),
        };
        let (wanted, found) = self.census()?;
        if wanted > 0 && !exists {
            return Err(self.no_folder());
        }
        if found * 2 < wanted {
            return Err(StoreError::FilesMissing {
                path: self.location(),
                missing: wanted - found,
                wanted,
            });
        }
        if wanted == 0 && exists && self.holds_files()? {
            return Err(self.other_folder());
        }
        if !exists {
            if missing == Missing::Leave {
                return Ok(());
            }
            self.create_root()?;
        }
        self.check_folders()?;
        self.give_identifier()
    }

    /// Writes the identifier into a folder that has none.
    fn give_identifier(&self) -> Result<(), StoreError> {
        let identifier = self.identifier_or_new()?;
        let path = self.out_root.join(FILE);
        let write = || {
            if let Some(remote) = &self.remote {
                return Ok(remote.set_identifier(&identifier)?);
            }
            let mut file = AtomicFile::create_private(&path)?;
            writeln!(file, "{identifier}")?;
            file.link()?;
            drop(file);
            sync_folder(&self.out_root)
        };
        match write() {
            // Of two at the same time, one is the last.
            Ok(()) if self.in_folder()?.as_deref() != Some(identifier.as_str()) => {
                return Err(self.other_folder());
            }
            Ok(()) => {}
            // Another process was quicker: which database is its?
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if self.in_folder()?.as_deref() != Some(identifier.as_str()) {
                    return Err(self.other_folder());
                }
            }
            Err(source) => return Err(StoreError::Write { path, source }),
        }
        tracing::info!(
            "\"{}\" belongs to this database from now on",
            self.location().display()
        );
        self.bound_to(identifier);
        Ok(())
    }

    fn identifier(&self) -> Result<Option<String>, StoreError> {
        let found = identity::table.select(identity::identifier);
        Ok(found.first(&mut *self.connection()?).optional()?)
    }

    pub(super) fn identifier_or_new(&self) -> Result<String, StoreError> {
        if let Some(identifier) = self.identifier()? {
            return Ok(identifier);
        }
        let new = hex(&random::<BYTES>()?);
        self.connection()?.write(|conn| {
            // Another process may have been quicker.
            let found = identity::table.select(identity::identifier);
            if let Some(found) = found.first(conn).optional()? {
                return Ok(found);
            }
            diesel::insert_into(identity::table)
                .values((
                    identity::id.eq(1),
                    identity::identifier.eq(&new),
                    identity::created_at.eq(column(now())),
                ))
                .execute(conn)?;
            Ok(new)
        })
    }

    /// Returns what the folder's file holds; `None` when there is no file.
    fn in_folder(&self) -> Result<Option<String>, StoreError> {
        if let Some(remote) = &self.remote {
            return Ok(remote.identifier()?);
        }
        let path = self.out_root.join(FILE);
        let read = || -> io::Result<String> {
            let mut text = Vec::new();
            open_no_link(&path)?.take(LONGEST).read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).trim().to_owned())
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(source) => Err(StoreError::Files {
                what: "read",
                path,
                source,
            }),
        }
    }

    /// Returns how many files and folders the rows name, and how many of them are there.
    fn census(&self) -> Result<(usize, usize), StoreError> {
        let rows = glbs::all(&mut *self.connection()?)?;
        let jobs = self.pending_jobs()?.into_iter().map(|job| job.dir);
        let drafts = self.drafts()?.into_iter().map(|draft| draft.dir);
        if let Some(remote) = &self.remote {
            let dirs: Vec<String> = jobs.chain(drafts).collect();
            let wanted = rows.len() + dirs.len();
            return match wanted {
                0 => Ok((0, 0)),
                _ => Ok((wanted, self.count_objects(remote, &rows, &dirs)?)),
            };
        }
        let paths = rows.iter().map(|row: &GlbFile| self.glb_path(row));
        let paths = paths.chain(jobs.chain(drafts).map(|dir| self.job_dir(&dir)));
        let (mut wanted, mut found) = (0, 0);
        for path in paths {
            wanted += 1;
            found += usize::from(path.exists());
        }
        Ok((wanted, found))
    }

    /// Returns true when the folder holds GLBs of a service, or inputs of jobs while this database has not even a user.
    fn holds_files(&self) -> Result<bool, StoreError> {
        if let Some(remote) = &self.remote {
            let (results, inputs) = remote.holds()?;
            return Ok(results || inputs && self.users()?.is_empty());
        }
        let jobs = fs::read_dir(self.out_root.join(JOBS));
        let has_jobs = jobs.is_ok_and(|mut entries| entries.next().is_some());
        Ok(has_jobs && self.users()?.is_empty() || !self.found()?.glbs.is_empty())
    }

    fn create_root(&self) -> Result<(), StoreError> {
        let path = &self.out_root;
        let create = || {
            if let Some(remote) = &self.remote {
                return remote.scratch.create();
            }
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                fs::create_dir_all(parent)?;
            }
            private_folder(path)
        };
        create().map_err(|source| self.cannot_use(path, source))
    }

    /// Fails when one of the service's own folders is a link: what it leads to would be swept.
    fn check_folders(&self) -> Result<(), StoreError> {
        if self.remote.is_some() {
            return Ok(());
        }
        for name in super::files::OWN_FOLDERS {
            let path = self.out_root.join(name);
            match check_folder(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(self.cannot_use(&path, e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Creates one of the folders below that of the files, once that is known to be the right one.
    pub(super) fn own_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.guard()?;
        if !self.out_root.is_dir() {
            self.create_root()?;
        }
        private_folder(path).map_err(|source| self.cannot_use(path, source))
    }

    fn cannot_use(&self, path: &Path, source: io::Error) -> StoreError {
        StoreError::Files {
            what: "use the folder",
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn no_folder(&self) -> StoreError {
        StoreError::NoFolder {
            path: self.location(),
        }
    }

    pub(super) fn other_folder(&self) -> StoreError {
        StoreError::OtherFolder {
            path: self.location(),
            db: self.database.to_path(),
        }
    }

    /// Returns true when the files are in a bucket that was found to be the right one. A disk may be gone a moment later, and another be in
    /// its place; a bucket is not.
    fn is_bound_bucket(&self) -> bool {
        self.remote.is_some() && self.lock_bound().is_some()
    }

    fn bound_to(&self, identifier: String) {
        *self.lock_bound() = Some(identifier);
    }

    fn lock_bound(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // Every operation on it is one call: it is whole after a panic elsewhere.
        self.bound.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
