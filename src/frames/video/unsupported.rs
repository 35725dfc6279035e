//! What a program that was built without the feature `video` does with a video.

use super::{VideoChoice, VideoFile, VideoLimits, VideoProgress, VideoSummary};
use crate::frames::{
    DecodedImage, FramesError,
    folder::{is_open_image, is_open_video},
};

/// Refuses the video: the program has no video support.
///
/// # Errors
/// Always.
pub fn video_file_size(file: &VideoFile, _: &VideoLimits) -> Result<(u32, u32), FramesError> {
    Err(refused(file))
}

/// Refuses the video: the program has no video support.
///
/// # Errors
/// Always.
pub fn read_video_file(
    file: &VideoFile,
    _choice: &VideoChoice,
    _limits: &VideoLimits,
    _max_frames: Option<usize>,
    _on: &mut dyn FnMut(VideoProgress) -> bool,
    _sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
) -> Result<VideoSummary, FramesError> {
    Err(refused(file))
}

fn refused(file: &VideoFile) -> FramesError {
    let path = file.path.clone();
    let mut file = match file.rewound() {
        Ok(file) => file,
        Err(source) => return FramesError::Read { path, source },
    };
    if is_open_image(&mut file) {
        return FramesError::IsImage { path };
    }
    match is_open_video(&path, &mut file) {
        true => FramesError::VideoUnsupported { path },
        false => FramesError::UnknownFormat { path },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::video_size;

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
