//! Bytes at places: a file with a name, or one without that is in memory while it is small.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use tempfile::{SpooledTempFile, spooled_tempfile, spooled_tempfile_in};

use crate::system;

/// Bytes of a file without a name that stay in memory: of some hundred frames of the demo, and of some ten of VGGT-1B.
const IN_MEMORY: usize = 64 << 20;

/// What is written and read by place.
#[derive(Debug)]
pub(super) enum Data {
    /// A file in the folder of a spool.
    File(File),
    /// In memory, and on a disk from [`IN_MEMORY`] on.
    Nameless(Mutex<SpooledTempFile>),
}

impl Data {
    /// Begins a file without a name, on the disk of `dir` once it is large.
    pub(super) fn nameless(dir: &Path) -> Self {
        Self::Nameless(Mutex::new(spooled_tempfile_in(IN_MEMORY, dir)))
    }

    /// Begins what is always in memory.
    pub(super) fn in_memory() -> Self {
        Self::Nameless(Mutex::new(spooled_tempfile(usize::MAX)))
    }

    /// Writes all of `bytes` at `place`.
    pub(super) fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        match self {
            Self::File(file) => system::write_all_at(file, bytes, place),
            Self::Nameless(file) => {
                // A panic in between leaves at worst another position, and each call sets its own.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(place))?;
                file.write_all(bytes)
            }
        }
    }

    /// Fills `bytes` from `place` on.
    pub(super) fn read_at(&self, bytes: &mut [u8], place: u64) -> io::Result<()> {
        match self {
            Self::File(file) => system::read_exact_at(file, bytes, place),
            Self::Nameless(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(place))?;
                file.read_exact(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_hold_what_was_written_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        // One that moves to the disk at its second byte.
        let moving = Data::Nameless(Mutex::new(spooled_tempfile_in(1, dir.path())));
        let kinds = [
            Data::File(file),
            Data::nameless(dir.path()),
            moving,
            Data::in_memory(),
        ];
        for data in kinds {
            for (place, bytes) in [(4, b"late"), (0, b"soon")] {
                data.write_at(bytes, place).unwrap();
            }
            let mut read = [0; 6];
            data.read_at(&mut read, 2).unwrap();
            assert_eq!(&read, b"onlate", "{data:?}");
            assert!(data.read_at(&mut read, 5).is_err(), "{data:?}");
        }
    }
}
