//! Files: which they are, whose they are, and how they are opened.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, FileType, Metadata, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStringExt,
        fs::{
            DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
            symlink as create_symlink,
        },
    },
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};

use crate::system::Space;

/// Whether a lock on a file leaves reading and writing it to everybody, so that a file can be locked while it is written.
pub(crate) const LOCKS_ARE_ADVISORY: bool = true;

/// Errors of the system when a process, or all of them, have too many open files. The standard library has no kind for them.
pub(crate) const TOO_MANY_FILES: &[i32] =
    &[Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()];

/// Errors of the system when a disk fails.
pub(crate) const DISK_FAILED: &[i32] = &[Errno::IO.raw_os_error()];

/// A file on a machine, whatever its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// Identifies the file at `path`, which has this metadata.
    pub(crate) fn new(_path: &Path, metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Returns the number of the disk that a file is on.
pub(crate) fn disk_id(metadata: &Metadata) -> Option<u64> {
    Some(metadata.dev())
}

/// Returns the space of the disk that holds `path`.
pub(crate) fn disk_space(path: &Path) -> Option<Space> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(Space {
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
        total: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

/// Returns true for an open file that has no name any more.
pub(crate) fn is_removed(metadata: &Metadata) -> bool {
    metadata.nlink() == 0
}

/// Returns true for a socket with a name.
pub(crate) fn is_socket(kind: FileType) -> bool {
    kind.is_socket()
}

/// Returns true for a disk as a whole.
pub(crate) fn is_block_device(kind: FileType) -> bool {
    kind.is_block_device()
}

/// Returns the number of the user that a file belongs to.
pub(crate) fn owner(metadata: &Metadata) -> Option<u32> {
    Some(metadata.uid())
}

/// Returns the number of the user that this process acts for.
pub(crate) fn own_user() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// Returns true when others than its owner may read or write a file.
pub(crate) fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o077 != 0
}

/// What a file that is created permits, less the process's umask.
pub(crate) fn set_mode(options: &mut OpenOptions, mode: u32) {
    options.mode(mode);
}

/// Makes the folder that is created one for its owner alone.
pub(crate) fn for_owner_alone(builder: &mut DirBuilder) {
    builder.mode(0o700);
}

/// Makes the temporary folder that is created one for its owner alone.
pub(crate) fn temporary_for_owner_alone(builder: &mut tempfile::Builder<'_, '_>) {
    builder.permissions(Permissions::from_mode(0o700));
}

/// Opens a file unless it is a link. Does not wait for the other end of a FIFO.
pub(crate) fn open_no_link(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed());
    options.open(path)
}

/// Makes a rename in `folder` survive a power failure.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a link at `link`.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where links need a privilege.
pub(crate) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    create_symlink(target, link)
}

/// Returns numbers that tell whether a file is still what it was.
pub(crate) fn stamp(metadata: &Metadata) -> [i64; 5] {
    [
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.len().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ]
}

/// Fills `bytes` from `place` on.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    file.read_exact_at(bytes, place)
}

/// Writes all of `bytes` at `place`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], place: u64) -> io::Result<()> {
    file.write_all_at(bytes, place)
}

/// Returns the string that has these bytes.
pub(crate) fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(OsString::from_vec(bytes))
}

/// Returns true where locks on a whole file have nothing to do with those of SQLite, which are on parts of it: on Linux, except
/// on network file systems.
#[cfg(linux_calls)]
pub(crate) fn locks_are_apart(path: &Path) -> bool {
    /// `f_type` of NFS, SMB, CIFS and 9p in statfs(2): these map `flock` to the locks that SQLite uses, or have none.
    const NETWORK: [u64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];
    let on_network = rustix::fs::statfs(path)
        .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| NETWORK.contains(&kind)));
    !on_network
}

/// Other systems may take one for the other.
#[cfg(not(linux_calls))]
pub(crate) fn locks_are_apart(_: &Path) -> bool {
    false
}
