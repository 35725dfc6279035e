//! Points of the first frame that the track head follows: those that a user wants to see, and those that refined cameras rest on.

use candle_core::{Device, Tensor};
use nalgebra::Vector2;
use vggt_model::Tracks;
use vggt_refine::{Gray, corners};

use super::{PipelineError, ReconstructOptions, Spool};

/// Points that are followed for the refinement. Their share of a pass is small; that of the head's maps does not depend on them.
const CORNERS: usize = 256;

/// Weights of red, green and blue in gray: ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Whether the track head runs.
pub(super) fn follows(options: &ReconstructOptions<'_>) -> bool {
    !options.query_points.is_empty() || follows_corners(options)
}

/// Whether it runs for the refinement.
pub(super) fn follows_corners(options: &ReconstructOptions<'_>) -> bool {
    options
        .refine
        .is_some_and(|refinement| refinement.track_head)
}

/// Returns the points to follow as the network takes them, [N, 2]; `None` when there are none. The user's come first.
///
/// # Errors
/// When one of the user's lies outside of the frames, or the first frame cannot be read.
pub(super) fn query_points(
    options: &ReconstructOptions<'_>,
    spool: &Spool,
) -> Result<Option<Tensor>, PipelineError> {
    let (height, width) = (spool.decoded().height, spool.decoded().width);
    let mut points = options.query_points.clone();
    let inside = |[x, y]: &[f32; 2]| {
        (0.0..=(width - 1) as f32).contains(x) && (0.0..=(height - 1) as f32).contains(y)
    };
    if let Some(&[x, y]) = points.iter().find(|point| !inside(point)) {
        return Err(PipelineError::QueryPoint {
            x,
            y,
            width,
            height,
        });
    }
    if follows_corners(options) {
        points.extend(corners_of_first(spool)?);
    }
    if points.is_empty() {
        return Ok(None);
    }
    let shape = (points.len(), 2);
    let points = Tensor::from_slice(points.as_flattened(), shape, &Device::Cpu)?;
    Ok(Some(points))
}

/// Returns corners of the first frame, (x, y) with pixel centers at whole numbers, as the track head has them.
fn corners_of_first(spool: &Spool) -> Result<Vec<[f32; 2]>, PipelineError> {
    let (height, width) = (spool.decoded().height, spool.decoded().width);
    let image: Vec<f32> = spool.images([0])?.flatten_all()?.to_vec1()?;
    let plane = height * width;
    let gray = (0..plane).map(|i| {
        let channels = LUMA.iter().enumerate();
        let sum: f32 = channels
            .map(|(c, weight)| weight * image[c * plane + i])
            .sum();
        // Casts saturate.
        (255.0 * sum).round() as u8
    });
    let gray = Gray::new(width, height, gray.collect());
    let found = gray.map(|gray| corners(&gray, CORNERS)).unwrap_or_default();
    let place = |p: Vector2<f64>| [(p.x - 0.5) as f32, (p.y - 0.5) as f32];
    Ok(found.into_iter().map(place).collect())
}

/// Returns the tracks of the user's points: the first `asked` ones.
pub(super) fn of_user(tracks: &Tracks, asked: usize) -> Result<Option<Tracks>, PipelineError> {
    if asked == 0 {
        return Ok(None);
    }
    Ok(Some(Tracks {
        query_points: tracks.query_points.narrow(0, 0, asked)?,
        track: tracks.track.narrow(1, 0, asked)?.contiguous()?,
        vis: tracks.vis.narrow(1, 0, asked)?.contiguous()?,
        conf: tracks.conf.narrow(1, 0, asked)?.contiguous()?,
    }))
}
