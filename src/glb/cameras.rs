//! The frames' cameras as glTF cameras: one node each, named like its image.

use gltf_json::{
    Camera, Index, Node, Root,
    camera::{Perspective, Type},
    validation::Checked::Valid,
};

use super::document::column_major;
use crate::scene::{Scene, View, align::OPENGL_FROM_OPENCV};

/// The near plane, in parts of the scene's scale: glTF requires one above 0.
const NEAR_OF_SCALE: f64 = 1e-3;

/// Adds a camera and a node for each shown frame; the nodes are in world space. A camera without a finite pose or field of view
/// is left out.
pub(super) fn nodes(root: &mut Root, scene: &Scene) -> Vec<Index<Node>> {
    let mut nodes = Vec::with_capacity(scene.views.len());
    for view in &scene.views {
        let (Some(perspective), Ok(pose)) = (perspective(view, scene), view.world_from_camera())
        else {
            continue;
        };
        let camera = root.push(Camera {
            name: Some(scene.name(view.frame)),
            orthographic: None,
            perspective: Some(perspective),
            type_: Valid(Type::Perspective),
            extensions: None,
            extras: None,
        });
        nodes.push(root.push(Node {
            name: Some(scene.name(view.frame)),
            camera: Some(camera),
            // glTF's cameras have OpenGL's axes. The map between them and OpenCV's is its own inverse.
            matrix: column_major(&pose.after(&OPENGL_FROM_OPENCV)),
            ..Node::default()
        }));
    }
    nodes
}

/// Returns the field of view of the network's image; glTF's cameras have no principal point, it is taken as the center.
fn perspective(view: &View, scene: &Scene) -> Option<Perspective> {
    let [width, height] = scene.points.image_size().map(f64::from);
    let [fx, fy] = [view.intrinsic[0][0], view.intrinsic[1][1]];
    let yfov = 2.0 * (height / (2.0 * fy)).atan();
    let aspect_ratio = width / fx / (height / fy);
    let znear = NEAR_OF_SCALE * scene.scale;
    let usable = [yfov, aspect_ratio, znear]
        .iter()
        .all(|x| x.is_finite() && *x > 0.0);
    usable.then(|| Perspective {
        aspect_ratio: Some(aspect_ratio as f32),
        yfov: yfov as f32,
        zfar: None,
        znear: (znear as f32).max(f32::MIN_POSITIVE),
        extensions: None,
        extras: None,
    })
}
