//! The bytes of a file: mapped, or part of the program.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::Path,
};

use memmap2::Mmap;

use super::{WeightsError, guard::Guard};

/// Where the bytes of weights come from.
pub(super) enum Source {
    /// The guard is dropped before the map.
    Map(Option<Guard>, Mmap),
    Static(&'static [u8]),
}

impl Source {
    /// Maps the file `path` read-only.
    pub(super) fn map(path: &Path) -> Result<Self, WeightsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WeightsError::NotFound {
                path: path.to_owned(),
            },
            _ => WeightsError::Io {
                path: path.to_owned(),
                source,
            },
        };
        let kind = fs::metadata(path).map_err(failed)?;
        if kind.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        // Opening a pipe would wait for its other end.
        if !kind.is_file() {
            let e = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(failed(e));
        }
        let file = File::open(path).map_err(failed)?;
        let map = map(&file).map_err(failed)?;
        let start = map.as_ptr() as usize;
        let guard = Guard::new(start..start + map.len());
        Ok(Self::Map(guard, map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(_, map) => map,
            Self::Static(bytes) => bytes,
        }
    }

    /// Whether some of the bytes could not be read since the file was mapped.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Map(Some(guard), _) if guard.is_broken())
    }

    /// Tells the kernel that the pages of `range` are not needed for now: they stop counting as resident memory,
    /// and come back from the file when touched again. A hint: nothing depends on it.
    pub(super) fn release(&self, range: Range<usize>) {
        if let Self::Map(_, map) = self
            && !range.is_empty()
        {
            release(map, range);
        }
    }
}

#[allow(unsafe_code, reason = "maps the weights file")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and only handed out as bytes, for which every value is valid. What must hold and
    // cannot be enforced: nobody rewrites the file while it is mapped. Changed bytes give wrong weights, but no header is
    // trusted twice: offsets are copied out and checked when the file is opened. Pages behind a new end are `guard`'s. The
    // alternative, reading 5 GB into memory, doubles what loading needs; the hub's cache and `convert` replace files by
    // renaming, which leaves a map intact.
    unsafe { Mmap::map(file) }
}

#[cfg(unix_calls)]
#[allow(unsafe_code, reason = "maps the weights file")]
fn release(map: &Mmap, range: Range<usize>) {
    // SAFETY: the map is of a file and never written to, so that dropped pages are read again with the same content;
    // `range` lies inside the map, since every range was checked against its length.
    let _ = unsafe {
        map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
    };
}

#[cfg(not(unix_calls))]
fn release(_: &Mmap, _: Range<usize>) {}
