//! The whole refinement: corners, tracks and bundle adjustment, twice, from coarse to fine.

use nalgebra::{Point3, Similarity3};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    bundle::{BundleOptions, Cameras, FocalPrior, Observation, Track, adjust},
    camera::{Lens, Pose, center, in_world},
    follow::{FollowOptions, Match, Scene},
    gray::Pyramid,
    guesses::{Guess, GuessReport, Guesses},
    judge::{Refusal, judge},
    lenses::{
        COARSE_FOCAL_TRUST, FINE_FOCAL_TRUST, FocalTrust, KnownFocal, known_focals,
        with_shared_lenses,
    },
    similarity::follow,
    stopped::Stopped,
    tracks::{
        Ties, counts, drop_outliers, keep_strong_views, median, median_error, ray_angle,
        triangulate,
    },
    view::{DepthMap, View},
};

/// The first search goes over this part of the photo's longer side.
const SEARCH: f64 = 0.06;
/// The search for views that were lost in it goes over this part.
const RETURN_SEARCH: f64 = 0.24;
/// The first search is done where the photo's longer side is about this long, pixels.
const COARSE_SIDE: f64 = 256.0;
/// Corners of each view in the first round, which only has to bring the predictions close.
const COARSE_CORNERS: usize = 150;
/// How far the cameras of the first round may be off in the second, pixels.
const FINE_SEARCH_PX: f64 = 8.0;
/// The largest angle between two rays to a point is at least this, degrees, or the depth of the point is a guess.
const LEAST_ANGLE_DEG: f64 = 1.5;
/// Scale of the loss and the largest error that is kept after it, pixels of the coarse photo: from far off to close.
const COARSE_LOSSES: [(f64, f64); 3] = [(8.0, 24.0), (2.0, 6.0), (1.0, 3.0)];
/// The same in the second round, pixels of the photo.
const FINE_LOSSES: [(f64, f64); 2] = [(2.0, 8.0), (1.0, 4.0)];
/// Rounds in which views that were lost are searched again, as long as some return.
const RETURNS: usize = 6;
/// Refined views whose moves a view follows that is not refined itself.
const NEIGHBORS: usize = 6;
/// What ties a view to the others in the first round, whose corners are few.
const COARSE_TIES: Ties = Ties {
    observations: 24,
    shared: 8,
};
/// What ties a view to the others in the end; one with less keeps the predicted camera.
const FINE_TIES: Ties = Ties {
    observations: 64,
    shared: 20,
};
/// Steps that lower the sum of the losses by less than these parts end each adjustment.
const COARSE_GAIN: f64 = 1e-4;
const FINE_GAIN: f64 = 3e-5;
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
    /// What became of the guesses; `None` when none could be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guesses: Option<GuessReport>,
}

/// Refines the cameras of `views`. `watch` hears how far the work is and can end it.
///
/// `guesses` are places where another source of matches sees points of the views, if there is one. They help where the predicted
/// cameras are too far off for a search around them. Wrong guesses do no harm, and those that cannot be tried are ignored.
///
/// The result is refused, and the predicted cameras returned, where the photos do not support a better one: see [`Refusal`].
///
/// # Errors
/// [`Stopped`] when `watch` returns it.
pub fn refine(
    views: Vec<View>,
    guesses: &[Guess],
    options: &RefineOptions,
    watch: &mut dyn FnMut(Progress) -> Result<(), Stopped>,
) -> Result<Refinement, Stopped> {
    let mut work = Work::new(views, *options);
    let mut guesses = Guesses::new(guesses, &work.photos);
    let of = 2 * work.photos.len();
    watch(Progress { done: 0, of })?;
    let tracks = match work.photos.len() {
        0 | 1 => Vec::new(),
        _ => {
            let level = work.coarse_level();
            let scale = f64::from(1 << level);
            let losses = COARSE_LOSSES.map(|(loss, limit)| (loss * scale, limit * scale));
            let follow = work.coarse_options(level);
            let all: Vec<usize> = (0..work.photos.len()).collect();
            let guessed =
                work.guessed(&mut guesses, &all, &mut || watch(Progress { done: 0, of }))?;
            let found = work.search(&follow, &all, &guessed, &mut |done| {
                watch(Progress { done, of })
            })?;
            let mut tracks = work.solve(found, &losses, COARSE_FOCAL_TRUST);
            let half = of / 2;
            let mut lost = lost_views(&tracks, half);
            for _ in 0..RETURNS {
                if lost.is_empty() || lost.len() == half {
                    break;
                }
                // They are closer to the others now that these have moved.
                let follow = work.return_options(level);
                let mut watch = || watch(Progress { done: half, of });
                let guessed = work.guessed(&mut guesses, &lost, &mut watch)?;
                let found = work.search(&follow, &lost, &guessed, &mut |_| watch())?;
                tracks.extend(found);
                tracks = work.solve(tracks, &losses, COARSE_FOCAL_TRUST);
                let still = lost_views(&tracks, half);
                if still.len() >= lost.len() {
                    break;
                }
                lost = still;
            }
            let follow = work.fine_options();
            let found = work.search(&follow, &all, &[], &mut |done| {
                let done = half + done;
                watch(Progress { done, of })
            })?;
            work.solve(found, &FINE_LOSSES, FINE_FOCAL_TRUST)
        }
    };
    Ok(work.into_refinement(tracks, guesses.report()))
}

/// The state between rounds.
struct Work {
    options: RefineOptions,
    photos: Vec<Pyramid>,
    depths: Vec<DepthMap>,
    predicted: Cameras,
    cameras: Cameras,
    /// One for each lens.
    focals: Vec<KnownFocal>,
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
        let focals = known_focals(&cameras, &views);
        let (photos, depths): (Vec<_>, Vec<_>) = views
            .into_iter()
            .map(|view| (view.photo, view.depth))
            .unzip();
        Self {
            depth_factors: vec![1.0; depths.len()],
            narrow: Vec::new(),
            photos: photos.into_par_iter().map(Pyramid::new).collect(),
            options,
            focals,
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

    /// Views that were lost are searched further: they are few.
    fn return_options(&self, level: usize) -> FollowOptions {
        let first = self.coarse_options(level);
        FollowOptions {
            radius_px: RETURN_SEARCH * self.side(),
            ..first
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

    fn scene(&self) -> Scene<'_> {
        Scene {
            photos: &self.photos,
            depths: &self.depths,
            depth_factors: &self.depth_factors,
            cameras: &self.cameras,
        }
    }

    /// Tries the guesses that concern some views, and takes the poses of those that had to be resected; returns the matches.
    fn guessed(
        &mut self,
        guesses: &mut Guesses,
        views: &[usize],
        watch: &mut dyn FnMut() -> Result<(), Stopped>,
    ) -> Result<Vec<Match>, Stopped> {
        let options = self.coarse_options(self.coarse_level());
        let found = guesses.matches(&self.scene(), &options, views, watch)?;
        self.cameras = found.state.cameras;
        self.depth_factors = found.state.depth_factors;
        Ok(found.matches)
    }

    /// Follows the corners of some views; returns tracks, also of `known` matches, whose points are where depths put them.
    fn search(
        &self,
        follow: &FollowOptions,
        views: &[usize],
        known: &[Match],
        watch: &mut dyn FnMut(usize) -> Result<(), Stopped>,
    ) -> Result<Vec<Track>, Stopped> {
        let found = self.scene().follow(follow, views, known, watch)?;
        let tracks = found.into_par_iter().filter_map(|observations| {
            let position = self.position(&observations)?;
            Some(Track {
                position,
                observations,
            })
        });
        Ok(tracks.collect())
    }

    /// Adjusts the cameras to tracks, each time with a smaller loss; returns the tracks that are left.
    fn solve(
        &mut self,
        mut tracks: Vec<Track>,
        losses: &[(f64, f64)],
        trust: FocalTrust,
    ) -> Vec<Track> {
        let is_fine = trust == FINE_FOCAL_TRUST;
        let ties = if is_fine { FINE_TIES } else { COARSE_TIES };
        // Two views share no third.
        let least = self.photos.len().min(3);
        let mut cameras = self.cameras.clone();
        let focals = self.focals.iter();
        let focal_priors: Vec<FocalPrior> = focals.map(|focal| focal.prior(&trust)).collect();
        for (loss_px, limit_px) in losses {
            let options = BundleOptions {
                loss_px: *loss_px,
                focal: self.options.focal,
                focal_priors: &focal_priors,
                k1: self.options.k1 && is_fine,
                steps: STEPS,
                least_gain: if is_fine { FINE_GAIN } else { COARSE_GAIN },
            };
            adjust(&mut cameras, &mut tracks, &options);
            drop_outliers(&cameras, &mut tracks, *limit_px, least);
        }
        keep_strong_views(&mut tracks, cameras.poses.len(), least, ties);
        // They hold the turns, but not the positions.
        let is_wide = |track: &Track| ray_angle(&cameras, track) >= LEAST_ANGLE_DEG.to_radians();
        let (mut wide, narrow): (Vec<_>, Vec<_>) = tracks.into_iter().partition(is_wide);
        self.narrow = narrow;
        keep_strong_views(&mut wide, cameras.poses.len(), least, ties);
        self.take(cameras, &mut wide);
        wide
    }

    /// Returns where the point of some observations should be: where the depth of the first one that has a depth puts it.
    fn position(&self, observations: &[Observation]) -> Option<Point3<f64>> {
        let scene = self.scene();
        let by_depth = observations.iter().find_map(|seen| scene.point(seen));
        by_depth.or_else(|| triangulate(&self.cameras, observations))
    }

    /// Takes the cameras of a round. The world is moved so that the first refined camera stands where it was predicted and depths
    /// keep their scale; views that the tracks do not see follow those that they see, and depths follow the points.
    fn take(&mut self, mut cameras: Cameras, tracks: &mut [Track]) {
        let ratios = self.depth_ratios(&cameras, tracks);
        let counts = counts(tracks, ratios.len());
        let refined: Vec<usize> = (0..counts.len()).filter(|view| counts[*view] > 0).collect();
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
        for (view, ratios) in ratios.into_iter().enumerate() {
            self.depth_factors[view] = match counts[view] > 0 {
                // With no depth where its corners are, those of the others.
                true => median(ratios).map_or(1.0, |own| own / ratio),
                false => {
                    let followed = self.followed(view, &refined, &cameras.poses);
                    cameras.poses[view] = in_world(&self.predicted.poses[view], &followed);
                    followed.scaling()
                }
            };
        }
        self.cameras = cameras;
    }

    /// Returns how the world moved around a view that was not refined: as for the refined views that were predicted closest to it,
    /// since the errors of a prediction grow with the distance.
    fn followed(&self, view: usize, refined: &[usize], poses: &[Pose]) -> Similarity3<f64> {
        let predicted = &self.predicted.poses;
        let near = |other: &usize| {
            let angle = predicted[view]
                .rotation
                .angle_to(&predicted[*other].rotation);
            let distance = (center(&predicted[view]) - center(&predicted[*other])).norm();
            (angle, distance)
        };
        let distances: Vec<_> = refined.iter().map(|other| near(other).1).collect();
        let extent = distances.into_iter().fold(f64::MIN_POSITIVE, f64::max);
        let mut closest: Vec<(f64, usize)> = refined
            .iter()
            .map(|other| {
                let (angle, distance) = near(other);
                (angle + distance / extent, *other)
            })
            .collect();
        closest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        closest.truncate(NEIGHBORS);
        let of = |poses: &[Pose]| {
            closest
                .iter()
                .map(|(_, view)| poses[*view])
                .collect::<Vec<_>>()
        };
        follow(&of(predicted), &of(poses))
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

    fn into_refinement(self, mut tracks: Vec<Track>, guesses: Option<GuessReport>) -> Refinement {
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
            guesses,
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

/// Returns the views that no track sees.
fn lost_views(tracks: &[Track], views: usize) -> Vec<usize> {
    let counts = counts(tracks, views);
    (0..views).filter(|view| counts[*view] == 0).collect()
}

/// Returns the similarity of this scale that brings the camera `from` to where `to` stands.
fn anchoring(from: &Pose, to: &Pose, scale: f64) -> Similarity3<f64> {
    let back = to.rotation.inverse();
    let shift = back * (from.translation.vector * scale - to.translation.vector);
    Similarity3::from_parts(shift.into(), back * from.rotation, scale)
}
