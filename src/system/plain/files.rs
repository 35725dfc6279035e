//! Files: which they are, and how they are opened. Whose they are is unknown: who may read a file follows from its folder.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, FileType, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use crate::system::Space;

/// Whether a lock on a file leaves reading and writing it to everybody: on Windows it does not.
pub(crate) const LOCKS_ARE_ADVISORY: bool = false;

/// ERROR_TOO_MANY_OPEN_FILES of Windows.
pub(crate) const TOO_MANY_FILES: &[i32] = if cfg!(windows) { &[4] } else { &[] };

/// Unknown here.
pub(crate) const DISK_FAILED: &[i32] = &[];

/// A file by its name, links followed: two names of one file count as two files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileId(PathBuf);

impl FileId {
    /// Identifies the file at `path`, which has this metadata.
    pub(crate) fn new(path: &Path, _: &Metadata) -> Self {
        let name = path.canonicalize().or_else(|_| std::path::absolute(path));
        Self(name.unwrap_or_else(|_| path.to_owned()))
    }
}

/// Unknown here.
pub(crate) fn disk_id(_: &Metadata) -> Option<u64> {
    None
}

/// Unknown here: what does not fit is an error when it is written.
pub(crate) fn disk_space(_: &Path) -> Option<Space> {
    None
}

/// Unknown here.
pub(crate) fn is_removed(_: &Metadata) -> bool {
    false
}

/// There are none here.
pub(crate) fn is_socket(_: FileType) -> bool {
    false
}

/// They have no names of files here.
pub(crate) fn is_block_device(_: FileType) -> bool {
    false
}

/// Unknown here.
pub(crate) fn owner(_: &Metadata) -> Option<u32> {
    None
}

/// Unknown here.
pub(crate) fn own_user() -> Option<u32> {
    None
}

/// Unknown here.
pub(crate) fn is_open_to_others(_: &Metadata) -> bool {
    false
}

/// Files get the permissions of their folder here.
pub(crate) fn set_mode(_: &mut OpenOptions, _: u32) {}

/// Folders get the permissions of the folder above here.
pub(crate) fn for_owner_alone(_: &mut DirBuilder) {}

/// Folders get the permissions of the folder above here.
pub(crate) fn temporary_for_owner_alone(_: &mut tempfile::Builder<'_, '_>) {}

/// Opens a file unless it is a link. One that becomes a link in this moment is followed.
pub(crate) fn open_no_link(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match path.is_symlink() {
        true => Err(io::Error::other("it is a link")),
        false => options.open(path),
    }
}

/// A folder cannot be opened here, and need not be.
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Links need a privilege here.
pub(crate) fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns numbers that tell whether a file is still what it was.
pub(crate) fn stamp(metadata: &Metadata) -> [i64; 5] {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (age.as_secs().cast_signed(), age.subsec_nanos().into());
    [0, 0, metadata.len().cast_signed(), seconds, nanos]
}

/// Held while a file's position is in use, which all that share the file would move.
static POSITION: Mutex<()> = Mutex::new(());

fn at(mut file: &File, place: u64) -> io::Result<MutexGuard<'static, ()>> {
    // After a panic the position is somewhere else, and each call sets its own.
    let held = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(place))?;
    Ok(held)
}

/// Fills `bytes` from `place` on.
pub(crate) fn read_exact_at(mut file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    let _held = at(file, place)?;
    file.read_exact(bytes)
}

/// Writes all of `bytes` at `place`.
pub(crate) fn write_all_at(mut file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    let _held = at(file, place)?;
    file.write_all(bytes)
}

/// Returns the string that has these bytes, if it is text.
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

/// Unknown here.
pub(crate) fn locks_are_apart(_: &Path) -> bool {
    false
}
