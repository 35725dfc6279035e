//! The objects of a job: its input files, its preview, and what is computed of it so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::{each, files_of, job_prefix, pack::FilePart, packs, spool_prefix};
use crate::{
    atomic_file::AtomicFile,
    store::{
        Bucket, BucketEntry, BucketError, GlbFile, StoreError, StoredFile, private::private_folder,
    },
};

/// The objects of the folder of a job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobObjects {
    bucket: Bucket,
    dir: String,
}

impl JobObjects {
    pub(super) fn new(bucket: &Bucket, dir: &str) -> Self {
        Self {
            bucket: bucket.clone(),
            dir: dir.to_owned(),
        }
    }

    fn prefix(&self) -> String {
        job_prefix(&self.dir)
    }

    fn key(&self, name: &str) -> String {
        self.prefix() + name
    }

    /// Puts a file there.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub fn send(&self, name: &str, from: &Path) -> Result<(), StoreError> {
        Ok(self.bucket.put_file(&self.key(name), from).map(|_| ())?)
    }

    /// Puts `length` bytes there, of which `open` returns a reader: they are read twice.
    ///
    /// # Errors
    /// When they cannot be read or stored.
    pub fn send_from<R: io::Read>(
        &self,
        name: &str,
        length: u64,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<(), StoreError> {
        let from = Path::new("an upload");
        let sent = self.bucket.put_from(&self.key(name), length, from, open);
        Ok(sent.map(|_| ())?)
    }

    /// Puts all files of a folder there; folders in it are not files.
    ///
    /// # Errors
    /// When one cannot be read or stored.
    pub fn send_all(&self, folder: &Path) -> Result<(), StoreError> {
        let files = files_of(folder).map_err(|source| StoreError::Files {
            what: "read",
            path: folder.to_owned(),
            source,
        })?;
        each(&files, |(name, path)| self.send(name, path))
    }

    /// Puts all files of a folder there, and the spools in it. Returns the bytes that were sent.
    ///
    /// # Errors
    /// When one cannot be read or stored.
    pub fn send_folder(&self, folder: &Path) -> Result<u64, StoreError> {
        let failed = |source| StoreError::Files {
            what: "read",
            path: folder.to_owned(),
            source,
        };
        let mut bytes = 0;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let meta = entry.metadata().map_err(failed)?;
            if meta.is_dir() {
                let name = entry.file_name().into_string();
                let name = name.map_err(|_| failed(io::ErrorKind::InvalidFilename.into()))?;
                let prefix = self.key(&format!("{name}/"));
                bytes += packs::send_new(&self.bucket, &prefix, &entry.path())?;
            } else {
                bytes += meta.len();
            }
        }
        self.send_all(folder)?;
        Ok(bytes)
    }

    /// Fetches the input files into a folder, which is created; those that are there already are not fetched again. Returns false when
    /// there is nothing of the job, as after its end.
    ///
    /// # Errors
    /// When one cannot be fetched or written.
    pub fn fetch(
        &self,
        folder: &Path,
        is_input: impl Fn(&str) -> bool,
    ) -> Result<bool, StoreError> {
        let all = self.list()?;
        let names = all.iter().filter(|(name, _)| !name.contains('/'));
        let inputs: Vec<(&String, u64)> = names
            .filter(|(name, _)| is_input(name))
            .map(|(name, entry)| (name, entry.length))
            .collect();
        create(folder)?;
        let is_there = |path: &Path, length| fs::metadata(path).is_ok_and(|m| m.len() == length);
        each(&inputs, |(name, length)| {
            let path = folder.join(name);
            if !is_there(&path, *length) {
                self.bucket.get_file(&self.key(name), &path)?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(!all.is_empty())
    }

    /// Returns the size of its files in bytes, without those of spools.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let all = self.list()?;
        let files = all.iter().filter(|(name, _)| !name.contains('/'));
        Ok(files.map(|(_, entry)| entry.length).sum())
    }

    /// Opens a file for reading; `None` when there is none.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub fn open(&self, name: &str) -> Result<Option<StoredFile>, StoreError> {
        match self.bucket.head(&self.key(name)) {
            Ok(object) => Ok(Some(StoredFile::in_bucket(&self.bucket, object))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes several objects one after the other into a file, which appears once it is whole.
    ///
    /// # Errors
    /// When one cannot be fetched or the file not be written.
    pub fn join(&self, names: &[String], to: &Path) -> Result<(), StoreError> {
        let failed = |source| BucketError::File {
            what: "write",
            path: to.to_owned(),
            source,
        };
        create(to.parent().unwrap_or(to))?;
        let mut file = AtomicFile::create_private(to).map_err(failed)?;
        for name in names {
            let object = self.bucket.head(&self.key(name))?;
            self.bucket.write_to(&object, &mut file, to)?;
        }
        file.commit().map_err(failed)?;
        Ok(())
    }

    /// Removes a file. One that is not there is no error.
    ///
    /// # Errors
    /// When the bucket cannot be reached or refuses.
    pub fn remove_file(&self, name: &str) -> Result<(), StoreError> {
        Ok(self.bucket.delete(&self.key(name))?)
    }

    /// Removes all of it. What cannot be removed now is found later.
    pub fn remove(&self) {
        if let Err(e) = self.bucket.delete_prefix(&self.prefix()) {
            tracing::warn!("cannot remove the files of a job now: {e}");
        }
    }

    /// Returns the names of the spools of which there are packs.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub fn spools(&self) -> Result<BTreeSet<String>, StoreError> {
        let all = self.list()?;
        let folders = all.keys().filter_map(|name| name.split_once('/'));
        Ok(folders.map(|(spool, _)| spool.to_owned()).collect())
    }

    /// Puts parts of the files of a spool there, behind `packs` that are there already. Returns the number of packs then.
    ///
    /// # Errors
    /// When they cannot be read or stored.
    pub fn send_parts(
        &self,
        spool: &str,
        packs: usize,
        folder: &Path,
        parts: &[FilePart],
    ) -> Result<usize, StoreError> {
        let prefix = self.key(&format!("{spool}/"));
        let sent = packs::send(&self.bucket, &prefix, packs, folder, parts)?;
        Ok(packs + sent)
    }

    /// Returns the keys of the packs of a spool.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub fn packs(&self, spool: &str) -> Result<Vec<String>, StoreError> {
        Ok(packs::list(&self.bucket, &self.key(&format!("{spool}/")))?)
    }

    /// Removes the packs of a spool.
    ///
    /// # Errors
    /// When the bucket cannot be reached or refuses.
    pub fn remove_spool(&self, spool: &str) -> Result<(), StoreError> {
        let prefix = self.key(&format!("{spool}/"));
        self.bucket.delete_prefix(&prefix)?;
        Ok(())
    }

    /// Copies packs into a spool.
    ///
    /// # Errors
    /// When the bucket cannot be reached or refuses.
    pub fn copy_packs(&self, packs: &[String], spool: &str) -> Result<(), StoreError> {
        Ok(packs::copy(
            &self.bucket,
            packs,
            &self.key(&format!("{spool}/")),
        )?)
    }

    /// Makes a spool of what is kept with a result.
    ///
    /// # Errors
    /// When nothing is kept, or the bucket cannot be reached or refuses.
    pub fn copy_kept(&self, glb: &GlbFile, spool: &str) -> Result<(), StoreError> {
        let kept = packs::list(&self.bucket, &spool_prefix(&super::key(&glb.file_path)))?;
        self.copy_packs(&kept, spool)
    }

    /// Writes a spool into a folder that is not there yet.
    ///
    /// # Errors
    /// When it cannot be fetched or written.
    pub fn fetch_spool(&self, spool: &str, folder: &Path) -> Result<(), StoreError> {
        packs::fetch(&self.bucket, &self.packs(spool)?, folder)
    }

    /// Returns the objects by their names in the folder.
    fn list(&self) -> Result<BTreeMap<String, BucketEntry>, BucketError> {
        let prefix = self.prefix();
        let named = |entry: BucketEntry| {
            let name = entry.key.strip_prefix(&prefix).unwrap_or(&entry.key);
            (name.to_owned(), entry)
        };
        let all = self.bucket.list(&prefix);
        all.map(|entry| entry.map(named)).collect()
    }
}

fn create(folder: &Path) -> Result<(), StoreError> {
    private_folder(folder).map_err(|source| StoreError::Files {
        what: "create",
        path: folder.to_owned(),
        source,
    })
}
