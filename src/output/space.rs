//! Room on the disk for what is about to be computed.

use std::path::Path;

use super::{OutputError, Target, path::existing};
use crate::system;

/// Returns the device number of the disk that `path` is or will be on; `None` where the system does not tell.
pub fn disk_of(path: &Path) -> Option<u64> {
    existing(path).and_then(|(_, metadata)| system::disk_id(&metadata))
}

/// Refuses when the disk of `path` has less space than `bytes`; a file system that does not tell is trusted.
///
/// # Errors
/// [`OutputError::NoSpace`].
pub fn require_space(path: &Path, bytes: u64) -> Result<(), OutputError> {
    let Some(disk) = existing(path).and_then(|(above, _)| system::disk_space(above)) else {
        return Ok(());
    };
    if disk.total > 0 && disk.free < bytes {
        return Err(OutputError::NoSpace {
            path: path.to_owned(),
            needed: bytes,
            free: disk.free,
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
