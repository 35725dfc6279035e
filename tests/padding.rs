//! Padding around a photo is never scene: not in a point count, a format, or a depth map.

use std::{fs, path::Path};

use image::{GenericImageView, ImageReader};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{glb::Glb, repository, summary};

/// Photos of four shapes: landscape, portrait, wide, and a square.
fn shapes(dir: &Path) {
    let frame = image::open(repository("model/demo/frames/frame_00.png")).unwrap();
    let sizes = [
        ("a", 280, 210),
        ("b", 150, 210),
        ("c", 280, 100),
        ("d", 200, 200),
    ];
    for (name, width, height) in sizes {
        let (x, y) = ((280 - width) / 2, (210 - height) / 2);
        let photo = frame.crop_imm(x, y, width, height);
        photo.save(dir.join(format!("{name}.png"))).unwrap();
    }
}

/// Pixels of the network's images that show a photo, from where the maps of `depth.json` say that photos lie.
fn pixels_in_photos(depth: &Value) -> usize {
    let (w, h) = (
        depth["width"].as_u64().unwrap(),
        depth["height"].as_u64().unwrap(),
    );
    let of_map = |map: &Value| {
        let p = |key: &str| map["placement"][key].as_f64().unwrap();
        let inside = |i: u64, offset: f64, extent: f64| {
            let center = i as f64 + 0.5;
            center >= offset && center < offset + extent
        };
        let across = (0..w).filter(|x| inside(*x, p("offset_x"), p("source_width") * p("scale_x")));
        let down = (0..h).filter(|y| inside(*y, p("offset_y"), p("source_height") * p("scale_y")));
        across.count() * down.count()
    };
    depth["maps"].as_array().unwrap().iter().map(of_map).sum()
}

#[test]
fn no_format_and_no_depth_map_holds_a_point_outside_of_its_photo() {
    for mode in ["pad", "crop"] {
        let dir = TempDir::new().unwrap();
        let here = dir.path();
        fs::create_dir(here.join("photos")).unwrap();
        shapes(&here.join("photos"));
        let args = [
            "--demo",
            "photos",
            "--preprocess",
            mode,
            "--conf_thres",
            "0",
            "--max_points",
            "1000000",
            "--out",
            "a.glb",
            "--out",
            "a.ply",
            "--save_depth",
            "depth",
            "--save_predictions",
            "p/",
        ];
        let told = summary(here, &args);
        let depth = fs::read_to_string(here.join("depth/depth.json")).unwrap();
        let depth: Value = serde_json::from_str(&depth).unwrap();
        let expected = pixels_in_photos(&depth);
        let all = 4 * told["height"].as_u64().unwrap() * told["width"].as_u64().unwrap();
        assert!(expected < all as usize, "{mode}: {expected} of {all}");
        for output in told["outputs"].as_array().unwrap() {
            assert_eq!(output["points"], expected, "{mode}");
        }
        let glb = Glb::parse(&fs::read(here.join("a.glb")).unwrap());
        let points = &glb.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"];
        let accessor = &glb.json["accessors"][points.as_u64().unwrap() as usize];
        assert_eq!(accessor["count"], expected);
        let ply = fs::read(here.join("a.ply")).unwrap();
        let header = String::from_utf8_lossy(&ply[..2000.min(ply.len())]).into_owned();
        assert!(
            header.contains(&format!("element vertex {expected}\n")),
            "{header}"
        );

        let mut with_depth = 0;
        for map in depth["maps"].as_array().unwrap() {
            let file = here.join("depth").join(map["file"].as_str().unwrap());
            let gray = ImageReader::open(file).unwrap().decode().unwrap();
            let gray = gray.as_luma16().unwrap();
            with_depth += gray.pixels().filter(|p| p.0[0] > 0).count();
            let color = here.join("depth").join(map["color"].as_str().unwrap());
            let color = ImageReader::open(color).unwrap().decode().unwrap();
            for (x, y, pixel) in gray.enumerate_pixels() {
                assert_eq!(pixel.0[0] == 0, color.get_pixel(x, y).0 == [0, 0, 0, 255]);
            }
        }
        assert_eq!(with_depth, expected, "{mode}");

        // The same from saved predictions, and in the formats that are in the photos' own pixels.
        let saved = [
            "--from_predictions",
            "p/predictions.safetensors",
            "--conf_thres",
            "0",
        ];
        for format in ["colmap", "nerfstudio"] {
            let more = [
                "--max_points",
                "1000000",
                "--format",
                format,
                "--out",
                format,
            ];
            let told = summary(here, &[&saved[..], &more].concat());
            assert_eq!(told["points"], expected, "{mode} {format}");
        }
    }
}

#[test]
fn photos_of_one_shape_keep_every_pixel() {
    let dir = TempDir::new().unwrap();
    let told = summary(dir.path(), &["--demo", "--conf_thres", "0"]);
    assert_eq!(told["points"], 8 * 84 * 112);
    let cropped = summary(
        dir.path(),
        &["--demo", "--conf_thres", "0", "--frame_filter", "3"],
    );
    assert_eq!(cropped["points"], 84 * 112);
}
