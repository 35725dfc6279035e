//! Storing a GLB: the file and its row appear together or not at all.

use std::{
    io,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    GlbFile, Store, StoreError, WriteSeek,
    connection::columns,
    files::{absolute, relative, sync_folder},
    glb_files::{self as glbs, GlbFileRow, check_original_name, no_such_user},
    jobs,
    queue::Lease,
    random::{hex, random},
    results,
    schema::glb_files,
    spools::SpoolToKeep,
    time::{column, iso, now},
};
use crate::atomic_file::AtomicFile;

/// How long a database that went away during a commit is asked what became of it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Random bytes in a hash: 128 bits cannot be guessed, by nobody and at no rate.
const SECRET: usize = 16;

/// Owner and name of a GLB to be stored, and what else is recorded with it.
#[derive(Debug, Clone, Copy)]
pub struct GlbOrigin<'a> {
    /// User who owns the file.
    pub user_id: i32,
    /// Original name, at most 256 characters.
    pub original_name: &'a str,
    /// Row of the job that this ends.
    pub job: Option<Lease>,
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
        self.save_result(&origin, write, &mut |_| Ok(None))
    }

    /// Stores what `write` writes: a temporary file, fsync, rename and the row (an object and the row, where the files are in a bucket),
    /// and in the same transaction the end of the job, the key of the input, and the spool that `keep` returns for a GLB of so many
    /// bytes: who sees the job done finds all of it.
    ///
    /// # Errors
    /// When there is no such user, the name does not fit, the job has ended, or something cannot be written
    /// ([`StoreError::is_disk_full`]). Neither file nor row is left then.
    pub fn save_result(
        &self,
        origin: &GlbOrigin<'_>,
        write: &mut dyn FnMut(&mut dyn WriteSeek) -> io::Result<()>,
        keep: &mut dyn FnMut(u64) -> Result<Option<SpoolToKeep>, StoreError>,
    ) -> Result<GlbFile, StoreError> {
        check_original_name(origin.original_name)?;
        if self.user_by_id(origin.user_id)?.is_none() {
            return Err(StoreError::UnknownUserId(origin.user_id));
        }
        self.guard()?;
        let time = now();
        let hash = hashed_name(origin.user_id, time, origin.original_name)?;
        let file_path = relative(&hash, time);
        let path = absolute(&self.out_root, &file_path);
        let failed = |source| StoreError::Write {
            path: path.clone(),
            source,
        };
        let folder = path.parent().unwrap_or(&self.out_root);
        self.own_folder(folder)?;
        let mut file = AtomicFile::create_private(&path).map_err(failed)?;
        // The bytes are on the disk before the database is locked.
        let size = write(&mut file)
            .and_then(|()| file.sync())
            .map_err(failed)?;
        let mut spool = keep(size)?;
        let ahead = match &self.remote {
            Some(remote) => Some(self.send_ahead(remote, &file_path, file.temporary())?),
            None => None,
        };
        if let (Some(ahead), Some(some)) = (&ahead, &spool)
            && !ahead.send_spool(some)
        {
            spool = None;
        }

        let mut named = false;
        let mut kept = None;
        let saved: Result<GlbFile, StoreError> = self.connection()?.write(|conn| {
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
                .returning(columns::<GlbFileRow>())
                .get_result(conn)
                .map_err(|e| no_such_user(e, origin.user_id))?;
            let row = GlbFile::from(row);
            if let Some(job) = origin.job {
                jobs::finish_with(conn, job, &hash)?;
            }
            if let Some(key) = origin.input_key {
                results::remember(conn, origin.user_id, key, row.id)?;
            }
            if let Some(spool) = &spool {
                kept = self.keep_spool(conn, &row, spool)?;
            }
            if let Some(ahead) = &ahead {
                named = true;
                ahead.claim(conn)?;
                return Ok(row);
            }
            // Last, while the database is locked: readers see both or neither.
            file.link().map_err(failed)?;
            named = true;
            sync_folder(folder)
                .and_then(|()| sync_folder(&self.out_root))
                .map_err(failed)?;
            Ok(row)
        });
        let saved = match saved {
            // The connection was lost, and with it perhaps the answer to a commit.
            Err(e) if named && self.database.file().is_none() && e.is_passing() => {
                self.look_again(&hash, e)?
            }
            saved => saved,
        };
        if saved.is_err()
            && let Some(kept) = kept
        {
            kept.remove();
        }
        match ahead {
            // Dropped, it removes what is in the bucket.
            Some(ahead) if saved.is_ok() => ahead.has_row(),
            Some(_) => {}
            None if named && saved.is_err() => self.remove_file(&path)?,
            None => {}
        }
        // Its temporary name goes last: until here it tells a sweeper that the row may not be there.
        drop(file);
        saved
    }
}

impl Store {
    /// Returns the row of a file if it is there after all, else the error; fails, and the file stays, when that cannot be found out.
    fn look_again(
        &self,
        hash: &str,
        e: StoreError,
    ) -> Result<Result<GlbFile, StoreError>, StoreError> {
        let start = Instant::now();
        loop {
            // As a writer: a transaction of before that is not over yet holds the lock.
            let found = self
                .connection()
                .and_then(|mut conn| conn.write(|conn| Ok(glbs::find(conn, hash)?)));
            match found {
                Ok(Some(row)) => return Ok(Ok(row.into())),
                Ok(None) => return Ok(Err(e)),
                Err(_) if start.elapsed() < LOOK_AGAIN => std::thread::sleep(LOOK_PAUSE),
                Err(_) => {
                    tracing::warn!(
                        "the file of {hash} may have no row: `vggt check` finds out once the database is back"
                    );
                    return Err(e);
                }
            }
        }
    }
}

/// Hex SHA-256 of `{user_id}:{time, ISO 8601}:{original_name}`, as in the Python service, and of random bytes: with
/// `--open-get` everybody who knows the hash may fetch the file.
fn hashed_name(user_id: i32, time: Timestamp, original_name: &str) -> Result<String, StoreError> {
    let mut digest = Sha256::new();
    digest.update(format!("{user_id}:{}:{original_name}", iso(time)));
    digest.update(random::<SECRET>()?);
    Ok(hex(&digest.finalize()))
}
