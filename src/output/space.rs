//! Room on the disk for what is about to be computed.

use std::{os::unix::fs::MetadataExt, path::Path};

use super::{OutputError, Target, path::existing};

/// Returns the device number of the disk that `path` is or will be on.
pub fn disk_of(path: &Path) -> Option<u64> {
    existing(path).map(|(_, metadata)| metadata.dev())
}

/// Refuses when the disk of `path` has less space than `bytes`; a file system that does not tell is trusted.
///
/// # Errors
/// [`OutputError::NoSpace`].
pub fn require_space(path: &Path, bytes: u64) -> Result<(), OutputError> {
    let Some(Ok(disk)) = existing(path).map(|(above, _)| rustix::fs::statvfs(above)) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // Some file systems, such as those of containers' kernels, report no blocks at all.
    if disk.f_blocks > 0 && free < bytes {
        return Err(OutputError::NoSpace {
            path: path.to_owned(),
            needed: bytes,
            free,
        });
    }
    Ok(())
}

impl Target {
    /// Refuses when the disk has less space than `bytes`.
    ///
    /// # Errors
    /// [`OutputError::NoSpace`].
    pub fn require_space(&self, bytes: u64) -> Result<(), OutputError> {
        match self.file() {
            Some(file) => require_space(file, bytes),
            None => Ok(()),
        }
    }
}
