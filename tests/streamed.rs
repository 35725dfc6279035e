//! Scenes and writers over frames that are read one at a time.

use std::{borrow::Cow, cell::RefCell, env, fs, io, path::Path, process::Command};

use candle_core::Tensor;
use tempfile::TempDir;
use vggt::{
    glb::{self, GlbEncoding, GlbOptions},
    output::OutputRules,
    pipeline::{
        DatasetImages, Format, PipelineError, SavedFrames, WriteOptions, save_depth,
        save_predictions, write_dataset, write_file,
    },
    ply::{self, PlyKind},
    scene::{
        self, Field, FrameFilter, PhotoArea, PredictedFrames, Provenance, Scene, SceneError,
        SceneOptions, confident_and_even,
    },
};

use crate::support::{
    files,
    glb::provenance,
    scene::{frames, options, predictions},
    synthetic::{Fault, Synthetic},
};

/// Frames that remember what was read of them.
struct Logged<'a> {
    frames: &'a dyn PredictedFrames,
    reads: RefCell<Vec<(usize, Field)>>,
}

impl<'a> Logged<'a> {
    fn new(frames: &'a dyn PredictedFrames) -> Self {
        Self {
            frames,
            reads: RefCell::default(),
        }
    }

    /// The frames of which `field` was read since the last question.
    fn of(&self, field: Field) -> Vec<usize> {
        let mut reads = self.reads.borrow_mut();
        let of_field = reads.iter().filter(|(_, read)| *read == field);
        let frames = of_field.map(|(index, _)| *index).collect();
        reads.retain(|(_, read)| *read != field);
        frames
    }
}

impl PredictedFrames for Logged<'_> {
    fn count(&self) -> usize {
        self.frames.count()
    }

    fn size(&self) -> (usize, usize) {
        self.frames.size()
    }

    fn has(&self, field: Field) -> bool {
        self.frames.has(field)
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        self.reads.borrow_mut().push((index, field));
        self.frames.read(index, field)
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        self.frames.keep(index)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }
}

#[test]
fn scenes_and_writers_read_one_frame_after_the_other() {
    let keep: Vec<bool> = (0..3 * 28 * 42).map(|i| i % 5 != 0).collect();
    let in_memory = frames(Some(&keep));
    let frames = Logged::new(&in_memory);
    let options = options("cameras");
    let scene = scene::build_from(&frames, &options).unwrap();
    let whole = scene::build(&predictions(), Some(&keep), &options).unwrap();
    assert_eq!(scene.points, whole.points);
    assert_eq!(scene.cameras, whole.cameras);
    // A threshold of the confidence first, then what passes it.
    assert_eq!(frames.of(Field::WorldPoints), [0, 1, 2, 0, 1, 2]);
    assert_eq!(frames.of(Field::WorldPointsConf), [0, 1, 2, 0, 1, 2]);
    assert_eq!(frames.of(Field::Extrinsic), [0, 1, 2]);
    // Colors come with the points.
    assert!(frames.of(Field::Image).is_empty());

    ply::write(&scene, &frames, &provenance(), &mut Vec::new()).unwrap();
    assert_eq!(frames.of(Field::WorldPoints), [0, 1, 2]);
    assert_eq!(frames.of(Field::Image), [0, 1, 2]);
    // All positions before the first color.
    let (provenance, options) = (provenance(), GlbOptions::default());
    glb::write(&scene, &frames, &provenance, options, &mut Vec::new()).unwrap();
    assert_eq!(frames.of(Field::WorldPoints), [0, 1, 2, 0, 1, 2]);
    assert_eq!(frames.of(Field::Image), [0, 1, 2]);
    // The scene does not show these.
    assert!(frames.of(Field::Depth).is_empty());
    assert!(frames.of(Field::WorldPointsFromDepth).is_empty());
}

/// Scene and folder of a test of the writers.
struct Writers {
    dir: TempDir,
    scene: Scene,
    provenance: Provenance,
}

impl Writers {
    fn new(frames: &dyn PredictedFrames) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            scene: scene::build_from(frames, &SceneOptions::default()).unwrap(),
            provenance: provenance(),
        }
    }

    /// Writes everything that there is into the folder; returns what came of each.
    fn write(&self, frames: &dyn PredictedFrames) -> Vec<(&'static str, Option<PipelineError>)> {
        let ends = OUTPUTS
            .iter()
            .map(|name| (*name, self.write_one(name, frames)));
        ends.collect()
    }

    /// Writes one output into the folder; returns its error.
    fn write_one(&self, name: &str, frames: &dyn PredictedFrames) -> Option<PipelineError> {
        let path = self.dir.path().join(name);
        let rules = OutputRules::new(None::<&Path>, false);
        let (scene, provenance) = (&self.scene, &self.provenance);
        let options = WriteOptions {
            glb: GlbOptions::default(),
            ply: PlyKind::Points,
            placements: &[],
            dataset_points: 1000,
            refined: None,
        };
        let saved = saved_frames(frames.count());
        let file = |format| {
            let target = rules.file(&path).unwrap();
            write_file(scene, frames, provenance, &options, format, &target).err()
        };
        let dataset = |format| {
            let images = DatasetImages::plan(&path, None, &saved.names);
            let written = (&images, images.kept());
            write_dataset(scene, frames, provenance, &options, format, written, &rules).err()
        };
        match name {
            "a.glb" => file(Format::Glb),
            "a.html" => file(Format::Html),
            "a.ply" => file(Format::Ply),
            "p.safetensors" => {
                let target = rules.file(&path).unwrap();
                save_predictions(&target, frames, None, &saved).err()
            }
            "depth" => save_depth(&path, &rules, frames, &saved.names, &[]).err(),
            "colmap" => dataset(Format::Colmap),
            _ => dataset(Format::Nerfstudio),
        }
    }
}

fn saved_frames(count: usize) -> SavedFrames {
    SavedFrames {
        seconds: Vec::new(),
        names: (0..count).map(|i| format!("{i}.png")).collect(),
        placements: Vec::new(),
        available: None,
        weights: "tests".to_owned(),
        weights_sha256: None,
    }
}

const OUTPUTS: [&str; 7] = [
    "a.glb",
    "a.html",
    "a.ply",
    "colmap",
    "depth",
    "nerfstudio",
    "p.safetensors",
];

#[test]
fn a_disk_that_fails_is_the_writers_error_and_leaves_no_file() {
    let frames = Synthetic::new(6, 28, 42);
    let whole = Writers::new(&frames);
    for (name, end) in whole.write(&frames) {
        assert!(end.is_none(), "{name}: {end:?}");
    }
    assert_eq!(files(whole.dir.path()), OUTPUTS);
    // At the start, and late: the last read of each, of 6 frames.
    for (name, reads) in [
        // Positions and confidence, then both with the image.
        ("a.glb", 12 + 18),
        // As the GLB, then the ranks of the confidences, and each frame's photo and depth.
        ("a.html", 12 + 18 + 2 * 18 + 6 + 2 * 6),
        ("a.ply", 18),
        ("colmap", 18),
        ("nerfstudio", 18),
        // For the range, and for the maps.
        ("depth", 12),
        ("p.safetensors", 9 * 6),
    ] {
        for before in [0, 7, reads - 1] {
            let writers = Writers::new(&frames);
            let broken = Synthetic::new(6, 28, 42).broken(Fault::Disk, before);
            let e = writers.write_one(name, &broken).unwrap();
            let named = e.to_string().contains("cannot read the predicted");
            assert!(named, "{name} after {before} reads: {e}");
            // Maps are files of their own, and those before the fault are whole.
            let left = files(writers.dir.path());
            assert!(left.is_empty() || left == ["depth"], "{name}: {left:?}");
        }
        let intact = Synthetic::new(6, 28, 42).broken(Fault::Disk, reads);
        let end = Writers::new(&frames).write_one(name, &intact);
        assert!(end.is_none(), "{name} reads more than {reads} times");
    }
}

#[test]
fn frames_that_change_after_the_scene_was_built_are_an_error() {
    let frames = Synthetic::new(6, 28, 42);
    let changed = Synthetic::new(6, 28, 42).broken(Fault::Values, 0);
    let writers = Writers::new(&frames);
    for (name, end) in writers.write(&changed) {
        if matches!(name, "p.safetensors" | "depth") {
            // They need no scene.
            assert!(end.is_none(), "{name}: {end:?}");
            continue;
        }
        let e = end.unwrap().to_string();
        assert!(
            e.contains("cannot read frame 0 again") && e.contains("changed"),
            "{name}: {e}"
        );
    }
    let left = files(writers.dir.path());
    assert_eq!(left, ["depth", "p.safetensors"]);
}

#[test]
fn frames_that_change_while_the_scene_is_built_are_an_error() {
    // Confidences are read in the first 12 of 24 reads, for the threshold.
    let changed = Synthetic::new(6, 28, 42).broken(Fault::Values, 12);
    // One pass has nothing to compare with: the scene is of the changed frames.
    let scene = scene::build_from(&changed, &SceneOptions::default()).unwrap();
    let points = scene.points.over(&changed).collect().unwrap();
    assert_eq!(points.len(), scene.points.len());
    // Long sequences are counted twice.
    let long = Synthetic::new(1500, 56, 56).broken(Fault::Values, 2 * 1500 + 100);
    let e = scene::build_from(&long, &SceneOptions::default()).unwrap_err();
    assert!(
        matches!(e, SceneError::Unstable | SceneError::Changed { .. }),
        "{e}"
    );
}

#[test]
fn a_long_sequence_is_thinned_evenly_over_its_frames() {
    let frames = Synthetic::new(200, 14, 14);
    let options = SceneOptions {
        max_points: Some(1000),
        ..SceneOptions::default()
    };
    let scene = scene::build_from(&frames, &options).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    let mut counts = vec![0; 200];
    (0..points.len()).for_each(|i| counts[points.frame(i)] += 1);
    assert_eq!(points.len(), 1000);
    assert!(counts.iter().all(|n| (4..=6).contains(n)), "{counts:?}");
    let chosen = confident_and_even(&scene.thinned(usize::MAX).points.over(&frames), 600).unwrap();
    let mut counts = vec![0; 200];
    (0..chosen.len()).for_each(|i| counts[chosen.frame(i)] += 1);
    assert_eq!(chosen.len(), 600);
    assert!(counts.iter().all(|n| (2..=4).contains(n)), "{counts:?}");
}

#[test]
fn points_of_frames_past_32_bits_of_pixels_know_where_they_come_from() {
    // 6.3e9 pixels, of which one frame is shown.
    let last = 2_000_000 - 1;
    let frames = Synthetic::new(last + 1, 56, 56);
    let options = SceneOptions {
        frame_filter: FrameFilter::One(last),
        ..SceneOptions::default()
    };
    let scene = scene::build_from(&frames, &options).unwrap();
    let points = scene.points.over(&frames).collect().unwrap();
    assert!(points.source[0] > u64::from(u32::MAX));
    let end = points.len() - 1;
    assert_eq!((points.frame(0), points.frame(end)), (last, last));
    assert_eq!(points.pixel(end)[1], 55);
}

/// Set in a child process, to the number of its frames.
const CHILD_FRAMES: &str = "VGGT_TEST_STREAMED_FRAMES";

/// More frames may take this much more memory: names and cameras of the document, and what the allocator keeps.
const MEMORY_TOLERANCE_KIB: u64 = 24 << 10;

#[test]
fn peak_memory_does_not_depend_on_the_number_of_frames() {
    let peak = |frames: &str| -> u64 {
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "streamed::everything_written_in_a_child",
                "--nocapture",
            ])
            .env(CHILD_FRAMES, frames)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "{text}");
        let peak = text
            .lines()
            .find_map(|line| line.strip_prefix("peak KiB: "));
        peak.unwrap().trim().parse().unwrap()
    };
    // All points take 27 bytes each: 8 MB and 170 MB.
    let (few, many) = (peak("100"), peak("2000"));
    println!("{few} KiB with 100 frames, {many} KiB with 2000");
    assert!(many < few + MEMORY_TOLERANCE_KIB, "{few} KiB became {many}");
}

/// What [`peak_memory_does_not_depend_on_the_number_of_frames`] runs in a process of its own; does nothing elsewhere.
#[test]
fn everything_written_in_a_child() {
    let Ok(count) = env::var(CHILD_FRAMES) else {
        return;
    };
    let frames = Synthetic::repeated(count.parse().unwrap(), 56, 56);
    let writers = Writers::new(&frames);
    let quantized = GlbOptions {
        encoding: GlbEncoding::Quantized,
        ..GlbOptions::default()
    };
    let thin = writers.scene.thinned(100_000);
    let provenance = &writers.provenance;
    glb::write(&thin, &frames, provenance, quantized, &mut io::sink()).unwrap();
    glb::write(
        &writers.scene,
        &frames,
        provenance,
        quantized,
        &mut io::sink(),
    )
    .unwrap();
    ply::write(&writers.scene, &frames, provenance, &mut io::sink()).unwrap();
    let end = writers.write_one("colmap", &frames);
    assert!(end.is_none(), "{end:?}");
    let null = OutputRules::new(None::<&Path>, false)
        .file(Path::new("/dev/null"))
        .unwrap();
    save_predictions(&null, &frames, None, &saved_frames(frames.count())).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("peak KiB: {}", peak.unwrap().trim().trim_end_matches(" kB"));
}
