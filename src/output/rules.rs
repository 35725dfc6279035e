//! The rule: a path -> what may be written there.

use std::{
    collections::HashSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    OutputError, Sink, is_ours,
    path::{existing, follow, is_descriptor, is_standard_error, is_standard_output},
};
use crate::system::{self, FileId};

/// What the outputs of one command may replace.
#[derive(Debug, Clone, Default)]
pub struct OutputRules {
    inputs: HashSet<FileId>,
    overwrite: bool,
}

/// Something that may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A regular file, links followed.
    File(PathBuf),
    /// A device, a FIFO or an open file: written through.
    Stream,
    StandardOutput,
    StandardError,
}

impl OutputRules {
    /// Outputs may replace files that `vggt` wrote, and any other with `overwrite`; never one of `inputs`.
    pub fn new<P: AsRef<Path>>(inputs: impl IntoIterator<Item = P>, overwrite: bool) -> Self {
        let id = |path: P| {
            let path = path.as_ref();
            Some(FileId::new(path, &fs::metadata(path).ok()?))
        };
        Self {
            inputs: inputs.into_iter().filter_map(id).collect(),
            overwrite,
        }
    }

    /// Returns true when files that something else wrote may be replaced.
    pub fn overwrites(&self) -> bool {
        self.overwrite
    }

    /// Returns true when `path` is one of the inputs.
    pub fn is_input(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| self.inputs.contains(&FileId::new(path, &metadata)))
    }

    /// Checks that a file may be written at `path`, without writing anything.
    ///
    /// # Errors
    /// When it may not, or the folder that it goes into cannot be written.
    pub fn file(&self, path: &Path) -> Result<Target, OutputError> {
        let target = |kind| Target {
            path: path.to_owned(),
            kind,
        };
        let fail = |e| OutputError::io(path, e);
        let special = |kind| OutputError::Special {
            path: path.to_owned(),
            kind,
        };
        let resolved = follow(path).map_err(fail)?;
        if is_standard_output(&resolved) {
            return Ok(target(Kind::StandardOutput));
        }
        if is_standard_error(&resolved) {
            return Ok(target(Kind::StandardError));
        }
        // A pipe can be opened again by its name. A file would be opened a second time, at its beginning.
        if is_descriptor(&resolved) {
            return match fs::metadata(&resolved).map_err(fail)?.is_file() {
                true => Err(special("file that is already open; use - and redirect it")),
                false => Ok(target(Kind::Stream)),
            };
        }
        no_parent_of_nothing(path, &resolved)?;
        let metadata = match fs::metadata(&resolved) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                can_create_in(path, parent(&resolved))?;
                return Ok(target(Kind::File(resolved)));
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(not_a_folder(path, parent(&resolved)));
            }
            Err(e) => return Err(fail(e)),
        };
        if self.inputs.contains(&FileId::new(&resolved, &metadata)) {
            return Err(OutputError::IsInput {
                path: path.to_owned(),
            });
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(OutputError::IsFolder {
                path: path.to_owned(),
            });
        }
        if system::is_socket(kind) {
            return Err(special("socket"));
        }
        if system::is_block_device(kind) {
            return Err(special("disk"));
        }
        if !kind.is_file() {
            return Ok(target(Kind::Stream));
        }
        if !self.overwrite && metadata.len() > 0 && !is_ours(&resolved).map_err(fail)? {
            return Err(OutputError::NotOurs {
                path: path.to_owned(),
            });
        }
        can_create_in(path, parent(&resolved))?;
        Ok(target(Kind::File(resolved)))
    }

    /// Checks that files may be written into the folder `path`, which may not exist yet.
    ///
    /// # Errors
    /// When it is something else, or cannot be written.
    pub fn folder(&self, path: &Path) -> Result<(), OutputError> {
        if is_standard_output(path) || is_descriptor(path) {
            return Err(OutputError::FolderToStream {
                path: path.to_owned(),
            });
        }
        no_parent_of_nothing(path, path)?;
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => can_create_in(path, path),
            Ok(metadata) if metadata.is_file() => Err(not_a_folder(path, path)),
            Ok(_) => Err(OutputError::FolderToStream {
                path: path.to_owned(),
            }),
            Err(_) => can_create_in(path, path),
        }
    }
}

impl Target {
    /// Returns the target of a file that the caller knows to be its own.
    ///
    /// # Errors
    /// When links at `path` cannot be followed.
    pub fn replacing(path: &Path) -> Result<Self, OutputError> {
        let file = follow(path).map_err(|e| OutputError::io(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            kind: Kind::File(file),
        })
    }

    /// Returns the path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true when the bytes go to standard output.
    pub fn is_standard_output(&self) -> bool {
        self.kind == Kind::StandardOutput
    }

    /// Returns the regular file that will be written, links followed; `None` for a stream.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(path) => Some(path),
            _ => None,
        }
    }

    /// Returns what tells this target from others, whatever it is called.
    pub fn identity(&self) -> PathBuf {
        let path = match &self.kind {
            Kind::File(path) => path,
            Kind::Stream => &self.path,
            Kind::StandardOutput => return PathBuf::from("-"),
            Kind::StandardError => return PathBuf::from("/dev/stderr"),
        };
        match (parent(path).canonicalize(), path.file_name()) {
            (Ok(folder), Some(name)) => folder.join(name),
            _ => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        }
    }

    /// Opens the target. A regular file keeps its content until [`Sink::commit`].
    ///
    /// # Errors
    /// When it cannot be opened, or its folder cannot be made.
    pub fn create(&self) -> Result<Sink, OutputError> {
        let opened = match &self.kind {
            Kind::StandardOutput => system::standard_output().map(Sink::standard),
            Kind::StandardError => system::standard_error().map(Sink::standard),
            Kind::Stream => Sink::stream(&self.path),
            Kind::File(file) => {
                fs::create_dir_all(parent(file)).map_err(|e| OutputError::io(&self.path, e))?;
                Sink::file(file)
            }
        };
        opened.map_err(|e| OutputError::io(&self.path, e))
    }

    /// Writes `bytes` in one go.
    ///
    /// # Errors
    /// As [`Target::create`], or when the disk is full.
    pub fn write(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut sink = self.create()?;
        io::Write::write_all(&mut sink, bytes)
            .and_then(|()| sink.commit())
            .map_err(|e| OutputError::io(&self.path, e))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn not_a_folder(path: &Path, folder: &Path) -> OutputError {
    let file = folder.ancestors().find(|above| above.is_file());
    OutputError::NotAFolder {
        path: path.to_owned(),
        file: file.unwrap_or(folder).to_owned(),
    }
}

/// Refuses `..` behind a folder that does not exist: where it leads would only be known once the folder is made.
fn no_parent_of_nothing(path: &Path, resolved: &Path) -> Result<(), OutputError> {
    let mut at = PathBuf::new();
    let mut exists = true;
    for part in resolved.components() {
        if part == Component::ParentDir && !exists {
            let source = io::Error::other("\"..\" stands behind a folder that does not exist");
            return Err(OutputError::io(path, source));
        }
        at.push(part);
        exists = exists && at.exists();
    }
    Ok(())
}

/// Checks that a file can be made in `folder`, or in the nearest folder above it that exists.
fn can_create_in(path: &Path, folder: &Path) -> Result<(), OutputError> {
    let dangling = |above: &&Path| above.is_symlink() && !above.exists();
    if let Some(link) = folder.ancestors().find(dangling) {
        let why = format!("\"{}\" is a link to nothing", link.display());
        return Err(OutputError::io(path, io::Error::other(why)));
    }
    let Some((above, metadata)) = existing(folder) else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return Err(not_a_folder(path, folder));
    }
    // Rights, read-only file systems and quotas: only an attempt tells.
    tempfile::tempfile_in(above)
        .map(drop)
        .map_err(|e| OutputError::io(path, without_path(e)))
}

/// tempfile's errors name a path of its own, which the user never gave.
fn without_path(e: io::Error) -> io::Error {
    match e.get_ref() {
        Some(inner) => {
            let source = inner.source().map(ToString::to_string);
            io::Error::new(e.kind(), source.unwrap_or_else(|| e.kind().to_string()))
        }
        None => e,
    }
}
