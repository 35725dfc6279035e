//! What a program that was built without the feature `video` does with a video.

use std::path::Path;

use super::{VideoLimits, VideoProgress, VideoSummary};
use crate::frames::{DecodedImage, FramesError, is_image_file, is_video_file, open_regular};

/// Refuses the video: the program has no video support.
///
/// # Errors
/// Always.
pub fn video_size(path: &Path, _: &VideoLimits) -> Result<(u32, u32), FramesError> {
    Err(refused(path))
}

/// Refuses the video: the program has no video support.
///
/// # Errors
/// Always.
pub fn read_video(
    path: &Path,
    _fps: f64,
    _limits: &VideoLimits,
    _max_frames: Option<usize>,
    _on: &mut dyn FnMut(VideoProgress) -> bool,
    _sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    Err(refused(path))
}

fn refused(path: &Path) -> FramesError {
    let path = path.to_path_buf();
    match open_regular(&path) {
        Err(source) => FramesError::Read { path, source },
        Ok(_) if is_image_file(&path) => FramesError::IsImage { path },
        Ok(_) if !is_video_file(&path) => FramesError::UnknownFormat { path },
        Ok(_) => FramesError::VideoUnsupported { path },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_refused_with_the_missing_feature() {
        let limits = VideoLimits::default();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.mp4");
        std::fs::write(&path, b"a clip").unwrap();
        let e = video_size(&path, &limits).unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("clip.mp4") && text.contains("feature `video`"),
            "{text}"
        );
    }
}
