//! What a session makes of a process that says anything at all.

use std::{io::Write, net::Shutdown, os::unix::net::UnixStream, thread};

use super::*;
use crate::frames::PreprocessMode;

const SHAPE: Shape = Shape::Network {
    mode: PreprocessMode::Crop,
    img_size: 28,
    patch_size: 14,
};

/// A picture of 28 x 14 pixels that was 56 x 28.
fn frame() -> Reply {
    Reply::Frame {
        number: 3,
        width: 28,
        height: 14,
        source_width: 56,
        source_height: 28,
        notes: Vec::new(),
        seconds: None,
    }
}

fn hello() -> Vec<u8> {
    said(&[Reply::Hello {
        version: env!("VGGT_VERSION").to_owned(),
        missing: Vec::new(),
    }])
}

fn said(replies: &[Reply]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for reply in replies {
        wire::write(&mut bytes, reply).unwrap();
    }
    bytes
}

fn done() -> Reply {
    Reply::Done {
        thinned_from: None,
        keyframes: None,
        warnings: Vec::new(),
    }
}

/// What a session makes of a process that says this, whatever it is asked for, and ends.
fn with<T>(said: Vec<u8>, ask: impl FnOnce(&mut Session) -> T) -> T {
    let (here, mut there) = UnixStream::pair().unwrap();
    let speaker = thread::spawn(move || {
        let _ = there.write_all(&said);
        let _ = there.shutdown(Shutdown::Write);
        // Requests stay unread, but can be sent.
        there
    });
    let link = Link::of_test(here, Duration::from_secs(60));
    let made = ask(&mut Session { link });
    drop(speaker.join());
    made
}

fn image(said: Vec<u8>) -> Result<Decoded, DecoderError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let limits = ImageLimits::default();
    with(said, |session| {
        session.image(file.path(), "a", &limits, SHAPE, &mut || true)
    })
}

fn video(said: Vec<u8>) -> Result<Read, DecoderError> {
    video_of(&VideoChoice::Fps(1.0), said)
}

fn video_of(choice: &VideoChoice, said: Vec<u8>) -> Result<Read, DecoderError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let limits = VideoLimits::default();
    let video = Video {
        limits: &limits,
        shape: SHAPE,
        choice,
        max_frames: Some(2),
    };
    with(said, |session| {
        session.video(file.path(), &video, &mut |_| true, &mut |_| Ok(()))
    })
}

#[test]
fn an_image_is_taken_as_it_was_asked_for() {
    let pixels = vec![7; 28 * 14 * 3];
    let all = [hello(), said(&[frame()]), pixels.clone(), said(&[done()])].concat();
    let image = image(all).unwrap();
    assert_eq!(image.rgb.as_raw(), &pixels);
    assert_eq!((image.name.as_str(), image.source_size), ("a", (56, 28)));
}

#[test]
fn what_became_of_the_frames_must_add_up() {
    let told = |frames, chosen, similar| {
        let keyframes = Some(Keyframes {
            frames,
            chosen,
            less_sharp: 2,
            plain: 1,
            similar,
        });
        Reply::Done {
            thinned_from: None,
            keyframes,
            warnings: Vec::new(),
        }
    };
    let of = |choice: &VideoChoice, done: Reply| {
        let pixels = vec![7; 28 * 14 * 3];
        video_of(
            choice,
            [hello(), said(&[frame()]), pixels, said(&[done])].concat(),
        )
    };
    let (asked, rate) = (VideoChoice::Keyframes(1), VideoChoice::Fps(1.0));
    let read = of(&asked, told(9, 1, 5)).unwrap();
    assert_eq!(read.keyframes.map(|all| all.similar), Some(5));
    for done in [told(9, 1, 4), told(9, 2, 4), told(2, 1, u64::MAX), done()] {
        assert!(of(&asked, done.clone()).is_err(), "{done:?}");
    }
    assert!(of(&rate, told(9, 1, 5)).is_err());
    assert!(of(&rate, done()).is_ok());
    // More than were asked for.
    let pixels = vec![7; 28 * 14 * 3];
    let two = [
        hello(),
        said(&[frame()]),
        pixels.clone(),
        said(&[frame()]),
        pixels,
    ]
    .concat();
    assert!(video_of(&asked, [two, said(&[told(9, 2, 4)])].concat()).is_err());
}

#[test]
fn frames_of_another_size_and_answers_to_other_questions_are_refused() {
    let sized = |w: u32, h: u32, sw: u32, sh: u32| Reply::Frame {
        number: 0,
        width: w,
        height: h,
        source_width: sw,
        source_height: sh,
        notes: Vec::new(),
        seconds: None,
    };
    let size = Reply::Size {
        width: 1,
        height: 1,
    };
    let progress = Reply::Progress { done: 1, total: 1 };
    for reply in [
        sized(u32::MAX, u32::MAX, 56, 28),
        sized(28, 28, 56, 28),
        sized(0, 0, 0, 0),
        sized(28, 14, 56, u32::MAX),
        done(),
        size.clone(),
        progress,
    ] {
        let said = [hello(), said(std::slice::from_ref(&reply))].concat();
        assert!(image(said).is_err(), "{reply:?}");
    }
    for reply in [size, done(), sized(28, 15, 56, 28)] {
        let said = [hello(), said(std::slice::from_ref(&reply))].concat();
        assert!(video(said).is_err(), "{reply:?}");
    }
    // Nothing is taken before the greeting, and none twice.
    assert!(image(said(&[frame()])).is_err());
    assert!(image([hello(), hello()].concat()).is_err());
}

#[test]
fn more_frames_than_were_asked_for_are_refused() {
    let one = [said(&[frame()]), vec![0; 28 * 14 * 3]].concat();
    let two = [hello(), one.clone(), one.clone(), said(&[done()])].concat();
    assert!(video(two).is_ok());
    let three = [hello(), one.clone(), one.clone(), one, said(&[done()])].concat();
    assert!(video(three).is_err());
}

#[test]
fn a_process_that_only_logs_is_refused() {
    let lines = vec![Reply::Log("again".to_owned()); 1000];
    assert!(image([hello(), said(&lines)].concat()).is_err());
}

#[test]
fn nothing_that_it_says_is_more_than_an_error() {
    let pixels = vec![7; 28 * 14 * 3];
    let good = [hello(), said(&[frame()]), pixels, said(&[done()])].concat();
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    for round in 0..2000 {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(next(good.len())),
            1 => bytes = (0..next(300)).map(|_| next(256) as u8).collect(),
            _ => {
                for _ in 0..=next(4) {
                    // The messages, not the pixels between them.
                    let at = next(300.min(bytes.len()));
                    bytes[at] = next(256) as u8;
                }
            }
        }
        if let Ok(image) = image(bytes.clone()) {
            assert_eq!(image.rgb.dimensions(), (28, 14));
        }
        let _ = video(bytes);
    }
}

#[test]
fn a_silent_process_is_left_when_time_is_over_or_the_caller_stops() {
    let (here, _there) = UnixStream::pair().unwrap();
    let link = Link::of_test(here.try_clone().unwrap(), Duration::ZERO);
    let file = tempfile::NamedTempFile::new().unwrap();
    let limits = ImageLimits::default();
    let mut session = Session { link };
    let e = session.image(file.path(), "a", &limits, SHAPE, &mut || true);
    let late = matches!(e, Err(DecoderError::Frames(FramesError::TooSlow { .. })));
    assert!(late, "{e:?}");
    let link = Link::of_test(here, Duration::from_secs(60));
    let mut session = Session { link };
    let e = session.image(file.path(), "a", &limits, SHAPE, &mut || false);
    let stopped = matches!(e, Err(DecoderError::Frames(FramesError::Cancelled)));
    assert!(stopped, "{e:?}");
}
