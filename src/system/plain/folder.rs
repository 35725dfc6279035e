//! A folder by its name. Links in it are noticed, but not those that appear in this moment.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::open_no_link;
use crate::system::Access;

/// A folder.
#[derive(Debug)]
pub(crate) struct OpenFolder(PathBuf);

impl OpenFolder {
    /// Checks that `path` is a folder and not a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path)?.is_dir() {
            true => Ok(Self(std::path::absolute(path)?)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Returns what the system says of the folder itself.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        fs::symlink_metadata(&self.0)
    }

    /// Returns whether the folder has something of this name.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match self.0.join(name).symlink_metadata() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens a regular file, unless it is a link.
    pub(crate) fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read);
        options.create(matches!(access, Access::Create | Access::Replace));
        options.truncate(access == Access::Replace);
        let path = self.0.join(name);
        // A FIFO would wait for its other end.
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => Err(io::Error::other("it is not a file")),
            _ => open_no_link(&mut options, &path),
        }
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Gives a file another name, in the place of an older one of that name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }
}
