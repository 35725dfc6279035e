//! The pixels of one frame that can become points.

use std::borrow::Cow;

use super::{
    PhotoArea, SceneError,
    flat::{Flat, Reading},
    frames::{Field, PredictedFrames},
};

/// The geometry that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Branch {
    /// World points, [H, W, 3] for each frame.
    pub(crate) positions: Field,
    /// Their confidence, [H, W] for each frame; `None` stands for 1 everywhere.
    pub(crate) confidence: Option<Field>,
}

/// A pixel whose position and confidence are finite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixel {
    /// row * width + column.
    pub(crate) index: usize,
    /// World space, scene units.
    pub(crate) position: [f32; 3],
    /// 0 where it is masked.
    pub(crate) confidence: f32,
}

/// Positions and confidence of the pixels of one frame, in raster order.
struct Geometry<'a> {
    positions: &'a [f32],
    confidence: Option<&'a [f32]>,
    keep: Option<&'a [bool]>,
    photo: PhotoArea,
    width: usize,
}

impl Geometry<'_> {
    /// Returns the pixel, unless its confidence or position is not finite.
    fn pixel(&self, index: usize) -> Option<Pixel> {
        let p = &self.positions[3 * index..3 * index + 3];
        let position = [p[0], p[1], p[2]];
        let confidence = self.confidence.map_or(1.0, |c| c[index]);
        if !confidence.is_finite() || position.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let masked = self.keep.is_some_and(|keep| !keep[index]);
        Some(Pixel {
            index,
            position,
            confidence: if masked { 0.0 } else { confidence },
        })
    }

    /// Returns the finite pixels of the photo in raster order.
    fn pixels(&self) -> impl Iterator<Item = Pixel> {
        let row = move |row: usize| self.photo.columns().map(move |c| row * self.width + c);
        let indices = self.photo.rows().flat_map(row);
        indices.filter_map(move |index| self.pixel(index))
    }
}

/// Reads the geometry of the frame `index` and passes each pixel that is finite and lies in the photo to `each`, in raster order.
///
/// # Errors
/// When the frame cannot be read, or `each` fails.
pub(crate) fn for_each_pixel(
    frames: &dyn PredictedFrames,
    index: usize,
    branch: Branch,
    each: impl FnMut(Pixel) -> Result<(), SceneError>,
) -> Result<(), SceneError> {
    let (height, width) = frames.size();
    let positions = Flat::read_from(frames, index, branch.positions)?;
    let confidence = branch
        .confidence
        .map(|field| Flat::read_from(frames, index, field))
        .transpose()?;
    let (positions, confidence) = (positions.read(), confidence.as_ref().map(Flat::read));
    let keep = mask(frames, index, height * width)?;
    let geometry = Geometry {
        positions: positions.values()?,
        confidence: confidence.as_ref().map(Reading::values).transpose()?,
        keep: keep.as_deref(),
        photo: frames.photo_area(index).within(height, width),
        width,
    };
    geometry.pixels().try_for_each(each)
}

/// Returns the mask of a frame, if it has one of the right size.
fn mask(
    frames: &dyn PredictedFrames,
    index: usize,
    pixels: usize,
) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
    match frames.keep(index)? {
        Some(keep) if keep.len() != pixels => Err(SceneError::Shape {
            name: "keep mask",
            expected: vec![pixels],
            found: vec![keep.len()],
        }),
        keep => Ok(keep),
    }
}
