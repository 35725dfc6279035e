//! Trajectories of SLAM benchmarks: TUM's text. See `trajectory.rs` for the format.

use std::path::Path;

use super::{
    CamerasError, Keys, KnownCamera, KnownCameras, MAX_CAMERAS, inverse, lines::Lines, pose,
};

/// Cameras as a visual-inertial system logs them come 200 times in a second; an hour of it.
const MAX_POSES: usize = 8 * MAX_CAMERAS;

pub(super) fn read(path: &Path) -> Result<KnownCameras, CamerasError> {
    let mut lines = Lines::open(path)?;
    let (mut cameras, mut seconds) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next()? {
        if line.is_comment() {
            continue;
        }
        let mut words = line
            .text
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty());
        let stamp = words.next().unwrap_or_default();
        seconds.push(line.number(stamp, "timestamp")?);
        let mut number = |what: &str| line.next_number(&mut words, what);
        let position = [number("tx")?, number("ty")?, number("tz")?];
        let [x, y, z, w] = [number("qx")?, number("qy")?, number("qz")?, number("qw")?];
        if words.next().is_some() {
            return Err(line.fail("expected timestamp tx ty tz qx qy qz qw, got more numbers"));
        }
        let world_from_camera = pose([w, x, y, z], position).map_err(|why| line.fail(why))?;
        if cameras.len() == MAX_POSES {
            return Err(line.fail(format!("more than {MAX_POSES} poses")));
        }
        cameras.push(KnownCamera {
            name: stamp.to_owned(),
            lens: None,
            camera_from_world: Some(inverse(&world_from_camera)),
        });
    }
    Ok(KnownCameras {
        format: "tum",
        cameras,
        keys: Keys::Seconds(seconds),
    })
}
