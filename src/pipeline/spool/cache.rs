//! Finished spools that are kept for the next run, bounded in bytes; the one that was used least recently goes first.
//!
//! Each is a folder named by its key. It appears complete, by a rename, and goes by a removal under its lock. Whoever reads one
//! shares its lock, so that it stays; and each is verified before it is used.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    MadeOf, Spool,
    column::Column,
    error::{SpoolError, failed},
    header::Header,
    home::{Folder, Home, IMAGES},
    journal::{Journal, Record},
    place::{Opened, discard, reopened},
};
use crate::system;

/// Bytes that are kept at most: some twenty captures of a thousand frames.
const MAX_BYTES: u64 = 20 << 30;

/// At most this part of what the disk has left.
const PART_OF_DISK: u64 = 10;

/// Length of a key, and of the name of its folder.
const KEY: usize = 64;

/// Beginning of the name of a folder that is being filled.
const NEW: &str = ".new-";

/// A folder of finished spools.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    max_bytes: Option<u64>,
}

/// A spool in the cache.
struct Entry {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Cache {
    /// A cache in this folder, which is created when something is kept. `max_bytes` limits it; by default 20 GiB, or a tenth of
    /// what the disk has left if that is less.
    pub fn new(root: impl Into<PathBuf>, max_bytes: Option<u64>) -> Self {
        Self {
            root: root.into(),
            max_bytes,
        }
    }

    /// Returns the spool that was made of this, if it is whole, with the results of the point head where `points`. `is_wanted`
    /// is asked last.
    pub fn find(
        &self,
        made_of: &MadeOf,
        points: bool,
        is_wanted: impl Fn(&Spool) -> bool,
    ) -> Option<Spool> {
        // One with points also serves who needs none.
        let with_points = self.entry(made_of, true);
        let found = with_points.or_else(|| (!points).then(|| self.entry(made_of, false))?);
        found.filter(is_wanted)
    }

    fn entry(&self, made_of: &MadeOf, points: bool) -> Option<Spool> {
        let path = self.root.join(made_of.key(points));
        if path.symlink_metadata().is_err() {
            return None;
        }
        match open_finished(&path) {
            Ok(spool) if spool.header.made_of == *made_of && spool.fields().points == points => {
                if let Some(folder) = spool.home.folder() {
                    folder.touch();
                }
                return Some(spool);
            }
            // It is being removed, or was only just kept.
            Err(SpoolError::InUse { .. }) => return None,
            Ok(_) => tracing::warn!(
                "\"{}\" is not what its name says: computing again",
                path.display()
            ),
            Err(e) => tracing::warn!("{e}: computing again"),
        }
        discard(&path);
        None
    }

    /// Keeps a finished spool: moves its folder here, or copies its files. Returns the folder; `None` where it is too large, or
    /// depends on the memory that was free.
    ///
    /// # Errors
    /// When the cache cannot be written. What was begun is removed.
    pub fn keep(&self, spool: &Spool) -> Result<Option<PathBuf>, SpoolError> {
        if !spool.is_finished() || spool.decoded.by_memory {
            return Ok(None);
        }
        let mut builder = fs::DirBuilder::new();
        system::for_owner_alone(&mut builder);
        builder
            .recursive(true)
            .create(&self.root)
            .map_err(failed("create", &self.root))?;
        if !self.make_room(spool.bytes()) {
            tracing::debug!(
                "not kept in the cache: {} bytes are too many",
                spool.bytes()
            );
            return Ok(None);
        }
        let header = Header::new(
            spool.header.made_of.clone(),
            spool.header.fields,
            serde_json::Value::Null,
        );
        let path = self.root.join(header.made_of.key(header.fields.points));
        if let Some(folder) = spool.home.folder() {
            header.write(&spool.home)?;
            folder.touch();
            match replace(folder.path(), &path) {
                Ok(()) => return Ok(Some(path)),
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
                Err(e) if is_there(&e) => return Ok(Some(path)),
                Err(e) => return Err(failed("create", &path)(e)),
            }
        }
        let mut builder = tempfile::Builder::new();
        system::temporary_for_owner_alone(&mut builder);
        let new = builder
            .prefix(NEW)
            .tempdir_in(&self.root)
            .map_err(failed("create", &self.root))?;
        let copy = spool.copy_to(new.path(), header)?;
        match replace(new.path(), &path) {
            Ok(()) => {
                // Its name is another now.
                let _ = new.keep();
                drop(copy);
                Ok(Some(path))
            }
            Err(e) if is_there(&e) => Ok(Some(path)),
            Err(e) => Err(failed("create", &path)(e)),
        }
    }

    /// Removes what was used least recently until `bytes` more are allowed; returns false when they never are.
    fn make_room(&self, bytes: u64) -> bool {
        let mut entries = self.entries();
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let max = self
            .max_bytes
            .unwrap_or_else(|| default_bytes(&self.root, total));
        if bytes > max {
            return false;
        }
        entries.sort_by_key(|entry| entry.used);
        for entry in entries {
            if total + bytes <= max {
                break;
            }
            // One that is read stays.
            if let Ok(folder) = Folder::open(&entry.path, false) {
                folder.remove();
                total -= entry.bytes;
            }
        }
        total + bytes <= max
    }

    /// What is kept. Removes what others left in the middle.
    fn entries(&self) -> Vec<Entry> {
        let dir = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut entries = Vec::new();
        for one in dir {
            let (path, name) = (one.path(), one.file_name());
            let name = name.to_string_lossy();
            if name.starts_with(NEW) {
                if Folder::is_abandoned(&path) {
                    discard(&path);
                }
            } else if name.len() == KEY && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                entries.push(entry(path));
            }
        }
        entries
    }
}

/// Opens a spool that must be finished and whole, beside others who read it.
///
/// # Errors
/// When it is neither, or not one of this version.
pub fn open_finished(path: &Path) -> Result<Spool, SpoolError> {
    let home = Home::Folder(Folder::open(path, true)?);
    let header = Header::read(&home)?;
    match reopened(home, header)? {
        Opened::Spool(spool) if spool.is_finished() => Ok(*spool),
        _ => Err(SpoolError::NotOurs {
            path: path.to_owned(),
            why: "it is damaged".to_owned(),
        }),
    }
}

fn entry(path: PathBuf) -> Entry {
    let files = fs::read_dir(&path).into_iter().flatten().flatten();
    let files = files.filter_map(|file| file.metadata().ok());
    let (mut used, mut bytes) = (SystemTime::UNIX_EPOCH, 0);
    for meta in files {
        bytes += meta.len();
        used = used.max(meta.modified().unwrap_or(used));
    }
    Entry { path, used, bytes }
}

fn default_bytes(root: &Path, kept: u64) -> u64 {
    let part = system::disk_space(root).map_or(MAX_BYTES, |disk| {
        disk.free.saturating_add(kept) / PART_OF_DISK
    });
    part.min(MAX_BYTES)
}

/// Gives a finished folder its name, in the place of one that nobody reads: that was not wanted, as when more frames fit now.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if is_there(&e) => {
            match Folder::open(to, false) {
                Ok(older) => older.remove(),
                Err(_) => return Err(e),
            }
            fs::rename(from, to)
        }
        done => done,
    }
}

/// Whether a folder could not take a name because another process was quicker.
fn is_there(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
    )
}

impl Spool {
    /// Copies everything into an empty folder.
    fn copy_to(&self, path: &Path, header: Header) -> Result<Self, SpoolError> {
        let home = Home::Folder(Folder::create(path)?);
        header.write(&home)?;
        let images = Column::new(IMAGES, home.create(IMAGES)?, self.images.stride());
        let journal = Journal::begin(&home)?;
        let mut copy = Self::new(home, header, self.decoded.clone(), images, journal)?;
        for frame in 0..self.count() {
            let bytes = self.images.read(frame);
            let copied = bytes.and_then(|bytes| copy.images.write(frame, &bytes));
            copied.map_err(failed("write", &path.join(IMAGES)))?;
        }
        // Begins the journal.
        copy.forget_results()?;
        for frame in 0..self.count() {
            copy.copy_results(self, frame)?;
        }
        if let Some(all) = &self.cameras {
            copy.finish(&all.pose_enc, &all.extrinsic, &all.intrinsic)?;
        }
        Ok(copy)
    }

    fn copy_results(&mut self, from: &Self, frame: usize) -> Result<(), SpoolError> {
        let mut hasher = crc32fast::Hasher::new();
        for (to, from) in self.results.iter().zip(&from.results) {
            let bytes = from.read(frame);
            let copied = bytes.and_then(|bytes| {
                hasher.update(&bytes);
                to.write(frame, &bytes)
            });
            copied.map_err(failed("write", &self.path_of(to)))?;
        }
        self.done[frame] = true;
        self.record(&Record::Frame {
            index: frame,
            sum: hasher.finalize(),
        })
    }
}
