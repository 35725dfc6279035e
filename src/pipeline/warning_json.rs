//! Warnings as programs read them.

use serde_json::{Map, Value, json};

use super::Warning;

/// Names and files that are listed; the text says how many there are.
const LISTED: usize = 100;

impl Warning {
    /// Returns what kind of warning it is: a word of lower case letters and underscores.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FramesThinned { .. } => "frames_thinned",
            Self::RetriedWithFewer { .. } => "retried_with_fewer",
            Self::Unrelated { .. } => "unrelated",
            Self::AnchorsFar { .. } => "anchors_far",
            Self::Video(_) => "video_damaged",
            Self::ImagesSkipped(_) => "images_skipped",
            Self::Image { .. } => "image",
            Self::Cropped { .. } => "cropped",
            Self::WithoutMask { .. } => "without_mask",
            Self::NotRefined { .. } => "not_refined",
            Self::PosesKept { .. } => "poses_kept",
            Self::KnownOutliers { .. } => "known_outliers",
            Self::Distorted { .. } => "distorted",
            Self::LengthsDisagree { .. } => "lengths_disagree",
            Self::NotLevel { .. } => "not_level",
            Self::DemoWeights => "demo_weights",
            Self::Repeated(_) => "repeated",
        }
    }

    /// Returns it as JSON: `kind`, `text`, and the values that belong to its kind.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut fields = self.numbers();
        match self {
            Self::Unrelated { names, .. }
            | Self::WithoutMask { names, .. }
            | Self::KnownOutliers { names }
            | Self::PosesKept { names } => {
                let names: Vec<&String> = names.iter().take(LISTED).collect();
                fields.insert("names".to_owned(), json!(names));
            }
            Self::ImagesSkipped(images) => {
                let files = images.skipped.0.iter().take(LISTED);
                let files: Vec<Value> = files
                    .map(|file| json!({"name": file.name, "reason": file.reason.to_string()}))
                    .collect();
                fields.insert("skipped".to_owned(), files.into());
            }
            Self::Image { name, .. } | Self::Cropped { name, .. } => {
                fields.insert("name".to_owned(), json!(name));
            }
            _ => {}
        }
        fields.insert("text".to_owned(), self.to_string().into());
        fields
    }

    /// Returns what a file may say of it that others may see: `kind` and numbers, no names and no text.
    pub fn numbers(&self) -> Map<String, Value> {
        let values = match self {
            Self::FramesThinned {
                used, available, ..
            } => {
                json!({"used": used, "available": available})
            }
            Self::RetriedWithFewer { used, of, .. } => json!({"used": used, "of": of}),
            Self::Unrelated { names, dropped } => {
                json!({"frames": names.len(), "dropped": dropped})
            }
            Self::AnchorsFar {
                anchors,
                distance_percent,
            } => json!({"anchors": anchors, "distance": f64::from(*distance_percent) / 100.0}),
            Self::ImagesSkipped(images) => json!({
                "used": images.used,
                "left_out": images.left_out,
                "unusable": images.skipped.0.len(),
            }),
            Self::Image { others, .. } => json!({"images": others + 1}),
            Self::Cropped {
                percent, frames, ..
            } => json!({"percent": percent, "frames": frames}),
            Self::WithoutMask { names, frames } => {
                json!({"without": names.len(), "frames": frames})
            }
            Self::PosesKept { names } | Self::KnownOutliers { names } => {
                json!({"frames": names.len()})
            }
            Self::Distorted { pixels } => json!({"pixels": pixels}),
            Self::LengthsDisagree { percent } => json!({"percent": percent}),
            Self::NotLevel { degrees } => json!({"degrees": degrees}),
            Self::NotRefined { .. } | Self::Video(_) | Self::DemoWeights | Self::Repeated(_) => {
                json!({})
            }
        };
        let mut fields = Map::from_iter([("kind".to_owned(), self.kind().into())]);
        if let Value::Object(values) = values {
            fields.extend(values);
        }
        fields
    }
}
