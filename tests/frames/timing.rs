//! Which frames are taken of clips whose times, edit lists, colors and pixels are as phones and browsers make them.
//!
//! Frame n of most clips, counting from 0, is gray with Y = 20 + n mod 100 * 2; see tools/fixtures/make_timing_clips.

use std::path::{Path, PathBuf};

use super::data;
use vggt::frames::{
    DecodedImage, FramesError, VideoChoice, VideoLimits, VideoSummary, read_video, video_size,
};

/// Lossy codecs change an even gray by no more, of 255; the next frame differs by 2.3.
const GRAY: f64 = 1.1;

fn clip(name: &str) -> PathBuf {
    data("timing").join(name)
}

fn read_path(path: &Path, fps: f64, most: Option<usize>) -> (VideoSummary, Vec<DecodedImage>) {
    let mut pictures = Vec::new();
    let limits = VideoLimits::default();
    let summary = read_video(
        path,
        &VideoChoice::Fps(fps),
        &limits,
        most,
        &mut |_| true,
        &mut |picture| {
            pictures.push(picture);
            Ok(())
        },
    );
    (summary.unwrap(), pictures)
}

fn read(name: &str, fps: f64, most: Option<usize>) -> (VideoSummary, Vec<DecodedImage>) {
    read_path(&clip(name), fps, most)
}

/// Reads a clip that deserves no warning, and returns the numbers of its chosen frames.
fn chosen(name: &str, fps: f64, most: Option<usize>) -> Vec<u64> {
    let (summary, pictures) = read(name, fps, most);
    assert!(
        summary.warnings.is_empty(),
        "{name}: {:?}",
        summary.warnings
    );
    assert_eq!(pictures.len(), summary.chosen.len(), "{name}");
    summary.chosen
}

/// The index that a gray picture shows, counting from 0.
fn shown_index(picture: &DecodedImage) -> f64 {
    let values = picture.rgb.as_raw();
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    // Y is 16 to 235.
    (mean * 219.0 / 255.0 + 16.0 - 20.0) / 2.0
}

#[test]
fn a_variable_rate_is_sampled_by_time() {
    // 50 frames in 2 seconds, then 15 in 6.
    for name in ["vfr.mp4", "vfr.ts", "vfr.webm", "vfr.avi"] {
        let (summary, pictures) = read(name, 2.0, None);
        assert!(
            summary.warnings.is_empty(),
            "{name}: {:?}",
            summary.warnings
        );
        // At 0, 0.5, 1.0, 1.5, 2.0, 2.5, ... seconds.
        let expected = [
            1, 13, 26, 38, 51, 52, 53, 54, 56, 57, 58, 59, 61, 62, 63, 64,
        ];
        assert_eq!(summary.chosen, expected, "{name}");
        for (picture, number) in pictures.iter().zip(expected) {
            let off = shown_index(picture) - (number as f64 - 1.0);
            assert!(
                off.abs() < GRAY / 2.0,
                "{name}, frame {number}: off by {off}"
            );
        }
        assert_eq!(chosen(name, 1.0, None), [1, 26, 51, 53, 56, 58, 61, 63]);
        // Faster than the clip: every frame, once.
        assert_eq!(chosen(name, 100.0, None).len(), 65, "{name}");
        let (summary, _) = read(name, 2.0, Some(4));
        assert_eq!(summary.chosen, [1, 52, 58, 64], "{name}");
        assert_eq!(summary.thinned_from, Some(16));
    }
}

#[test]
fn a_recording_without_a_rate_is_sampled_by_time() {
    let (summary, _) = read("recording.webm", 1.0, None);
    assert_eq!(summary.chosen.len(), 5, "{summary:?}");
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    assert!((summary.source_fps - 30.0).abs() < 0.1, "{summary:?}");
    assert_eq!(chosen("recording.webm", 2.0, None).len(), 10);
}

#[test]
fn rounded_times_are_still_a_constant_rate() {
    for name in ["ntsc.mkv", "ntsc.mp4"] {
        assert_eq!(chosen(name, 10.0, None)[..4], [3, 6, 9, 12], "{name}");
        assert_eq!(chosen(name, 1.0, None), [30, 60, 90], "{name}");
    }
    assert_eq!(
        chosen("fast.mov", 10.0, None),
        [24, 48, 72, 96, 120, 144, 168, 192, 216, 240]
    );
}

#[test]
fn an_edit_list_leaves_out_what_it_does_not_show() {
    let (summary, pictures) = read("cut.mp4", 25.0, None);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    // From 3.4 seconds of 25 frames each, as many as lie in half a second and what their order needs.
    assert_eq!(summary.frames_read, 15, "{summary:?}");
    assert_eq!(pictures.len(), 15);
    for (i, picture) in pictures.iter().enumerate() {
        let off = shown_index(picture) - (85 + i) as f64;
        assert!(off.abs() < GRAY / 2.0, "frame {i}: off by {off}");
    }
    let (summary, pictures) = read("cut.mp4", 25.0, Some(8));
    assert_eq!((summary.thinned_from, pictures.len()), (Some(15), 8));
    assert_eq!(summary.chosen, [1, 3, 5, 7, 9, 11, 13, 15]);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
}

#[test]
fn a_clip_that_begins_late_is_as_long_as_it_lasts() {
    for name in ["late.mp4", "late.mkv", "late.ts"] {
        assert_eq!(
            chosen(name, 5.0, None),
            [5, 10, 15, 20, 25, 30, 35, 40, 45, 50],
            "{name}"
        );
    }
}

#[test]
fn frames_that_need_a_group_that_was_cut_away_are_not_there() {
    let (summary, pictures) = read("open_gop.mkv", 25.0, None);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    assert_eq!(pictures.len() as u64, summary.frames_read);
    for most in [2, 5, 7] {
        assert_eq!(chosen("open_gop.mkv", 25.0, Some(most)).len(), most);
    }
}

#[test]
fn one_picture_is_a_video_without_a_warning() {
    for name in ["still.mp4", "music.webm"] {
        for fps in [0.1, 1.0, 30.0] {
            assert_eq!(chosen(name, fps, None), [1], "{name}");
        }
    }
}

#[test]
fn an_animated_picture_can_be_given_as_a_video() {
    let (summary, pictures) = read_path(&data("formats/animated.gif"), 1000.0, None);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    assert_eq!(pictures.len() as u64, summary.frames_read);
    assert!(pictures.len() > 1);
}

#[test]
fn pixels_that_are_not_square_are_stretched_and_then_turned() {
    for (name, size) in [
        ("sar.mp4", (85, 48)),
        ("sar.mkv", (64, 72)),
        ("sar_turned.mp4", (48, 85)),
    ] {
        let (_, pictures) = read(name, 10.0, None);
        assert_eq!(pictures[0].rgb.dimensions(), size, "{name}");
        let limits = VideoLimits::default();
        assert_eq!(video_size(&clip(name), &limits).unwrap(), size, "{name}");
    }
}

/// Mean of an area of 16 x 16 pixels.
fn area(picture: &DecodedImage, left: u32, top: u32) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for y in top..top + 16 {
        for x in left..left + 16 {
            for (sum, value) in sum.iter_mut().zip(picture.rgb.get_pixel(x, y).0) {
                *sum += f64::from(value) / 256.0;
            }
        }
    }
    sum
}

#[test]
fn hdr_and_wide_colors_are_mapped_to_srgb() {
    /// Paper white, then YCbCr (400, 400, 640) of 10 bits in BT.2020, computed with BT.2100's and BT.2087's formulas.
    const CASES: [(&str, f64, [f64; 3]); 3] = [
        ("hlg.mov", 246.5, HLG_COLOR),
        ("pq.mp4", 246.5, PQ_COLOR),
        ("bt2020.mp4", 191.25, SDR_COLOR),
    ];
    for (name, white, color) in CASES {
        let (summary, pictures) = read(name, 1.0, None);
        assert!(
            summary.warnings.is_empty(),
            "{name}: {:?}",
            summary.warnings
        );
        let found = area(&pictures[0], 8, 8);
        println!(
            "{name}: white {found:?}, color {:?}",
            area(&pictures[0], 40, 8)
        );
        for value in found {
            assert!((value - white).abs() < 1.0, "{name}: {found:?}");
        }
        for (value, expected) in area(&pictures[0], 40, 8).iter().zip(color) {
            assert!(
                (value - expected).abs() < 1.5,
                "{name}: {value} for {expected}"
            );
        }
    }
}
const HLG_COLOR: [f64; 3] = [190.2, 72.5, 19.7];
const PQ_COLOR: [f64; 3] = [252.8, 0.0, 0.0];
const SDR_COLOR: [f64; 3] = [180.5, 66.1, 0.0];

#[test]
fn dolby_vision_5_warns() {
    let (summary, _) = read("dolby_vision_5.mp4", 1.0, None);
    assert_eq!(summary.warnings.len(), 1, "{:?}", summary.warnings);
    assert!(summary.warnings[0].contains("Dolby Vision profile 5"));
}

#[test]
fn a_limit_counts_the_time_that_is_shown() {
    let limits = VideoLimits {
        max_duration_s: 5.0,
        ..VideoLimits::default()
    };
    let refused = read_video(
        &clip("vfr.mp4"),
        &VideoChoice::Fps(1.0),
        &limits,
        None,
        &mut |_| true,
        &mut |_| Ok(()),
    );
    assert!(matches!(refused, Err(FramesError::VideoTooLong { .. })));
    let late = read_video(
        &clip("late.mkv"),
        &VideoChoice::Fps(1.0),
        &limits,
        None,
        &mut |_| true,
        &mut |_| Ok(()),
    );
    assert_eq!(late.unwrap().chosen, [25, 50]);
}
