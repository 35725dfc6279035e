//! GLB files, read back with a reader of their own. Everything written here also goes through the Khronos
//! validator: `tools/checks/validate_glb` on the folder `glb` below Cargo's temporary folder.

use std::{fs, path::PathBuf};

use serde_json::Value;
use vggt::{
    glb::{self, ColorSpace, GlbEncoding, GlbOptions, Orientation},
    scene::{self, PredictedFrames, Scene, SceneOptions},
};

use crate::support::{
    glb::{Glb, provenance},
    scene as fixture,
};

/// In sRGB codes: the darkest ones lie 19.9 steps of 16-bit linear light apart, so rounding costs 0.026 of one.
const SRGB_TOLERANCE: f64 = 0.03;

const PLAIN: GlbOptions = GlbOptions {
    color_space: ColorSpace::Linear,
    encoding: GlbEncoding::Plain,
    orientation: Orientation::Script,
};

fn write(name: &str, scene: &Scene, options: GlbOptions) -> Glb {
    write_over(name, scene, &fixture::frames(None), options)
}

fn write_over(name: &str, scene: &Scene, frames: &dyn PredictedFrames, options: GlbOptions) -> Glb {
    let mut bytes = Vec::new();
    let written = glb::write(scene, frames, &provenance(), options, &mut bytes).unwrap();
    let expected = glb::Written {
        bytes: bytes.len() as u64,
        points: scene.points.len(),
        thinned: None,
    };
    assert_eq!(written, expected);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("glb");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.glb")), &bytes).unwrap();
    Glb::parse(&bytes)
}

fn srgb_from_linear(linear: f64) -> f64 {
    if linear <= 0.0031308 {
        linear * 12.92
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    }
}

#[test]
fn points_and_cameras_come_back_as_they_went_in() {
    let scene = fixture::build("cameras");
    let points = fixture::points(&scene);
    let glb = write("cameras", &scene, PLAIN);
    assert_eq!(glb.primitive("points")["mode"], 0);
    let positions = glb.attribute("points", "POSITION");
    let expected: Vec<_> = points
        .positions
        .iter()
        .map(|p| p.map(f64::from).to_vec())
        .collect();
    assert_eq!(positions, expected);
    for (color, expected) in glb
        .attribute("points", "COLOR_0")
        .iter()
        .zip(&points.colors)
    {
        for channel in 0..3 {
            let code = srgb_from_linear(color[channel]) * 255.0;
            assert!((code - f64::from(expected[channel])).abs() < SRGB_TOLERANCE);
        }
        assert_eq!(color[3], 1.0);
    }
    for camera in &scene.cameras {
        let name = format!("camera {}", camera.frame);
        let expected: Vec<_> = camera
            .vertices
            .iter()
            .map(|p| p.map(f64::from).to_vec())
            .collect();
        assert_eq!(glb.attribute(&name, "POSITION"), expected);
        let indices = glb.accessor(&glb.primitive(&name)["indices"]);
        assert_eq!(indices.len(), 3 * 40);
    }
}

#[test]
fn srgb_colors_and_the_transform_are_what_the_python_service_writes() {
    let scene = fixture::build("cameras");
    let options = GlbOptions {
        color_space: ColorSpace::Srgb,
        ..PLAIN
    };
    let ours = write("cameras_srgb", &scene, options);
    let theirs = Glb::parse(&fs::read(fixture::data("cameras.glb")).unwrap());
    let pairs = [
        ("points", "geometry_0"),
        ("camera 0", "geometry_1"),
        ("camera 2", "geometry_3"),
    ];
    for (our, their) in pairs {
        assert_eq!(
            ours.attribute(our, "COLOR_0"),
            theirs.attribute(their, "COLOR_0")
        );
    }
    assert_eq!(
        ours.attribute("points", "POSITION"),
        theirs.attribute("geometry_0", "POSITION")
    );
    let matrix = |node: &Value| -> Vec<f32> {
        let numbers = node["matrix"].as_array().unwrap();
        numbers.iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let (a, b) = (
        matrix(ours.node("scene")),
        matrix(theirs.node("geometry_0")),
    );
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= f32::EPSILON, "{a} is not {b}");
    }
}

/// The matrix of a node, row by row.
fn matrix(node: &Value) -> [[f64; 4]; 4] {
    let numbers: Vec<f64> = serde_json::from_value(node["matrix"].clone()).unwrap();
    [0, 1, 2, 3].map(|row| [0, 1, 2, 3].map(|column| numbers[4 * column + row]))
}

#[test]
fn facing_as_gltf_has_it_the_first_camera_stands_at_the_origin_and_looks_along_minus_z() {
    let scene = fixture::build("cameras");
    let options = GlbOptions {
        orientation: Orientation::Gltf,
        ..PLAIN
    };
    let glb = write("cameras_gltf", &scene, options);
    let root = matrix(glb.node("scene"));
    let first = glb.json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["camera"] == 0);
    let camera = matrix(first.unwrap());
    for (row, from_root) in root.iter().enumerate() {
        for column in 0..4 {
            let found: f64 = from_root
                .iter()
                .zip(&camera)
                .map(|(a, b)| a * b[column])
                .sum();
            let expected = f64::from(row == column);
            // The matrices are of F32, and the fixture's camera is a rotation to as many digits.
            assert!((found - expected).abs() < 1e-5, "{row} {column}: {found}");
        }
    }
    let axes = glb.json["asset"]["extras"]["axes"].as_str().unwrap();
    assert!(axes.starts_with("x right, y up, z back"), "{axes}");
}

#[test]
fn quantized_positions_are_within_half_a_step() {
    for (name, color_space, bytes) in [
        ("quantized", ColorSpace::Linear, 16),
        ("quantized_srgb", ColorSpace::Srgb, 12),
    ] {
        let scene = fixture::build("one_frame");
        let points = fixture::points(&scene);
        let glb = write(
            name,
            &scene,
            GlbOptions {
                color_space,
                encoding: GlbEncoding::Quantized,
                ..PLAIN
            },
        );
        let node = glb.node("points");
        for (found, expected) in glb
            .attribute("points", "POSITION")
            .iter()
            .zip(&points.positions)
        {
            for axis in 0..3 {
                let scale = node["scale"][axis].as_f64().unwrap();
                let back = found[axis] * scale + node["translation"][axis].as_f64().unwrap();
                // Half a step, and the rounding of the scale to f32.
                let most = scale * (0.5 / 65535.0 + f64::from(f32::EPSILON));
                assert!((back - f64::from(expected[axis])).abs() <= most);
            }
        }
        let stride = |i: usize| glb.json["bufferViews"][i]["byteStride"].as_u64().unwrap();
        assert_eq!(stride(0) + stride(1), bytes);
    }
}

#[test]
fn bounds_are_those_of_the_stored_numbers() {
    for encoding in [GlbEncoding::Plain, GlbEncoding::Quantized] {
        let quantized = encoding == GlbEncoding::Quantized;
        let scene = fixture::build("default");
        let options = GlbOptions { encoding, ..PLAIN };
        let glb = write(&format!("default_{quantized}"), &scene, options);
        let accessor = &glb.primitive("points")["attributes"]["POSITION"];
        let numbers = glb.accessor(accessor);
        let accessor = &glb.json["accessors"][accessor.as_u64().unwrap() as usize];
        let unit = if quantized { 65535.0 } else { 1.0 };
        for axis in 0..3 {
            let column = numbers.iter().map(|p| (p[axis] * unit) as f32);
            let low = column.clone().fold(f32::INFINITY, f32::min);
            let high = column.fold(f32::NEG_INFINITY, f32::max);
            let bound = |which: &str| accessor[which][axis].as_f64().unwrap() as f32;
            assert_eq!((bound("min"), bound("max")), (low, high));
        }
    }
}

#[test]
fn a_single_point_is_a_valid_file_in_every_form() {
    let sky = vec![false; 3 * 28 * 42];
    let options = SceneOptions {
        show_cam: true,
        ..SceneOptions::default()
    };
    let scene = scene::build(&fixture::predictions(), Some(&sky), &options).unwrap();
    for encoding in [GlbEncoding::Plain, GlbEncoding::Quantized] {
        let quantized = encoding == GlbEncoding::Quantized;
        let name = format!("single_{quantized}");
        let (frames, options) = (
            fixture::frames(Some(&sky)),
            GlbOptions { encoding, ..PLAIN },
        );
        let glb = write_over(&name, &scene, &frames, options);
        assert_eq!(glb.attribute("points", "COLOR_0"), [[1.0; 4]]);
    }
}

#[test]
fn provenance_travels_in_the_asset() {
    let glb = write("all_frames", &fixture::build("mask_white"), PLAIN);
    let asset = &glb.json["asset"];
    assert_eq!(
        asset["generator"],
        concat!("vggt ", env!("CARGO_PKG_VERSION"))
    );
    let extras = &asset["extras"];
    assert_eq!(extras["unit"], "arbitrary");
    assert_eq!(extras["weights"], "tests");
    assert_eq!(extras["weights_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(extras["frames"], 3);
    assert_eq!(extras["options"]["note"], "line\nbreak");
}
