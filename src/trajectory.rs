//! The cameras' poses as a trajectory: text that evo and the tools of SLAM benchmarks read.
//!
//! | format | line |
//! |---|---|
//! | TUM | `timestamp tx ty tz qx qy qz qw`: position and unit quaternion of the camera in the world; comments after `#` |
//! | KITTI | the 3x4 matrix world_from_camera, row by row; no timestamps and no comments |
//!
//! Axes are the network's: OpenCV (x right, y down, z forward) of the first frame's camera, roughly; the unit is arbitrary, so
//! trajectories are compared after an alignment with scale. TUM:
//! <https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats>, KITTI: the readme of its odometry devkit.

use std::io::{self, Write};

use crate::scene::{Affine, Provenance, Scene, SceneError, quaternion};

/// Format of a trajectory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum TrajectoryFormat {
    /// A line has timestamp, position and quaternion
    Tum,
    /// A line has the 3x4 matrix world_from_camera
    Kitti,
}

/// Why a trajectory cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrajectoryError {
    /// A camera is not finite.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The writer failed.
    #[error("cannot write the trajectory")]
    Io(#[from] io::Error),
}

/// Writes the pose of each shown frame of `scene`, in order. `seconds` has the time of every frame, or is empty where there are none,
/// as of photos: their index is the timestamp then.
///
/// # Errors
/// When a camera has no finite pose, or `out` fails.
pub fn write(
    scene: &Scene,
    seconds: &[f64],
    provenance: &Provenance,
    format: TrajectoryFormat,
    out: &mut impl Write,
) -> Result<(), TrajectoryError> {
    let poses = scene
        .views
        .iter()
        .map(|view| Ok((view.frame, view.world_from_camera()?)));
    // Nothing is written of a trajectory that has no end.
    let poses: Vec<(usize, Affine)> = poses.collect::<Result<_, SceneError>>()?;
    if format == TrajectoryFormat::Tum {
        let stamp = match seconds {
            [] => "index of the image",
            _ => "seconds in the video",
        };
        writeln!(out, "# {}", provenance.in_world().to_line())?;
        writeln!(
            out,
            "# timestamp ({stamp}) tx ty tz qx qy qz qw, world_from_camera"
        )?;
    }
    for (frame, pose) in poses {
        let m = &pose.0;
        match format {
            TrajectoryFormat::Tum => {
                let stamp = seconds.get(frame).copied().unwrap_or(frame as f64);
                let [qw, qx, qy, qz] = quaternion(&pose);
                let [tx, ty, tz] = m.map(|row| row[3]);
                writeln!(out, "{stamp:.6} {tx} {ty} {tz} {qx} {qy} {qz} {qw}")?;
            }
            TrajectoryFormat::Kitti => {
                let numbers: Vec<String> = m.iter().flatten().map(ToString::to_string).collect();
                writeln!(out, "{}", numbers.join(" "))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}
