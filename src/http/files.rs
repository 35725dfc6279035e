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

/// Files that arrive one after another. Removed when dropped.
#[derive(Debug)]
pub(super) struct Files {
    folder: InputFolder,
    sha256: Sha256,
    max_images: u32,
    kind: JobKind,
    names: Vec<String>,
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

impl Files {
    pub(super) fn begin(store: &Store, max_images: u32) -> Result<Self, FilesError> {
        Ok(Self {
            folder: InputFolder::create(store)?,
            sha256: Sha256::new(),
            max_images,
            kind: JobKind::Images,
            names: Vec::new(),
            current: None,
        })
    }

    /// Begins the next file.
    pub(super) fn next(&mut self, given: Option<&str>) -> Result<(), FilesError> {
        self.end()?;
        if self.names.len() >= self.max_images as usize {
            return Err(FilesError::TooMany(self.max_images));
        }
        self.current = Some(Current {
            name: base_name(given.unwrap_or_default(), self.names.len()),
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
        self.sha256.update(bytes);
        current.len += bytes.len() as u64;
        if let Some(file) = &mut current.file {
            return Ok(file.write_all(bytes)?);
        }
        let is_video = is_video_head(Path::new(&current.name), bytes);
        let beside = !self.names.is_empty();
        if (is_video && beside) || self.kind == JobKind::Video {
            return Err(FilesError::VideoBesideOthers(current.name.clone()));
        }
        let path = match is_video {
            true => self.folder.video(),
            // No more than `max_images`.
            false => self.folder.image(self.names.len() as u32),
        };
        if is_video {
            self.kind = JobKind::Video;
        }
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
        // Behind its bytes, so that no other files give the same bytes to hash.
        self.sha256.update(len.to_be_bytes());
        self.names.push(name);
        Ok(())
    }

    /// Completes the upload.
    pub(super) fn finish(mut self) -> Result<Received, FilesError> {
        self.end()?;
        if self.names.is_empty() {
            return Err(FilesError::None);
        }
        let kind: &[u8] = match self.kind {
            JobKind::Images => b"images of HTTP",
            JobKind::Video => b"video of HTTP",
        };
        self.sha256.update(kind);
        let digest = self.sha256.finalize();
        Ok(Received {
            folder: self.folder,
            kind: self.kind,
            names: match self.kind {
                JobKind::Images => self.names,
                JobKind::Video => Vec::new(),
            },
            sha256: digest.iter().map(|b| format!("{b:02x}")).collect(),
        })
    }
}

/// Returns the last part of a name that a browser gave, without what cannot be shown; a number when nothing is left.
fn base_name(given: &str, number: usize) -> String {
    let base = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = base.chars().filter(|c| !c.is_control());
    let name: String = shown.take(NAME_MAX).collect();
    match name.trim() {
        "" => format!("image {}", number + 1),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_last_part_without_what_cannot_be_shown() {
        for (given, expected) in [
            ("a.jpg", "a.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\photos\\a b.jpg", "a b.jpg"),
            ("a\n\u{1b}[2Jb.jpg", "a[2Jb.jpg"),
            ("", "image 3"),
            ("dir/", "image 3"),
        ] {
            assert_eq!(base_name(given, 2), expected, "{given:?}");
        }
        assert_eq!(base_name(&"x".repeat(1000), 0).len(), NAME_MAX);
    }
}
