//! A video file that is open, and reading one by its path.

use std::{
    fs::File,
    io::{self, Seek},
    path::{Path, PathBuf},
};

use super::{
    VideoChoice, VideoLimits, VideoProgress, VideoSummary, read_video_file, video_file_size,
};
use crate::frames::{DecodedImage, FramesError, open_regular};

/// A video file that is open. Its readings begin at its beginning, and follow each other.
#[derive(Debug)]
pub struct VideoFile {
    pub(super) path: PathBuf,
    file: File,
}

impl VideoFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FramesError> {
        match open_regular(path) {
            Ok(file) => Ok(Self::new(path.to_path_buf(), file)),
            Err(source) => Err(FramesError::Read {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    /// Takes a file that is open already; `path` is its name for errors, and its ending may tell what it is.
    pub fn new(path: PathBuf, file: File) -> Self {
        Self { path, file }
    }

    /// Returns the file at its beginning. The readers of one file share their position.
    pub(super) fn rewound(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}

/// As [`video_file_size`], of the file at a path.
///
/// # Errors
/// When the file cannot be opened, is not a video or exceeds `limits`.
pub fn video_size(path: &Path, limits: &VideoLimits) -> Result<(u32, u32), FramesError> {
    video_file_size(&VideoFile::open(path)?, limits)
}

/// As [`read_video_file`], of the file at a path.
///
/// # Errors
/// When the file cannot be opened, and as [`read_video_file`].
pub fn read_video(
    path: &Path,
    choice: &VideoChoice,
    limits: &VideoLimits,
    max_frames: Option<usize>,
    on: &mut dyn FnMut(VideoProgress) -> bool,
    sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    check_choice(choice, max_frames)?;
    read_video_file(
        &VideoFile::open(path)?,
        choice,
        limits,
        max_frames,
        on,
        sink,
    )
}

/// Refuses what chooses no frames.
pub(super) fn check_choice(
    choice: &VideoChoice,
    max_frames: Option<usize>,
) -> Result<(), FramesError> {
    let is_empty = match choice {
        VideoChoice::Fps(fps) if !(fps.is_finite() && *fps > 0.0) => {
            return Err(FramesError::BadRate { fps: *fps });
        }
        VideoChoice::Fps(_) => false,
        VideoChoice::Keyframes(n) => *n == 0,
        VideoChoice::Numbers(numbers) => numbers.is_empty(),
    };
    if is_empty || max_frames == Some(0) {
        return Err(FramesError::Empty);
    }
    Ok(())
}
