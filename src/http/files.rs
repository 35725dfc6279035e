//! The files of an upload, written to disk as they arrive. Everything here blocks on the disk.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    frames::is_video_head,
    jobs::InputFolder,
    store::{JobKind, Store, create_private},
};

/// Longest name of an image that is kept, in characters.
const NAME_MAX: usize = 255;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// More images than a request may have.
    #[error("there are more than {0} images")]
    TooMany(u32),
    /// A video beside other files.
    #[error("a video is sent alone: there are other files beside {0:?}")]
    VideoBesideOthers(String),
    /// No file at all.
    #[error("there is no file: send one video or one or more images as `files`")]
    None,
    /// A file without a byte.
    #[error("cannot read {0:?}: it has 0 bytes")]
    Empty(String),
    /// The files cannot be written.
    #[error("cannot keep the upload: {0}")]
    Disk(#[from] io::Error),
}

/// What files are that come one after another, and their hash. The same files give the same hash, however they came.
#[derive(Debug)]
pub(super) struct Content {
    sha256: Sha256,
    kind: JobKind,
    names: Vec<String>,
}

/// Files that arrive one after another. Removed when dropped.
#[derive(Debug)]
pub(super) struct Files {
    folder: InputFolder,
    content: Content,
    max_images: u32,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    name: String,
    /// `None` until its first bytes tell what it is.
    file: Option<File>,
    len: u64,
}

/// All files of an upload, on the disk.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) folder: InputFolder,
    pub(super) kind: JobKind,
    /// Names of the images.
    pub(super) names: Vec<String>,
    /// SHA-256 of the kind and the files, 64 hex digits.
    pub(super) sha256: String,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            sha256: Sha256::new(),
            kind: JobKind::Images,
            names: Vec::new(),
        }
    }

    /// Takes the first bytes of the next file, and tells its kind.
    pub(super) fn begin(&mut self, name: &str, bytes: &[u8]) -> Result<JobKind, FilesError> {
        let is_video = is_video_head(Path::new(name), bytes);
        let beside = !self.names.is_empty();
        if (is_video && beside) || self.kind == JobKind::Video {
            return Err(FilesError::VideoBesideOthers(name.to_owned()));
        }
        if is_video {
            self.kind = JobKind::Video;
        }
        self.sha256.update(bytes);
        Ok(self.kind)
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
    }

    /// Ends a file of so many bytes.
    pub(super) fn end(&mut self, name: String, len: u64) {
        // Behind its bytes, so that no other files give the same bytes to hash.
        self.sha256.update(len.to_be_bytes());
        self.names.push(name);
    }

    /// Returns the kind, the names of images, and the SHA-256 of the kind and the files, 64 hex digits.
    pub(super) fn finish(mut self) -> Result<(JobKind, Vec<String>, String), FilesError> {
        if self.names.is_empty() {
            return Err(FilesError::None);
        }
        let kind: &[u8] = match self.kind {
            JobKind::Images => b"images of HTTP",
            JobKind::Video => b"video of HTTP",
        };
        self.sha256.update(kind);
        let digest = self.sha256.finalize();
        let names = match self.kind {
            JobKind::Images => self.names,
            JobKind::Video => Vec::new(),
        };
        let sha256 = digest.iter().map(|b| format!("{b:02x}")).collect();
        Ok((self.kind, names, sha256))
    }
}

impl Files {
    pub(super) fn begin(store: &Store, max_images: u32) -> Result<Self, FilesError> {
        Ok(Self {
            folder: InputFolder::create(store)?,
            content: Content::new(),
            max_images,
            current: None,
        })
    }

    /// Begins the next file.
    pub(super) fn next(&mut self, given: Option<&str>) -> Result<(), FilesError> {
        self.end()?;
        let number = self.content.names.len();
        if number >= self.max_images as usize {
            return Err(FilesError::TooMany(self.max_images));
        }
        let name = base_name(given.unwrap_or_default());
        self.current = Some(Current {
            name: name.unwrap_or_else(|| format!("image {}", number + 1)),
            file: None,
            len: 0,
        });
        Ok(())
    }

    /// Writes the next bytes of the file.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        let Some(current) = self.current.as_mut().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        current.len += bytes.len() as u64;
        if let Some(file) = &mut current.file {
            self.content.take(bytes);
            return Ok(file.write_all(bytes)?);
        }
        let path = match self.content.begin(&current.name, bytes)? {
            JobKind::Video => self.folder.video(),
            // No more than `max_images`.
            JobKind::Images => self.folder.image(self.content.names.len() as u32),
        };
        let file = current.file.insert(create_private(&path)?);
        Ok(file.write_all(bytes)?)
    }

    fn end(&mut self) -> Result<(), FilesError> {
        let Some(Current { name, file, len }) = self.current.take() else {
            return Ok(());
        };
        let Some(file) = file else {
            return Err(FilesError::Empty(name));
        };
        // A job that is acknowledged survives a loss of power.
        file.sync_all()?;
        self.content.end(name, len);
        Ok(())
    }

    /// Completes the upload.
    pub(super) fn finish(mut self) -> Result<Received, FilesError> {
        self.end()?;
        let (kind, names, sha256) = self.content.finish()?;
        Ok(Received {
            folder: self.folder,
            kind,
            names,
            sha256,
        })
    }
}

/// Returns the last part of a name that a browser gave, without what cannot be shown; `None` when nothing is left.
pub(super) fn base_name(given: &str) -> Option<String> {
    let base = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = base.chars().filter(|c| !c.is_control());
    let name: String = shown.take(NAME_MAX).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_last_part_without_what_cannot_be_shown() {
        for (given, expected) in [
            ("a.jpg", Some("a.jpg")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\photos\\a b.jpg", Some("a b.jpg")),
            ("a\n\u{1b}[2Jb.jpg", Some("a[2Jb.jpg")),
            ("", None),
            ("dir/", None),
        ] {
            assert_eq!(base_name(given).as_deref(), expected, "{given:?}");
        }
        assert_eq!(base_name(&"x".repeat(1000)).unwrap().len(), NAME_MAX);
    }
}
