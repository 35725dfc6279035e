//! Known cameras in place of the network's.
//!
//! What a file has is used as it is: a user's cameras are the truth, also where the photos seem to disagree, which is a warning. The
//! network's result is brought to them:
//!
//! - Poses: a similarity that up to 40 % of wrong cameras cannot pull brings the network's cameras to the known ones
//!   (`vggt_refine::similarity`). Frames without a known pose keep the network's, moved along.
//! - Lenses: mapped into the network's pixels through the frame's [`Placement`]. COLMAP's pixel centers lie at half numbers, the
//!   network's at integers.
//! - Depths: multiplied by one factor for the whole scene. Another focal length changes what depths mean, and how depends on the
//!   path: those of a stereo pair grow with the focal length, those of an object on a turntable stay. Therefore the factor is
//!   measured: points of the network's depth maps are projected into other frames by the network's own cameras, which gives pairs
//!   of pixels that show the same thing, and these are triangulated by the new cameras. Without parallax, depths grow with the
//!   focal length, which keeps what lies side by side as wide as it was.
//! - Points of the point head go through the similarity.

use std::fmt;

use serde_json::{Value, json};
use vggt_refine::{Pose, similarity};

use super::{
    super::{CorrectedCamera, CorrectedFrames, PipelineError, SavedFrames},
    PlacingError, depth_factor,
    geometry::{affine, center, median, pose, similar},
};
use crate::{
    cameras::{KnownCamera, KnownCameras},
    frames::Placement,
    scene::{Affine, PredictedFrames, View, World, camera::views},
};

/// Distances of a camera from where the network has it, in parts of the path's extent, that are worth a warning: the network is
/// good to one or two hundredths.
const FAR: f64 = 0.05;
/// Angles that are worth a warning, degrees.
const TURNED_DEG: f64 = 10.0;
/// Distortion that is worth a warning, pixels of the network's image at its corner.
const DISTORTED_PIXELS: f64 = 1.0;

/// How known cameras fit.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownReport {
    /// Format of the file.
    pub format: &'static str,
    /// Frames of the scene.
    pub frames: usize,
    /// Frames that have a known pose.
    pub poses: usize,
    /// Frames that have a known lens.
    pub lenses: usize,
    /// Known units for each of the network's; `None` without poses.
    pub scale: Option<f64>,
    /// What depths were multiplied by.
    pub depth_factor: f64,
    /// Known focal lengths in parts of the network's, the median; `None` without lenses.
    pub focal_ratio: Option<f64>,
    /// Median distance of the known cameras from the network's, known units.
    pub median_distance: Option<f64>,
    /// Median angle between the known cameras and the network's, degrees.
    pub median_angle_deg: Option<f64>,
    /// Names of frames whose known pose is far from the others' agreement with the photos.
    pub outliers: Vec<String>,
    /// The largest distortion that was left out, pixels of the network's image at a corner.
    pub distortion_pixels: f64,
}

impl KnownReport {
    /// Returns what a file may say of it that others may see: numbers, no names.
    pub fn numbers(&self) -> Value {
        json!({
            "format": self.format,
            "poses": self.poses,
            "lenses": self.lenses,
            "scale": self.scale,
            "depth_factor": self.depth_factor,
            "focal_ratio": self.focal_ratio,
            "median_distance": self.median_distance,
            "median_angle_deg": self.median_angle_deg,
            "outliers": self.outliers.len(),
        })
    }

    /// Returns it with the names of the outliers.
    pub fn to_json(&self) -> Value {
        let mut json = self.numbers();
        json["outliers"] = json!(self.outliers);
        json
    }

    /// Whether distortion was left out that moves pixels.
    pub fn is_distorted(&self) -> bool {
        self.distortion_pixels > DISTORTED_PIXELS
    }
}

impl fmt::Display for KnownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.frames;
        write!(
            f,
            "known cameras: {} poses and {} lenses for {of} frames",
            self.poses, self.lenses
        )?;
        if let (Some(distance), Some(angle)) = (self.median_distance, self.median_angle_deg) {
            write!(
                f,
                "; the network's are off by {distance:.3} and {angle:.2} degrees (medians)"
            )?;
        }
        if let Some(ratio) = self.focal_ratio {
            write!(f, "; focal lengths are {ratio:.3} times the network's")?;
        }
        Ok(())
    }
}

/// Replaces cameras of `frames` by known ones.
///
/// # Errors
/// When no camera belongs to a frame, lenses do not fit the photos, or poses give no alignment.
pub(super) fn with_known_cameras(
    frames: Box<dyn PredictedFrames + Send>,
    saved: &SavedFrames,
    known: &KnownCameras,
) -> Result<(CorrectedFrames, KnownReport), PipelineError> {
    let found = known.of_frames(&saved.names, &saved.seconds)?;
    let cameras = views(&*frames, 0..frames.count())?;
    let mut new: Vec<CorrectedCamera> = cameras.iter().map(CorrectedCamera::of).collect();
    let mut report = KnownReport {
        format: known.format,
        frames: cameras.len(),
        poses: 0,
        lenses: 0,
        scale: None,
        depth_factor: 1.0,
        focal_ratio: None,
        median_distance: None,
        median_angle_deg: None,
        outliers: Vec::new(),
        distortion_pixels: 0.0,
    };
    set_lenses(&mut new, &*frames, saved, &found, &mut report)?;
    let (world, trusted) = set_poses(&mut new, &cameras, saved, &found, &mut report)?;
    let measured = depth_factor::measure(&*frames, &cameras, &new, &trusted)?;
    report.depth_factor = measured.unwrap_or_else(|| match report.scale {
        Some(scale) => scale,
        None => report.focal_ratio.unwrap_or(1.0),
    });
    for camera in &mut new {
        camera.depth_factor = report.depth_factor;
    }
    let corrected = CorrectedFrames::new(frames, new, world);
    let corrected = match report.poses {
        0 => corrected,
        _ => corrected.in_world(World::Known),
    };
    Ok((corrected, report))
}

/// Replaces lenses, and counts them.
fn set_lenses(
    new: &mut [CorrectedCamera],
    frames: &dyn PredictedFrames,
    saved: &SavedFrames,
    found: &[Option<&KnownCamera>],
    report: &mut KnownReport,
) -> Result<(), PlacingError> {
    let mut ratios = Vec::new();
    for (i, known) in found.iter().enumerate() {
        let Some((known, lens)) = known.and_then(|known| Some((known, known.lens?))) else {
            continue;
        };
        let place = placement(saved, i, frames.size());
        let photo = [place.source_width, place.source_height];
        let lens = lens.in_photo(photo).map_err(|source| PlacingError::Lens {
            camera: known.name.clone(),
            source,
        })?;
        let intrinsic = in_network(lens.pinhole, &place);
        let before = new[i].intrinsic;
        ratios.push((intrinsic[0][0] * intrinsic[1][1] / (before[0][0] * before[1][1])).sqrt());
        let distortion = lens.distortion_pixels * place.scale_x;
        report.distortion_pixels = report.distortion_pixels.max(distortion);
        new[i].intrinsic = intrinsic;
    }
    report.lenses = ratios.len();
    report.focal_ratio = median(&mut ratios);
    Ok(())
}

/// Replaces poses; returns known_from_network with its scale, and which cameras are trusted.
fn set_poses(
    new: &mut [CorrectedCamera],
    cameras: &[View],
    saved: &SavedFrames,
    found: &[Option<&KnownCamera>],
    report: &mut KnownReport,
) -> Result<(Affine, Vec<bool>), PlacingError> {
    let mut trusted = vec![true; new.len()];
    let known = found.iter().enumerate();
    let known = known.filter_map(|(i, known)| Some((i, known.as_ref()?.camera_from_world?)));
    let known: Vec<(usize, Affine)> = known.collect();
    if known.is_empty() {
        return Ok((Affine::diagonal(1.0, 1.0, 1.0), trusted));
    }
    let source: Vec<Pose> = known
        .iter()
        .map(|(i, _)| pose(&cameras[*i].camera_from_world))
        .collect();
    let target: Vec<Pose> = known.iter().map(|(_, known)| pose(known)).collect();
    let alignment = similarity::align(&source, &target).map_err(PlacingError::Align)?;
    let similarity = &alignment.similarity;
    for (camera, view) in new.iter_mut().zip(cameras) {
        camera.camera_from_world = affine(&similar(similarity, &pose(&view.camera_from_world)));
    }
    let angles: Vec<f64> = source
        .iter()
        .zip(&target)
        .map(|(source, target)| {
            let moved = similar(similarity, source);
            moved.rotation.angle_to(&target.rotation).to_degrees()
        })
        .collect();
    let extent = extent(&target);
    for (n, (i, known)) in known.iter().enumerate() {
        new[*i].camera_from_world = *known;
        let far = !alignment.inliers[n] && alignment.distances[n] > FAR * extent;
        if far || angles[n] > TURNED_DEG {
            trusted[*i] = false;
            report
                .outliers
                .push(saved.names.get(*i).cloned().unwrap_or_default());
        }
    }
    report.poses = known.len();
    report.scale = Some(similarity.scaling());
    report.median_distance = median(&mut alignment.distances.clone());
    report.median_angle_deg = median(&mut angles.clone());
    Ok((super::geometry::affine_of_similarity(similarity), trusted))
}

/// Twice the median distance of the cameras from their middle, which single ones far away do not change.
fn extent(poses: &[Pose]) -> f64 {
    let centers: Vec<_> = poses.iter().map(center).collect();
    let middle: Vec<f64> = (0..3)
        .map(|axis| {
            let mut values: Vec<f64> = centers.iter().map(|c| c[axis]).collect();
            median(&mut values).unwrap_or_default()
        })
        .collect();
    let distance = |c: &[f64; 3]| {
        let squares = c.iter().zip(&middle).map(|(a, b)| (a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    2.0 * median(&mut centers.iter().map(distance).collect::<Vec<f64>>()).unwrap_or_default()
}

/// Returns where a frame lies in its photo; the whole of the network's image where that is not known.
pub(super) fn placement(saved: &SavedFrames, index: usize, size: (usize, usize)) -> Placement {
    let known = saved.placements.get(index).copied();
    known.unwrap_or(Placement {
        // Images are far smaller than 2^32 pixels.
        source_width: size.1 as u32,
        source_height: size.0 as u32,
        scale_x: 1.0,
        scale_y: 1.0,
        offset_x: 0.0,
        offset_y: 0.0,
    })
}

/// Returns the matrix of a pinhole in the network's pixels, whose centers lie at integers.
fn in_network([fx, fy, cx, cy]: [f64; 4], place: &Placement) -> [[f64; 3]; 3] {
    let x = cx * place.scale_x + place.offset_x - 0.5;
    let y = cy * place.scale_y + place.offset_y - 0.5;
    [
        [fx * place.scale_x, 0.0, x],
        [0.0, fy * place.scale_y, y],
        [0.0, 0.0, 1.0],
    ]
}
