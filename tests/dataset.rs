//! COLMAP and nerfstudio datasets as their trainers read them. The rules of gsplat's and nerfstudio's parsers are written out
//! here: which files they open, how they pair names and files, and what they take from each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use image::RgbImage;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{fail, files, repository, run, summary, text};

/// One camera as a trainer sees it, with the pixels of its image.
struct Frame {
    name: String,
    image: RgbImage,
    /// fx, fy, cx, cy in pixels of `image`.
    pinhole: [f64; 4],
    /// Rows of world-to-camera, OpenCV axes.
    camera_from_world: [[f64; 4]; 3],
}

struct Dataset {
    frames: Vec<Frame>,
    points: Vec<([f64; 3], [u8; 3])>,
}

/// Every file below `dir`, with its path from there, sorted as strings.
fn below(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, found),
                false => found.push(text(path.strip_prefix(root).unwrap()).to_owned()),
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Trainers read pixels as they are stored: neither imageio nor PIL turns an image by its EXIF.
fn stored_pixels(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

/// gsplat, examples/datasets/colmap.py: the model is in sparse/0, the images are in `images`; the sorted names of the model's folder
/// of images are paired with the sorted files, and the size of the first image must be the camera's.
fn gsplat(dir: &Path) -> Dataset {
    let read = |name: &str| fs::read_to_string(dir.join("sparse/0").join(name)).unwrap();
    let lines = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect()
    };
    let numbers =
        |words: &[String]| -> Vec<f64> { words.iter().map(|w| w.parse().unwrap()).collect() };
    let cameras: BTreeMap<String, Vec<f64>> = lines(&read("cameras.txt"))
        .iter()
        .map(|words| {
            assert_eq!(words[1], "PINHOLE");
            (words[0].clone(), numbers(&words[2..]))
        })
        .collect();
    let on_disk = below(&dir.join("images"));
    // Two lines for each image.
    let images = lines(&read("images.txt"));
    let mut frames = Vec::new();
    for words in images.iter().step_by(2) {
        assert_eq!(words.len(), 10, "a name holds a blank: {words:?}");
        let (name, camera) = (words[9].clone(), &cameras[&words[8]]);
        assert!(on_disk.contains(&name), "{name} is not in {on_disk:?}");
        let image = stored_pixels(&dir.join("images").join(&name));
        assert_eq!(
            camera[..2],
            [image.width(), image.height()].map(f64::from),
            "{name}"
        );
        frames.push(Frame {
            name,
            image,
            pinhole: [camera[2], camera[3], camera[4], camera[5]],
            camera_from_world: pose(&numbers(&words[1..8])),
        });
    }
    let mut names: Vec<&String> = frames.iter().map(|f| &f.name).collect();
    names.sort();
    assert_eq!(
        on_disk.iter().collect::<Vec<_>>(),
        names,
        "another file would shift the pairs"
    );
    let points = lines(&read("points3D.txt")).into_iter().map(|words| {
        let n = numbers(&words[1..7]);
        ([n[0], n[1], n[2]], [n[3] as u8, n[4] as u8, n[5] as u8])
    });
    Dataset {
        frames,
        points: points.collect(),
    }
}

/// Quaternion w, x, y, z and translation to a matrix.
fn pose(n: &[f64]) -> [[f64; 4]; 3] {
    let [w, x, y, z] = [n[0], n[1], n[2], n[3]];
    [
        [
            1. - 2. * (y * y + z * z),
            2. * (x * y - w * z),
            2. * (x * z + w * y),
            n[4],
        ],
        [
            2. * (x * y + w * z),
            1. - 2. * (x * x + z * z),
            2. * (y * z - w * x),
            n[5],
        ],
        [
            2. * (x * z - w * y),
            2. * (y * z + w * x),
            1. - 2. * (x * x + y * y),
            n[6],
        ],
    ]
}

/// nerfstudio, nerfstudio_dataparser.py: file_path is relative to the document; what is not fixed for all must be in each frame;
/// transform_matrix is camera-to-world in OpenGL's axes; the points are a PLY in the same world.
fn nerfstudio(dir: &Path) -> Dataset {
    let document: Value =
        serde_json::from_slice(&fs::read(dir.join("transforms.json")).unwrap()).unwrap();
    let frames = document["frames"].as_array().unwrap().iter().map(|frame| {
        let number = |key: &str| frame[key].as_f64().unwrap();
        let path = dir.join(frame["file_path"].as_str().unwrap());
        let image = stored_pixels(&path);
        assert_eq!(
            (number("w"), number("h")),
            (image.width().into(), image.height().into())
        );
        let m: Vec<Vec<f64>> = serde_json::from_value(frame["transform_matrix"].clone()).unwrap();
        assert_eq!(m[3], [0.0, 0.0, 0.0, 1.0]);
        // The inverse of a rotation is its transpose; OpenGL's y and z are OpenCV's turned round.
        let row = |c: usize, sign: f64| {
            let r = [m[0][c], m[1][c], m[2][c]];
            let at: f64 = (0..3).map(|k| r[k] * m[k][3]).sum();
            [sign * r[0], sign * r[1], sign * r[2], -sign * at]
        };
        Frame {
            name: text(path.strip_prefix(dir).unwrap()).to_owned(),
            image,
            pinhole: ["fl_x", "fl_y", "cx", "cy"].map(number),
            camera_from_world: [row(0, 1.0), row(1, -1.0), row(2, -1.0)],
        }
    });
    let ply = fs::read(dir.join(document["ply_file_path"].as_str().unwrap())).unwrap();
    let end = ply.windows(11).position(|w| w == b"end_header\n").unwrap() + 11;
    let points = ply[end..].chunks_exact(19).map(|b| {
        let float =
            |i: usize| f64::from(f32::from_le_bytes(b[4 * i..4 * i + 4].try_into().unwrap()));
        ([float(0), float(1), float(2)], [b[12], b[13], b[14]])
    });
    Dataset {
        frames: frames.collect(),
        points: points.collect(),
    }
}

/// Share of the points whose color some image shows where the camera sees the point.
fn seen(dataset: &Dataset) -> f64 {
    let shows = |frame: &Frame, p: &[f64; 3], color: &[u8; 3]| {
        let camera = frame
            .camera_from_world
            .map(|r| r[0] * p[0] + r[1] * p[1] + r[2] * p[2] + r[3]);
        let [fx, fy, cx, cy] = frame.pinhole;
        let (x, y) = (
            fx * camera[0] / camera[2] + cx,
            fy * camera[1] / camera[2] + cy,
        );
        let (w, h) = (
            f64::from(frame.image.width()),
            f64::from(frame.image.height()),
        );
        let inside = camera[2] > 0.0 && (0.0..w).contains(&x) && (0.0..h).contains(&y);
        let pixel = || frame.image.get_pixel(x as u32, y as u32).0;
        let off = |pixel: [u8; 3]| (0..3).map(|c| pixel[c].abs_diff(color[c])).max().unwrap();
        // Points have the color of the smaller image that the network saw.
        inside && off(pixel()) < 24
    };
    let count = dataset
        .points
        .iter()
        .filter(|(p, color)| dataset.frames.iter().any(|f| shows(f, p, color)));
    count.count() as f64 / dataset.points.len() as f64
}

/// A JPEG that EXIF turns: the photo is upright, the pixels lie on their side.
fn turned_jpeg(path: &Path, photo: &RgbImage) {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let stored = image::imageops::rotate270(photo);
    stored
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .unwrap();
    // APP1: Exif, big-endian, one entry: orientation 6, turn by 90 degrees.
    let exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let jpeg = jpeg.into_inner();
    fs::write(path, [&jpeg[..2], exif, &jpeg[2..]].concat()).unwrap();
}

fn frame(i: usize) -> PathBuf {
    repository(&format!("model/demo/frames/frame_{i:02}.png"))
}

#[test]
fn trainers_open_what_is_written_and_see_the_points_where_they_are() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    for (format, parse) in [
        ("colmap", gsplat as fn(&Path) -> Dataset),
        ("nerfstudio", nerfstudio),
    ] {
        let told = summary(here, &["--demo", "--format", format, "--out", format]);
        let dataset = parse(&here.join(format));
        assert_eq!(dataset.frames.len(), 8);
        assert_eq!(told["points"], dataset.points.len());
        assert!(seen(&dataset) > 0.97, "{format}: {}", seen(&dataset));
        // The bundled files themselves.
        let copy = fs::read(here.join(format).join("images/frame_03.png")).unwrap();
        assert!(copy == fs::read(frame(3)).unwrap());
        let bytes: u64 = below(&here.join(format))
            .iter()
            .filter(|name| *name != "vggt.json")
            .map(|name| here.join(format).join(name).metadata().unwrap().len())
            .sum();
        assert_eq!(told["bytes"], bytes);
    }
}

#[test]
fn images_are_upright_and_names_can_be_read_by_all() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::create_dir_all(here.join("left")).unwrap();
    fs::create_dir_all(here.join("right")).unwrap();
    let photo = |i: usize| image::open(frame(i)).unwrap().to_rgb8();
    turned_jpeg(&here.join("left/my photo.jpg"), &photo(0));
    fs::copy(frame(1), here.join("right/my photo.jpg")).unwrap();
    photo(2).save(here.join("left/scan #2.bmp")).unwrap();
    let inputs = [
        "left/my photo.jpg",
        "right/my photo.jpg",
        "left/scan #2.bmp",
    ];
    for (format, parse) in [
        ("colmap", gsplat as fn(&Path) -> Dataset),
        ("nerfstudio", nerfstudio),
    ] {
        let args = [
            &["--demo"][..],
            &inputs,
            &["--format", format, "--out", format],
        ]
        .concat();
        run(here, &[&["export"][..], &args].concat());
        let dataset = parse(&here.join(format));
        let images = below(&here.join(format).join("images"));
        // PNG content under a JPEG name gets the ending of its content.
        let expected = [
            "left/my_photo.jpg",
            "left/scan__2.png",
            "right/my_photo.png",
        ];
        assert_eq!(images, expected);
        for frame in &dataset.frames {
            assert_eq!(frame.image.dimensions(), (280, 210), "{}", frame.name);
        }
        assert!(seen(&dataset) > 0.9, "{format}: {}", seen(&dataset));
    }
}

#[test]
fn frames_of_a_video_are_written() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let clip = repository("model/demo/clip.mp4");
    let args = [
        "export",
        "--demo",
        text(&clip),
        "--fps",
        "5",
        "--max_frames",
        "3",
    ];
    run(
        here,
        &[&args[..], &["--format", "colmap", "--out", "m"]].concat(),
    );
    let dataset = gsplat(&here.join("m"));
    assert_eq!(dataset.frames.len(), 3);
    assert!(seen(&dataset) > 0.9, "{}", seen(&dataset));
}

#[test]
fn a_dataset_has_at_most_the_points_asked_for_spread_over_all_images() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let limited = [
        "--demo",
        "--refine=off",
        "--max_points",
        "800",
        "--format",
        "colmap",
        "--out",
        "m",
    ];
    assert_eq!(summary(here, &limited)["points"], 800);
    let images = fs::read_to_string(here.join("m/sparse/0/images.txt")).unwrap();
    let lines: Vec<&str> = images
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    for points in lines.iter().skip(1).step_by(2) {
        let count = points.split(' ').count() / 3;
        assert!((90..=110).contains(&count), "{count} points of one image");
    }
    // A GLB of the same run is thinned by its own rule.
    let both = summary(here, &[&limited[..], &["--out", "x.glb"]].concat());
    let outputs = both["outputs"].as_array().unwrap();
    assert!(outputs.iter().all(|output| output["points"] == 800));
    assert_eq!(outputs[1]["format"], "glb");
    let alone = ["--demo", "--max_points", "800", "--out", "y.glb"];
    summary(here, &alone);
    let read = |name: &str| fs::read(here.join(name)).unwrap();
    assert!(read("x.glb") == read("y.glb"));
}

#[test]
fn images_of_others_are_kept_and_those_of_earlier_runs_are_not() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    for i in 0..3 {
        fs::copy(frame(i), here.join(format!("{i}.png"))).unwrap();
    }
    fn export<'a>(inputs: &[&'a str]) -> Vec<&'a str> {
        let to = ["--format", "colmap", "--out", "m"];
        [&["export", "--demo"], inputs, &to].concat()
    }
    run(here, &export(&["0.png", "1.png", "2.png"]));
    fs::write(here.join("m/images/mine.txt"), "mine").unwrap();
    run(here, &export(&["0.png", "2.png"]));
    assert_eq!(
        files(&here.join("m/images")),
        ["0.png", "2.png", "mine.txt"]
    );
    // Changed since it was written, so it is the user's now.
    fs::write(here.join("m/images/2.png"), "edited").unwrap();
    fs::write(here.join("m/images/1.png"), "mine too").unwrap();
    let err = fail(here, 1, &export(&["1.png"]));
    assert!(
        err.contains("m/images/1.png") && err.contains("--overwrite"),
        "{err}"
    );
    run(here, &export(&["0.png"]));
    let left = files(&here.join("m/images"));
    assert_eq!(left, ["0.png", "1.png", "2.png", "mine.txt"]);
    assert_eq!(fs::read(here.join("m/images/1.png")).unwrap(), b"mine too");
}

#[test]
fn photos_that_lie_in_the_dataset_already_stay_as_they_are() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::create_dir(here.join("images")).unwrap();
    for i in 0..2 {
        fs::copy(frame(i), here.join(format!("images/{i}.png"))).unwrap();
    }
    let before = fs::metadata(here.join("images/0.png"))
        .unwrap()
        .modified()
        .unwrap();
    let args = [
        "export", "--demo", "images", "--format", "colmap", "--out", ".",
    ];
    run(here, &args);
    run(here, &args);
    assert_eq!(gsplat(here).frames.len(), 2);
    let after = fs::metadata(here.join("images/0.png"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after);
    // Another photo of that name would replace the user's own.
    fs::create_dir(here.join("other")).unwrap();
    fs::copy(frame(5), here.join("other/0.png")).unwrap();
    let other = [
        "export", "--demo", "other", "--format", "colmap", "--out", ".",
    ];
    assert!(fail(here, 1, &other).contains("images/0.png"));
    // A photo that has to be turned cannot be turned in place.
    turned_jpeg(
        &here.join("images/2.jpg"),
        &image::open(frame(2)).unwrap().to_rgb8(),
    );
    let bytes = fs::read(here.join("images/2.jpg")).unwrap();
    assert!(fail(here, 2, &args).contains("it is an input"));
    assert_eq!(fs::read(here.join("images/2.jpg")).unwrap(), bytes);
}

#[test]
fn saved_predictions_make_a_model_without_images_and_say_so() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    run(
        here,
        &["export", "--demo", "--save_predictions", "p.safetensors"],
    );
    let args = [
        "export",
        "--from_predictions",
        "p.safetensors",
        "--format",
        "colmap",
        "--out",
        "m",
    ];
    let output = crate::support::vggt(here, &args);
    assert!(output.status.success());
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("no images were written"), "{err}");
    assert_eq!(files(&here.join("m")), ["sparse", "vggt.json"]);
}
