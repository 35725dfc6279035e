//! What a program that was built without the feature `video` does with a video.

use std::path::Path;

use super::{VideoLimits, VideoProgress, VideoSummary};
use crate::frames::{DecodedImage, FramesError};

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
    FramesError::VideoUnsupported {
        path: path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_refused_with_the_missing_feature() {
        let limits = VideoLimits::default();
        let e = video_size(Path::new("clip.mp4"), &limits).unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("clip.mp4") && text.contains("feature `video`"),
            "{text}"
        );
    }
}
