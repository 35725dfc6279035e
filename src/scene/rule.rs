//! Which pixels of a frame become points.

use super::{
    SceneError, filter,
    flat::Flat,
    frames::{Field, PredictedFrames},
    geometry::{Branch, Pixel, for_each_pixel},
    mask,
};

/// Which pixels become points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) branch: Branch,
    /// Lowest confidence that is kept.
    pub(crate) threshold: f32,
    pub(crate) mask_black_bg: bool,
    pub(crate) mask_white_bg: bool,
}

impl Rule {
    fn keeps_confidence(&self, confidence: f32) -> bool {
        confidence >= self.threshold && confidence > filter::MIN_CONFIDENCE
    }

    fn keeps_color(&self, color: [u8; 3]) -> bool {
        !(self.mask_black_bg && mask::is_black(color)
            || self.mask_white_bg && mask::is_white(color))
    }

    fn needs_color(&self) -> bool {
        self.mask_black_bg || self.mask_white_bg
    }
}

/// Passes each pixel of the frame `index` that `rule` keeps to `each`, in raster order, with its color if `colored` or the rule
/// needs it, else with black.
pub(crate) fn for_each_kept(
    frames: &dyn PredictedFrames,
    index: usize,
    rule: &Rule,
    colored: bool,
    mut each: impl FnMut(Pixel, [u8; 3]) -> Result<(), SceneError>,
) -> Result<(), SceneError> {
    let (height, width) = frames.size();
    let plane = height * width;
    let image = match colored || rule.needs_color() {
        true => Some(Flat::read_from(frames, index, Field::Image)?),
        false => None,
    };
    let image = image.as_ref().map(Flat::read);
    let image = image.as_ref().map(|image| image.values()).transpose()?;
    for_each_pixel(frames, index, rule.branch, |pixel| {
        if !rule.keeps_confidence(pixel.confidence) {
            return Ok(());
        }
        // numpy: (images * 255).astype(np.uint8), which truncates and does not round.
        let value = |image: &[f32], c: usize| (image[c * plane + pixel.index] * 255.0) as u8;
        let color = image.map_or([0; 3], |image| [0, 1, 2].map(|c| value(image, c)));
        match rule.needs_color() && !rule.keeps_color(color) {
            true => Ok(()),
            false => each(pixel, color),
        }
    })
}
