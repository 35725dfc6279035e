//! What the results of a spool follow from: the content of the inputs, the weights and every option of the network.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vggt_model::Isa;

use super::super::{Network, PipelineError, ReadOptions, Source};
use crate::{
    frames::{PreprocessMode, list_folder, open_regular},
    system,
};

/// Raised when the same inputs, weights and options give other results than in the version before.
const RESULTS: u32 = 3;

/// Bytes of a file that are hashed at a time.
const WINDOW: usize = 1 << 20;

/// What results follow from, with names for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeOf {
    /// The files in order: name, and SHA-256 of the content or why there is none.
    pub(super) inputs: Vec<(String, String)>,
    /// SHA-256 of the weights, and the network's dimensions.
    pub(super) weights: (String, String),
    /// Names and values of what changes the results.
    pub(super) options: Vec<(String, String)>,
}

/// Whether files are still what they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<[i64; 5]>)>);

impl MadeOf {
    /// Reads all of `source` for its checksums. `frames` is the limit on frames that was asked for, `attention` names how
    /// the global blocks attend. `None` for random weights, which are never the same.
    ///
    /// # Errors
    /// When the folder or the weights cannot be read. A file that cannot be read is part of the key as such.
    pub fn new(
        network: &Network,
        source: &Source,
        read: &ReadOptions,
        frames: Option<usize>,
        attention: &str,
    ) -> Result<Option<(Self, Stamps)>, PipelineError> {
        let Some(weights) = network.weights_sha256()? else {
            return Ok(None);
        };
        let (mut inputs, stamps) = inputs(source)?;
        if let Source::Folder(dir) = source {
            // The summary names them.
            let skipped = list_folder(dir)?.skipped.0;
            inputs.extend(skipped.into_iter().map(|file| {
                let why = format!("skipped: {}", file.reason);
                (file.name, why)
            }));
        }
        let kind = match source {
            Source::Demo => "demo",
            Source::Images(_) => "images",
            Source::Folder(_) => "folder",
            Source::Video(_) => "video",
        };
        let isa = Isa::best().filter(|_| network.device().is_cpu());
        let mode = match read.mode {
            PreprocessMode::Crop => "crop",
            PreprocessMode::Pad => "pad",
        };
        let (fps, keyframes) = match (source, read.keyframes) {
            (Source::Video(_), Some(n)) => (String::new(), n.to_string()),
            (Source::Video(_), None) => (read.fps.to_string(), String::new()),
            _ => (String::new(), String::new()),
        };
        let options = [
            ("program", env!("VGGT_VERSION").to_owned()),
            ("results", RESULTS.to_string()),
            ("source", kind.to_owned()),
            ("preprocess", mode.to_owned()),
            ("fps", fps),
            ("keyframes", keyframes),
            (
                "max_frames",
                frames.map_or("all".to_owned(), |n| n.to_string()),
            ),
            ("limits of images", format!("{:?}", read.image_limits)),
            ("limits of videos", format!("{:?}", read.video_limits)),
            ("device", network.device_name().to_owned()),
            ("instructions", isa.map_or("", |isa| isa.name()).to_owned()),
            ("dtype", network.dtype().as_str().to_owned()),
            ("precision", network.precision().as_str().to_owned()),
            ("attention", attention.to_owned()),
        ];
        let made_of = Self {
            inputs,
            weights: (weights, format!("{:?}", network.config())),
            options: options
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
        };
        Ok(Some((made_of, stamps)))
    }

    /// Returns the SHA-256 over all of it and over `points`, whether the point head ran, as 64 hex digits.
    pub fn key(&self, points: bool) -> String {
        let json = serde_json::json!({"made_of": self, "points": points});
        hex(Sha256::digest(json.to_string()).as_slice())
    }

    /// Says what differs from `other`, as a clause of an error; `None` when nothing does.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.weights != other.weights {
            return Some("it was begun with other weights".to_owned());
        }
        for ((name, was), (_, is)) in self.options.iter().zip(&other.options) {
            if was != is {
                return Some(format!("its {name} was {was:?} and is {is:?} now"));
            }
        }
        if self.inputs.len() != other.inputs.len() {
            return Some(format!(
                "it was begun with {} input files, and there are {} now",
                self.inputs.len(),
                other.inputs.len()
            ));
        }
        for (was, is) in self.inputs.iter().zip(&other.inputs) {
            if was.0 != is.0 {
                return Some(format!(
                    "the input {:?} is not there any more, {:?} is in its place",
                    was.0, is.0
                ));
            }
            if was.1 != is.1 {
                return Some(format!("the input {:?} has changed", was.0));
            }
        }
        (self != other).then(|| "it was begun with other options".to_owned())
    }
}

impl Stamps {
    /// Returns whether no file was written since.
    pub fn still_hold(&self) -> bool {
        self.0.iter().all(|(path, stamp)| stamp_of(path) == *stamp)
    }
}

type Inputs = (Vec<(String, String)>, Stamps);

fn inputs(source: &Source) -> Result<Inputs, PipelineError> {
    if let Source::Folder(dir) = source {
        // Its errors come before anything else's.
        list_folder(dir)?;
    }
    let files = source.named_files();
    let stamps = files.iter().map(|(_, path)| (path.clone(), stamp_of(path)));
    let stamps = Stamps(stamps.collect());
    let hashed = files.into_par_iter().map(|(name, path)| {
        let hash = content(&path).unwrap_or_else(|e| format!("unreadable: {:?}", e.kind()));
        (name, hash)
    });
    Ok((hashed.collect(), stamps))
}

/// SHA-256 of a file.
fn content(path: &Path) -> io::Result<String> {
    let mut file = open_regular(path)?;
    let mut hasher = Sha256::new();
    let mut window = vec![0; WINDOW];
    loop {
        match file.read(&mut window) {
            Ok(0) => return Ok(hex(hasher.finalize().as_slice())),
            Ok(n) => hasher.update(&window[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn stamp_of(path: &Path) -> Option<[i64; 5]> {
    Some(system::stamp(&fs::metadata(path).ok()?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
