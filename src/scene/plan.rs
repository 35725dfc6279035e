//! Which points a scene has, decided before any is made.

use std::{ops::Range, sync::Arc};

use super::{
    PointCloud, SceneError, SceneOptions,
    bounds::{Bounds, NO_BOUNDS, bounds_with},
    filter,
    frames::PredictedFrames,
    geometry::{Branch, for_each_pixel},
    outliers::{Outliers, SAMPLE},
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
    /// four times, and all twice more to find the outliers.
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
                drop_edges: options.drop_edges,
                outliers: None,
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
        if options.drop_outliers {
            let sample = sample(frames, &plan.rule, shown.clone())?;
            plan.rule.outliers = Some(Arc::new(Outliers::of_sample(sample)));
        }

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

/// Returns the positions of at most [`SAMPLE`] of the points that `rule` keeps, thinned as those of a scene are.
fn sample(
    frames: &dyn PredictedFrames,
    rule: &Rule,
    shown: Range<usize>,
) -> Result<Vec<[f32; 3]>, SceneError> {
    let mut total = 0;
    for index in shown.clone() {
        for_each_kept(frames, index, rule, false, |_, _| {
            total += 1;
            Ok(())
        })?;
    }
    let thinning = Some(Thinning::new(total, SAMPLE)).filter(|_| total > SAMPLE);
    let mut taken = thinning.map(|thinning| thinning.ranks(0).peekable());
    let (mut sample, mut rank) = (Vec::with_capacity(total.min(SAMPLE)), 0);
    for index in shown {
        for_each_kept(frames, index, rule, false, |pixel, _| {
            let is_taken = (taken.as_mut()).is_none_or(|ranks| ranks.next_if_eq(&rank).is_some());
            rank += 1;
            // More than in the first pass is an error of the pass that counts.
            if is_taken && sample.len() < SAMPLE {
                sample.push(pixel.position);
            }
            Ok(())
        })?;
    }
    Ok(sample)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{Field, testing};

    #[test]
    fn the_sample_of_a_large_scene_is_spread_over_its_frames() {
        let rule = Rule {
            branch: Branch {
                positions: Field::WorldPointsFromDepth,
                confidence: Some(Field::DepthConf),
            },
            threshold: 0.0,
            mask_black_bg: false,
            mask_white_bg: false,
            drop_edges: false,
            outliers: None,
        };
        let sampled = |pixels: [usize; 3]| {
            // Without every fifth pixel.
            let confidence = |i| if i % 5 == 0 { 0.0 } else { 1.0 };
            let frames = testing::frames(pixels, |i| [i as f32, 0.0, 1.0], confidence);
            let sample = sample(&frames, &rule, 0..pixels[0]).unwrap();
            sample.iter().map(|p| p[0] as usize).collect::<Vec<_>>()
        };
        let of_small = sampled([2, 10, 10]);
        let expected: Vec<usize> = (0..200).filter(|i| i % 5 > 0).collect();
        assert_eq!(of_small, expected);
        let of_large = sampled([3, 200, 250]);
        assert_eq!(of_large.len(), SAMPLE);
        assert!(of_large.is_sorted() && of_large.iter().all(|i| i % 5 > 0));
        for frame in 0..3 {
            let of_frame = of_large.iter().filter(|i| **i / 50_000 == frame).count();
            assert!(of_frame.abs_diff(SAMPLE / 3) <= 1, "{of_frame}");
        }
    }
}
