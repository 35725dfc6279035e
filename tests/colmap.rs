//! COLMAP models, read back from both forms. Everything written here also goes through pycolmap:
//! `tools/checks/check_colmap.py` on the folder `colmap` below Cargo's temporary folder.

use std::{fs, path::PathBuf};

use serde_json::json;
use vggt::{
    colmap::{ColmapError, Model, ModelFile, OriginalImage},
    scene::{self, Affine, FrameFilter, PredictionMode, Provenance, Scene, SceneOptions},
};

use crate::support::scene as fixture;

/// Original pixels. The fixture's positions were unprojected and stored in f32: some 1e-4 of its 42 x 28 pixels,
/// here seen in images up to 20 times as wide.
const REPROJECTION_TOLERANCE: f64 = 0.01;

/// Three originals of different sizes that became 42 x 28: one cropped at the sides, one padded above and below,
/// one padded at the right.
fn originals() -> Vec<OriginalImage> {
    let image = |name: &str, size: [u32; 2], scale: [f64; 2], offset: [f64; 2]| OriginalImage {
        name: name.to_owned(),
        width: size[0],
        height: size[1],
        scale_x: scale[0],
        scale_y: scale[1],
        offset_x: offset[0],
        offset_y: offset[1],
    };
    vec![
        image("a.png", [1000, 560], [0.05, 0.05], [-4.0, 0.0]),
        image("my photo é.jpg", [840, 400], [0.05, 0.05], [0.0, 4.0]),
        image("d/c.png", [200, 140], [0.15, 0.2], [0.0, 0.0]),
    ]
}

fn build(mode: PredictionMode, frame_filter: FrameFilter) -> Scene {
    let options = SceneOptions {
        conf_thres: 0.0,
        prediction_mode: mode,
        frame_filter,
        ..SceneOptions::default()
    };
    scene::build(&fixture::predictions(), None, &options).unwrap()
}

/// Writes both forms into `colmap/<name>/sparse/0` and reads them back.
fn write(name: &str, mode: PredictionMode, model: &Model<'_>) -> (Read, Read) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("colmap/{name}/sparse/0"));
    fs::create_dir_all(&folder).unwrap();
    let provenance = Provenance::new("tests", None, 3, json!({ "prediction_mode": mode }));
    let files = ModelFile::ALL.map(|file| {
        let mut bytes = Vec::new();
        model.write(file, &provenance, &mut bytes).unwrap();
        fs::write(folder.join(file.name()), &bytes).unwrap();
        bytes
    });
    let [cameras, images, points, texts @ ..] = files;
    let texts = texts.map(|bytes| String::from_utf8(bytes).unwrap());
    (
        Read::binary(&cameras, &images, &points),
        Read::text(&texts[0], &texts[1], &texts[2]),
    )
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Id, width, height, and fx, fy, cx, cy.
    cameras: Vec<(u64, [u64; 2], Vec<f64>)>,
    images: Vec<ReadImage>,
    points: Vec<ReadPoint>,
}

#[derive(Debug, PartialEq)]
struct ReadImage {
    id: u64,
    camera: u64,
    name: String,
    /// Quaternion and translation.
    pose: Vec<f64>,
    points: Vec<([f64; 2], u64)>,
}

#[derive(Debug, PartialEq)]
struct ReadPoint {
    id: u64,
    position: Vec<f64>,
    color: Vec<u64>,
    error: f64,
    /// Image and index.
    track: [u64; 2],
}

impl Read {
    fn binary(cameras: &[u8], images: &[u8], points: &[u8]) -> Self {
        let mut read = Self::default();
        let mut c = Bytes(cameras);
        for _ in 0..c.u64() {
            let id = c.u32();
            assert_eq!(c.u32(), 1, "PINHOLE");
            let size = [c.u64(), c.u64()];
            read.cameras.push((id, size, c.floats(4)));
        }
        let mut c2 = Bytes(images);
        for _ in 0..c2.u64() {
            let id = c2.u32();
            let pose = c2.floats(7);
            let camera = c2.u32();
            let name = c2.name();
            let points = (0..c2.u64())
                .map(|_| {
                    let xy = c2.floats(2);
                    ([xy[0], xy[1]], c2.u64())
                })
                .collect();
            read.images.push(ReadImage {
                id,
                camera,
                name,
                pose,
                points,
            });
        }
        let mut c3 = Bytes(points);
        for _ in 0..c3.u64() {
            let id = c3.u64();
            let position = c3.floats(3);
            let color = c3.take(3).iter().map(|&b| u64::from(b)).collect();
            let error = c3.floats(1)[0];
            assert_eq!(c3.u64(), 1, "track length");
            let track = [c3.u32(), c3.u32()];
            read.points.push(ReadPoint {
                id,
                position,
                color,
                error,
                track,
            });
        }
        assert!(c.0.is_empty() && c2.0.is_empty() && c3.0.is_empty());
        read
    }

    fn text(cameras: &str, images: &str, points: &str) -> Self {
        let lines = |text: &str| -> Vec<Vec<String>> {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect()
        };
        let float = |word: &String| word.parse::<f64>().unwrap();
        let whole = |word: &String| word.parse::<u64>().unwrap();
        let floats = |words: &[String]| words.iter().map(float).collect::<Vec<_>>();
        Self {
            cameras: lines(cameras)
                .iter()
                .map(|w| {
                    assert_eq!(w[1], "PINHOLE");
                    (whole(&w[0]), [whole(&w[2]), whole(&w[3])], floats(&w[4..]))
                })
                .collect(),
            images: lines(images)
                .chunks(2)
                .map(|pair| {
                    assert_eq!(pair[0].len(), 10);
                    ReadImage {
                        id: whole(&pair[0][0]),
                        camera: whole(&pair[0][8]),
                        name: pair[0][9].clone(),
                        pose: floats(&pair[0][1..8]),
                        points: pair[1]
                            .chunks(3)
                            .map(|p| ([float(&p[0]), float(&p[1])], whole(&p[2])))
                            .collect(),
                    }
                })
                .collect(),
            points: lines(points)
                .iter()
                .map(|w| {
                    assert_eq!(w.len(), 10);
                    ReadPoint {
                        id: whole(&w[0]),
                        position: floats(&w[1..4]),
                        color: w[4..7].iter().map(whole).collect(),
                        error: float(&w[7]),
                        track: [whole(&w[8]), whole(&w[9])],
                    }
                })
                .collect(),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u64 {
        u32::from_le_bytes(self.take(4).try_into().unwrap()).into()
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn floats(&mut self, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| f64::from_le_bytes(self.take(8).try_into().unwrap()))
            .collect()
    }

    fn name(&mut self) -> String {
        let end = self.0.iter().position(|b| *b == 0).unwrap();
        let name = String::from_utf8(self.take(end).to_vec()).unwrap();
        self.take(1);
        name
    }
}

/// world -> camera by COLMAP's (w, x, y, z, tx, ty, tz).
fn camera_from_world(pose: &[f64]) -> Affine {
    let [w, x, y, z] = [pose[0], pose[1], pose[2], pose[3]];
    Affine([
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - w * z),
            2.0 * (x * z + w * y),
            pose[4],
        ],
        [
            2.0 * (x * y + w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - w * x),
            pose[5],
        ],
        [
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
            1.0 - 2.0 * (x * x + y * y),
            pose[6],
        ],
    ])
}

#[test]
fn both_forms_hold_the_same_model() {
    let scene = build(PredictionMode::PointmapRegression, FrameFilter::All);
    let points = fixture::points(&scene);
    let originals = originals();
    let model = Model::new(&scene, &points, &originals).unwrap();
    let (binary, mut text) = write("pointmap", PredictionMode::PointmapRegression, &model);
    assert_eq!(text.images[1].name, "my%20photo%20é.jpg");
    text.images[1].name = "my photo é.jpg".to_owned();
    assert_eq!(binary, text);
    assert_eq!(binary.points.len(), model.len());
    let names: Vec<&str> = binary.images.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["a.png", "my photo é.jpg", "d/c.png"]);
    let sizes: Vec<[u64; 2]> = binary.cameras.iter().map(|c| c.1).collect();
    assert_eq!(sizes, [[1000, 560], [840, 400], [200, 140]]);
}

#[test]
fn every_depth_point_projects_to_its_pixel_of_the_original() {
    let scene = build(PredictionMode::DepthmapAndCamera, FrameFilter::All);
    let points = fixture::points(&scene);
    let originals = originals();
    let model = Model::new(&scene, &points, &originals).unwrap();
    let (read, _) = write("depth", PredictionMode::DepthmapAndCamera, &model);
    for point in &read.points {
        let [image, index] = point.track;
        let image = read.images.iter().find(|i| i.id == image).unwrap();
        let camera = read.cameras.iter().find(|c| c.0 == image.camera).unwrap();
        let (center, id) = image.points[index as usize];
        assert_eq!(id, point.id);
        let p = [point.position[0], point.position[1], point.position[2]];
        let [x, y, z] = camera_from_world(&image.pose).apply(p);
        let k = &camera.2;
        let error = (k[0] * x / z + k[2] - center[0]).hypot(k[1] * y / z + k[3] - center[1]);
        assert!(error <= REPROJECTION_TOLERANCE, "{point:?}: {error}");
        assert!((point.error - error).abs() <= REPROJECTION_TOLERANCE);
        assert!((0.0..camera.1[0] as f64).contains(&center[0]));
        assert!((0.0..camera.1[1] as f64).contains(&center[1]));
    }
}

#[test]
fn points_in_the_padding_are_left_out() {
    let scene = build(PredictionMode::PointmapRegression, FrameFilter::All);
    let points = fixture::points(&scene);
    let originals = originals();
    let model = Model::new(&scene, &points, &originals).unwrap();
    // The second frame has 4 rows of padding above and 4 below, the third 12 columns at the right.
    let kept = |frame: usize, inside: fn([u32; 2]) -> bool| {
        (0..points.len())
            .filter(|&i| points.frame(i) == frame && inside(points.pixel(i)))
            .count()
    };
    let expected =
        kept(0, |_| true) + kept(1, |[_, y]| (4..24).contains(&y)) + kept(2, |[x, _]| x < 30);
    assert_eq!(model.len(), expected);
    assert!(expected < points.len());
}

#[test]
fn one_frame_keeps_its_number_and_name() {
    let scene = build(PredictionMode::DepthmapAndCamera, FrameFilter::One(2));
    let points = fixture::points(&scene);
    let originals = originals();
    let model = Model::new(&scene, &points, &originals).unwrap();
    let (read, _) = write("one_frame", PredictionMode::DepthmapAndCamera, &model);
    assert_eq!(read.images.len(), 1);
    assert_eq!((read.images[0].id, read.images[0].camera), (3, 3));
    assert_eq!(read.images[0].name, "d/c.png");
    assert_eq!(read.images[0].points.len(), read.points.len());
}

#[test]
fn when_nothing_is_kept_the_stand_in_is_no_point() {
    let sky = vec![false; 3 * 28 * 42];
    let scene = scene::build(
        &fixture::predictions(),
        Some(&sky),
        &SceneOptions::default(),
    )
    .unwrap();
    let frames = fixture::frames(Some(&sky));
    let points = scene.points.over(&frames).collect().unwrap();
    let originals = originals();
    let model = Model::new(&scene, &points, &originals).unwrap();
    assert!(model.is_empty());
    let (binary, text) = write("nothing", PredictionMode::PointmapRegression, &model);
    assert_eq!((binary.images.len(), binary.points.len()), (3, 0));
    assert_eq!(text.images.len(), 3);
}

#[test]
fn pictures_that_do_not_fit_the_frames_are_errors() {
    let scene = build(PredictionMode::PointmapRegression, FrameFilter::All);
    let points = fixture::points(&scene);
    let mut originals = originals();
    let e = Model::new(&scene, &points, &originals[..2]).unwrap_err();
    assert!(matches!(
        e,
        ColmapError::Count {
            frames: 3,
            images: 2
        }
    ));
    originals[1].scale_x = 0.0;
    let e = Model::new(&scene, &points, &originals).unwrap_err();
    assert!(matches!(e, ColmapError::Placement { .. }), "{e}");
    originals[1].name = "a.png".to_owned();
    let e = Model::new(&scene, &points, &originals).unwrap_err();
    assert!(matches!(e, ColmapError::DuplicateName { .. }), "{e}");
}

#[test]
fn a_camera_that_is_not_finite_is_an_error() {
    let mut scene = build(PredictionMode::PointmapRegression, FrameFilter::All);
    scene.views[1].camera_from_world.0[0][3] = f64::NAN;
    let points = fixture::points(&scene);
    let originals = originals();
    let e = Model::new(&scene, &points, &originals).unwrap_err();
    assert!(matches!(e, ColmapError::Camera { frame: 1 }), "{e}");
}
