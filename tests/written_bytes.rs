//! What the writers write, byte for byte, against what they wrote when a scene held all its points in memory.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::support::{glb::Glb, hash, repository, run, text};

/// The part of a file that holds points: what lies around it names the version of the program.
fn points_of(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    match path.extension().and_then(|e| e.to_str()) {
        Some("glb") => Glb::parse(&bytes).binary,
        Some("ply") => {
            let end = b"end_header\n";
            let body = bytes.windows(end.len()).position(|w| w == end).unwrap();
            bytes[body + end.len()..].to_vec()
        }
        _ => bytes,
    }
}

/// Options, and the files that they give with the beginnings of their hashes.
type Written = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

/// The beginnings of SHA-256 sums of what version 0.1.0 wrote when it held all points in memory (commit 76bdca8).
const WRITTEN_FROM_MEMORY: [Written; 8] = [
    (&[], &[("a.glb", "8fac4b7b399ecb4b")]),
    (
        &["--show_cam", "--conf_thres", "20"],
        &[("a.glb", "d91f5e0a5fe0c6f8"), ("a.ply", "227a03133752734b")],
    ),
    (
        &[
            "--prediction_mode",
            "Depthmap and Camera",
            "--conf_thres",
            "50",
            "--format",
            "colmap",
        ],
        &[
            ("a.glb", "b5ff9fa86e21e2a2"),
            ("a.ply", "86e814c4e16fc419"),
            ("d/sparse/0/cameras.bin", "2c24a34c607fc0dc"),
            ("d/sparse/0/images.bin", "2841fedf4d126bf7"),
            ("d/sparse/0/points3D.bin", "392db194dae2a330"),
        ],
    ),
    (
        &["--mask_black_bg", "--glb", "quantized"],
        &[("a.glb", "d144dea5bb48f051"), ("a.ply", "8761f3aa79578d48")],
    ),
    (
        &["--mask_white_bg", "--color_space", "srgb"],
        &[("a.glb", "4a5534fae2a3cf6c")],
    ),
    (
        &["--frame_filter", "1", "--max_points", "4000000000"],
        &[("a.glb", "638ef4e228fcca75"), ("a.ply", "320d25ac41558aff")],
    ),
    (
        &["--max_points", "1000"],
        &[("a.glb", "f04e64ff96ee1396"), ("a.ply", "8499e6b7cd5bfb51")],
    ),
    (
        &[
            "--max_points",
            "500",
            "--conf_thres",
            "0",
            "--format",
            "nerfstudio",
        ],
        &[
            ("a.ply", "d9002a00b9ac5c45"),
            ("d/sparse_pc.ply", "b0bd9971e76c52fe"),
        ],
    ),
];

#[test]
fn every_writer_writes_what_it_wrote_from_memory() {
    let saved = repository("tests/data/scene/predictions.safetensors");
    for (options, expected) in WRITTEN_FROM_MEMORY {
        let dir = TempDir::new().unwrap();
        let mut args = vec!["export", "--from_predictions", text(&saved)];
        args.extend(options);
        let mut outs: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        outs.iter_mut()
            .filter(|name| name.starts_with("d/"))
            .for_each(|name| *name = "d");
        outs.dedup();
        args.extend(outs.iter().flat_map(|out| ["--out", out]));
        run(dir.path(), &args);
        for (name, expected) in expected {
            let found = hash(&points_of(&dir.path().join(name)));
            assert_eq!(&found[..16], *expected, "{name} with {options:?}");
        }
    }
}
