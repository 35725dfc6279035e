//! Why a file of cameras cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Errors of files of known cameras.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CamerasError {
    /// The file cannot be read.
    #[error("cannot read cameras from \"{}\"", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the file.
        #[source]
        source: io::Error,
    },
    /// The name stands for no format.
    #[error(
        "cannot read cameras from \"{}\": expected a COLMAP folder, transforms.json, a .csv table or a TUM trajectory (.tum, .txt)",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// A folder without cameras.
    #[error(
        "cannot find cameras in \"{}\": expected cameras.bin and images.bin (or .txt) there or in sparse/0, or transforms.json",
        path.display()
    )]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// A file without cameras.
    #[error("cannot use \"{}\": it holds no camera", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long for what it should be.
    #[error("cannot read cameras from \"{}\": it has {bytes} bytes, and the limit is {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A part of the file that cannot be used.
    #[error("cannot read cameras from \"{}\", {at}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where: `line 7`, `camera 3`, `frame 2 ("a.png")`.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// Several cameras could belong to a frame.
    #[error("cannot tell which camera belongs to {frame:?}: {} match; name images with their folders, or rename them", cameras.join(", "))]
    Ambiguous {
        /// Name of the frame.
        frame: String,
        /// Names of the cameras, quoted.
        cameras: Vec<String>,
    },
    /// Several frames could have the same camera.
    #[error("cannot tell whether the camera {camera:?} belongs to {} or {}: both match", frames[0], frames[1])]
    Shared {
        /// Name of the camera.
        camera: String,
        /// Names of two frames, quoted.
        frames: [String; 2],
    },
    /// No camera belongs to any frame.
    #[error(
        "cannot use the known cameras: none of {cameras} belongs to one of {frames} frames; the first are \
         {first_camera:?} and {first_frame:?}"
    )]
    NoMatch {
        /// Cameras of the file.
        cameras: usize,
        /// Frames.
        frames: usize,
        /// Name of the first camera.
        first_camera: String,
        /// Name of the first frame.
        first_frame: String,
    },
    /// The cameras have times, and the frames have none.
    #[error(
        "cannot use a trajectory with times for photos: its timestamps must be their numbers, counted from 0; {stamp} is none"
    )]
    Times {
        /// A timestamp.
        stamp: String,
    },
}

impl CamerasError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn content(path: &Path, at: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            at: at.into(),
            why: why.into(),
        }
    }
}
