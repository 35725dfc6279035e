//! What a spool says of itself: its version, what it is made from, and what it keeps.

use std::{fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vggt_model::anchors::FrameSimilarity;

use super::{
    error::{SpoolError, failed},
    home::{HEADER, Home},
    made_of::MadeOf,
};

/// Raised with every change of the files that an older program would misread.
const VERSION: u64 = 1;

/// What tells a spool from other folders.
const FORMAT: &str = "vggt-spool";

/// Longest header that is read back: the names of a hundred thousand inputs.
const MAX_HEADER: u64 = 32 << 20;

/// The content of `spool.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u64,
    /// What the results follow from.
    pub(super) made_of: MadeOf,
    /// What is kept of each frame.
    pub(super) fields: Fields,
    /// What the command line needs to go on; null in a cache.
    #[serde(default)]
    pub(super) note: Value,
}

/// What is kept of each frame beside its pixels, its depth and its camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// World points of the point head, and their confidence.
    pub points: bool,
    /// Values of the camera tokens of a frame, from which the camera head computes all cameras at the end; 0 where cameras
    /// come with the other results.
    pub camera_tokens: usize,
    /// How much each frame is like the first one.
    #[serde(default)]
    pub compared: Option<Compared>,
}

impl Compared {
    /// Values of a frame of `h` x `w` pixels.
    pub(super) fn values(self, size: (usize, usize)) -> usize {
        FrameSimilarity::values((self.patch_size, self.heads), size)
    }
}

/// What decides how many values the comparison of a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Pixels of a patch's side.
    pub patch_size: usize,
    /// Heads of the global blocks.
    pub heads: usize,
}

impl Header {
    pub(super) fn new(made_of: MadeOf, fields: Fields, note: Value) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            made_of,
            fields,
            note,
        }
    }

    /// Reads the header of a spool.
    pub(super) fn read(home: &Home) -> Result<Self, SpoolError> {
        let file = home.open(HEADER)?;
        Self::of_file(file, home.path())
    }

    /// As [`Header::read`], of a folder that another may have locked.
    pub(super) fn peek(folder: &Path) -> Result<Self, SpoolError> {
        match File::open(folder.join(HEADER)) {
            Ok(file) => Self::of_file(Some(file), folder),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::of_file(None, folder),
            Err(e) => Err(failed("open", &folder.join(HEADER))(e)),
        }
    }

    fn of_file(file: Option<File>, folder: &Path) -> Result<Self, SpoolError> {
        let path = folder.join(HEADER);
        let Some(file) = file else {
            return Err(not_ours(folder, "it has no spool.json"));
        };
        let bytes = read_all(file, MAX_HEADER).map_err(failed("read", &path))?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| not_ours(folder, "its spool.json is damaged or not one of vggt's"))?;
        if value["format"] != FORMAT {
            return Err(not_ours(folder, "its spool.json is not one of vggt's"));
        }
        match value["version"].as_u64() {
            Some(VERSION) => {}
            found => {
                return Err(SpoolError::Version {
                    path: folder.to_owned(),
                    found: found.unwrap_or_default(),
                    own: VERSION,
                });
            }
        }
        serde_json::from_value(value)
            .map_err(|e| not_ours(folder, &format!("its spool.json is damaged: {e}")))
    }

    /// Writes the header.
    pub(super) fn write(&self, home: &Home) -> Result<(), SpoolError> {
        let path = home.path().join(HEADER);
        let json = serde_json::to_vec_pretty(self).map_err(|e| failed("write", &path)(e.into()))?;
        home.write(HEADER, &json)
    }
}

/// Reads a file of at most so many bytes.
pub(super) fn read_all(file: File, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_ours(path: &Path, why: &str) -> SpoolError {
    SpoolError::NotOurs {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}
