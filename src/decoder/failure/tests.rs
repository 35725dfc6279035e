//! Errors on their way from one process to the other.

use super::*;

fn lines(e: &dyn Error) -> Vec<String> {
    texts(e)
}

fn asked(path: &Path) -> Asked<'_> {
    Asked {
        path,
        images: ImageLimits::default(),
        videos: VideoLimits::default(),
    }
}

/// What arrives on the other side.
fn passed<T: Serialize + serde::de::DeserializeOwned>(failure: &T) -> T {
    serde_json::from_str(&serde_json::to_string(failure).unwrap()).unwrap()
}

#[test]
fn errors_of_images_read_the_same_on_both_sides() {
    let name = || "a.jpg".to_owned();
    let limits = ImageLimits::default();
    let io = || io::Error::from_raw_os_error(13);
    let damaged = |text: &str| ::image::ImageError::IoError(io::Error::other(text.to_owned()));
    let errors = [
        PreprocessError::Read {
            path: "/in/a.jpg".into(),
            source: io(),
        },
        PreprocessError::NotAnImage {
            name: name(),
            known: READABLE_FORMATS,
        },
        PreprocessError::ImageTooLarge {
            name: name(),
            width: 1,
            height: 2,
            max_side: limits.max_side,
            max_pixels: limits.max_pixels,
        },
        PreprocessError::FileTooLarge {
            name: name(),
            bytes: 3,
            max_bytes: limits.max_bytes,
        },
        PreprocessError::Truncated { name: name() },
        PreprocessError::Decode {
            name: name(),
            source: damaged("bad block"),
        },
        PreprocessError::Unsupported {
            name: name(),
            what: "a TIFF with CMYK colors".to_owned(),
        },
        PreprocessError::NoPreview {
            name: name(),
            format: "X3F",
        },
        PreprocessError::NeedsMemory {
            name: name(),
            mib: 9,
            max_mib: limits.max_memory >> 20,
        },
        PreprocessError::NoPixels { name: name() },
    ];
    for e in errors {
        let told = passed(&ImageFailure::from(&e)).told("a.jpg", &asked(Path::new("/in/a.jpg")));
        assert_eq!(lines(&told), lines(&e));
        let reason = crate::frames::SkipReason::of;
        assert_eq!(reason(&told), reason(&e), "{e}");
    }
}

#[test]
fn errors_of_videos_read_the_same_on_both_sides() {
    let path = || "/in/a.mp4".into();
    let limits = VideoLimits::default();
    let errors = [
        FramesError::BadRate { fps: f64::NAN },
        FramesError::Empty,
        FramesError::IsImage { path: path() },
        FramesError::UnknownFormat { path: path() },
        FramesError::NoVideoStream { path: path() },
        FramesError::VideoTooLong {
            path: path(),
            seconds: 7200.1,
            max_seconds: limits.max_duration_s,
        },
        FramesError::VideoTooLarge {
            path: path(),
            width: 7,
            height: 8,
            max_pixels: limits.max_pixels,
        },
        FramesError::VideoNeedsMemory {
            path: path(),
            width: 7,
            height: 8,
            mib: 9,
            max_mib: limits.max_memory >> 20,
        },
        FramesError::VideoTooSlow {
            path: path(),
            max_seconds: limits.max_wall_time.as_secs_f64(),
        },
        FramesError::NoFrames { path: path() },
        #[cfg(feature = "video")]
        FramesError::NotAVideo {
            path: path(),
            source: ffmpeg_next::Error::InvalidData,
        },
        #[cfg(feature = "video")]
        FramesError::VideoCodec {
            path: path(),
            source: ffmpeg_next::Error::Other { errno: 12 },
        },
    ];
    for e in errors {
        let told = passed(&Failure::from(&e)).told(&asked(Path::new("/in/a.mp4")));
        assert_eq!(lines(&told), lines(&e));
    }
}

#[test]
fn texts_of_the_other_process_are_short_and_on_one_line() {
    let long = format!("a\u{1b}[2J\n{}", "x".repeat(5000));
    let texts = vec![long; 50];
    let told = ImageFailure::Damaged(texts).told("a", &asked(Path::new("a")));
    let lines = lines(&told);
    assert!(lines.len() <= MAX_CAUSES + 1);
    for line in lines {
        assert!(line.chars().count() <= MAX_TEXT && !line.contains(['\n', '\u{1b}']));
    }
}
