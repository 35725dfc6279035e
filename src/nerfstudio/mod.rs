//! nerfstudio's dataset format: `transforms.json` over a folder of images, and the points as PLY.
//!
//! What lives here: the document and the names of the files. What does not: folders, images, and the PLY's bytes. Splat trainers
//! that read it: nerfstudio (splatfacto), and instant-ngp, which ignores the points.
//!
//! Conventions, as nerfstudio's own converter from COLMAP has them:
//! - `transform_matrix` is world_from_camera with OpenGL's camera axes (x right, y up, z backward); the world is the
//!   network's, in which the points are too.
//! - Intrinsics are in pixels of the image, whose pixel centers lie at half numbers; each frame has its own.

use serde_json::{Value, json};

use crate::{
    colmap::{Camera, Model},
    scene::{Provenance, align::OPENGL_FROM_OPENCV},
};

/// The document.
pub const TRANSFORMS: &str = "transforms.json";

/// The points, in world space.
pub const POINTS: &str = "sparse_pc.ply";

/// Returns the document for the cameras of `model`, whose images lie in the folder `images`.
pub fn transforms(model: &Model<'_>, images: &str, provenance: &Provenance) -> String {
    let frames: Vec<Value> = model.cameras().filter_map(|c| frame(&c, images)).collect();
    let document = json!({
        "generator": provenance.generator,
        "provenance": provenance.in_world(),
        "camera_model": match model.cameras().any(|camera| camera.k1 != 0.0) {
            true => "OPENCV",
            false => "PINHOLE",
        },
        "ply_file_path": POINTS,
        "frames": frames,
    });
    format!("{document:#}\n")
}

/// Returns one frame; `None` when the pose has no inverse, which a rotation always has.
fn frame(camera: &Camera<'_>, images: &str) -> Option<Value> {
    let pose = camera
        .camera_from_world
        .inverse()?
        .after(&OPENGL_FROM_OPENCV);
    let mut matrix = pose.0.map(|row| row.to_vec()).to_vec();
    matrix.push(vec![0.0, 0.0, 0.0, 1.0]);
    let [fl_x, fl_y, cx, cy] = camera.pinhole;
    let mut frame = json!({
        "file_path": format!("{images}/{}", camera.name),
        "w": camera.width,
        "h": camera.height,
        "fl_x": fl_x,
        "fl_y": fl_y,
        "cx": cx,
        "cy": cy,
        "transform_matrix": matrix,
    });
    if camera.k1 != 0.0 {
        frame["k1"] = json!(camera.k1);
    }
    Some(frame)
}
