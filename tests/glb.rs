//! GLB files, read back with a reader of their own. Everything written here also goes through the Khronos
//! validator: `tools/checks/validate_glb` on the folder `glb` below Cargo's temporary folder.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use vggt::{
    glb::{self, ColorSpace, GlbEncoding, GlbOptions},
    scene::{self, Provenance, Scene, SceneOptions},
};

use crate::scene as fixture;

/// In sRGB codes: the darkest ones lie 19.9 steps of 16-bit linear light apart, so rounding costs 0.026 of one.
const SRGB_TOLERANCE: f64 = 0.03;

pub(crate) fn provenance() -> Provenance {
    Provenance::new(
        "tests",
        Some("00ff".repeat(16)),
        3,
        json!({"conf_thres": 3.0, "note": "line\nbreak"}),
    )
}

const PLAIN: GlbOptions = GlbOptions {
    color_space: ColorSpace::Linear,
    encoding: GlbEncoding::Plain,
};

fn write(name: &str, scene: &Scene, options: GlbOptions) -> Glb {
    let mut bytes = Vec::new();
    let size = glb::write(scene, &provenance(), options, &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("glb");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.glb")), &bytes).unwrap();
    Glb::parse(&bytes)
}

pub(crate) struct Glb {
    pub(crate) json: Value,
    binary: Vec<u8>,
}

impl Glb {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[..4], b"glTF");
        assert_eq!((word(4), word(8)), (2, bytes.len()));
        let json = word(12);
        assert_eq!((&bytes[16..20], json % 4), (&b"JSON"[..], 0));
        let binary = 20 + json;
        assert_eq!(&bytes[binary + 4..binary + 8], b"BIN\0");
        assert_eq!(binary + 8 + word(binary), bytes.len());
        Self {
            json: serde_json::from_slice(&bytes[20..binary]).unwrap(),
            binary: bytes[binary + 8..].to_vec(),
        }
    }

    /// The numbers of an accessor, normalised ones in [0, 1].
    fn accessor(&self, index: &Value) -> Vec<Vec<f64>> {
        let accessor = &self.json["accessors"][index.as_u64().unwrap() as usize];
        let view = &self.json["bufferViews"][accessor["bufferView"].as_u64().unwrap() as usize];
        let number = |v: &Value| v.as_u64().unwrap_or(0) as usize;
        let width = match accessor["type"].as_str().unwrap() {
            "SCALAR" => 1,
            "VEC3" => 3,
            _ => 4,
        };
        let kind = number(&accessor["componentType"]);
        let bytes = [(5121, 1), (5123, 2), (5126, 4)]
            .into_iter()
            .find(|(k, _)| *k == kind)
            .unwrap()
            .1;
        let stride = view["byteStride"]
            .as_u64()
            .map_or(width * bytes, |s| s as usize);
        let start = number(&view["byteOffset"]) + number(&accessor["byteOffset"]);
        let normalized = accessor["normalized"].as_bool().unwrap_or(false);
        (0..number(&accessor["count"]))
            .map(|i| {
                (0..width)
                    .map(|c| {
                        let at = start + i * stride + c * bytes;
                        let b = &self.binary[at..at + bytes];
                        let (value, most) = match bytes {
                            1 => (f64::from(b[0]), 255.0),
                            2 => (
                                f64::from(u16::from_le_bytes(b.try_into().unwrap())),
                                65535.0,
                            ),
                            _ => (f64::from(f32::from_le_bytes(b.try_into().unwrap())), 1.0),
                        };
                        if normalized { value / most } else { value }
                    })
                    .collect()
            })
            .collect()
    }

    fn node(&self, name: &str) -> &Value {
        let nodes = self.json["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["name"] == name).unwrap()
    }

    fn primitive(&self, name: &str) -> &Value {
        let mesh = self.node(name)["mesh"].as_u64().unwrap() as usize;
        &self.json["meshes"][mesh]["primitives"][0]
    }

    fn attribute(&self, name: &str, attribute: &str) -> Vec<Vec<f64>> {
        self.accessor(&self.primitive(name)["attributes"][attribute])
    }
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
    let glb = write("cameras", &scene, PLAIN);
    assert_eq!(glb.primitive("points")["mode"], 0);
    let positions = glb.attribute("points", "POSITION");
    let expected: Vec<_> = scene
        .points
        .positions
        .iter()
        .map(|p| p.map(f64::from).to_vec())
        .collect();
    assert_eq!(positions, expected);
    for (color, expected) in glb
        .attribute("points", "COLOR_0")
        .iter()
        .zip(&scene.points.colors)
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
        encoding: GlbEncoding::Plain,
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

#[test]
fn quantized_positions_are_within_half_a_step() {
    for (name, color_space, bytes) in [
        ("quantized", ColorSpace::Linear, 16),
        ("quantized_srgb", ColorSpace::Srgb, 12),
    ] {
        let scene = fixture::build("one_frame");
        let glb = write(
            name,
            &scene,
            GlbOptions {
                color_space,
                encoding: GlbEncoding::Quantized,
            },
        );
        let node = glb.node("points");
        for (found, expected) in glb
            .attribute("points", "POSITION")
            .iter()
            .zip(&scene.points.positions)
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
        let glb = write(&name, &scene, GlbOptions { encoding, ..PLAIN });
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
