//! What comes out does not depend on the process that decodes.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use vggt::{
    frames::{Frames, ImageLimits, PreprocessMode, VideoLimits},
    pipeline::{
        Decoding, FrameLimit, PipelineError, ReadOptions, Source, Stage, Warning, Watcher, Worker,
        read_frames,
    },
};
use vggt_model::{Config, demo};

use super::{files_of, large_png};

/// Keeps what is to be known.
#[derive(Default)]
struct Notes(Vec<Warning>);

impl Watcher for Notes {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }

    fn warn(&mut self, warning: &Warning) {
        self.0.push(warning.clone());
    }
}

fn isolated() -> Decoding {
    let limits = VideoLimits::default();
    Decoding::Isolated(Worker::at(env!("CARGO_BIN_EXE_vggt"), limits.max_memory))
}

fn config() -> Config {
    demo::config().unwrap()
}

type Read = (Result<Frames, PipelineError>, Vec<Warning>);

fn read(source: &Source, options: &ReadOptions, limit: &FrameLimit<'_>) -> Read {
    let mut notes = Notes::default();
    let frames = read_frames(source, options, &config(), limit, &mut notes);
    (frames, notes.0)
}

/// An error and its causes.
fn texts(e: &dyn Error) -> Vec<String> {
    std::iter::successors(Some(e), |e| (*e).source())
        .map(ToString::to_string)
        .collect()
}

fn pixels(frames: &Frames) -> Vec<f32> {
    frames.images.flatten_all().unwrap().to_vec1().unwrap()
}

/// Reads in both ways; everything must be the same.
fn assert_same(source: &Source, options: &ReadOptions, limit: &FrameLimit<'_>) -> Read {
    let (here, here_told) = read(source, options, limit);
    let options = ReadOptions {
        decoding: isolated(),
        ..options.clone()
    };
    let (there, told) = read(source, &options, limit);
    assert_eq!(told, here_told, "{source:?}");
    match (&here, &there) {
        (Ok(here), Ok(there)) => {
            assert_eq!(there.names, here.names, "{source:?}");
            assert_eq!(there.placements, here.placements, "{source:?}");
            assert_eq!(there.available, here.available, "{source:?}");
            assert_eq!(there.images.dims(), here.images.dims(), "{source:?}");
            assert!(pixels(there) == pixels(here), "{source:?}");
        }
        (Err(here), Err(there)) => assert_eq!(texts(there), texts(here), "{source:?}"),
        _ => panic!("{source:?}: {here:?} here, {there:?} there"),
    }
    (there, told)
}

#[test]
fn images_of_all_formats_are_the_same() {
    let folders = ["formats", "tiff", "raw", "profiles", "heif"];
    let files: Vec<PathBuf> = folders.into_iter().flat_map(files_of).collect();
    let dir = tempfile::tempdir().unwrap();
    for (i, file) in files.iter().enumerate() {
        let name = file.file_name().unwrap().to_str().unwrap();
        fs::copy(file, dir.path().join(format!("{i:03}_{name}"))).unwrap();
    }
    // What cannot be used, for each reason that is found while decoding.
    let jpeg = fs::read(&files_of("formats")[1]).unwrap();
    fs::write(dir.path().join("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    fs::write(dir.path().join("cut_early.jpg"), &jpeg[..30]).unwrap();
    fs::write(dir.path().join("notes.txt"), "dear diary").unwrap();
    fs::write(dir.path().join("empty.png"), "").unwrap();
    let mut damaged = fs::read(&files_of("formats")[13]).unwrap();
    damaged[60..].fill(7);
    fs::write(dir.path().join("damaged.png"), damaged).unwrap();
    for mode in [PreprocessMode::Crop, PreprocessMode::Pad] {
        let options = ReadOptions {
            mode,
            ..ReadOptions::default()
        };
        let source = Source::Folder(dir.path().to_owned());
        let (frames, told) = assert_same(&source, &options, &FrameLimit::default());
        assert!(frames.unwrap().names.len() > files.len() / 2);
        let skipped = |warning: &Warning| matches!(warning, Warning::ImagesSkipped(_));
        assert!(told.iter().any(skipped), "{told:?}");
    }
}

#[test]
fn images_are_left_out_in_the_same_way() {
    let fitting = |height: usize, width: usize| if height > width { 3 } else { 5 };
    let source = Source::Images(files_of("formats"));
    for max in [None, Some(2)] {
        let limit = FrameLimit {
            max,
            fitting: Some(&fitting),
        };
        assert_same(&source, &ReadOptions::default(), &limit)
            .0
            .unwrap();
    }
}

#[test]
fn images_that_cannot_be_used_have_the_same_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("notes.jpg"), "dear diary").unwrap();
    fs::write(path("large.png"), large_png()).unwrap();
    fs::create_dir(path("folder.jpg")).unwrap();
    let jpeg = fs::read(&files_of("formats")[1]).unwrap();
    fs::write(path("cut.jpg"), &jpeg[..30]).unwrap();
    let webp = fs::read(&files_of("formats")[5]).unwrap();
    fs::write(path("cut.webp"), &webp[..webp.len() / 2]).unwrap();
    let mut damaged = fs::read(&files_of("formats")[13]).unwrap();
    damaged[60..].fill(7);
    fs::write(path("damaged.png"), damaged).unwrap();
    let small = ReadOptions {
        image_limits: ImageLimits {
            max_memory: 1 << 20,
            ..ImageLimits::default()
        },
        ..ReadOptions::default()
    };
    let few_bytes = ReadOptions {
        image_limits: ImageLimits {
            max_bytes: 100,
            max_side: 9999,
            ..ImageLimits::default()
        },
        ..ReadOptions::default()
    };
    let few_pixels = ReadOptions {
        image_limits: ImageLimits {
            max_side: 9999,
            ..ImageLimits::default()
        },
        ..ReadOptions::default()
    };
    for (name, options) in [
        ("notes.jpg", &ReadOptions::default()),
        ("missing.jpg", &ReadOptions::default()),
        ("folder.jpg", &ReadOptions::default()),
        ("cut.jpg", &ReadOptions::default()),
        ("cut.webp", &ReadOptions::default()),
        ("damaged.png", &ReadOptions::default()),
        ("large.png", &small),
        ("large.png", &few_bytes),
        ("large.png", &few_pixels),
    ] {
        let source = Source::Images(vec![path(name)]);
        let (frames, _) = assert_same(&source, options, &FrameLimit::default());
        let e = frames.unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
    }
}

#[cfg(feature = "video")]
#[test]
fn videos_of_all_codecs_are_the_same() {
    let fitting = |_: usize, _: usize| 4_usize;
    let options = ReadOptions {
        fps: 7.3,
        ..ReadOptions::default()
    };
    for (i, file) in files_of("clips").into_iter().enumerate() {
        let limit = FrameLimit {
            max: None,
            fitting: (i % 2 == 0).then_some(&fitting as _),
        };
        let _ = assert_same(&Source::Video(file), &options, &limit);
    }
}

#[cfg(feature = "video")]
#[test]
fn the_sharpest_and_most_different_frames_are_the_same() {
    let fitting = |_: usize, _: usize| 4_usize;
    let options = ReadOptions {
        keyframes: Some(6),
        ..ReadOptions::default()
    };
    for (i, file) in files_of("timing").into_iter().enumerate() {
        let limit = FrameLimit {
            max: Some(50),
            fitting: (i % 2 == 0).then_some(&fitting as _),
        };
        let (frames, told) = assert_same(&Source::Video(file), &options, &limit);
        let Ok(frames) = frames else { continue };
        // What does not fit is told as ever.
        let expected = frames.available.min(if i % 2 == 0 { 4 } else { 6 });
        assert_eq!(frames.names.len(), expected);
        let thinned = Warning::FramesThinned {
            used: 4,
            available: frames.available.min(6),
            evenly: false,
        };
        let is_thinned = i % 2 == 0 && frames.available > 4;
        assert_eq!(told.contains(&thinned), is_thinned, "{told:?}");
    }
    let none = ReadOptions {
        keyframes: Some(0),
        ..options
    };
    let source = Source::Video(files_of("clips")[4].clone());
    assert!(
        assert_same(&source, &none, &FrameLimit::default())
            .0
            .is_err()
    );
}

#[cfg(feature = "video")]
#[test]
fn videos_that_cannot_be_used_have_the_same_errors() {
    let clip = &files_of("clips")[4];
    assert!(clip.ends_with("h264.mp4"));
    let limits = |change: fn(&mut VideoLimits)| {
        let mut options = ReadOptions::default();
        change(&mut options.video_limits);
        options
    };
    let bad_rate = ReadOptions {
        fps: -1.0,
        ..ReadOptions::default()
    };
    for options in [
        bad_rate,
        limits(|l| l.max_duration_s = 0.1),
        limits(|l| l.max_pixels = 10),
        limits(|l| l.max_memory = 1 << 10),
    ] {
        let source = Source::Video(clip.clone());
        let (frames, _) = assert_same(&source, &options, &FrameLimit::default());
        assert!(frames.is_err(), "{options:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(clip).unwrap();
    let files = [
        write("text.mp4", b"dear diary"),
        write("text", b"dear diary"),
        write("cut.mp4", &whole[..whole.len() / 3]),
        files_of("formats")[1].clone(),
        files_of("clips")[15].clone(),
        dir.path().join("missing.mp4"),
        dir.path().to_owned(),
    ];
    assert!(files[4].ends_with("sound.m4a"));
    for file in files {
        let source = Source::Video(file);
        let (frames, _) = assert_same(&source, &ReadOptions::default(), &FrameLimit::default());
        assert!(frames.is_err(), "{source:?}");
    }
}

/// The images of a dataset have their full size.
#[cfg(feature = "video")]
#[test]
fn a_dataset_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let clip = &files_of("clips")[4];
    let heic = files_of("heif")
        .into_iter()
        .find(|p| p.ends_with("phone.heic"));
    let inputs: [&Path; 2] = [clip, &heic.unwrap()];
    for input in inputs {
        let mut written = Vec::new();
        for extra in [&["--isolate"][..], &[]] {
            let out = dir.path().join(format!(
                "{}_{}",
                extra.len(),
                input.extension().unwrap().display()
            ));
            let out_text = out.to_str().unwrap();
            let args = [
                "export",
                "--demo",
                input.to_str().unwrap(),
                "--format",
                "colmap",
            ];
            let args = [&args[..], &["--out", out_text, "--max_frames", "2"], extra].concat();
            crate::support::run(dir.path(), &args);
            let images = crate::support::files(&out.join("images"));
            assert!(!images.is_empty());
            let bytes = images
                .iter()
                .map(|name| fs::read(out.join("images").join(name)).unwrap());
            written.push((images.clone(), bytes.collect::<Vec<_>>()));
        }
        assert!(written[0] == written[1], "{}", input.display());
    }
}
