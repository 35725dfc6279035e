//! Which frames of a clip are taken, and what they look like, against OpenCV; codecs, turns, damage.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{data, difference, fixture, hostile::Dice};
use image::imageops;
use vggt::frames::{
    DecodedImage, FramesError, VideoChoice, VideoLimits, VideoProgress, VideoSummary, read_video,
};

/// The bound that is promised, on average over a frame: another FFmpeg may enlarge chroma otherwise.
/// With FFmpeg 5.1 nothing differs.
const OPENCV_MEAN: f64 = 3.0;
/// Lossy codecs, and 4:2:2 against 4:2:0, on hard-edged colours; another frame is at 20 and more.
const CODEC_MEAN: f64 = 12.0;

fn clip(name: &str) -> PathBuf {
    data("clips").join(name)
}

fn read(path: &Path, fps: f64, most: Option<usize>) -> (VideoSummary, Vec<DecodedImage>) {
    let (summary, pictures) = try_read(path, fps, most, &VideoLimits::default());
    (summary.unwrap(), pictures)
}

fn try_read(
    path: &Path,
    fps: f64,
    most: Option<usize>,
    limits: &VideoLimits,
) -> (Result<VideoSummary, FramesError>, Vec<DecodedImage>) {
    let mut pictures = Vec::new();
    let summary = read_video(
        path,
        &VideoChoice::Fps(fps),
        limits,
        most,
        &mut |_| true,
        &mut |picture| {
            pictures.push(picture);
            Ok(())
        },
    );
    (summary, pictures)
}

fn refused(path: &Path) -> FramesError {
    try_read(path, 1.0, None, &VideoLimits::default())
        .0
        .unwrap_err()
}

#[test]
fn every_rate_chooses_the_frames_that_opencv_does() {
    let text = fs::read_to_string(data("video/expected.json")).unwrap();
    let cases: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 12);
    for (key, case) in cases {
        let (name, fps) = key.split_once('@').unwrap();
        let (summary, pictures) = read(&data("video").join(name), fps.parse().unwrap(), None);
        let frames: Vec<u64> = serde_json::from_value(case["frames"].clone()).unwrap();
        assert_eq!(
            summary.source_fps,
            case["src_fps"].as_f64().unwrap(),
            "{key}"
        );
        assert_eq!(
            summary.interval,
            case["interval"].as_u64().unwrap(),
            "{key}"
        );
        assert_eq!(
            summary.frames_read,
            case["total"].as_u64().unwrap(),
            "{key}"
        );
        assert_eq!(summary.chosen, frames, "{key}");
        assert!(summary.warnings.is_empty(), "{key}: {:?}", summary.warnings);
        let shape: [u32; 3] = serde_json::from_value(case["shape"].clone()).unwrap();
        for (picture, number) in pictures.iter().zip(&frames) {
            assert_eq!(picture.name, format!("frame_{number:06}.png"));
            assert_eq!(picture.rgb.dimensions(), (shape[1], shape[0]), "{key}");
        }
        assert_eq!(pictures.len(), frames.len());
    }
}

#[test]
fn frames_look_as_opencv_decodes_them() {
    for name in ["clip30.mp4", "clip2997.mp4", "rotated.mp4"] {
        let (shape, expected) = fixture("video/frames_at_2fps.safetensors", name);
        let (_, pictures) = read(&data("video").join(name), 2.0, None);
        let frame_bytes: usize = shape[1..].iter().product();
        for (i, expected) in expected.chunks_exact(frame_bytes).enumerate() {
            let (max, mean) = difference(pictures[i].rgb.as_raw(), expected);
            println!("{name} frame {i}: max {max}/255, mean {mean:.4}/255");
            assert!(mean <= OPENCV_MEAN, "{name} frame {i}: {mean}");
        }
    }
}

#[test]
fn every_codec_and_container_gives_the_same_frames() {
    let (_, reference) = read(&clip("h264.mp4"), 10.0, None);
    for name in [
        "h264.mov",
        "h264.mkv",
        "h264.ts",
        "h264_10bit.mp4",
        "h264_full_range.mp4",
        "hevc.mp4",
        "vp9.webm",
        "vp8.webm",
        "av1.mp4",
        "av1.mkv",
        "mpeg4.avi",
        "mjpeg.avi",
        "mjpeg.mov",
        "prores.mov",
    ] {
        let (summary, pictures) = read(&clip(name), 10.0, None);
        assert_eq!(summary.frames_read, 20, "{name}");
        assert_eq!(summary.source_fps, 10.0, "{name}");
        assert!(
            summary.warnings.is_empty(),
            "{name}: {:?}",
            summary.warnings
        );
        for i in [0, 9, 19] {
            let (max, mean) = difference(pictures[i].rgb.as_raw(), reference[i].rgb.as_raw());
            println!("{name} frame {}: max {max}/255, mean {mean:.2}/255", i + 1);
            assert!(mean < CODEC_MEAN, "{name} frame {}: {mean}", i + 1);
        }
    }
}

#[test]
fn odd_sizes_and_unsubsampled_chroma_are_read() {
    let (summary, pictures) = read(&clip("h264_odd.mp4"), 5.0, None);
    assert_eq!(summary.chosen.len(), 10);
    assert_eq!(pictures[0].rgb.dimensions(), (63, 47));
}

#[test]
fn display_rotation_is_applied() {
    let (_, upright) = read(&clip("h264.mp4"), 1.0, None);
    // FFmpeg's "rotation" counts against the clock, as the fixture rotated.mp4 shows.
    let upright = &upright[0].rgb;
    for (name, expected) in [
        ("turned_90.mp4", imageops::rotate270(upright)),
        ("turned_180.mp4", imageops::rotate180(upright)),
        ("turned_270.mp4", imageops::rotate90(upright)),
    ] {
        let (_, turned) = read(&clip(name), 1.0, None);
        assert!(turned[0].rgb == expected, "{name}");
    }
}

#[test]
fn a_size_that_changes_on_the_way_is_followed() {
    let (summary, pictures) = read(&clip("size_changes.ts"), 10.0, None);
    assert_eq!(pictures.first().unwrap().rgb.dimensions(), (64, 48));
    assert_eq!(pictures.last().unwrap().rgb.dimensions(), (32, 32));
    assert!(summary.frames_read >= 38, "{summary:?}");
}

#[test]
fn more_frames_than_permitted_are_thinned_evenly() {
    // h264.mkv and h264.ts do not say how many frames they have: packets are counted first.
    for name in ["h264.mp4", "h264.mkv", "h264.ts"] {
        let (summary, pictures) = read(&clip(name), 10.0, Some(3));
        assert_eq!(summary.thinned_from, Some(20), "{name}");
        assert_eq!(summary.chosen, [1, 11, 20], "{name}");
        assert_eq!(pictures.len(), 3);
    }
    let (summary, _) = read(&clip("h264.mp4"), 10.0, Some(20));
    assert_eq!((summary.thinned_from, summary.chosen.len()), (None, 20));
}

#[test]
fn a_clip_too_short_for_the_rate_gives_its_middle_frame() {
    let (summary, pictures) = read(&clip("h264.mp4"), 0.1, None);
    assert_eq!(summary.interval, 100);
    assert_eq!(summary.chosen, [11]);
    assert_eq!(pictures[0].name, "frame_000011.png");
    assert!(summary.warnings[0].contains("too short"));
    let (_, all) = read(&clip("h264.mp4"), 10.0, None);
    assert_eq!(pictures[0].rgb, all[10].rgb);
}

#[test]
fn a_damaged_tail_gives_the_frames_before_it_and_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "h264.mp4",
        "h264.mkv",
        "mpeg4.avi",
        "mjpeg.avi",
        "vp9.webm",
        "av1.mkv",
    ] {
        let bytes = fs::read(clip(name)).unwrap();
        let path = dir.path().join(name);
        // The first frame of so small a clip is most of it.
        fs::write(&path, &bytes[..bytes.len() * 9 / 10]).unwrap();
        let (summary, pictures) = read(&path, 10.0, None);
        println!(
            "{name}: {} frames, {:?}",
            summary.frames_read, summary.warnings
        );
        assert!(
            (5..20).contains(&pictures.len()),
            "{name}: {}",
            pictures.len()
        );
        assert_eq!(summary.warnings.len(), 1, "{name}");
        let (_, whole) = read(&clip(name), 10.0, None);
        assert!(pictures[4].rgb == whole[4].rgb, "{name}");
    }
}

#[test]
fn what_is_no_video_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let not_videos = [
        write("empty.mp4", b""),
        write("words.mp4", b"once upon a time there was no video"),
        // Without its index, which this one has at the end.
        write("headless.mov", &fs::read(clip("h264.mov")).unwrap()[..2000]),
    ];
    for path in not_videos {
        let e = refused(&path);
        assert!(matches!(e, FramesError::NotAVideo { .. }), "{e:?}");
        assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
    }
    let picture = write("picture.mp4", &fs::read(data("formats/rgb.png")).unwrap());
    assert!(matches!(refused(&picture), FramesError::IsImage { .. }));
    let words = write("words.txt", b"once upon a time there was no video");
    assert!(matches!(refused(&words), FramesError::UnknownFormat { .. }));
    assert!(matches!(
        refused(&clip("sound.m4a")),
        FramesError::NoVideoStream { .. }
    ));
    assert!(matches!(
        refused(&dir.path().join("missing.mp4")),
        FramesError::Read { .. }
    ));
    assert!(matches!(refused(dir.path()), FramesError::Read { .. }));
}

#[test]
fn files_that_name_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(clip("h264.ts"), dir.path().join("a.ts")).unwrap();
    let lists = [
        (
            "list.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n",
        ),
        ("list.mp4", "ffconcat version 1.0\nfile a.ts\n"),
    ];
    for (name, text) in lists {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let e = refused(&path);
        let is_refused = matches!(
            e,
            FramesError::NotAVideo { .. } | FramesError::UnknownFormat { .. }
        );
        assert!(is_refused, "{name}: {e:?}");
    }
}

#[test]
fn names_that_look_like_addresses_are_only_names() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "http:x.mp4",
        "concat:a|b",
        "pipe:0",
        "%03d.mp4",
        "no ending",
    ] {
        let path = dir.path().join(name);
        fs::copy(clip("h264.mp4"), &path).unwrap();
        assert_eq!(read(&path, 1.0, None).0.chosen, [10, 20]);
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let path = dir
            .path()
            .join(std::ffi::OsStr::from_bytes(b"\xFF\xFE.mp4"));
        fs::copy(clip("h264.mp4"), &path).unwrap();
        assert_eq!(read(&path, 1.0, None).0.chosen, [10, 20]);
    }
}

#[test]
fn limits_are_named_in_their_errors() {
    let path = clip("h264.mp4");
    let usual = VideoLimits::default();
    let short = VideoLimits {
        max_duration_s: 1.5,
        ..usual
    };
    let small = VideoLimits {
        max_pixels: 64 * 48 - 1,
        ..usual
    };
    let hasty = VideoLimits {
        max_wall_time: Duration::ZERO,
        ..usual
    };
    let refused = |limits| try_read(&path, 1.0, None, &limits).0.unwrap_err();
    assert!(matches!(refused(short), FramesError::VideoTooLong { .. }));
    assert!(matches!(refused(small), FramesError::VideoTooLarge { .. }));
    assert!(matches!(refused(hasty), FramesError::VideoTooSlow { .. }));
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let e = try_read(&path, fps, None, &usual).0.unwrap_err();
        assert!(matches!(e, FramesError::BadRate { .. }));
    }
}

#[test]
fn reading_stops_when_it_is_told_to() {
    let limits = VideoLimits::default();
    let mut last = None;
    let mut stop_at_5 = |progress: VideoProgress| {
        last = Some(progress);
        progress.frames_read < 5
    };
    let mut keep = |_| Ok(());
    let e = read_video(
        &clip("h264.mp4"),
        &VideoChoice::Fps(10.0),
        &limits,
        None,
        &mut stop_at_5,
        &mut keep,
    );
    assert!(matches!(e, Err(FramesError::Cancelled)));
    let expected = VideoProgress {
        frames_read: 5,
        frames_total: Some(20),
        frames_chosen: 5,
    };
    assert_eq!(last, Some(expected));

    let mut calls = 0;
    let mut fail = |_| {
        calls += 1;
        Err(FramesError::Empty)
    };
    let e = read_video(
        &clip("h264.mp4"),
        &VideoChoice::Fps(10.0),
        &limits,
        None,
        &mut |_| true,
        &mut fail,
    );
    assert!(matches!(e, Err(FramesError::Empty)));
    assert_eq!(calls, 1);
}

#[test]
fn cut_and_spoilt_clips_never_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip");
    let limits = VideoLimits {
        max_pixels: 1 << 20,
        ..VideoLimits::default()
    };
    let mut dice = Dice(0xF11A);
    let folders = ["clips", "timing"].map(|name| fs::read_dir(data(name)).unwrap());
    for entry in folders.into_iter().flatten() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for round in 0..8 {
            let mut spoilt = bytes.clone();
            match round % 3 {
                0 => spoilt.truncate(dice.roll(bytes.len())),
                1 => dice.spoil(&mut spoilt),
                _ => dice.spoil(&mut spoilt[..200]),
            }
            fs::write(&path, &spoilt).unwrap();
            let _ = try_read(&path, 5.0, Some(4), &limits);
        }
    }
}
