//! The points of a scene, made frame by frame.

use super::{
    PointCloud, SceneError,
    bounds::{Bounds, NO_BOUNDS, bounds_with},
    frames::PredictedFrames,
    plan::PointPlan,
    rule::for_each_kept,
};

/// The points of a scene: its plan, and the frames that it was built from.
///
/// Every method reads the frames one at a time, in order.
#[derive(Clone, Copy)]
pub struct ScenePoints<'a> {
    plan: &'a PointPlan,
    frames: &'a dyn PredictedFrames,
}

/// Which columns are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    Positions,
    Colors,
    All,
}

impl<'a> ScenePoints<'a> {
    pub(super) fn new(plan: &'a PointPlan, frames: &'a dyn PredictedFrames) -> Self {
        Self { plan, frames }
    }

    /// Returns which points these are.
    pub fn plan(&self) -> &PointPlan {
        self.plan
    }

    /// Passes the points to `each`, those of a frame at a time; frames without points are left out.
    ///
    /// # Errors
    /// When a frame cannot be read or has another number of points than before, or when `each` fails.
    pub fn for_each<E: From<SceneError>>(
        &self,
        each: impl FnMut(&PointCloud) -> Result<(), E>,
    ) -> Result<(), E> {
        self.columns(Columns::All, each)
    }

    /// Passes the positions to `each`, those of a frame at a time; see [`ScenePoints::for_each`].
    ///
    /// # Errors
    /// As [`ScenePoints::for_each`].
    pub fn for_each_position<E: From<SceneError>>(
        &self,
        mut each: impl FnMut(&[[f32; 3]]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.columns(Columns::Positions, |cloud| each(&cloud.positions))
    }

    /// Passes the colors to `each`, those of a frame at a time; see [`ScenePoints::for_each`].
    ///
    /// # Errors
    /// As [`ScenePoints::for_each`].
    pub fn for_each_color<E: From<SceneError>>(
        &self,
        mut each: impl FnMut(&[[u8; 3]]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.columns(Columns::Colors, |cloud| each(&cloud.colors))
    }

    /// Returns all points. The memory that this needs grows with their number.
    ///
    /// # Errors
    /// As [`ScenePoints::for_each`].
    pub fn collect(&self) -> Result<PointCloud, SceneError> {
        let mut all = PointCloud::of_images(self.plan.image_size);
        all.reserve(self.plan.len());
        self.for_each(|cloud| {
            all.extend_from(cloud, 0..cloud.len());
            Ok::<(), SceneError>(())
        })?;
        Ok(all)
    }

    /// Returns the smallest and largest position along each axis, world space. Reads the frames only where points were thinned.
    pub(crate) fn bounds(&self) -> Result<Bounds, SceneError> {
        if self.plan.thinning().is_none() {
            return Ok(self.plan.bounds_of_kept());
        }
        let mut bounds = NO_BOUNDS;
        self.for_each_position(|positions| {
            bounds = bounds_with(bounds, positions);
            Ok::<(), SceneError>(())
        })?;
        Ok(bounds)
    }

    /// Returns the number of points of each shown frame, in order.
    pub(crate) fn counts(&self) -> impl Iterator<Item = usize> {
        let thinning = self.plan.thinning();
        let mut start = 0;
        self.plan.kept.iter().map(move |kept| {
            let end = start + *kept as usize;
            let from = std::mem::replace(&mut start, end);
            thinning.map_or(end - from, |thinning| thinning.count(from, end))
        })
    }

    fn columns<E: From<SceneError>>(
        &self,
        columns: Columns,
        mut each: impl FnMut(&PointCloud) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = self.plan;
        if plan.total == 0 {
            return each(&PointCloud::single_white(plan.image_size));
        }
        let mut cloud = PointCloud::of_images(plan.image_size);
        let mut start = 0;
        for (i, (kept, taken)) in plan.kept.iter().zip(self.counts()).enumerate() {
            if taken > 0 {
                self.read(plan.first + i, (start, *kept as usize), columns, &mut cloud)?;
                each(&cloud)?;
            }
            start += *kept as usize;
        }
        Ok(())
    }

    /// Reads the points of one frame into `cloud`; the rule keeps `kept` of them, the first of which has the rank `start`.
    fn read(
        &self,
        index: usize,
        (start, kept): (usize, usize),
        columns: Columns,
        cloud: &mut PointCloud,
    ) -> Result<(), SceneError> {
        let plan = self.plan;
        let plane = u64::from(plan.image_size[0]) * u64::from(plan.image_size[1]);
        let first_source = index as u64 * plane;
        let changed = |found: usize| SceneError::Changed {
            frame: index,
            expected: kept,
            found,
        };
        let mut taken = plan
            .thinning()
            .map(|thinning| thinning.ranks(start).peekable());
        let mut seen = 0;
        cloud.clear();
        let colored = columns != Columns::Positions;
        for_each_kept(self.frames, index, &plan.rule, colored, |pixel, color| {
            let rank = start + seen;
            seen += 1;
            if seen > kept {
                return Err(changed(seen));
            }
            if let Some(taken) = &mut taken
                && taken.next_if_eq(&rank).is_none()
            {
                return Ok(());
            }
            if columns != Columns::Colors {
                cloud.positions.push(pixel.position);
            }
            if colored {
                cloud.colors.push(color);
            }
            if columns == Columns::All {
                cloud.confidence.push(pixel.confidence);
                cloud.source.push(first_source + pixel.index as u64);
            }
            Ok(())
        })?;
        match seen == kept {
            true => Ok(()),
            false => Err(changed(seen)),
        }
    }
}
