//! Storing a GLB: the file and its row appear together or not at all.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    sync::Mutex,
};

use diesel::prelude::*;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{
    GlbFile, Store, StoreError, WriteSeek,
    files::{absolute, relative, sync_file, sync_folder},
    glb_files::{GlbFileRow, check_original_name, find, no_such_user},
    jobs, results,
    schema::glb_files,
    time::{column, iso, now},
};
use crate::atomic_file::AtomicFile;

/// Hashes for which this process is writing a file: two writers must not share one temporary file.
static IN_FLIGHT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Owner and name of a GLB to be stored, and what else is recorded with it.
#[derive(Debug, Clone, Copy)]
pub struct GlbOrigin<'a> {
    /// User who owns the file.
    pub user_id: i32,
    /// Original name, at most 256 characters.
    pub original_name: &'a str,
    /// Row of the job that this ends.
    pub job: Option<i64>,
    /// Key of the input, for [`Store::cached_result`].
    pub input_key: Option<&'a str>,
}

#[derive(Insertable)]
#[diesel(table_name = glb_files)]
struct NewGlbFileRow<'a> {
    hashed_name: &'a str,
    original_name: &'a str,
    file_path: &'a str,
    user_id: i32,
    file_size: i64,
    created_at: String,
    is_public: bool,
}

impl Store {
    /// Stores what `write` writes as a GLB of the user. See [`Store::save_result`].
    ///
    /// # Errors
    /// As [`Store::save_result`].
    pub fn save_glb(
        &self,
        user_id: i32,
        original_name: &str,
        write: &mut dyn FnMut(&mut dyn WriteSeek) -> io::Result<()>,
    ) -> Result<GlbFile, StoreError> {
        let origin = GlbOrigin {
            user_id,
            original_name,
            job: None,
            input_key: None,
        };
        self.save_result(&origin, write)
    }

    /// Stores what `write` writes: a temporary file, fsync, rename and the row, and in the same transaction the end of the
    /// job and the key of the input. `write` is called again in the rare case that another process takes the name.
    ///
    /// # Errors
    /// When there is no such user, the name does not fit, the job has ended, or something cannot be written
    /// ([`StoreError::is_disk_full`]). Neither file nor row is left then.
    pub fn save_result(
        &self,
        origin: &GlbOrigin<'_>,
        write: &mut dyn FnMut(&mut dyn WriteSeek) -> io::Result<()>,
    ) -> Result<GlbFile, StoreError> {
        self.save_at(origin, now(), write)
    }

    fn save_at(
        &self,
        origin: &GlbOrigin<'_>,
        mut time: Timestamp,
        write: &mut dyn FnMut(&mut dyn WriteSeek) -> io::Result<()>,
    ) -> Result<GlbFile, StoreError> {
        check_original_name(origin.original_name)?;
        if self.user_by_id(origin.user_id)?.is_none() {
            return Err(StoreError::UnknownUserId(origin.user_id));
        }
        loop {
            if let Some(row) = self.try_save(origin, time, write)? {
                return Ok(row);
            }
            // The same user, name and microsecond: the next one is as good.
            time += SignedDuration::from_micros(1);
        }
    }

    /// `None` when the name is taken.
    fn try_save(
        &self,
        origin: &GlbOrigin<'_>,
        time: Timestamp,
        write: &mut dyn FnMut(&mut dyn WriteSeek) -> io::Result<()>,
    ) -> Result<Option<GlbFile>, StoreError> {
        let hash = hashed_name(origin.user_id, time, origin.original_name);
        let Some(_reserved) = Reserved::new(&hash) else {
            return Ok(None);
        };
        let file_path = relative(&hash, time);
        let path = absolute(&self.out_root, &file_path);
        if path.exists() || find(&mut *self.connection()?, &hash)?.is_some() {
            return Ok(None);
        }
        let failed = |source| StoreError::Write {
            path: path.clone(),
            source,
        };
        let folder = path.parent().unwrap_or(&self.out_root);
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = AtomicFile::create(&path).map_err(failed)?;
        // The bytes are on the disk before the database is locked.
        let size = write(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| sync_file(file.temporary()))
            .map_err(failed)?;

        let mut named = false;
        let saved = self.connection()?.immediate_transaction(|conn| {
            if find(conn, &hash)?.is_some() {
                return Ok(None);
            }
            let new = NewGlbFileRow {
                hashed_name: &hash,
                original_name: origin.original_name,
                file_path: &file_path,
                user_id: origin.user_id,
                file_size: i64::try_from(size).unwrap_or(i64::MAX),
                created_at: column(time),
                is_public: false,
            };
            let row: GlbFileRow = diesel::insert_into(glb_files::table)
                .values(&new)
                .returning(GlbFileRow::as_returning())
                .get_result(conn)
                .map_err(|e| no_such_user(e, origin.user_id))?;
            if let Some(job) = origin.job {
                jobs::finish_with(conn, job, &hash)?;
            }
            if let Some(key) = origin.input_key {
                results::remember(conn, origin.user_id, key, row.id)?;
            }
            // Last, while the database is locked: readers see both or neither.
            file.commit().map_err(failed)?;
            named = true;
            sync_folder(folder)
                .and_then(|()| sync_folder(&self.out_root))
                .map_err(failed)?;
            Ok(Some(row.into()))
        });
        if named && !matches!(saved, Ok(Some(_))) {
            self.remove_file(&path)?;
        }
        saved
    }
}

/// Hex SHA-256 of `{user_id}:{time, ISO 8601}:{original_name}`, as in the Python service.
fn hashed_name(user_id: i32, time: Timestamp, original_name: &str) -> String {
    let text = format!("{user_id}:{}:{original_name}", iso(time));
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// A hash that this process writes a file for, until dropped.
struct Reserved<'a>(&'a str);

impl<'a> Reserved<'a> {
    fn new(hash: &'a str) -> Option<Self> {
        // Created only when it is free: dropping one releases the name.
        let free = in_flight().insert(hash.to_owned());
        free.then(|| Self(hash))
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        in_flight().remove(self.0);
    }
}

fn in_flight() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    // Every operation on the set is one call: it is whole after a panic elsewhere.
    IN_FLIGHT.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::store::StoreSettings;

    #[test]
    fn the_same_user_name_and_moment_give_two_names_and_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreSettings {
            db: dir.path().join("a.db"),
            out_root: dir.path().join("out"),
        })
        .unwrap();
        let user_id = store.add_user("a", "p", false).unwrap().id;
        let origin = GlbOrigin {
            user_id,
            original_name: "x.glb",
            job: None,
            input_key: None,
        };
        let time = now();
        let barrier = Barrier::new(4);
        let rows: Vec<GlbFile> = thread::scope(|scope| {
            let all = [0u8, 1, 2, 3].map(|i| {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let mut write = |out: &mut dyn WriteSeek| out.write_all(&[i]);
                    store.save_at(&origin, time, &mut write).unwrap()
                })
            });
            all.map(|t| t.join().unwrap()).into()
        });
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(fs::read(store.glb_path(row)).unwrap(), [i as u8]);
        }
        // A file that no row knows is not written over either.
        let later = time + SignedDuration::from_secs(1);
        let taken = relative(&hashed_name(user_id, later, "x.glb"), later);
        let taken = absolute(&store.out_root, &taken);
        fs::create_dir_all(taken.parent().unwrap()).unwrap();
        fs::write(&taken, b"older").unwrap();
        let row = store.save_at(&origin, later, &mut |_| Ok(())).unwrap();
        assert_ne!(store.glb_path(&row), taken);
        assert_eq!(fs::read(&taken).unwrap(), b"older");
        assert!(in_flight().is_empty());
    }
}
