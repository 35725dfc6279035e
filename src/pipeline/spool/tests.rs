use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{Device, Tensor};
use image::RgbImage;
use serde_json::{Value, json};

use super::*;
use crate::{
    frames::Placement,
    pipeline::source::Selected,
    scene::{Field, PredictedFrames},
};

const FRAMES: usize = 5;
const H: u32 = 4;
const W: u32 = 6;

fn made_of(weights: &str) -> MadeOf {
    MadeOf {
        weights: (weights.to_owned(), String::new()),
        ..MadeOf::default()
    }
}

fn fields() -> Fields {
    Fields {
        points: true,
        camera_tokens: 3,
        compared: Some(Compared {
            patch_size: 1,
            heads: 2,
        }),
    }
}

fn place(path: &Path, rule: FolderRule) -> Place {
    Place::Folder {
        path: path.to_owned(),
        note: json!("to go on"),
        rule,
    }
}

fn open(path: &Path) -> Result<Opened, SpoolError> {
    place(path, FolderRule::Named).open(made_of("w"), fields())
}

fn placement(frame: u32) -> Placement {
    Placement {
        source_width: 60,
        source_height: 40 + frame,
        scale_x: 0.1,
        scale_y: 0.1,
        offset_x: 0.0,
        offset_y: 0.0,
    }
}

fn image(frame: u8, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([frame, x as u8, y as u8]))
}

/// Puts frames in; the sizes differ where `mixed`.
fn decoded(opened: Opened, mixed: bool) -> Spool {
    let Opened::Incoming(mut incoming) = opened else {
        panic!("frames are there already");
    };
    let taken = (0..FRAMES as u32).map(|i| {
        let height = if mixed && i % 2 == 0 { H - 2 } else { H };
        let rgb = image(i as u8, W, height);
        incoming
            .put(format!("{i}.png"), placement(i), &rgb)
            .unwrap()
    });
    let selected = Selected {
        taken: taken.collect(),
        available: 7,
        keyframes: None,
        seconds: Vec::new(),
    };
    let warnings = [Warning::Video("it jumps".to_owned())];
    incoming.finish(selected, &warnings).unwrap()
}

fn tensor(frame: usize, values: usize, kind: usize) -> Tensor {
    let values: Vec<f32> = (0..values)
        .map(|i| 1.0 + (frame * 1000 + kind * 100 + i) as f32 / 7.0)
        .collect();
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn results(frame: usize) -> FrameOutputs {
    let pixels = (H * W) as usize;
    FrameOutputs {
        depth: Some(tensor(frame, pixels, 0)),
        depth_conf: Some(tensor(frame, pixels, 1)),
        points: Some((tensor(frame, 3 * pixels, 2), tensor(frame, pixels, 3))),
        camera_tokens: Some(tensor(frame, 3, 4)),
        similarity: None,
    }
}

fn finish(spool: &mut Spool) {
    let cameras = [9, 12, 9].map(|n| tensor(0, n * spool.count(), 5));
    spool.finish(&cameras[0], &cameras[1], &cameras[2]).unwrap();
}

/// A spool in `dir` in which these frames are done.
fn begun(dir: &Path, done: impl IntoIterator<Item = usize>) -> PathBuf {
    let path = dir.join("spool");
    let mut spool = decoded(open(&path).unwrap(), false);
    for frame in done {
        spool.put(frame, &results(frame)).unwrap();
    }
    path
}

fn reopened(path: &Path) -> Spool {
    match open(path).unwrap() {
        Opened::Spool(spool) => *spool,
        Opened::Incoming(_) => panic!("the frames are gone"),
    }
}

fn bytes(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_was_put_in_any_order_is_read_back_and_the_rest_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), [3, 0]);
    let mut spool = reopened(&path);
    assert_eq!(spool.missing(), [1, 2, 4]);
    assert_eq!(spool.decoded().available, 7);
    assert_eq!(spool.decoded().names[4], "4.png");
    let told: Vec<String> = spool
        .warnings()
        .map(|warning| warning.to_string())
        .collect();
    assert_eq!(told, ["it jumps"]);
    for frame in spool.missing() {
        spool.put(frame, &results(frame)).unwrap();
    }
    finish(&mut spool);
    drop(spool);
    let spool = Arc::new(reopened(&path));
    assert!(spool.is_finished());
    for frame in 0..FRAMES {
        let read = |field| bytes(&spool.read(frame, field).unwrap());
        let expected = results(frame);
        assert_eq!(read(Field::Depth), bytes(expected.depth.as_ref().unwrap()));
        assert_eq!(
            read(Field::DepthConf),
            bytes(expected.depth_conf.as_ref().unwrap())
        );
        let (points, conf) = expected.points.unwrap();
        assert_eq!(read(Field::WorldPoints), bytes(&points));
        assert_eq!(read(Field::WorldPointsConf), bytes(&conf));
        let pixels = read(Field::Image);
        let rgb = image(frame as u8, W, H);
        let expected = (0..3).flat_map(|c| rgb.pixels().map(move |p| f32::from(p.0[c]) / 255.0));
        assert_eq!(pixels, expected.collect::<Vec<_>>());
    }
    let tokens = spool.camera_tokens().unwrap();
    assert_eq!(tokens.dims(), [FRAMES, 3]);
    assert_eq!(bytes(&tokens.get(2).unwrap()), bytes(&tensor(2, 3, 4)));
}

#[test]
fn frames_of_two_sizes_are_what_stacking_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let spool = decoded(open(&dir.path().join("spool")).unwrap(), true);
    let prepared = (0..FRAMES as u32).map(|i| crate::frames::Prepared {
        name: format!("{i}.png"),
        rgb: image(i as u8, W, if i % 2 == 0 { H - 2 } else { H }),
        placement: placement(i),
    });
    let stacked = crate::frames::stack(prepared.collect()).unwrap();
    assert_eq!(
        bytes(&spool.images(0..FRAMES).unwrap()),
        bytes(&stacked.images)
    );
    assert_eq!(spool.decoded().placements, stacked.placements);
    assert!(!dir.path().join("spool/decoded").exists());
}

#[test]
fn a_damaged_byte_costs_its_frame_alone() {
    for name in [
        "depth",
        "depth_conf",
        "world_points",
        "world_points_conf",
        "camera_tokens",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = begun(dir.path(), 0..FRAMES);
        let mut data = fs::read(path.join(name)).unwrap();
        // The first byte of frame 2.
        let place = data.len() / FRAMES * 2;
        data[place] ^= 1;
        fs::write(path.join(name), data).unwrap();
        assert_eq!(reopened(&path).missing(), [2], "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), 0..FRAMES);
    let mut data = fs::read(path.join("images")).unwrap();
    data[0] ^= 1;
    fs::write(path.join("images"), data).unwrap();
    assert!(matches!(open(&path), Ok(Opened::Incoming(_))));
}

#[test]
fn a_journal_cut_anywhere_loses_no_more_than_its_last_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), 0..FRAMES);
    let journal = fs::read(path.join("journal")).unwrap();
    let ends = (0..journal.len()).filter(|i| journal[*i] == b'\n');
    let ends: Vec<usize> = ends.collect();
    assert_eq!(ends.len(), 1 + FRAMES);
    for cut in [
        0,
        1,
        ends[0],
        ends[0] + 1,
        ends[2],
        ends[2] + 1,
        ends[3] + 5,
    ] {
        fs::write(path.join("journal"), &journal[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end < cut).count();
        match open(&path).unwrap() {
            Opened::Spool(spool) => assert_eq!(spool.missing().len(), FRAMES + 1 - whole),
            Opened::Incoming(_) => {
                assert_eq!(whole, 0, "cut at {cut}");
                break;
            }
        }
    }
}

#[test]
fn a_selection_keeps_its_pixels_and_forgets_the_results() {
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), 0..FRAMES);
    let mut spool = reopened(&path);
    spool.select(&[0, 2, 4]).unwrap();
    drop(spool);
    let spool = reopened(&path);
    assert_eq!(spool.decoded().names, ["0.png", "2.png", "4.png"]);
    assert_eq!(spool.missing(), [0, 1, 2]);
    let pixel = |frame| bytes(&spool.images([frame]).unwrap())[0] * 255.0;
    assert_eq!([pixel(0), pixel(1), pixel(2)], [0.0, 2.0, 4.0]);
    assert!(spool.decoded().by_memory);
}

#[test]
fn a_folder_is_had_by_one_and_by_what_it_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = begun(dir.path(), [0]);
    let first = reopened(&path);
    assert!(matches!(open(&path), Err(SpoolError::InUse { .. })));
    assert!(matches!(note_of(&path), Err(SpoolError::InUse { .. })));
    // Where the name was not chosen by the user, another place will do.
    let other = place(&path, FolderRule::Default).open(made_of("w"), fields());
    assert_eq!(other.unwrap().folder(), None);
    drop(first);
    assert_eq!(note_of(&path).unwrap(), json!("to go on"));
    let resume = |weights| place(&path, FolderRule::Resume).open(made_of(weights), fields());
    let e = resume("others").unwrap_err().to_string();
    assert!(e.contains("other weights"), "{e}");
    assert!(matches!(resume("w"), Ok(Opened::Spool(_))));
    assert_eq!(finished_frames(&path), 1);
    let named = place(&path, FolderRule::Named).open(made_of("others"), fields());
    assert!(matches!(named, Ok(Opened::Incoming(_))));
    assert_eq!(finished_frames(&path), 0);
}

#[test]
fn results_of_another_size_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = decoded(open(&dir.path().join("spool")).unwrap(), false);
    let wrong = FrameOutputs {
        depth_conf: Some(tensor(0, 7, 0)),
        ..results(0)
    };
    let e = spool.put(0, &wrong).unwrap_err();
    assert!(
        matches!(
            e,
            SpoolError::Size {
                name: "depth_conf",
                ..
            }
        ),
        "{e}"
    );
    let lacking = FrameOutputs {
        points: None,
        ..results(0)
    };
    assert!(spool.put(0, &lacking).is_err());
    assert_eq!(spool.missing().len(), FRAMES);
}

#[test]
fn a_cached_copy_is_whole_whether_the_spool_had_a_name_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let nameless = Place::Nameless(dir.path().to_owned());
    for (i, place) in [
        Place::Memory,
        nameless,
        place(&dir.path().join("spool"), FolderRule::Default),
    ]
    .into_iter()
    .enumerate()
    {
        let cache = Cache::new(dir.path().join(format!("cache{i}")), Some(1 << 20));
        let mut spool = decoded(place.open(made_of("w"), fields()).unwrap(), false);
        assert_eq!(cache.keep(&spool).unwrap(), None, "it is not finished");
        for frame in 0..FRAMES {
            spool.put(frame, &results(frame)).unwrap();
        }
        finish(&mut spool);
        let kept = cache.keep(&spool).unwrap().unwrap();
        drop(spool);
        let header: Value =
            serde_json::from_slice(&fs::read(kept.join("spool.json")).unwrap()).unwrap();
        assert_eq!(header["note"], Value::Null);
        let find = |weights, points| cache.find(&made_of(weights), points, |_| true);
        assert!(find("others", true).is_none());
        // Several may read it.
        let found = [find("w", true).unwrap(), find("w", false).unwrap()];
        for spool in found.map(Arc::new) {
            let depth = spool.read(4, Field::Depth).unwrap();
            assert_eq!(bytes(&depth), bytes(results(4).depth.as_ref().unwrap()));
        }
        assert!(cache.find(&made_of("w"), true, |_| false).is_none());
    }
    assert!(!dir.path().join("spool").exists());
}

/// Writes parts of the files of one folder into another.
fn pass_on(from: &Path, to: &Path, parts: &[SpoolPart]) {
    use std::io::{Read, Seek, SeekFrom, Write};
    fs::create_dir_all(to).unwrap();
    for part in parts {
        let mut source = fs::File::open(from.join(part.file)).unwrap();
        source.seek(SeekFrom::Start(part.bytes.start)).unwrap();
        let count = part.bytes.end - part.bytes.start;
        let mut bytes = Vec::new();
        source.take(count).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, count, "{part:?}");
        let mut options = fs::OpenOptions::new();
        let mut target = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(to.join(part.file))
            .unwrap();
        target.seek(SeekFrom::Start(part.bytes.start)).unwrap();
        target.write_all(&bytes).unwrap();
    }
}

#[test]
fn what_was_passed_on_is_a_spool_at_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("spool"), dir.path().join("elsewhere"));
    let mut told = PassedOn::default();
    let mut spool = decoded(open(&path).unwrap(), false);
    for (n, frame) in [3, 0, 1, 4, 2].into_iter().enumerate() {
        spool.put(frame, &results(frame)).unwrap();
        if n % 2 == 0 {
            let news = news(&path, told, false).unwrap();
            assert!(!news.begun_again);
            told = news.passed_on;
            pass_on(&path, &to, &news.parts);
            // Nothing is passed on twice but the header.
            let again = super::news(&path, told, false).unwrap();
            assert_eq!((again.parts, again.passed_on), (vec![], told));
            let copy = dir.path().join(format!("copy-{n}"));
            home::copy_files(&to, &copy).unwrap();
            let Opened::Spool(copy) = open(&copy).unwrap() else {
                panic!("its frames are missing");
            };
            assert_eq!(copy.missing().len(), FRAMES - n - 1);
        }
    }
    finish(&mut spool);
    spool.keep_refinement(b"{}").unwrap();
    let last = news(&path, told, true).unwrap();
    pass_on(&path, &to, &last.parts);
    assert_eq!(passed_on(&to).unwrap(), last.passed_on);
    drop(spool);
    for name in fs::read_dir(&path).unwrap() {
        let name = name.unwrap().file_name();
        if name != "lock" {
            assert_eq!(
                fs::read(path.join(&name)).unwrap(),
                fs::read(to.join(&name)).unwrap()
            );
        }
    }
    assert!(open_finished(&to).unwrap().is_finished());

    // Begun again with other weights: all of it is new.
    let other = place(&path, FolderRule::Named).open(made_of("other"), fields());
    let _spool = decoded(other.unwrap(), false);
    let anew = news(&path, last.passed_on, false).unwrap();
    assert!(anew.begun_again && !anew.parts.is_empty());
}
