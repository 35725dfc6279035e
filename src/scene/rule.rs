//! Which pixels of a frame become points.

use std::sync::Arc;

use super::{
    SceneError, edges, filter,
    flat::Flat,
    frames::{Field, PredictedFrames},
    geometry::{Branch, Pixel, for_each_pixel},
    mask,
    outliers::Outliers,
};

/// Which pixels become points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) branch: Branch,
    /// Lowest confidence that is kept.
    pub(crate) threshold: f32,
    pub(crate) mask_black_bg: bool,
    pub(crate) mask_white_bg: bool,
    /// Drops pixels at steps of the depth.
    pub(crate) drop_edges: bool,
    /// Drops these, after everything else; shared, since plans are cloned.
    pub(crate) outliers: Option<Arc<Outliers>>,
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
    let at_step = match rule.drop_edges {
        true => Some(edges::of_frame(frames, index, rule.branch.positions)?),
        false => None,
    };
    let at_step = |pixel: &Pixel| at_step.as_ref().is_some_and(|flags| flags[pixel.index]);
    let mut outliers = rule.outliers.as_deref().map(Outliers::test);
    for_each_pixel(frames, index, rule.branch, |pixel| {
        if !rule.keeps_confidence(pixel.confidence) || at_step(&pixel) {
            return Ok(());
        }
        // numpy: (images * 255).astype(np.uint8), which truncates and does not round.
        let value = |image: &[f32], c: usize| (image[c * plane + pixel.index] * 255.0) as u8;
        let color = image.map_or([0; 3], |image| [0, 1, 2].map(|c| value(image, c)));
        if rule.needs_color() && !rule.keeps_color(color) {
            return Ok(());
        }
        if outliers
            .as_mut()
            .is_some_and(|outliers| outliers.is_outlier(pixel.position))
        {
            return Ok(());
        }
        each(pixel, color)
    })
}
