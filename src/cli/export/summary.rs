//! The summary of an export, as text or JSON.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use vggt_model::{Predictions, demo};

use crate::{
    frames::SkipReason,
    pipeline::{Format, Network, SavedFrames, SkippedImages},
    scene::Scene,
    store::GlbFile,
};

/// Summary of an export.
pub(super) struct Summary<'a> {
    pub(super) out: &'a Path,
    pub(super) stored: Option<&'a (GlbFile, PathBuf)>,
    pub(super) format: Format,
    pub(super) bytes: u64,
    pub(super) scene: &'a Scene,
    pub(super) predictions: &'a Predictions,
    pub(super) frames: &'a SavedFrames,
    pub(super) network: Option<&'a Network>,
    /// Files of the folder that were not used, if any.
    pub(super) skipped: Option<&'a SkippedImages>,
    pub(super) seconds: Duration,
}

impl Summary<'_> {
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let (s, _, height, width) = self.predictions.images.dims4()?;
        let points = self.scene.points.len();
        let shown = self.scene.views.len();
        let available = self.frames.available.unwrap_or(s).max(s);
        let seconds = self.seconds.as_secs_f64();
        if as_json {
            let mut summary = json!({
                "out": self.out.display().to_string(),
                "format": self.format.name(),
                "bytes": self.bytes,
                "points": points,
                "nothing_kept": self.scene.nothing_kept,
                "frames": s,
                "frames_shown": shown,
                "frames_given": self.frames.available,
                "names": self.frames.names,
                "height": height,
                "width": width,
                "scene_scale": self.scene.scale,
                "weights": self.frames.weights,
                "weights_sha256": self.frames.weights_sha256,
                "device": self.network.map(Network::device_name),
                "dtype": self.network.map(|n| n.dtype().as_str()),
                "precision": self.network.map(|n| n.precision().as_str()),
                "seconds": seconds,
            });
            if let Some(images) = self.skipped {
                summary["images_found"] = json!(images.found());
                let group = |(reason, names): (SkipReason, Vec<&str>)| json!({"reason": reason.to_string(), "count": names.len(), "names": names});
                let groups = images.skipped.groups().into_iter().map(group);
                summary["skipped"] = groups.collect();
            }
            if let Some((row, path)) = self.stored {
                summary["hash"] = json!(row.hashed_name);
                summary["stored"] = json!(path.display().to_string());
            }
            println!("{summary}");
        } else {
            println!(
                "{}: {} from {} of {width} x {height}, {:.1} MB, {seconds:.1} s{}",
                self.out.display(),
                counted(points, "point"),
                of_frames(shown, available),
                self.bytes as f64 / 1e6,
                if self.frames.weights == demo::WEIGHTS_NAME {
                    " (demo weights)"
                } else {
                    ""
                },
            );
            if let Some(images) = self.skipped {
                println!("{images}");
            }
            if let Some((row, path)) = self.stored {
                println!("hash: {}", row.hashed_name);
                println!("path: {}", path.display());
            }
        }
        Ok(())
    }
}

/// "1 point", "2 points".
fn counted(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// "8 frames", "3 of 8 frames": those that the scene shows, of those that were given.
fn of_frames(shown: usize, available: usize) -> String {
    if shown < available {
        format!("{shown} of {}", counted(available, "frame"))
    } else {
        counted(shown, "frame")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "point"), "1 point");
        assert_eq!(counted(0, "point"), "0 points");
        assert_eq!(of_frames(1, 1), "1 frame");
        assert_eq!(of_frames(1, 5), "1 of 5 frames");
        assert_eq!(of_frames(8, 8), "8 frames");
    }
}
