//! Whether the weights are what they should be.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};
use vggt_model::{demo, weights::Weights};

use super::outlook::line;
use crate::{cli::model_args::ModelArgs, hub};

/// What is known of the weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WeightsState {
    /// None on this machine.
    Absent(String),
    /// Those inside the program.
    Bundled { sha256: String },
    /// A file.
    File {
        path: String,
        sha256: String,
        /// What the hub said when it was downloaded; `None` for files from elsewhere.
        expected: Option<String>,
    },
}

impl WeightsState {
    /// Looks where `vggt export` looks, but never asks the network.
    pub(super) fn find(model: &ModelArgs) -> anyhow::Result<Self> {
        if model.demo {
            let weights = demo::weights().context("the bundled weights cannot be read")?;
            return Ok(Self::Bundled {
                sha256: weights.sha256()?,
            });
        }
        let mut settings = model.hub()?;
        settings.offline = true;
        let explicit = model.checkpoint.as_deref();
        let path = match hub::find_weights(explicit, Path::new("."), &settings, &mut |_, _, _| true)
        {
            Ok(path) => path,
            Err(e) => return Ok(Self::Absent(e.to_string())),
        };
        Ok(Self::File {
            sha256: Weights::open(&path)?.sha256()?,
            expected: hub::known_sha256(&path, &settings),
            path: path.display().to_string(),
        })
    }

    /// What is wrong with them, and what to do.
    pub(super) fn damage(&self) -> Option<&'static str> {
        match self {
            Self::Bundled { sha256 } if sha256 != demo::WEIGHTS_SHA256 => Some(
                "the weights inside this program are not those it was built with: its file is damaged, install it again",
            ),
            Self::File {
                sha256,
                expected: Some(expected),
                ..
            } if sha256 != expected => {
                Some("the weights are not what the hub named: delete the file and fetch it again")
            }
            _ => None,
        }
    }

    /// What is missing, where there are none.
    pub(super) fn missing(&self) -> Option<&str> {
        match self {
            Self::Absent(why) => Some(why),
            _ => None,
        }
    }

    /// Where they are, in the first lines of the table.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Bundled { .. } => "the bundled ones, for the demo".to_owned(),
            Self::Absent(_) => {
                "none here: `vggt fetch` downloads them (5 GB); --demo needs none".to_owned()
            }
            Self::File { path, .. } => path.clone(),
        }
    }

    /// The last lines of the table.
    pub(super) fn lines(&self) -> String {
        let mut text = String::new();
        let _ = match self {
            Self::Bundled { sha256 } => {
                let says = match self.damage() {
                    Some(_) => "NOT what they were",
                    None => "as they were built in",
                };
                writeln!(text, "weights  the bundled ones, {says}\nsha256   {sha256}")
            }
            Self::Absent(why) => {
                line(&mut text, "weights", &format!("none here: {why}"));
                Ok(())
            }
            Self::File {
                path,
                sha256,
                expected,
            } => {
                let says = match expected {
                    Some(expected) if expected == sha256 => "as the hub named it",
                    Some(_) => "NOT what the hub named",
                    None => "not from the hub: what it should be is not known here",
                };
                writeln!(text, "weights  {path},\n         {says}\nsha256   {sha256}")
            }
        };
        text
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Bundled { sha256 } => json!({
                "name": demo::WEIGHTS_NAME,
                "sha256": sha256,
                "expected_sha256": demo::WEIGHTS_SHA256,
            }),
            Self::Absent(why) => json!({ "missing": why }),
            Self::File {
                path,
                sha256,
                expected,
            } => json!({ "path": path, "sha256": sha256, "expected_sha256": expected }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hash_that_is_known_can_be_wrong() {
        let file = |expected: Option<&str>| WeightsState::File {
            path: "model.pt".to_owned(),
            sha256: "aa".to_owned(),
            expected: expected.map(str::to_owned),
        };
        for (expected, good) in [(None, true), (Some("aa"), true), (Some("bb"), false)] {
            assert_eq!(file(expected).damage().is_none(), good, "{expected:?}");
        }
    }
}
