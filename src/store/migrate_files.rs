//! The files of a store in a folder into the bucket of another store, before its rows follow. What is there already is not sent again,
//! so that a call that was interrupted goes on; each object is compared with its length and digest once it is stored.

use std::{fs, path::Path};

use super::{
    DraftFile, DraftPart, Store, StoreError,
    remote::{self, Remote},
};

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopiedFiles {
    /// Results, of which so many were in the bucket already.
    pub results: (usize, usize),
    /// Folders of jobs that have not ended, of drafts, and of inputs that are kept.
    pub folders: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Results whose file is missing.
    pub missing: Vec<String>,
    /// The parts of drafts, for [`Store::copy_to`].
    pub parts: Vec<(i64, i32, DraftPart)>,
}

impl Store {
    /// Copies the files of all rows into the bucket of `to`, which may hold those of an interrupted call and no others. No server may
    /// use either of the two.
    ///
    /// # Errors
    /// When the files of this store are not in a folder or those of `to` not in a bucket, the bucket belongs to another database, or
    /// something cannot be read or stored.
    pub fn copy_files_to(&self, to: &Self) -> Result<CopiedFiles, StoreError> {
        let wrong = |store: &Self| StoreError::Files {
            what: "copy the files",
            path: store.location(),
            source: std::io::Error::other("files are copied from a folder into a bucket"),
        };
        let Some(remote) = &to.remote else {
            return Err(wrong(to));
        };
        if self.remote.is_some() {
            return Err(wrong(self));
        }
        self.bind_folder()?;
        let own = self.identifier_or_new()?;
        match remote.identifier()? {
            Some(found) if found != own => return Err(to.other_folder()),
            Some(_) => {}
            None if remote.holds()? != (false, false) => return Err(to.other_folder()),
            // First, so that nobody else takes the bucket.
            None => remote.set_identifier(&own)?,
        }
        let mut copied = CopiedFiles::default();
        let rows = super::glb_files::all(&mut *self.connection()?)?;
        for row in &rows {
            let (path, key) = (self.glb_path(row), remote::key(&row.file_path));
            if !path.is_file() {
                copied.missing.push(row.file_path.clone());
                continue;
            }
            let sent = send_new(remote, &key, &path)?;
            copied.results.0 += 1;
            copied.results.1 += usize::from(sent == 0);
            copied.bytes += sent;
            let spool = self.spool_path(row);
            if spool.is_dir() {
                copied.bytes += remote.send_spool_of(&key, &spool)?;
            }
        }
        let pending = self.pending_jobs()?.into_iter().map(|job| job.dir);
        let kept = self.kept_inputs()?.into_iter().map(|kept| kept.dir);
        for dir in pending.chain(kept) {
            let folder = self.job_dir(&dir);
            if folder.is_dir() {
                copied.bytes += remote.job(&dir).send_folder(&folder)?;
                copied.folders += 1;
            }
        }
        for draft in self.drafts()? {
            let objects = remote.job(&draft.dir);
            for file in draft.files.iter().filter(|file| file.received > 0) {
                let name = DraftFile::name_in_folder(file.number);
                let path = self.job_dir(&draft.dir).join(name);
                let part = DraftPart::new(file.number, 0, file.received, "copied");
                objects.send_from(&part.name, part.length, || {
                    let file = fs::File::open(&path)?;
                    Ok(std::io::Read::take(file, part.length))
                })?;
                copied.bytes += part.length;
                copied.parts.push((draft.id, file.number, part));
            }
            copied.folders += 1;
        }
        Ok(copied)
    }
}

/// Stores a file unless an object of its length is there. Returns the bytes that were sent.
fn send_new(remote: &Remote, key: &str, path: &Path) -> Result<u64, StoreError> {
    let length = fs::metadata(path).map(|meta| meta.len());
    let found = match remote.bucket.head(key) {
        Ok(object) => Some(object.length),
        Err(e) if e.is_not_found() => None,
        Err(e) => return Err(e.into()),
    };
    if found.is_some() && found == length.ok() {
        return Ok(0);
    }
    Ok(remote.bucket.put_file(key, path)?.length)
}
