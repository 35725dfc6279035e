//! The whole refinement: corners, tracks and bundle adjustment, twice, from coarse to fine.

use nalgebra::{Point3, Similarity3};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    bundle::{BundleOptions, Cameras, Observation, Track, adjust},
    camera::{Lens, Pose, in_world},
    follow::{FollowOptions, Scene},
    gray::Pyramid,
    judge::{Refusal, judge},
    similarity::align,
    stopped::Stopped,
    tracks::{counts, drop_outliers, median, median_error, ray_angle, triangulate},
    view::{DepthMap, View},
};

/// The first search goes over this part of the photo's longer side.
const SEARCH: f64 = 0.06;
/// The first search is done where the photo's longer side is about this long, pixels.
const COARSE_SIDE: f64 = 256.0;
/// Corners of each view in the first round, which only has to bring the predictions close.
const COARSE_CORNERS: usize = 150;
/// How far the cameras of the first round may be off in the second, pixels.
const FINE_SEARCH_PX: f64 = 8.0;
/// Views with fewer observations than this keep the predicted camera.
const FEWEST_INLIERS: usize = 64;
/// The largest angle between two rays to a point is at least this, degrees, or the depth of the point is a guess.
const LEAST_ANGLE_DEG: f64 = 1.5;
/// Scale of the loss and the largest error that is kept after it, pixels of the coarse photo: from far off to close.
const COARSE_LOSSES: [(f64, f64); 3] = [(8.0, 24.0), (2.0, 6.0), (1.0, 3.0)];
/// The same in the second round, pixels of the photo.
const FINE_LOSSES: [(f64, f64); 2] = [(2.0, 8.0), (1.0, 4.0)];
/// Maximum number of steps for each loss.
const STEPS: usize = 30;

/// What is refined besides the poses, and how much effort it is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefineOptions {
    /// Refines the focal length of each lens.
    pub focal: bool,
    /// Refines the radial distortion of each lens.
    pub k1: bool,
    /// Corners of each view that are searched in others.
    pub corners: usize,
    /// Other views in which the corners of one are searched.
    pub partners: usize,
}

impl Default for RefineOptions {
    fn default() -> Self {
        Self {
            focal: true,
            k1: false,
            corners: 400,
            partners: 10,
        }
    }
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Views whose corners were searched, over all rounds.
    pub done: usize,
    /// Of how many.
    pub of: usize,
}

/// A camera after the refinement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefinedCamera {
    /// camera_from_world. The world is that of the prediction: the first refined camera stays where it was, and so does the scale.
    pub pose: Pose,
    /// In pixels of the photo.
    pub lens: Lens,
    /// By what the predicted depths have to be multiplied to agree with the cameras.
    pub depth_factor: f64,
    /// Corners of the photo that agree with the camera.
    pub inliers: usize,
    /// Whether the pose was refined. False for a view in which too few corners were found again: it keeps the predicted pose
    /// relative to the others.
    pub refined: bool,
}

/// What came of a refinement.
#[derive(Debug, Clone)]
pub struct Refinement {
    /// One for each view; the predicted ones where the result is refused.
    pub cameras: Vec<RefinedCamera>,
    /// The points that the cameras rest on; none where the result is refused.
    pub tracks: Vec<Track>,
    /// What happened, in numbers.
    pub report: Report,
}

/// What happened, in numbers. Errors are distances in pixels of the photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether the cameras are refined ones.
    pub accepted: bool,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// Median error of the observations with the predicted cameras, each point where it fits them best.
    pub median_before_px: Option<f64>,
    /// Median error of the same observations with the refined cameras.
    pub median_after_px: Option<f64>,
    /// Points.
    pub tracks: usize,
    /// Places where they were seen.
    pub observations: usize,
    /// Views with a refined pose.
    pub refined_views: usize,
}

/// Refines the cameras of `views`. `watch` hears how far the work is and can end it.
///
/// The result is refused, and the predicted cameras returned, where the photos do not support a better one: see [`Refusal`].
///
/// # Errors
/// [`Stopped`] when `watch` returns it.
pub fn refine(
    views: Vec<View>,
    options: &RefineOptions,
    watch: &mut dyn FnMut(Progress) -> Result<(), Stopped>,
) -> Result<Refinement, Stopped> {
    let mut work = Work::new(views, *options);
    let of = 2 * work.photos.len();
    watch(Progress { done: 0, of })?;
    let tracks = match work.photos.len() {
        0 | 1 => Vec::new(),
        _ => {
            let coarse = work.coarse_level();
            let scale = f64::from(1 << coarse);
            let losses = COARSE_LOSSES.map(|(loss, limit)| (loss * scale, limit * scale));
            let follow = work.coarse_options(coarse);
            work.round(&follow, &losses, &mut |done| watch(Progress { done, of }))?;
            let (follow, half) = (work.fine_options(), of / 2);
            work.round(&follow, &FINE_LOSSES, &mut |done| {
                let done = half + done;
                watch(Progress { done, of })
            })?
        }
    };
    Ok(work.into_refinement(tracks))
}

/// The state between rounds.
struct Work {
    options: RefineOptions,
    photos: Vec<Pyramid>,
    depths: Vec<DepthMap>,
    predicted: Cameras,
    cameras: Cameras,
    depth_factors: Vec<f64>,
    /// Tracks of the last round whose rays are nearly parallel.
    narrow: Vec<Track>,
}

impl Work {
    fn new(views: Vec<View>, options: RefineOptions) -> Self {
        let predicted = Cameras {
            poses: views.iter().map(|view| view.pose).collect(),
            lenses: views.iter().map(|view| view.lens).collect(),
            lens_of: (0..views.len()).collect(),
        };
        let groups: Vec<usize> = views.iter().map(|view| view.lens_group).collect();
        let cameras = with_shared_lenses(&predicted, &groups);
        let (photos, depths): (Vec<_>, Vec<_>) = views
            .into_iter()
            .map(|view| (view.photo, view.depth))
            .unzip();
        Self {
            depth_factors: vec![1.0; depths.len()],
            narrow: Vec::new(),
            photos: photos.into_par_iter().map(Pyramid::new).collect(),
            options,
            depths,
            predicted,
            cameras,
        }
    }

    /// Returns the length of the longer side of most photos, pixels.
    fn side(&self) -> f64 {
        let sides = self.photos.iter().map(|photo| {
            let photo = photo.level(0);
            photo.width().max(photo.height()) as f64
        });
        median(sides.collect()).unwrap_or(COARSE_SIDE)
    }

    fn coarse_level(&self) -> usize {
        (self.side() / COARSE_SIDE).log2().round().max(0.0) as usize
    }

    fn coarse_options(&self, level: usize) -> FollowOptions {
        FollowOptions {
            corners: COARSE_CORNERS,
            first_level: level,
            last_level: level,
            radius_px: SEARCH * self.side(),
            partners: self.options.partners.min(8),
            least_score: 0.8,
            least_lead: 0.1,
            back_px: 1.0,
            depth_tolerance: 0.25,
            same_px: 1.0,
        }
    }

    fn fine_options(&self) -> FollowOptions {
        FollowOptions {
            corners: self.options.corners,
            first_level: 1,
            last_level: 0,
            radius_px: FINE_SEARCH_PX,
            partners: self.options.partners,
            least_score: 0.8,
            least_lead: 0.05,
            back_px: 1.0,
            depth_tolerance: 0.15,
            same_px: 0.5,
        }
    }

    /// Follows corners and adjusts the cameras to them; returns the tracks that are left.
    fn round(
        &mut self,
        follow: &FollowOptions,
        losses: &[(f64, f64)],
        watch: &mut dyn FnMut(usize) -> Result<(), Stopped>,
    ) -> Result<Vec<Track>, Stopped> {
        let scene = Scene {
            photos: &self.photos,
            depths: &self.depths,
            depth_factors: &self.depth_factors,
            cameras: &self.cameras,
        };
        let found = scene.follow(follow, watch)?;
        let mut tracks: Vec<Track> = found
            .into_par_iter()
            .filter_map(|observations| {
                let position = self.position(&observations)?;
                Some(Track {
                    position,
                    observations,
                })
            })
            .collect();
        // Two views share no third.
        let least = self.photos.len().min(3);
        let mut cameras = self.cameras.clone();
        for (loss_px, limit_px) in losses {
            let options = BundleOptions {
                loss_px: *loss_px,
                focal: self.options.focal,
                k1: self.options.k1,
                steps: STEPS,
            };
            adjust(&mut cameras, &mut tracks, &options);
            drop_outliers(&cameras, &mut tracks, *limit_px, least);
            drop_weak_views(&mut tracks, cameras.poses.len(), least);
        }
        // They hold the turns, but not the positions.
        let is_wide = |track: &Track| ray_angle(&cameras, track) >= LEAST_ANGLE_DEG.to_radians();
        let (mut wide, narrow): (Vec<_>, Vec<_>) = tracks.into_iter().partition(is_wide);
        self.narrow = narrow;
        drop_weak_views(&mut wide, cameras.poses.len(), least);
        self.take(cameras, &mut wide);
        Ok(wide)
    }

    /// Returns where the point of some observations should be: where the depth of the first one that has a depth puts it.
    fn position(&self, observations: &[Observation]) -> Option<Point3<f64>> {
        let by_depth = observations.iter().find_map(|seen| {
            let depth = self.depths[seen.view].at(&seen.pixel)? * self.depth_factors[seen.view];
            let ray = self.cameras.lens(seen.view).ray(&seen.pixel);
            Some(self.cameras.poses[seen.view].inverse() * Point3::from(ray * depth))
        });
        by_depth.or_else(|| triangulate(&self.cameras, observations))
    }

    /// Takes the cameras of a round. The world is moved so that the first refined camera stands where it was predicted and depths
    /// keep their scale; views that the tracks do not see follow those that they see, and depths follow the points.
    fn take(&mut self, mut cameras: Cameras, tracks: &mut [Track]) {
        let ratios = self.depth_ratios(&cameras, tracks);
        let refined: Vec<usize> = (0..ratios.len())
            .filter(|view| !ratios[*view].is_empty())
            .collect();
        let (Some(&anchor), Some(ratio)) = (refined.first(), median(ratios.concat())) else {
            return;
        };
        let world = anchoring(
            &cameras.poses[anchor],
            &self.predicted.poses[anchor],
            1.0 / ratio,
        );
        for pose in &mut cameras.poses {
            *pose = in_world(pose, &world);
        }
        for track in tracks {
            track.position = world * track.position;
        }
        let of = |poses: &[Pose]| refined.iter().map(|view| poses[*view]).collect::<Vec<_>>();
        let found = align(&of(&self.predicted.poses), &of(&cameras.poses));
        // Where all stand in one place there is no scale; the anchor has not moved.
        let followed = found.map_or_else(|_| Similarity3::identity(), |found| found.similarity);
        for (view, ratios) in ratios.into_iter().enumerate() {
            if ratios.is_empty() {
                cameras.poses[view] = in_world(&self.predicted.poses[view], &followed);
            }
            let own = median(ratios).map(|own| own / ratio);
            self.depth_factors[view] = own.unwrap_or(followed.scaling());
        }
        self.cameras = cameras;
    }

    /// Returns for each observation of each view how much deeper its point is than was predicted.
    fn depth_ratios(&self, cameras: &Cameras, tracks: &[Track]) -> Vec<Vec<f64>> {
        let mut ratios = vec![Vec::new(); self.photos.len()];
        for track in tracks {
            for seen in &track.observations {
                let depth = (cameras.poses[seen.view] * track.position).z;
                let predicted = self.depths[seen.view].at(&seen.pixel);
                ratios[seen.view].extend(predicted.map(|predicted| depth / predicted));
            }
        }
        ratios
    }

    fn into_refinement(self, mut tracks: Vec<Track>) -> Refinement {
        let before = {
            let refitted = tracks.iter().filter_map(|track| {
                let position = triangulate(&self.predicted, &track.observations)?;
                let observations = track.observations.clone();
                Some(Track {
                    position,
                    observations,
                })
            });
            median_error(&self.predicted, &refitted.collect::<Vec<_>>())
        };
        let after = median_error(&self.cameras, &tracks);
        let inliers = counts(&tracks, self.photos.len());
        let refused = judge(
            (&self.predicted, &self.cameras),
            (&tracks, &self.narrow),
            (before, after),
        );
        let refused = refused.err();
        let mut report = Report {
            accepted: refused.is_none(),
            median_before_px: before,
            median_after_px: after,
            tracks: tracks.len(),
            observations: inliers.iter().sum(),
            refined_views: inliers.iter().filter(|count| **count > 0).count(),
            refused,
        };
        let (cameras, factors) = match report.accepted {
            true => (&self.cameras, self.depth_factors),
            false => {
                tracks.clear();
                report.refined_views = 0;
                (&self.predicted, vec![1.0; inliers.len()])
            }
        };
        let each = inliers.iter().zip(factors).enumerate();
        let each = each.map(|(view, (inliers, depth_factor))| RefinedCamera {
            pose: cameras.poses[view],
            lens: *cameras.lens(view),
            depth_factor,
            inliers: *inliers,
            refined: report.accepted && *inliers > 0,
        });
        Refinement {
            cameras: each.collect(),
            tracks,
            report,
        }
    }
}

/// Returns the cameras with one lens for each group: the middle of those that were predicted.
fn with_shared_lenses(predicted: &Cameras, groups: &[usize]) -> Cameras {
    let mut numbers: Vec<usize> = groups.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let middle = |group: usize, of: &dyn Fn(&Lens) -> f64| {
        let views = (0..groups.len()).filter(|view| groups[*view] == group);
        median(views.map(|view| of(predicted.lens(view))).collect()).unwrap_or_default()
    };
    let lens = |group: &usize| Lens {
        focal: [0, 1].map(|axis| middle(*group, &|lens| lens.focal[axis])),
        principal: [0, 1].map(|axis| middle(*group, &|lens| lens.principal[axis])),
        k1: middle(*group, &|lens| lens.k1),
    };
    Cameras {
        poses: predicted.poses.clone(),
        lenses: numbers.iter().map(lens).collect(),
        lens_of: groups
            .iter()
            .filter_map(|group| numbers.binary_search(group).ok())
            .collect(),
    }
}

/// Returns the similarity of this scale that brings the camera `from` to where `to` stands.
fn anchoring(from: &Pose, to: &Pose, scale: f64) -> Similarity3<f64> {
    let back = to.rotation.inverse();
    let shift = back * (from.translation.vector * scale - to.translation.vector);
    Similarity3::from_parts(shift.into(), back * from.rotation, scale)
}

/// Leaves out the observations of views that have too few, until none has.
fn drop_weak_views(tracks: &mut Vec<Track>, views: usize, least: usize) {
    loop {
        let counts = counts(tracks, views);
        let weak = |view: usize| counts[view] < FEWEST_INLIERS;
        if !(0..counts.len()).any(|view| counts[view] > 0 && weak(view)) {
            return;
        }
        for track in tracks.iter_mut() {
            track.observations.retain(|seen| !weak(seen.view));
        }
        tracks.retain(|track| track.observations.len() >= least);
    }
}
