//! Which world the positions of a scene are in, and how a viewer shows it.

use serde::{Deserialize, Serialize};

use super::{
    Affine, GLTF_AXES, SceneError, VIEW_AXES, View, WORLD_AXES,
    align::{OPENGL_FROM_OPENCV, node_transform},
};

/// A place on the Earth: WGS 84, as GPS has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Degrees, north is positive.
    pub latitude: f64,
    /// Degrees, east is positive.
    pub longitude: f64,
    /// Meters, as the photos have it: above the sea level or above the ellipsoid.
    pub altitude: f64,
}

/// The world that depths, points and cameras are in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum World {
    /// The network's: the axes of the first frame's camera, roughly.
    #[default]
    Network,
    /// That of known cameras, whatever it is.
    Known,
    /// Level: y is down.
    Level,
    /// On the Earth: x east, y north, z up, meters from an origin.
    EastNorthUp {
        /// Where (0, 0, 0) is.
        origin: Origin,
    },
}

/// Axes of files in the world of known cameras.
const KNOWN_AXES: &str = "those of the known cameras";

/// Axes of files in a level world.
const LEVEL_AXES: &str = "x right, y down along gravity, z forward (OpenCV)";

/// Axes of files in a world on the Earth.
const EARTH_AXES: &str = "x east, y north, z up, meters from the origin";

/// Axes of files for viewers of a level world, as the older script turned them.
const LEVEL_VIEW_AXES: &str = "x left, y up against gravity, z forward, seen from the first shown frame's camera, which is at the origin";

/// Axes of files for viewers of a level world, as glTF has them.
const LEVEL_GLTF_AXES: &str = "x right, y up against gravity, z back, seen from the first shown frame's camera, which is at the origin";

/// Axes of files for viewers of a world on the Earth.
const EARTH_VIEW_AXES: &str = "x east, y up, z south, meters from the origin";

/// East, north, up to glTF's y up.
const GLTF_FROM_EARTH: Affine = Affine([
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, -1.0, 0.0, 0.0],
]);

/// OpenCV's axes to those of the older script: x left, y up, z forward.
const SCRIPT_FROM_OPENCV: Affine = Affine::diagonal(-1.0, -1.0, 1.0);

impl World {
    /// Returns the axes of files that hold positions as they are, for their provenance.
    pub fn axes(self) -> &'static str {
        match self {
            Self::Network => WORLD_AXES,
            Self::Known => KNOWN_AXES,
            Self::Level => LEVEL_AXES,
            Self::EastNorthUp { .. } => EARTH_AXES,
        }
    }

    /// Returns the axes of files for viewers, turned as the older script did.
    pub fn view_axes(self) -> &'static str {
        match self {
            Self::Network | Self::Known => VIEW_AXES,
            Self::Level => LEVEL_VIEW_AXES,
            Self::EastNorthUp { .. } => EARTH_VIEW_AXES,
        }
    }

    /// Returns the axes of files for viewers, turned as glTF has it.
    pub fn gltf_axes(self) -> &'static str {
        match self {
            Self::Network | Self::Known => GLTF_AXES,
            Self::Level => LEVEL_GLTF_AXES,
            Self::EastNorthUp { .. } => EARTH_VIEW_AXES,
        }
    }

    /// Returns whether nothing is known of the world.
    pub fn is_network(&self) -> bool {
        *self == Self::Network
    }

    /// view_from_world: turned as the older script did.
    pub(super) fn view_from_world(self, first: &View) -> Result<Affine, SceneError> {
        match self {
            // The script takes it for granted that the first camera is close to the origin.
            Self::Network => node_transform(first),
            Self::Known => {
                // Fails on a camera that is not finite, as the other does.
                first.world_from_camera()?;
                Ok(SCRIPT_FROM_OPENCV.after(&first.camera_from_world))
            }
            Self::Level => Ok(SCRIPT_FROM_OPENCV.after(&level(first)?)),
            Self::EastNorthUp { .. } => Ok(GLTF_FROM_EARTH),
        }
    }

    /// gltf_from_world: turned as glTF has it.
    pub(super) fn gltf_from_world(self, first: &View) -> Affine {
        match self {
            Self::Network | Self::Known => OPENGL_FROM_OPENCV.after(&first.camera_from_world),
            Self::Level => {
                let level = level(first).unwrap_or(first.camera_from_world);
                OPENGL_FROM_OPENCV.after(&level)
            }
            Self::EastNorthUp { .. } => GLTF_FROM_EARTH,
        }
    }
}

/// camera_from_world of a camera that stands where this one does and faces the same way, held level in a world whose y is down.
fn level(view: &View) -> Result<Affine, SceneError> {
    let world_from_camera = view.world_from_camera()?.0;
    let center = world_from_camera.map(|row| row[3]);
    // Where the photo's right side is, on the ground: it is there also for a camera that looks straight down.
    let [x, z] = [world_from_camera[0][0], world_from_camera[2][0]];
    let length = x.hypot(z);
    // A camera on its side has its heading in its z axis.
    let (x, z) = match length > 0.5 {
        true => (x / length, z / length),
        false => {
            let [forward_x, forward_z] = [world_from_camera[0][2], world_from_camera[2][2]];
            let length = forward_x.hypot(forward_z);
            match length > 0.0 {
                true => (forward_z / length, -forward_x / length),
                false => (1.0, 0.0),
            }
        }
    };
    let rows = [[x, 0.0, z], [0.0, 1.0, 0.0], [-z, 0.0, x]];
    Ok(Affine(rows.map(|[a, b, c]| {
        let shift = a * center[0] + b * center[1] + c * center[2];
        [a, b, c, -shift]
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of some dozen f64 operations on numbers near 1.
    const TOLERANCE: f64 = 1e-12;

    /// A camera at (1, 2, 3), turned by `heading` about the vertical, then pitched down by `pitch`; radians.
    fn view(heading: f64, pitch: f64) -> View {
        let (s, c) = heading.sin_cos();
        // Rows are the camera's right, down and forward in the world, whose y is down.
        let heading = Affine([[c, 0.0, -s, 0.0], [0.0, 1.0, 0.0, 0.0], [s, 0.0, c, 0.0]]);
        let (s, c) = pitch.sin_cos();
        let pitch = Affine([[1.0, 0.0, 0.0, 0.0], [0.0, c, -s, 0.0], [0.0, s, c, 0.0]]);
        let moved = Affine([
            [1.0, 0.0, 0.0, -1.0],
            [0.0, 1.0, 0.0, -2.0],
            [0.0, 0.0, 1.0, -3.0],
        ]);
        View {
            frame: 0,
            camera_from_world: pitch.after(&heading).after(&moved),
            intrinsic: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        }
    }

    fn check_close(found: [f64; 3], expected: [f64; 3]) {
        let pairs = found.into_iter().zip(expected);
        assert!(
            pairs.into_iter().all(|(a, b)| (a - b).abs() < TOLERANCE),
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn a_level_world_keeps_its_vertical_in_both_orientations_whichever_way_the_camera_looks() {
        for (heading, pitch) in [(0.0, 0.0), (0.7, 0.4), (-2.0, 1.55), (3.0, -0.9)] {
            let view = view(heading, pitch);
            let script = World::Level.view_from_world(&view).unwrap();
            let gltf = World::Level.gltf_from_world(&view);
            for map in [script, gltf] {
                check_close(map.apply([1.0, 2.0, 3.0]), [0.0; 3]);
                // Down in the world is down in the file.
                check_close(map.apply([1.0, 3.0, 3.0]), [0.0, -1.0, 0.0]);
            }
            // A step to where the camera faces.
            let ahead = [1.0 + heading.sin(), 2.0, 3.0 + heading.cos()];
            check_close(script.apply(ahead), [0.0, 0.0, 1.0]);
            check_close(gltf.apply(ahead), [0.0, 0.0, -1.0]);
        }
    }

    #[test]
    fn a_camera_on_its_side_keeps_its_heading() {
        let mut on_its_side = view(0.7, 0.0);
        let quarter = Affine([
            [0.0, 1.0, 0.0, 0.0],
            [-1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ]);
        on_its_side.camera_from_world = quarter.after(&on_its_side.camera_from_world);
        let map = World::Level.gltf_from_world(&on_its_side);
        check_close(
            map.apply([1.0 + 0.7_f64.sin(), 2.0, 3.0 + 0.7_f64.cos()]),
            [0.0, 0.0, -1.0],
        );
    }

    #[test]
    fn known_cameras_and_the_earth_have_the_axes_that_they_tell() {
        let view = view(0.7, 0.4);
        let known = World::Known.view_from_world(&view).unwrap();
        check_close(known.apply([1.0, 2.0, 3.0]), [0.0; 3]);
        let forward = view.world_from_camera().unwrap().apply([0.0, 0.0, 2.0]);
        check_close(known.apply(forward), [0.0, 0.0, 2.0]);
        let origin = Origin {
            latitude: 50.0,
            longitude: 8.0,
            altitude: 100.0,
        };
        let earth = World::EastNorthUp { origin }.gltf_from_world(&view);
        check_close(earth.apply([1.0, 2.0, 3.0]), [1.0, 3.0, -2.0]);
    }
}
