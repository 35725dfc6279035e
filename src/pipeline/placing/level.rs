//! Which way is up: people hold cameras level, whichever way they look.

use std::fmt;

use nalgebra::{Matrix3, Unit, UnitQuaternion, Vector3};
use serde_json::{Value, json};

use super::{PlacingError, geometry::median};
use crate::scene::{SceneError, View};

/// Weight of the cameras' own up beside their right sides: it decides where all look the same way, and is too light to tilt a scene
/// that is seen from above.
const OWN_UP: f64 = 0.01;
/// Rolls below this count alike, radians: hands are not steadier.
const STEADY_RAD: f64 = 0.02;
/// Rounds of weighting. The direction settles within a few.
const ROUNDS: usize = 30;
/// Rolls of a camera, in the median, at which the direction is doubtful, degrees.
const DOUBTFUL_DEG: f64 = 10.0;

/// How well the cameras agree on what is up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelReport {
    /// Median roll of the cameras, degrees.
    pub median_roll_deg: f64,
    /// How far the scene was turned, degrees.
    pub turned_deg: f64,
}

impl LevelReport {
    /// Returns whether the cameras were hardly held level.
    pub fn is_doubtful(&self) -> bool {
        self.median_roll_deg > DOUBTFUL_DEG
    }

    /// Returns it as JSON.
    pub fn to_json(&self) -> Value {
        json!({"median_roll_deg": self.median_roll_deg, "turned_deg": self.turned_deg})
    }
}

impl fmt::Display for LevelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median_roll_deg,
            turned_deg,
        } = self;
        write!(
            f,
            "leveled: turned by {turned_deg:.1} degrees, cameras roll by {median_roll_deg:.1} degrees (median)"
        )
    }
}

/// Returns the turn after which y is down in the world.
///
/// # Errors
/// When a camera is not finite, or the cameras tell no direction.
pub(super) fn level(
    views: &[View],
) -> Result<(UnitQuaternion<f64>, LevelReport), super::PipelineError> {
    let (up, median_roll_deg) = up(views)?;
    let target = -Vector3::y();
    let turn = UnitQuaternion::rotation_between(&up, &target)
        // Upside down: any half turn about a horizontal axis.
        .unwrap_or_else(|| {
            UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI)
        });
    let report = LevelReport {
        median_roll_deg,
        turned_deg: turn.angle().to_degrees(),
    };
    Ok((turn, report))
}

/// Returns the direction in the world that is up, and the median roll of the cameras, degrees.
pub(super) fn up(views: &[View]) -> Result<(Unit<Vector3<f64>>, f64), super::PipelineError> {
    let axes = views.iter().map(|view| {
        let m = view.world_from_camera()?.0;
        let axis = |c: usize| Vector3::new(m[0][c], m[1][c], m[2][c]);
        Ok::<_, SceneError>((axis(0), -axis(1)))
    });
    let axes = axes.collect::<Result<Vec<_>, _>>()?;
    let own: Vector3<f64> = axes.iter().map(|(_, up)| up).sum::<Vector3<f64>>() / axes.len() as f64;
    let mut up = Unit::try_new(own, 1e-6).ok_or(PlacingError::NoUp)?;
    for _ in 0..ROUNDS {
        // The mean of absolute sines, as weighted squares: a camera on its side pulls no harder than any other.
        let (mut moments, mut weights) = (Matrix3::zeros(), 0.0);
        for (right, _) in &axes {
            let weight = 1.0 / right.dot(&up).abs().max(STEADY_RAD);
            moments += right * right.transpose() * weight;
            weights += weight;
        }
        let system = moments / weights + Matrix3::identity() * OWN_UP;
        let solved = system.try_inverse().map(|inverse| inverse * own);
        let next = solved.and_then(|next| Unit::try_new(next, 1e-9));
        up = next.ok_or(PlacingError::NoUp)?;
    }
    let rolls = axes
        .iter()
        .map(|(right, _)| right.dot(&up).abs().min(1.0).asin().to_degrees());
    let roll = median(&mut rolls.collect::<Vec<f64>>()).unwrap_or_default();
    match roll.is_finite() {
        true => Ok((up, roll)),
        false => Err(PlacingError::NoUp.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pipeline::placing::geometry::affine, scene::Affine};
    use nalgebra::Isometry3;

    /// A camera with y down in the world, turned by `heading`, pitched down and rolled, in a world that is turned by `tilt`; radians.
    fn view([heading, pitch, roll]: [f64; 3], tilt: Vector3<f64>) -> View {
        let world_from_camera = UnitQuaternion::from_scaled_axis(tilt)
            * UnitQuaternion::from_axis_angle(&Vector3::y_axis(), heading)
            * UnitQuaternion::from_axis_angle(&Vector3::x_axis(), -pitch)
            * UnitQuaternion::from_axis_angle(&Vector3::z_axis(), roll);
        let pose =
            Isometry3::from_parts(Vector3::new(heading, 0.2, -1.0).into(), world_from_camera)
                .inverse();
        let camera_from_world: Affine = affine(&pose);
        View {
            frame: 0,
            camera_from_world,
            intrinsic: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        }
    }

    /// Degrees between what was found and the world's true up.
    fn off(angles: impl Iterator<Item = [f64; 3]>, tilt: Vector3<f64>) -> f64 {
        let views: Vec<View> = angles.map(|angles| view(angles, tilt)).collect();
        let (turn, _) = level(&views).unwrap();
        let up = UnitQuaternion::from_scaled_axis(tilt) * -Vector3::y();
        (turn * up).angle(&-Vector3::y()).to_degrees()
    }

    #[test]
    fn a_walk_around_something_seen_from_above_is_leveled() {
        let tilt = Vector3::new(0.5, -0.3, 0.8);
        for part in [1.0, 0.4] {
            // All look down by 40 degrees, and roll by a degree or two.
            let angles = (0..20).map(|i| {
                let i = f64::from(i);
                [
                    i / 20.0 * std::f64::consts::TAU * part,
                    0.7,
                    0.03 * (i * 2.3).sin(),
                ]
            });
            let off = off(angles, tilt);
            assert!(off < 2.5, "{part}: {off}");
        }
    }

    #[test]
    fn cameras_on_their_side_do_not_tilt_the_others() {
        let angles = (0..20).map(|i| {
            let side = if i % 4 == 0 { 1.57 } else { 0.0 };
            [f64::from(i) * 0.5, 0.1, side]
        });
        let off = off(angles, Vector3::new(2.5, 0.2, -0.4));
        assert!(off < 1.0, "{off}");
    }

    #[test]
    fn cameras_that_look_one_way_tell_up_by_their_own() {
        let angles = (0..5).map(|_| [0.4, 0.0, 0.0]);
        let off = off(angles, Vector3::new(-0.2, 0.9, 0.1));
        assert!(off < 0.1, "{off}");
    }

    #[test]
    fn a_world_upside_down_and_cameras_without_an_up_are_no_panic() {
        let upside_down = Vector3::new(std::f64::consts::PI, 0.0, 0.0);
        let found = off((0..4).map(|i| [f64::from(i), 0.0, 0.0]), upside_down);
        assert!(found < 0.1, "{found}");
        let opposed = [[0.0, 0.0, 0.0], [0.0, 0.0, std::f64::consts::PI]];
        let views: Vec<View> = opposed
            .map(|angles| view(angles, Vector3::zeros()))
            .to_vec();
        assert!(level(&views).is_err());
        let mut damaged = view([0.0; 3], Vector3::zeros());
        damaged.camera_from_world.0[0][0] = f64::NAN;
        assert!(level(&[damaged]).is_err());
    }
}
