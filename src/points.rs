//! A scene's points as one block of little-endian binary, for viewers that put it into a vertex buffer as it is.
//!
//! | offset | type | what |
//! |---|---|---|
//! | 0 | 8 bytes | `VGGTPTS1` |
//! | 8 | `u32` | bytes of this header: 64 |
//! | 12 | `u32` | bytes of a point: 20 |
//! | 16 | `u64` | number of points |
//! | 24 | `u32` | number of frames of the scene |
//! | 28 | `u32` | 0 |
//! | 32 | 3 `f32` | smallest x, y and z |
//! | 44 | 3 `f32` | largest x, y and z |
//! | 56 | `u64` | number of points of the scene, of which these may be a part |
//!
//! Each point is `f32 x y z`, `u8 red green blue`, `u8 confidence`, `u32 frame`. Positions are in world space: x right, y down, z
//! forward of the first camera. Colors are sRGB. The confidence is a rank: the share of the points that are less
//! confident than this one, in 256ths, so that the threshold `t` shows `1 - t / 256` of the points. The frame is counted from 0.

use std::io::{self, Write};

use crate::scene::{
    PredictedFrames, Scene, SceneError,
    ranks::{Ranked, at_ranks},
};

/// What a file begins with.
const MAGIC: &[u8; 8] = b"VGGTPTS1";

/// Bytes of the header and of each point.
const HEADER: u32 = 64;
const STRIDE: u32 = 20;

/// Values of a confidence's byte.
const LEVELS: usize = 256;

/// Points encoded between two writes.
const CHUNK: usize = 8192;

/// Why points cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PointsError {
    /// The points cannot be read.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The writer failed.
    #[error("cannot write the points")]
    Io(#[from] io::Error),
}

/// Writes the points of `scene`, which was built from `frames`, to `out`.
///
/// Reads one frame at a time, several times.
///
/// # Errors
/// When `frames` cannot be read or have changed, or `out` fails.
pub fn write(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    out: &mut impl Write,
) -> Result<(), PointsError> {
    let points = scene.points.over(frames);
    let levels = Levels::of(scene, frames)?;
    let bounds = points.bounds()?;
    let counts = [scene.points.len(), scene.points.kept().max(1)];
    out.write_all(&header(counts, scene.frames, bounds))?;
    points.for_each(|cloud| {
        let mut bytes = Vec::with_capacity(CHUNK * STRIDE as usize);
        for start in (0..cloud.len()).step_by(CHUNK) {
            bytes.clear();
            for i in start..(start + CHUNK).min(cloud.len()) {
                bytes.extend(cloud.positions[i].iter().flat_map(|x| x.to_le_bytes()));
                bytes.extend(cloud.colors[i]);
                bytes.push(levels.of_value(cloud.confidence[i]));
                bytes.extend((cloud.frame(i) as u32).to_le_bytes());
            }
            out.write_all(&bytes)?;
        }
        Ok::<(), PointsError>(())
    })?;
    Ok(out.flush()?)
}

/// Writes the confidence of each point of `scene` to `out`, the byte that [`write()`] gives it.
///
/// # Errors
/// As [`write()`].
pub fn write_confidence(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    out: &mut impl Write,
) -> Result<(), PointsError> {
    let levels = Levels::of(scene, frames)?;
    scene.points.over(frames).for_each(|cloud| {
        let bytes = cloud.confidence.iter().map(|value| levels.of_value(*value));
        Ok(out.write_all(&bytes.collect::<Vec<u8>>())?)
    })
}

fn header([count, total]: [usize; 2], frames: usize, [min, max]: [[f32; 3]; 2]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER as usize);
    bytes.extend(MAGIC);
    bytes.extend(HEADER.to_le_bytes());
    bytes.extend(STRIDE.to_le_bytes());
    bytes.extend((count as u64).to_le_bytes());
    bytes.extend((frames as u32).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    let corners = min.into_iter().chain(max);
    bytes.extend(corners.flat_map(f32::to_le_bytes));
    bytes.extend((total as u64).to_le_bytes());
    bytes
}

/// The confidences at which the byte rises by one.
struct Levels(Vec<f32>);

impl Levels {
    fn of(scene: &Scene, frames: &dyn PredictedFrames) -> Result<Self, SceneError> {
        let ranks = |count: usize| (1..LEVELS).map(|level| level * count / LEVELS).collect();
        let found = at_ranks(ranks, scene.points.len(), &mut |each| {
            let mut rows: Vec<[f32; 1]> = Vec::new();
            scene.points.over(frames).for_each(|cloud| {
                rows.clear();
                rows.extend(cloud.confidence.iter().map(|c| [*c]));
                each(&rows);
                Ok::<(), SceneError>(())
            })
        })?;
        Ok(Self(match found {
            Some(Ranked {
                columns: [levels], ..
            }) => levels,
            None => Vec::new(),
        }))
    }

    /// Returns how many of the levels lie at or below a value, so that equal values have equal bytes.
    fn of_value(&self, confidence: f32) -> u8 {
        // 255 levels at most.
        self.0.partition_point(|level| *level <= confidence) as u8
    }
}
