//! The cameras of a reconstruction as JSON, for programs.

use serde_json::{Value, json};

use super::{PipelineError, Reconstruction, write::original_images};
use crate::{
    colmap::Model,
    frames::Placement,
    scene::{PointCloud, Scene},
};

/// Returns the cameras of the shown frames in the pixels of their original images.
///
/// # Errors
/// When a camera is not finite.
pub fn cameras(made: &Reconstruction) -> Result<Value, PipelineError> {
    cameras_of(made, &made.frames.placements)
}

/// As [`cameras`], in the pixels of the images that `placements` describe.
pub(super) fn cameras_of(
    made: &Reconstruction,
    placements: &[Placement],
) -> Result<Value, PipelineError> {
    let mut cameras = cameras_of_scene(&made.scene, placements)?;
    cameras["unit"] = json!(made.predictions.unit());
    Ok(cameras)
}

/// As [`cameras`], of a scene alone, without the unit.
pub(super) fn cameras_of_scene(
    scene: &Scene,
    placements: &[Placement],
) -> Result<Value, PipelineError> {
    let points = PointCloud::default();
    // Indices tell frames apart: names need not differ here.
    let names: Vec<String> = (0..scene.frames).map(|i| i.to_string()).collect();
    let images = original_images(scene, placements, &names);
    let model = Model::new(scene, &points, &images)?;
    let cameras: Vec<Value> = model
        .cameras()
        .map(|camera| {
            let [fx, fy, cx, cy] = camera.pinhole;
            json!({
                "frame": camera.frame,
                "name": scene.name(camera.frame),
                "width": camera.width,
                "height": camera.height,
                "fx": fx,
                "fy": fy,
                "cx": cx,
                "cy": cy,
                "camera_from_world": camera.camera_from_world.0,
            })
        })
        .collect();
    Ok(json!({
        "axes": scene.world.axes(),
        "pixel_centers": 0.5,
        "cameras": cameras,
    }))
}
