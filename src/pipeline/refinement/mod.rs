//! Cameras refined with the photos: predictions and photos in, frames with better cameras out.
//!
//! What lives here: which photos, which lenses are one, the pixels of the network and of the photos, and what is told of it all. The
//! refinement itself is the crate `vggt-refine`. Nothing here fails because cameras cannot be refined: they stay as they were, and
//! the report says why.

mod guesses;
mod kept;
mod lenses;
mod photos;
mod report;
mod tracks;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use vggt_model::Tracks;
use vggt_refine::{
    DepthMap, Lens, Pose, RefineOptions, RefinedCamera, Refinement, View as RefineView,
    camera::{matrix_of, pose_of},
};

pub(super) use kept::refined;
pub use kept::{KeepRefinement, kept_depth_factor};
pub use lenses::LensSharing;
pub use report::{FollowedPoints, RefinedFrame, RefinementReport};
pub(super) use tracks::world_tracks;

use self::{guesses::guesses, lenses::groups, photos::Photo};
use super::{
    CorrectedCamera, CorrectedFrames, PipelineError, ReadOptions, SavedFrames, Source, Stage,
    Watcher,
};
use crate::scene::{Affine, Field, Flat, PredictedFrames, View, camera, quaternion};

/// A principal point this close to the network's own was not measured, pixels of its image.
const UNKNOWN_PRINCIPAL: f64 = 1e-3;

/// How cameras are refined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefinementOptions {
    /// Which photos were taken with the same lens.
    pub lenses: LensSharing,
    /// Refines the radial distortion of each lens too.
    pub k1: bool,
    /// Follows corners of the first frame with the network's track head, as a second source of matches.
    pub track_head: bool,
}

/// A point that several photos show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefinedTrack {
    /// Frame, and place in the network's image, pixels with centers at half numbers. At least two, in the order of the frames.
    pub observations: Vec<(usize, [f64; 2])>,
}

/// What came of a refinement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refined {
    /// The camera of each frame; none where the predicted ones stay.
    pub cameras: Vec<CorrectedCamera>,
    /// What happened, in numbers.
    pub report: RefinementReport,
    /// The lens of each frame: frames with the same number share one.
    pub lens_of: Vec<usize>,
    /// Radial distortion of each frame's lens, as in COLMAP's SIMPLE_RADIAL.
    pub k1: Vec<f64>,
    /// The points that the cameras rest on.
    pub tracks: Vec<RefinedTrack>,
}

impl Refined {
    /// Gives frames their refined cameras, if there are any.
    pub(super) fn apply(
        &self,
        frames: Box<dyn PredictedFrames + Send>,
    ) -> Box<dyn PredictedFrames + Send> {
        match self.cameras.is_empty() {
            true => frames,
            false => Box::new(CorrectedFrames::moving_points(frames, self.cameras.clone())),
        }
    }
}

/// The photos that frames were made of.
#[derive(Clone, Copy)]
pub(super) struct Originals<'a> {
    pub(super) source: &'a Source,
    pub(super) read: &'a ReadOptions,
    /// Takes what they note of their lenses, where nothing better is known.
    pub(super) trust_notes: bool,
}

/// What is refined.
#[derive(Clone, Copy)]
pub(super) struct ToRefine<'a> {
    pub(super) frames: &'a dyn PredictedFrames,
    pub(super) about: &'a SavedFrames,
    /// The photos, if they are at hand.
    pub(super) originals: Option<Originals<'a>>,
    /// Points that the network's track head followed, a second source of matches.
    pub(super) tracks: Option<&'a Tracks>,
}

/// Refines the cameras of frames.
///
/// # Errors
/// When frames cannot be read or the watcher stops the work.
fn refine(
    of: ToRefine<'_>,
    options: &RefinementOptions,
    watcher: &mut dyn Watcher,
) -> Result<Refined, PipelineError> {
    let start = Instant::now();
    let ToRefine {
        frames,
        about,
        originals,
        tracks: followed,
    } = of;
    let views = camera::views(frames, 0..frames.count())?;
    let photos = photos::photos(frames, about, originals, &views, watcher)?;
    let is_video = !about.seconds.is_empty();
    let lens_of = groups(options.lenses, is_video, &photos, &views);
    let mut pixels = Vec::with_capacity(views.len());
    let mut inputs = Vec::with_capacity(views.len());
    for ((view, photo), group) in views.iter().zip(photos).zip(&lens_of) {
        let of_view = Pixels::new(view, &photo);
        inputs.push(input(frames, (view, *group), photo, &of_view)?);
        pixels.push(of_view);
    }
    let refine_options = RefineOptions {
        focal: options.lenses != LensSharing::Fixed,
        k1: options.k1,
        ..RefineOptions::default()
    };
    let mut watch = |progress: vggt_refine::Progress| match watcher.step(
        Stage::Refine,
        progress.done,
        progress.of,
    ) {
        true => Ok(()),
        false => Err(vggt_refine::Stopped),
    };
    let guesses = followed
        .map(|tracks| guesses(tracks, &pixels))
        .transpose()?;
    let guesses = guesses.unwrap_or_default();
    let found = vggt_refine::refine(inputs, &guesses, &refine_options, &mut watch);
    let found = found.map_err(|_| PipelineError::Cancelled)?;
    let cameras = found.cameras.iter().zip(&pixels);
    let cameras = cameras.map(|(camera, pixels)| corrected(camera, pixels));
    Ok(Refined {
        cameras: match found.report.accepted {
            true => cameras.collect(),
            false => Vec::new(),
        },
        report: RefinementReport::new(&found, &pixels, &about.names, start.elapsed()),
        k1: found.cameras.iter().map(|camera| camera.lens.k1).collect(),
        lens_of,
        tracks: tracks(&found, &pixels),
    })
}

/// The pixels of the network's image and those of the photo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels {
    /// Pixels of the network's image for each pixel of the photo.
    scale: [f64; 2],
    /// Where the photo's upper left corner lies in the network's image, centers at half numbers.
    offset: [f64; 2],
    /// Pixels of the original for each pixel of the photo.
    original_scale: f64,
    skew: f64,
}

impl Pixels {
    fn new(view: &View, photo: &Photo) -> Self {
        Self {
            scale: photo.scale,
            offset: photo.offset,
            original_scale: photo.original_scale,
            skew: view.intrinsic[0][1],
        }
    }

    /// Returns the lens in pixels of the photo, `photo` wide and high; the network's image is `network` wide and high.
    ///
    /// The network predicts no principal point: its cameras have theirs half a pixel beside the middle of its image, which is some
    /// pixels of the photo. That of a lens is the middle of the photo then; any other is known and stays.
    fn lens(&self, intrinsic: &[[f64; 3]; 3], photo: [usize; 2], network: [usize; 2]) -> Lens {
        let of_network = |axis: usize| network[axis] as f64 / 2.0;
        let is_known =
            |axis: usize| (intrinsic[axis][2] - of_network(axis)).abs() > UNKNOWN_PRINCIPAL;
        let principal = |axis: usize| match is_known(0) || is_known(1) {
            // The network's pixel centers lie at whole numbers.
            true => (intrinsic[axis][2] + 0.5 - self.offset[axis]) / self.scale[axis],
            false => photo[axis] as f64 / 2.0,
        };
        Lens {
            focal: [0, 1].map(|axis| intrinsic[axis][axis] / self.scale[axis]),
            principal: [principal(0), principal(1)],
            k1: 0.0,
        }
    }

    /// Returns the intrinsics in pixels of the network's image.
    fn intrinsic(&self, lens: &Lens) -> [[f64; 3]; 3] {
        let focal = |axis: usize| lens.focal[axis] * self.scale[axis];
        let middle =
            |axis: usize| lens.principal[axis] * self.scale[axis] + self.offset[axis] - 0.5;
        [
            [focal(0), self.skew, middle(0)],
            [0.0, focal(1), middle(1)],
            [0.0, 0.0, 1.0],
        ]
    }

    /// Returns a place of the network's image, centers at half numbers, in the photo.
    fn in_photo(&self, pixel: [f64; 2]) -> [f64; 2] {
        [0, 1].map(|axis| (pixel[axis] - self.offset[axis]) / self.scale[axis])
    }

    /// Returns a place of the photo in the network's image, centers at half numbers.
    fn in_network(&self, pixel: [f64; 2]) -> [f64; 2] {
        [0, 1].map(|axis| pixel[axis] * self.scale[axis] + self.offset[axis])
    }
}

/// Returns what is known of a view. Depths of pixels that a mask removes are not known: what moves, or the sky, tells nothing.
fn input(
    frames: &dyn PredictedFrames,
    (view, lens_group): (&View, usize),
    photo: Photo,
    pixels: &Pixels,
) -> Result<RefineView, PipelineError> {
    let (height, width) = frames.size();
    let depth = Flat::read_from(frames, view.frame, Field::Depth)?;
    let mut values = depth.read().values()?.to_vec();
    if let Some(keep) = frames.keep(view.frame)? {
        let masked = values
            .iter_mut()
            .zip(keep.iter())
            .filter(|(_, keep)| !**keep);
        masked.for_each(|(depth, _)| *depth = f32::NAN);
    }
    Ok(RefineView {
        noted_focal: photo.note.focal.map(|focal| focal / photo.original_scale),
        lens: pixels.lens(
            &view.intrinsic,
            [photo.gray.width(), photo.gray.height()],
            [width, height],
        ),
        photo: photo.gray,
        pose: pose(&view.camera_from_world),
        lens_group,
        depth: DepthMap {
            width,
            height,
            values,
            scale: pixels.scale,
            offset: pixels.offset,
        },
    })
}

/// Returns a camera's pose; the nearest rotation of what the network says, as the other formats have it.
fn pose(camera_from_world: &Affine) -> Pose {
    let [w, x, y, z] = quaternion(camera_from_world);
    let translation = camera_from_world.0.map(|row| row[3]);
    pose_of([w, x, y, z], translation)
}

fn corrected(camera: &RefinedCamera, pixels: &Pixels) -> CorrectedCamera {
    CorrectedCamera {
        camera_from_world: Affine(matrix_of(&camera.pose)),
        intrinsic: pixels.intrinsic(&camera.lens),
        depth_factor: camera.depth_factor,
        k1: camera.lens.k1,
    }
}

fn tracks(found: &Refinement, pixels: &[Pixels]) -> Vec<RefinedTrack> {
    let tracks = found.tracks.iter().map(|track| RefinedTrack {
        observations: track
            .observations
            .iter()
            .map(|seen| (seen.view, pixels[seen.view].in_network(seen.pixel.into())))
            .collect(),
    });
    tracks.collect()
}
