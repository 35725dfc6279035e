//! The summary of an export, as text or JSON.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use vggt_model::demo;

use super::{args::JsonDetail, write::WrittenScene};
use crate::cli::{
    inputs::quoted,
    terminal::{remark, say, tell},
};
use crate::{
    frames::SkipReason,
    pipeline::{Format, Network, Reconstruction, SkippedImages, Spooled, cameras},
    store::GlbFile,
};

/// Summary of an export.
pub(super) struct Summary<'a> {
    pub(super) outputs: &'a [WrittenScene],
    pub(super) stored: Option<&'a (GlbFile, PathBuf)>,
    pub(super) made: &'a Reconstruction,
    pub(super) network: Option<&'a Network>,
    /// The scene, where it is one of several.
    pub(super) scene: Option<&'a str>,
    /// Files of the folder that were not used, if any.
    pub(super) skipped: Option<&'a SkippedImages>,
    pub(super) seconds: Duration,
}

impl Summary<'_> {
    /// Prints to standard output, or to standard error where the former holds a result.
    pub(super) fn print(&self, json: Option<JsonDetail>, to_stderr: bool) -> anyhow::Result<()> {
        let text = match json {
            Some(detail) => self.json(detail)?.to_string(),
            None => self.text()?,
        };
        match to_stderr {
            true => tell!("{text}"),
            false => say!("{text}"),
        }
        if json.is_none()
            && !to_stderr
            && self.scene.is_none()
            && let Some(output) = self.outputs.first()
            // What is in a bucket no viewer opens.
            && output.path.exists()
        {
            how_to_look(&output.path, output.format);
        }
        Ok(())
    }

    fn json(&self, detail: JsonDetail) -> anyhow::Result<Value> {
        let frames = &self.made.frames;
        let predictions = &self.made.predictions;
        let (s, (height, width)) = (predictions.count(), predictions.size());
        let output = |output: &WrittenScene| {
            json!({
                "out": output.path.display().to_string(),
                "format": output.format.name(),
                "bytes": output.bytes,
                "points": output.points,
            })
        };
        let outputs: Vec<Value> = self.outputs.iter().map(output).collect();
        // The first output lies flat beside the rest, as it did when there was only one.
        let mut summary = outputs.first().cloned().unwrap_or_else(|| json!({}));
        let rest = json!({
            "outputs": outputs,
            "nothing_kept": self.made.scene.nothing_kept,
            "frames": s,
            "frames_shown": self.made.scene.views.len(),
            "frames_given": frames.available,
            "keyframes": self.made.provenance.keyframes,
            "names": frames.names,
            "height": height,
            "width": width,
            "scene_scale": self.made.scene.scale,
            "weights": frames.weights,
            "weights_sha256": frames.weights_sha256,
            "device": self.network.map(Network::device_name),
            "dtype": self.network.map(|n| n.dtype().as_str()),
            "precision": self.network.map(|n| n.precision().as_str()),
            "refinement": self.made.refined.as_ref().map(|refined| &refined.report),
            "from_cache": self.made.spooled.as_ref().map(Spooled::is_from_cache),
            "seconds": self.seconds.as_secs_f64(),
        });
        if let (Value::Object(summary), Value::Object(rest)) = (&mut summary, rest) {
            summary.extend(rest);
        }
        if let Some(images) = self.skipped {
            let group = |(reason, names): (SkipReason, Vec<&str>)| {
                let count = names.len();
                json!({"reason": reason.to_string(), "count": count, "names": names})
            };
            summary["images_found"] = json!(images.found());
            summary["skipped"] = images.skipped.groups().into_iter().map(group).collect();
        }
        if let Some(placed) = self.made.placed.to_json() {
            summary["placed"] = placed;
        }
        if let Some(scene) = self.scene {
            summary["scene"] = json!(scene);
        }
        if let Some((row, path)) = self.stored {
            summary["hash"] = json!(row.hashed_name);
            summary["stored"] = json!(path.display().to_string());
        }
        if detail == JsonDetail::Full {
            summary["cameras"] = cameras(self.made)?;
        }
        Ok(summary)
    }

    fn text(&self) -> anyhow::Result<String> {
        let frames = &self.made.frames;
        let predictions = &self.made.predictions;
        let (s, (height, width)) = (predictions.count(), predictions.size());
        let available = frames.available.unwrap_or(s).max(s);
        let shown = of_frames(self.made.scene.views.len(), available);
        let demo = match frames.weights == demo::WEIGHTS_NAME {
            true => " (demo weights)",
            false => "",
        };
        let line = |output: &WrittenScene| {
            format!(
                "{}: {} from {shown} of {width} x {height}, {:.1} MB, {:.1} s{demo}",
                output.path.display(),
                counted(output.points, "point"),
                output.bytes as f64 / 1e6,
                self.seconds.as_secs_f64(),
            )
        };
        let mut lines: Vec<String> = self.outputs.iter().map(line).collect();
        if let Some(images) = self.skipped {
            lines.push(images.to_string());
        }
        if let Some((row, path)) = self.stored {
            lines.push(format!("hash: {}", row.hashed_name));
            lines.push(format!("path: {}", path.display()));
        }
        Ok(lines.join("\n"))
    }
}

/// Says what shows an output, to people.
pub(super) fn how_to_look(path: &Path, format: Format) {
    let path = quoted(&path.display().to_string());
    match format {
        Format::Html => remark!("to look at it: open {path} in any browser"),
        Format::Glb => {
            remark!("to look at it: any glTF viewer opens {path} (--out x.html: any browser)");
        }
        Format::Ply => remark!(
            "to look at it: MeshLab or CloudCompare opens {path} (--out x.html: any browser)"
        ),
        Format::Colmap | Format::Nerfstudio => remark!(
            "to train on it: {path} is a {} dataset (--out x.html: to look at in any browser)",
            format.name()
        ),
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
