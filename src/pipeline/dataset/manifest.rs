//! Which files of a dataset this program wrote, by their hashes: images and COLMAP's binary files carry no mark.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::IMAGES;
use crate::output::{MARK, OutputError, OutputRules, is_ours};

/// The file, beside `images`.
pub(super) const NAME: &str = "vggt.json";

/// Longest file that is read: ten thousand images take a megabyte.
const MAX_BYTES: u64 = 64 << 20;

/// Which files of a dataset this program wrote.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Manifest {
    generator: String,
    /// Name relative to `images` -> SHA-256 in hexadecimal.
    images: BTreeMap<String, String>,
    /// Name relative to the dataset -> SHA-256 in hexadecimal, of the model's files.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the manifest of an earlier run; without one, or with one of something else, nothing is ours.
    pub(super) fn read(folder: &Path) -> Self {
        let path = folder.join(NAME);
        let read = || -> Option<Self> {
            if !is_ours(&path).ok()? {
                return None;
            }
            let file = File::open(&path).ok()?.take(MAX_BYTES);
            serde_json::from_reader(io::BufReader::new(file)).ok()
        };
        read().unwrap_or_default()
    }

    /// Returns an empty manifest of this version.
    pub(super) fn new() -> Self {
        Self {
            generator: MARK.to_owned(),
            ..Self::default()
        }
    }

    /// Returns a manifest of this version with the same images.
    pub(super) fn with_images_only(&self) -> Self {
        Self {
            images: self.images.clone(),
            ..Self::new()
        }
    }

    /// Adds a file of the model that was written.
    pub(in super::super) fn add_file(&mut self, folder: &Path, name: &str) {
        if let Some(hash) = sha256_of(&folder.join(name)) {
            self.files.insert(name.to_owned(), hash);
        }
    }

    /// Returns true when the file of the model is still what an earlier run wrote.
    pub(super) fn wrote_file(&self, name: &str, path: &Path) -> bool {
        let known = self.files.get(name);
        known.is_some_and(|hash| sha256_of(path).as_ref() == Some(hash))
    }

    /// Adds an image that was written.
    pub(super) fn add(&mut self, name: &str, sha256: String) {
        self.images.insert(name.to_owned(), sha256);
    }

    /// Returns true when the file at `path` is still what an earlier run wrote under this name.
    pub(super) fn wrote_image(&self, name: &str, path: &Path) -> bool {
        let known = self.images.get(name);
        known.is_some_and(|hash| sha256_of(path).as_ref() == Some(hash))
    }

    /// Returns the files of an earlier run that are not in `now` and have not changed since.
    pub(super) fn stale(&self, folder: &Path, now: &[String]) -> Vec<PathBuf> {
        let gone = self.images.keys().filter(|name| !now.contains(name));
        gone.filter_map(|name| {
            let path = folder.join(IMAGES).join(name);
            self.wrote_image(name, &path).then_some(path)
        })
        .collect()
    }

    /// Writes the manifest.
    pub(in super::super) fn write(
        &self,
        folder: &Path,
        rules: &OutputRules,
    ) -> Result<(), OutputError> {
        // Strings always serialize.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        rules.file(&folder.join(NAME))?.write(text.as_bytes())
    }
}

/// Returns the hash of a regular file's content in hexadecimal; `None` when it is none, is a link, or cannot be read.
pub(super) fn sha256_of(path: &Path) -> Option<String> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path).ok()?, &mut hasher).ok()?;
    Some(hex(hasher))
}

/// Returns a finished hash in hexadecimal.
pub(super) fn hex(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
