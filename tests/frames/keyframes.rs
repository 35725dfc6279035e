//! The sharpest and most different frames of a clip: which they are, in clips that are drawn here and in all that are kept.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use image::{RgbImage, imageops};
use vggt::frames::{
    DecodedImage, FramesError, Keyframes, VideoChoice, VideoLimits, VideoProgress, VideoSummary,
    read_video,
};

use super::data;
use crate::support::clip::{SIZE, avi, darker, panorama, part};

const FPS: u32 = 25;

/// A clip in a folder of its own.
struct Clip {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Clip {
    fn of(frames: &[RgbImage]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.avi");
        fs::write(&path, avi(frames, FPS)).unwrap();
        Self { _dir: dir, path }
    }

    /// Numbers of the `n` frames that are chosen, counting from 1.
    fn chosen(&self, n: usize) -> Vec<u64> {
        read(&self.path, &VideoChoice::Keyframes(n), None).0.chosen
    }
}

fn read(
    path: &Path,
    choice: &VideoChoice,
    most: Option<usize>,
) -> (VideoSummary, Vec<DecodedImage>) {
    let limits = VideoLimits::default();
    let mut frames = Vec::new();
    let summary = read_video(path, choice, &limits, most, &mut |_| true, &mut |frame| {
        frames.push(frame);
        Ok(())
    });
    (summary.unwrap(), frames)
}

/// A camera that turns: `n` frames, each some pixels farther.
fn pan(n: u32) -> Vec<RgbImage> {
    const STEP: u32 = 5;
    let panorama = panorama(1, SIZE.0 + STEP * n);
    (0..n).map(|i| part(&panorama, STEP * i)).collect()
}

fn assert_told(summary: &VideoSummary, frames: u64) -> Keyframes {
    let told = summary.keyframes.unwrap();
    assert_eq!(
        (told.frames, told.chosen),
        (frames, summary.chosen.len() as u64)
    );
    let left_out = told.less_sharp + told.plain + told.similar;
    assert_eq!(told.chosen + left_out, frames, "{told:?}");
    told
}

#[test]
fn each_of_several_images_is_taken_once() {
    let images: Vec<RgbImage> = (1..7).map(|seed| panorama(seed, SIZE.0)).collect();
    // The last ones come back.
    let shown = [
        (0, 3),
        (1, 1),
        (2, 7),
        (3, 2),
        (4, 12),
        (5, 5),
        (1, 4),
        (0, 1),
    ];
    let order: Vec<usize> = shown.iter().flat_map(|(i, n)| vec![*i; *n]).collect();
    let frames: Vec<RgbImage> = order.iter().map(|i| images[*i].clone()).collect();
    let clip = Clip::of(&frames);
    let mut taken: Vec<usize> = clip
        .chosen(6)
        .iter()
        .map(|n| order[*n as usize - 1])
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    let (summary, pictures) = read(&clip.path, &VideoChoice::Keyframes(4), None);
    let told = assert_told(&summary, frames.len() as u64);
    assert_eq!((told.less_sharp, told.plain), (0, 0));
    let mut taken: Vec<usize> = summary
        .chosen
        .iter()
        .map(|n| order[*n as usize - 1])
        .collect();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 4);
    for (number, picture) in summary.chosen.iter().zip(&pictures) {
        assert_eq!(picture.name, format!("frame_{number:06}.png"));
    }
}

#[test]
fn blurred_frames_are_left_out_where_the_next_ones_are_sharp() {
    let is_sharp = |number: u64| number.is_multiple_of(3);
    for sigma in [1.0, 2.0, 5.0] {
        let mut frames = pan(60);
        for (frame, number) in frames.iter_mut().zip(1..) {
            if !is_sharp(number) {
                *frame = imageops::blur(frame, sigma);
            }
        }
        let clip = Clip::of(&frames);
        for n in [1, 6, 12] {
            let chosen = clip.chosen(n);
            assert_eq!(chosen.len(), n, "{sigma}");
            assert!(chosen.iter().copied().all(is_sharp), "{sigma}: {chosen:?}");
        }
        let (summary, _) = read(&clip.path, &VideoChoice::Keyframes(6), None);
        let told = assert_told(&summary, 60);
        assert!((38..=40).contains(&told.less_sharp), "{sigma}: {told:?}");
        // More than there are sharp ones.
        assert_eq!(clip.chosen(30).len(), 30);
    }
}

#[test]
fn few_frames_are_taken_while_the_camera_stands() {
    let mut frames = pan(40);
    let standing = frames[19].clone();
    frames.splice(20..20, std::iter::repeat_n(standing, 100));
    let chosen = Clip::of(&frames).chosen(14);
    assert_eq!(chosen.len(), 14);
    let while_standing = chosen.iter().filter(|n| (20..=120).contains(*n)).count();
    assert!(while_standing <= 2, "{chosen:?}");
}

#[test]
fn frames_of_a_picture_that_stands_are_even_in_time() {
    let clip = Clip::of(&vec![panorama(1, SIZE.0); 40]);
    assert_eq!(clip.chosen(4), [6, 16, 25, 35]);
    assert_eq!(clip.chosen(1), [20]);
    let black = Clip::of(&vec![RgbImage::new(SIZE.0, SIZE.1); 40]);
    assert_eq!(black.chosen(4), [6, 16, 25, 35]);
    assert_eq!(black.chosen(40).len(), 40);
}

#[test]
fn fades_and_black_frames_are_left_out() {
    let mut frames = pan(70);
    for (i, percent) in (0..20).map(|i| (i, i * 5)) {
        frames[i] = darker(&frames[i], percent as u16);
    }
    let black = 40..44;
    for i in black.clone() {
        frames[i] = RgbImage::new(SIZE.0, SIZE.1);
    }
    let clip = Clip::of(&frames);
    for n in [1, 8, 16] {
        let chosen = clip.chosen(n);
        let is_dark = |n: &&u64| black.contains(&(**n as usize - 1)) || **n <= 10;
        assert_eq!(chosen.iter().find(is_dark), None, "{chosen:?}");
    }
    let (summary, _) = read(&clip.path, &VideoChoice::Keyframes(8), None);
    let told = assert_told(&summary, 70);
    assert!(told.plain >= 4 && told.less_sharp > 0, "{told:?}");
}

#[test]
fn noise_is_not_taken_for_sharpness() {
    let mut frames = pan(60);
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i16 / 8 - 16
    };
    // Every fourth one is noisy, and every fourth one is blurred and noisy.
    for (i, frame) in frames.iter_mut().enumerate().filter(|(i, _)| i % 4 < 2) {
        if i % 4 == 1 {
            *frame = imageops::blur(frame, 2.5);
        }
        for value in frame.iter_mut() {
            *value = (i16::from(*value) + noise()).clamp(0, 255) as u8;
        }
    }
    let chosen = Clip::of(&frames).chosen(15);
    let of_kind = |kind: u64| chosen.iter().filter(|n| (**n - 1) % 4 == kind).count();
    assert_eq!(of_kind(1), 0, "blurred: {chosen:?}");
    // A third of the sharp ones.
    assert!(of_kind(0) <= 8, "noisy: {chosen:?}");
}

#[test]
fn every_clip_gives_as_many_frames_as_are_asked_for_and_the_same_pixels() {
    for folder in ["clips", "timing", "video"] {
        for entry in fs::read_dir(data(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_clip = ["mp4", "mov", "mkv", "webm", "ts", "avi"];
            if !is_clip.contains(&path.extension().unwrap().to_str().unwrap())
                || name == "music.webm"
            {
                continue;
            }
            let (all, _) = read(&path, &VideoChoice::Fps(1e6), None);
            let (summary, frames) = read(&path, &VideoChoice::Keyframes(3), None);
            let expected = all.frames_read.min(3) as usize;
            assert_eq!(summary.chosen.len(), expected, "{name}");
            assert!(summary.chosen.is_sorted(), "{name}");
            assert_eq!(summary.frames_read, all.frames_read, "{name}");
            assert_eq!(summary.warnings, all.warnings, "{name}");
            assert_told(&summary, all.frames_read);
            let numbers = VideoChoice::Numbers(summary.chosen.clone());
            let (again, same) = read(&path, &numbers, None);
            assert_eq!(
                (again.chosen, again.keyframes),
                (summary.chosen, None),
                "{name}"
            );
            let pixels = |frames: &[DecodedImage]| -> Vec<RgbImage> {
                frames.iter().map(|frame| frame.rgb.clone()).collect()
            };
            assert!(pixels(&frames) == pixels(&same), "{name}");
            let every = read(&path, &VideoChoice::Keyframes(usize::MAX), None).0;
            assert_eq!(every.chosen.len() as u64, all.frames_read, "{name}");
        }
    }
}

#[test]
fn damaged_clips_give_what_they_have() {
    let whole = fs::read(data("video/clip30.mp4")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let mut read_some = 0;
    for i in 1..12 {
        let mut bytes = whole.clone();
        let at = whole.len() * i / 12;
        let end = (at + 200).min(bytes.len());
        bytes[at..end].fill(0x5A);
        fs::write(&path, bytes).unwrap();
        let limits = VideoLimits::default();
        let mut frames = 0;
        let choice = VideoChoice::Keyframes(5);
        let summary = read_video(&path, &choice, &limits, None, &mut |_| true, &mut |_| {
            frames += 1;
            Ok(())
        });
        if let Ok(summary) = summary {
            assert_eq!(summary.chosen.len(), frames, "{i}");
            assert!((1..=5).contains(&frames), "{i}");
            read_some += 1;
        }
    }
    assert!(read_some > 5, "{read_some}");
}

#[test]
fn progress_counts_both_passes_and_each_can_be_stopped() {
    let path = data("clips/h264.mp4");
    let limits = VideoLimits::default();
    let choice = VideoChoice::Keyframes(20);
    let mut seen: Vec<VideoProgress> = Vec::new();
    let mut on = |progress| {
        seen.push(progress);
        true
    };
    read_video(&path, &choice, &limits, None, &mut on, &mut |_| Ok(())).unwrap();
    assert!(seen.is_sorted_by_key(|p| (p.frames_read, p.frames_chosen)));
    let last = VideoProgress {
        frames_read: 20,
        frames_total: Some(20),
        frames_chosen: 20,
    };
    assert_eq!(seen.last(), Some(&last));
    for stop_at in [5, 10, 15] {
        let mut last = 0;
        let mut on = |progress: VideoProgress| {
            last = progress.frames_read;
            last < stop_at
        };
        let e = read_video(&path, &choice, &limits, None, &mut on, &mut |_| Ok(()));
        assert!(matches!(e, Err(FramesError::Cancelled)), "{e:?}");
        assert_eq!(last, stop_at);
    }
    let hurried = VideoLimits {
        max_wall_time: Duration::ZERO,
        ..limits
    };
    let e = read_video(&path, &choice, &hurried, None, &mut |_| true, &mut |_| {
        Ok(())
    });
    assert!(matches!(e, Err(FramesError::VideoTooSlow { .. })), "{e:?}");
}

#[test]
fn the_smaller_number_counts_and_none_is_refused() {
    let path = data("clips/h264.mp4");
    let count = |n, most| read(&path, &VideoChoice::Keyframes(n), most).0.chosen.len();
    assert_eq!(
        (count(5, Some(3)), count(3, Some(5)), count(1, None)),
        (3, 3, 1)
    );
    let limits = VideoLimits::default();
    for (choice, most) in [
        (VideoChoice::Keyframes(0), None),
        (VideoChoice::Keyframes(1), Some(0)),
        (VideoChoice::Numbers(Vec::new()), None),
    ] {
        let e = read_video(
            &path,
            &choice,
            &limits,
            most,
            &mut |_| true,
            &mut |_| Ok(()),
        );
        assert!(matches!(e, Err(FramesError::Empty)), "{choice:?}: {e:?}");
    }
}
