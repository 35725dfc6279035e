//! Which points a scene has, decided before any is made.

use std::ops::Range;

use super::{
    PointCloud, SceneError, SceneOptions,
    bounds::{Bounds, NO_BOUNDS, bounds_with},
    filter,
    frames::PredictedFrames,
    geometry::{Branch, for_each_pixel},
    points::ScenePoints,
    ranks,
    rule::{Rule, for_each_kept},
    thin::Thinning,
};

/// Which points a scene has: of each frame how many, and by which rule. Its size does not depend on the number of points.
///
/// The points are made by [`PointPlan::over`], from the frames that the scene was built from, as often as they are needed.
#[derive(Debug, Clone, PartialEq)]
pub struct PointPlan {
    pub(super) rule: Rule,
    pub(super) image_size: [u32; 2],
    /// Index of the first shown frame.
    pub(super) first: usize,
    /// Number of points that the rule keeps of each shown frame.
    pub(super) kept: Vec<u32>,
    /// Sum of `kept`.
    pub(super) total: usize,
    /// The smallest and largest position of the kept points along each axis, world space.
    bounds: Bounds,
    limit: Option<usize>,
}

impl PointPlan {
    /// Plans the points of the frames in `shown` that `options` keep; also returns the diagonal of the box between the 5th and
    /// 95th percentile of each axis, 1 if no point is kept.
    ///
    /// Reads every frame twice, one at a time: the percentile of the confidence is one over all frames. Long sequences are read
    /// four times.
    pub(super) fn new(
        frames: &dyn PredictedFrames,
        branch: Branch,
        shown: Range<usize>,
        options: &SceneOptions,
    ) -> Result<(Self, f64), SceneError> {
        let (height, width) = frames.size();
        let pixels = height.saturating_mul(width);
        let (Ok(_), Ok(w), Ok(h)) = (
            u32::try_from(pixels),
            u32::try_from(width),
            u32::try_from(height),
        ) else {
            return Err(SceneError::TooManyPixels { pixels });
        };
        let most = shown.len().saturating_mul(pixels);
        let mut plan = Self {
            rule: Rule {
                branch,
                threshold: 0.0,
                mask_black_bg: options.mask_black_bg,
                mask_white_bg: options.mask_white_bg,
            },
            image_size: [w, h],
            first: shown.start,
            kept: Vec::with_capacity(shown.len()),
            total: 0,
            bounds: NO_BOUNDS,
            limit: options.max_points,
        };
        plan.rule.threshold =
            confidence_threshold(frames, branch, shown.clone(), most, options.conf_thres)?;

        let (mut kept, mut bounds) = (Counts::default(), NO_BOUNDS);
        let rule = plan.rule.clone();
        let axes = ranks::percentiles(filter::BOX_PERCENTILES, most, &mut |each| {
            let mut positions = Vec::new();
            kept.start_pass();
            for index in shown.clone() {
                positions.clear();
                for_each_kept(frames, index, &rule, false, |pixel, _| {
                    positions.push(pixel.position);
                    Ok(())
                })?;
                kept.add(index, positions.len())?;
                bounds = bounds_with(bounds, &positions);
                each(&positions);
            }
            Ok(())
        })?;
        plan.kept = kept.into_counts();
        plan.total = plan.kept.iter().map(|n| *n as usize).sum();
        plan.bounds = bounds;
        Ok((plan, axes.map_or(1.0, filter::diagonal)))
    }

    /// Returns the number of points, at least 1: those that are kept, thinned to the limit, or the placeholder.
    pub fn len(&self) -> usize {
        self.total.min(self.limit.unwrap_or(usize::MAX)).max(1)
    }

    /// Returns false: there always is a point.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns the number of points that pass the filters, before they are thinned.
    pub fn kept(&self) -> usize {
        self.total
    }

    /// Returns the limit on the number of points that the options set.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Returns the plan with at most `limit` points, evenly, in place of the limit that it had.
    #[must_use]
    pub fn limited(&self, limit: usize) -> Self {
        Self {
            limit: Some(limit),
            ..self.clone()
        }
    }

    /// Returns the width and height of the network's input images in pixels.
    pub fn image_size(&self) -> [u32; 2] {
        self.image_size
    }

    /// Returns the points, over the frames that the scene was built from.
    pub fn over<'a>(&'a self, frames: &'a dyn PredictedFrames) -> ScenePoints<'a> {
        ScenePoints::new(self, frames)
    }

    /// Returns the bounds of all points that pass the filters, which include those that are left when they are thinned.
    pub(crate) fn bounds_of_kept(&self) -> Bounds {
        match self.total {
            0 => bounds_with(
                NO_BOUNDS,
                &PointCloud::single_white(self.image_size).positions,
            ),
            _ => self.bounds,
        }
    }

    pub(super) fn thinning(&self) -> Option<Thinning> {
        let limit = self.limit.filter(|limit| *limit < self.total)?;
        Some(Thinning::new(self.total, limit))
    }
}

/// Numbers of points of each frame, which must be the same in every pass.
#[derive(Default)]
struct Counts {
    counts: Vec<u32>,
    /// Frames that this pass has counted.
    next: usize,
}

impl Counts {
    fn start_pass(&mut self) {
        self.next = 0;
    }

    /// Adds the count of the next frame, or compares it with the one of the pass before.
    fn add(&mut self, frame: usize, count: usize) -> Result<(), SceneError> {
        match self.counts.get(self.next) {
            Some(expected) if *expected as usize != count => {
                return Err(SceneError::Changed {
                    frame,
                    expected: *expected as usize,
                    found: count,
                });
            }
            Some(_) => {}
            // A frame has fewer than 2^32 pixels.
            None => self.counts.push(count as u32),
        }
        self.next += 1;
        Ok(())
    }

    fn into_counts(self) -> Vec<u32> {
        self.counts
    }
}

/// Returns the lowest confidence that is kept when `percent` of the points are dropped.
fn confidence_threshold(
    frames: &dyn PredictedFrames,
    branch: Branch,
    shown: Range<usize>,
    most: usize,
    percent: f32,
) -> Result<f32, SceneError> {
    if percent == 0.0 {
        return Ok(0.0);
    }
    let mut counts = Counts::default();
    let found = ranks::percentiles([f64::from(percent)], most, &mut |each| {
        let mut values = Vec::new();
        counts.start_pass();
        for index in shown.clone() {
            values.clear();
            for_each_pixel(frames, index, branch, |pixel| {
                values.push([pixel.confidence]);
                Ok(())
            })?;
            counts.add(index, values.len())?;
            each(&values);
        }
        Ok(())
    })?;
    Ok(found.map_or(0.0, |[[threshold]]| threshold))
}
