//! Reference scenes: predictions, and the options of each case.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use serde_json::Value;
use vggt::scene::{self, FramesInMemory, PointCloud, Scene, SceneOptions};
use vggt_model::Predictions;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/scene")
        .join(name)
}

/// The predictions that every expected scene was made from: 3 frames of 42 x 28.
pub(crate) fn predictions() -> Predictions {
    let mut t = safetensors::load(data("predictions.safetensors"), &Device::Cpu).unwrap();
    let mut take = |name: &str| t.remove(name).unwrap();
    Predictions {
        images: take("images"),
        pose_enc: Tensor::zeros((3, 9), DType::F32, &Device::Cpu).unwrap(),
        extrinsic: take("extrinsic"),
        intrinsic: take("intrinsic"),
        depth: take("depth"),
        depth_conf: take("depth_conf"),
        world_points: Some(take("world_points")),
        world_points_conf: Some(take("world_points_conf")),
        world_points_from_depth: take("world_points_from_depth"),
        tracks: None,
    }
}

/// The options of an expected scene, by the names the Python service uses.
pub(crate) fn options(case: &str) -> SceneOptions {
    let text = std::fs::read_to_string(data(&format!("{case}.json"))).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let flag = |name: &str| json.get(name).is_some_and(|v| v.as_bool().unwrap());
    SceneOptions {
        conf_thres: json["conf_thres"].as_f64().unwrap() as f32,
        prediction_mode: json["prediction_mode"].as_str().unwrap().parse().unwrap(),
        frame_filter: json["filter_by_frames"].as_str().unwrap().parse().unwrap(),
        mask_black_bg: flag("mask_black_bg"),
        mask_white_bg: flag("mask_white_bg"),
        drop_edges: false,
        drop_outliers: false,
        show_cam: flag("show_cam"),
        max_points: None,
    }
}

pub(crate) fn build(case: &str) -> Scene {
    scene::build(&predictions(), None, &options(case)).unwrap()
}

/// The frames of [`predictions`], with a mask.
pub(crate) fn frames(keep: Option<&[bool]>) -> FramesInMemory {
    FramesInMemory::new(predictions(), keep.map(<[bool]>::to_vec)).unwrap()
}

/// The points of a scene that was built from [`predictions`] without a mask.
pub(crate) fn points(scene: &Scene) -> PointCloud {
    scene.points.over(&frames(None)).collect().unwrap()
}
