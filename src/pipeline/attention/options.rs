//! What a user asks for.

use std::fmt;

use candle_core::DType;
use serde::{Deserialize, Serialize};
use vggt_model::anchors::AnchorSchedule;

use crate::pipeline::PipelineError;

/// Which frames the frames attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Every frame to all frames where these are few, and to anchors where they are many or memory is short.
    #[default]
    Auto,
    /// Every frame to all frames, as the network was trained. Frames that do not fit into memory are left out.
    Dense,
    /// Every frame to the anchors.
    Anchors,
}

/// What the anchors' keys and values are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AnchorCacheType {
    /// 16 bits, of which 11 are significant.
    F16,
    /// 32 bits: twice the memory, and nothing is rounded.
    F32,
}

impl From<AnchorCacheType> for DType {
    fn from(kept: AnchorCacheType) -> Self {
        match kept {
            AnchorCacheType::F16 => Self::F16,
            AnchorCacheType::F32 => Self::F32,
        }
    }
}

/// How the global blocks attend, as options of a job and of the command line.
///
/// The names of the fields are the names of the options everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AttentionOptions {
    /// Which frames the frames attend to.
    pub attention: Attention,
    /// Number of anchors; `None` takes 40, and fewer where memory is short.
    pub anchors: Option<usize>,
    /// The anchors themselves, counted from 0; `None` chooses the frames that are least like each other.
    pub anchor_frames: Option<Vec<usize>>,
    /// What the global blocks attend to; `None` takes what fits the depth of the network.
    pub anchor_schedule: Option<AnchorSchedule>,
    /// What the anchors' keys and values are kept in; `None` takes half of F32 on the CPU, and what a device computes in.
    pub anchor_cache: Option<AnchorCacheType>,
    /// Leaves out frames that seem to show something else than the first one.
    pub drop_unrelated: bool,
}

impl AttentionOptions {
    /// Checks what does not depend on the frames.
    ///
    /// # Errors
    /// [`PipelineError::Attention`] for a value out of range, or options that contradict each other.
    pub fn check(&self) -> Result<(), PipelineError> {
        let wrong = |why: String| Err(PipelineError::Attention(why));
        if self.anchors == Some(0) {
            return wrong("cannot use 0 as anchors: expected at least 1".to_owned());
        }
        let of_anchors = [
            ("anchors", self.anchors.is_some()),
            ("anchor_frames", self.anchor_frames.is_some()),
            ("anchor_schedule", self.anchor_schedule.is_some()),
            ("anchor_cache", self.anchor_cache.is_some()),
        ];
        let given = of_anchors.iter().find(|(_, given)| *given);
        if let (Attention::Dense, Some((name, _))) = (self.attention, given) {
            return wrong(format!("cannot use {name} with attention \"dense\""));
        }
        let Some(frames) = &self.anchor_frames else {
            return Ok(());
        };
        let mut sorted = frames.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.first() != Some(&0) || sorted.len() != frames.len() {
            return wrong(format!(
                "cannot use {frames:?} as anchor_frames: expected different frames with frame 0, which defines the \
                 coordinates, among them"
            ));
        }
        if self.anchors.is_some_and(|count| count != frames.len()) {
            return wrong(format!(
                "cannot use {} anchors: anchor_frames names {}",
                self.anchors.unwrap_or_default(),
                frames.len()
            ));
        }
        Ok(())
    }

    /// Whether anchors are asked for by any of the options.
    pub(super) fn asks_for_anchors(&self) -> bool {
        self.attention == Attention::Anchors
            || self.anchors.is_some()
            || self.anchor_frames.is_some()
            || self.anchor_schedule.is_some()
    }

    /// Everything that changes results, as text.
    pub(in crate::pipeline) fn key(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Dense => "dense",
            Self::Anchors => "anchors",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json() {
        let options = AttentionOptions {
            attention: Attention::Anchors,
            anchors: Some(3),
            anchor_frames: Some(vec![0, 9, 3]),
            anchor_schedule: Some("1,2,3".parse().unwrap()),
            anchor_cache: Some(AnchorCacheType::F32),
            drop_unrelated: true,
        };
        let json = serde_json::to_value(&options).unwrap();
        assert_eq!(json["attention"], "anchors");
        assert_eq!(json["anchor_schedule"], "1,2,3");
        let back: AttentionOptions = serde_json::from_value(json).unwrap();
        assert_eq!(back, options);
        let default: AttentionOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(default, AttentionOptions::default());
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let with = |change: &dyn Fn(&mut AttentionOptions)| {
            let mut options = AttentionOptions::default();
            change(&mut options);
            options.check().map_err(|e| e.to_string())
        };
        assert!(with(&|o| o.anchor_frames = Some(vec![5, 0, 2])).is_ok());
        for (word, change) in [
            (
                "anchors",
                &(|o: &mut AttentionOptions| o.anchors = Some(0)) as &dyn Fn(&mut _),
            ),
            ("anchor_frames", &|o: &mut AttentionOptions| {
                o.anchor_frames = Some(vec![1, 2])
            }),
            ("anchor_frames", &|o: &mut AttentionOptions| {
                o.anchor_frames = Some(vec![0, 2, 2])
            }),
            ("anchor_frames", &|o: &mut AttentionOptions| {
                o.anchor_frames = Some(vec![])
            }),
            ("dense", &|o: &mut AttentionOptions| {
                o.attention = Attention::Dense;
                o.anchors = Some(4);
            }),
            ("names 2", &|o: &mut AttentionOptions| {
                o.anchors = Some(4);
                o.anchor_frames = Some(vec![0, 1]);
            }),
        ] {
            let e = with(change).unwrap_err();
            assert!(e.contains(word), "{e}");
        }
    }
}
