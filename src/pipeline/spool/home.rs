//! Where the files of a spool lie: in a folder of their own, or nowhere that has a name.
//!
//! A folder is opened once; its files are opened relative to it and never through a link, so that nobody can put another
//! folder or file in the place of one of them.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    data::Data,
    error::{SpoolError, failed},
};
use crate::system::{self, Access, OpenFolder};

/// Says what the folder is; see [`super::header`].
pub(super) const HEADER: &str = "spool.json";
/// The header while it is written.
const NEW_HEADER: &str = "spool.json.new";
/// Locked by the process that works on the folder.
const LOCK: &str = "lock";
/// What is finished; see [`super::journal`].
pub(super) const JOURNAL: &str = "journal";
/// Frames as they are decoded, before it is known which are used.
pub(super) const DECODED: &str = "decoded";
/// Pixels of the frames: RGB, 8 bits a channel. Stride 3 H W.
pub(super) const IMAGES: &str = "images";
/// Values of the cameras of all frames.
pub(super) const CAMERAS: &str = "cameras";

/// What refined cameras were made of the results.
pub(super) const REFINEMENT: &str = "refinement";

/// Every name that a file of ours can have. Nothing else in a folder is ever removed.
const FILES: [&str; 14] = [
    REFINEMENT,
    "similarity",
    HEADER,
    NEW_HEADER,
    JOURNAL,
    DECODED,
    IMAGES,
    CAMERAS,
    "depth",
    "depth_conf",
    "world_points",
    "world_points_conf",
    "camera_tokens",
    // Last: while it is there, the folder is known for what it is.
    LOCK,
];

/// Where the files of a spool lie.
#[derive(Debug)]
pub(super) enum Home {
    /// In a folder.
    Folder(Folder),
    /// On the disk of this folder, or in memory while they are small, without names: they go with the process.
    Nameless(PathBuf),
    /// In memory.
    Memory,
}

/// A folder of ours that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    dir: OpenFolder,
    lock: File,
    /// Others may read it at the same time; nobody writes.
    shared: bool,
}

impl Folder {
    /// Creates the folder, or takes one that is empty or was only just created when its process ended.
    pub(super) fn create(path: &Path) -> Result<Self, SpoolError> {
        let mut builder = DirBuilder::new();
        system::for_owner_alone(&mut builder);
        match builder.create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => done.map_err(failed("create", path))?,
        }
        let folder = Self::lock(path, false)?;
        let foreign = entries(path)?
            .into_iter()
            .find(|name| name != LOCK && name != NEW_HEADER);
        match foreign {
            None => Ok(folder),
            Some(name) => Err(SpoolError::NotOurs {
                path: path.to_owned(),
                why: format!("it holds {name:?} already"),
            }),
        }
    }

    /// Opens a folder that holds a spool. `shared` only reads it, beside others that do.
    pub(super) fn open(path: &Path, shared: bool) -> Result<Self, SpoolError> {
        let not_ours = |why: &str| SpoolError::NotOurs {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let dir = open_dir(path)?;
        match dir.has(HEADER) {
            Ok(true) => {}
            Ok(false) => return Err(not_ours("it holds no spool.json of vggt")),
            Err(e) => return Err(failed("read", &path.join(HEADER))(e)),
        }
        Self::lock(path, shared)
    }

    /// Returns whether the process that created the folder is gone.
    pub(super) fn is_abandoned(path: &Path) -> bool {
        Self::lock(path, false).is_ok()
    }

    fn lock(path: &Path, shared: bool) -> Result<Self, SpoolError> {
        let in_use = || SpoolError::InUse {
            path: path.to_owned(),
        };
        let dir = open_dir(path)?;
        let lock = dir.open_file(LOCK, Access::Create);
        let lock = lock.map_err(failed("open", &path.join(LOCK)))?;
        let locked = match shared {
            true => lock.try_lock_shared(),
            false => lock.try_lock(),
        };
        match locked {
            // Removed by its owner after it was opened here: that one is about to end.
            Ok(()) if lock.metadata().is_ok_and(|meta| system::is_removed(&meta)) => {
                return Err(in_use());
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            // A file system without locks: as everywhere, two processes are then the user's to avoid.
            Err(TryLockError::Error(e)) => tracing::debug!("cannot lock a spool: {e}"),
        }
        Ok(Self {
            path: path.to_owned(),
            dir,
            lock,
            shared,
        })
    }

    /// Path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it is only read.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Creates an empty file, in the place of an older one of this name.
    pub(super) fn create_file(&self, name: &str) -> Result<File, SpoolError> {
        let created = self.dir.open_file(name, Access::Replace);
        created.map_err(failed("create", &self.path.join(name)))
    }

    /// Marks the folder as used now.
    pub(super) fn touch(&self) {
        if let Err(e) = self.lock.set_modified(std::time::SystemTime::now()) {
            tracing::debug!("cannot mark a spool as used: {e}");
        }
    }

    /// Removes the files of a spool, and the folder if nothing else is in it.
    pub(super) fn remove(&self) {
        remove_files(&self.dir, &self.path);
    }
}

/// Removes the files of a spool, and the folder if nothing else is in it, also while another process has locked it. For folders of our own.
pub(super) fn remove(path: &Path) {
    if let Ok(dir) = open_dir(path) {
        remove_files(&dir, path);
    }
}

fn remove_files(dir: &OpenFolder, path: &Path) {
    for name in FILES {
        // Most are not there. What cannot be removed is found by the next who looks.
        let _ = dir.remove(name);
    }
    if let Err(e) = fs::remove_dir(path) {
        tracing::debug!("\"{}\" stays: {e}", path.display());
    }
}

impl Home {
    /// Path for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Nameless(dir) => dir,
            Self::Memory => Path::new("memory"),
        }
    }

    /// Returns the folder, if the files have names.
    pub(super) fn folder(&self) -> Option<&Folder> {
        match self {
            Self::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    /// Begins empty data, in the place of older data of this name.
    pub(super) fn create(&self, name: &str) -> Result<Data, SpoolError> {
        match self {
            Self::Folder(folder) => folder.create_file(name).map(Data::File),
            Self::Nameless(dir) => Ok(Data::nameless(dir)),
            Self::Memory => Ok(Data::in_memory()),
        }
    }

    /// Opens a file that is there; `None` where there is none.
    pub(super) fn open(&self, name: &str) -> Result<Option<File>, SpoolError> {
        let Self::Folder(folder) = self else {
            return Ok(None);
        };
        let access = match folder.shared {
            true => Access::Read,
            false => Access::Write,
        };
        match folder.dir.open_file(name, access) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &folder.path.join(name))(e)),
        }
    }

    /// Gives a file another name, in the place of an older one of that name.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), SpoolError> {
        if let Self::Folder(folder) = self {
            let renamed = folder.dir.rename(from, to);
            renamed.map_err(failed("write", &folder.path.join(to)))?;
        }
        Ok(())
    }

    /// Removes all files but the header and the lock.
    pub(super) fn clear(&self) {
        for name in FILES
            .iter()
            .filter(|name| **name != HEADER && **name != LOCK)
        {
            self.remove(name);
        }
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) {
        if let Self::Folder(folder) = self {
            // It is overwritten or ignored if it stays.
            let _ = folder.dir.remove(name);
        }
    }

    /// Writes a small file as a whole: it appears complete or not at all.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        if let Self::Folder(folder) = self {
            let mut file = folder.create_file(NEW_HEADER)?;
            let written = io::Write::write_all(&mut file, bytes);
            written.map_err(failed("write", &folder.path.join(name)))?;
            self.rename(NEW_HEADER, name)?;
        }
        Ok(())
    }
}

/// Copies the files of a spool into a new folder. What is written in the meantime may be cut: the journal, which is copied first, tells
/// by its checksums what is whole.
pub(super) fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    system::for_owner_alone(&mut builder);
    builder.create(to)?;
    let names = FILES
        .iter()
        .filter(|name| **name != JOURNAL && **name != LOCK);
    for name in std::iter::once(&JOURNAL).chain(names) {
        match fs::copy(from.join(name), to.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    system::sync_folder(to)
}

/// Opens a folder that belongs to this user, unless it is a link.
fn open_dir(path: &Path) -> Result<OpenFolder, SpoolError> {
    let not_ours = |why: String| SpoolError::NotOurs {
        path: path.to_owned(),
        why,
    };
    let meta = fs::symlink_metadata(path).map_err(failed("open", path))?;
    if meta.is_symlink() {
        return Err(not_ours("it is a link".to_owned()));
    }
    if !meta.is_dir() {
        return Err(not_ours("it is not a folder".to_owned()));
    }
    let dir = OpenFolder::open(path).map_err(failed("open", path))?;
    let owner = system::owner(&dir.metadata().map_err(failed("open", path))?);
    match owner {
        Some(owner) if system::own_user() != Some(owner) => {
            Err(not_ours(format!("it belongs to user {owner}")))
        }
        _ => Ok(dir),
    }
}

/// Names in a folder.
fn entries(path: &Path) -> Result<Vec<std::ffi::OsString>, SpoolError> {
    let names = fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    names.map_err(failed("read", path))
}

/// Returns true when the folder of this name can only be one of ours that was left in the middle of its creation.
pub(super) fn is_barely_begun(path: &Path) -> bool {
    let ours = |name: &OsStr| name == LOCK || name == NEW_HEADER;
    path.is_dir()
        && !path.is_symlink()
        && entries(path).is_ok_and(|names| names.iter().all(|name| ours(name)))
}
