//! What is told of a refinement.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use vggt_refine::Refinement;

use super::Pixels;
use crate::pipeline::Warning;

/// What happened to one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefinedFrame {
    /// Its name; empty where names are not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Corners that agree with its camera.
    pub inliers: usize,
    /// Whether its pose was refined; false for one that keeps the predicted pose, relative to the others.
    pub refined: bool,
}

/// What became of the points that the track head followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedPoints {
    /// Places in other frames where a point should be visible.
    pub tried: usize,
    /// Those where the photos look the same.
    pub found: usize,
    /// Frames whose predicted pose they contradicted, and replaced.
    pub views: usize,
}

/// What happened, in numbers. Errors are distances in pixels of the original photos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefinementReport {
    /// Whether the cameras are refined ones.
    pub accepted: bool,
    /// Why they are not, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Median error with the predicted cameras.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_before_px: Option<f64>,
    /// Median error with the refined cameras.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_after_px: Option<f64>,
    /// What became of the points of the track head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_head: Option<FollowedPoints>,
    /// Points that were found again in other photos.
    pub tracks: usize,
    /// Places where they were seen.
    pub observations: usize,
    /// Seconds that it took. Not in files: the same input gives the same file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// One for each frame.
    pub frames: Vec<RefinedFrame>,
}

impl RefinementReport {
    pub(super) fn new(
        found: &Refinement,
        pixels: &[Pixels],
        names: &[String],
        took: Duration,
    ) -> Self {
        // Photos of one capture are about as large as each other.
        let mut scales: Vec<f64> = pixels.iter().map(|pixels| pixels.original_scale).collect();
        scales.sort_by(f64::total_cmp);
        let scale = scales.get(scales.len() / 2).copied().unwrap_or(1.0);
        let report = &found.report;
        let frame = |(index, camera): (usize, &vggt_refine::RefinedCamera)| RefinedFrame {
            name: names.get(index).cloned().unwrap_or_default(),
            inliers: camera.inliers,
            refined: camera.refined,
        };
        Self {
            accepted: report.accepted,
            refused: report.refused.as_ref().map(ToString::to_string),
            median_before_px: report.median_before_px.map(|px| px * scale),
            median_after_px: report.median_after_px.map(|px| px * scale),
            track_head: report.guesses.map(|guesses| FollowedPoints {
                tried: guesses.tried,
                found: guesses.found,
                views: guesses.resected_views,
            }),
            tracks: report.tracks,
            observations: report.observations,
            seconds: Some(took.as_secs_f64()),
            frames: found.cameras.iter().enumerate().map(frame).collect(),
        }
    }

    /// Returns the report as a file may tell it: without names of photos, since others may see it, and without the time.
    #[must_use]
    pub fn for_file(&self) -> Self {
        let mut report = self.clone();
        report.seconds = None;
        report
            .frames
            .iter_mut()
            .for_each(|frame| frame.name.clear());
        report
    }

    /// Returns what a user should know of it.
    pub(in crate::pipeline) fn warnings(&self) -> impl Iterator<Item = Warning> {
        let refused = self.refused.clone().map(|why| Warning::NotRefined { why });
        let kept = self
            .frames
            .iter()
            .filter(|frame| self.accepted && !frame.refined);
        let names: Vec<String> = kept.map(|frame| frame.name.clone()).collect();
        let kept = (!names.is_empty()).then_some(Warning::PosesKept { names });
        refused.into_iter().chain(kept)
    }
}
