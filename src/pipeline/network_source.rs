//! Where weights come from, and what they are called.

use std::{
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use vggt_model::{Config, demo, weights::files_of};

/// Where the weights come from.
#[derive(Debug, Clone)]
pub enum NetworkSource {
    /// The bundled demo weights.
    Demo,
    /// A weights file.
    File {
        /// `model.pt` or `.safetensors`, an index of several, or a folder that holds one of these.
        weights: PathBuf,
        /// The network's dimensions; `None`: `config.json` next to the weights if there is one, else VGGT-1B.
        config: Option<PathBuf>,
        /// Name of the weights for provenance; `None`: the name of the file.
        name: Option<String>,
        /// SHA-256 of the file, where it is known; `None`: it is computed when needed.
        sha256: Option<String>,
    },
    /// Random weights of the right shapes, for benchmarks.
    Random(Config),
}

impl NetworkSource {
    /// Returns the name of the weights: of the repository or the file, never a full path.
    pub fn name(&self) -> String {
        match self {
            Self::Demo => demo::WEIGHTS_NAME.to_owned(),
            Self::Random(_) => "random".to_owned(),
            Self::File {
                name: Some(name), ..
            } => name.clone(),
            Self::File { weights, .. } => weights
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Returns the file with the network's dimensions: the one that was named, else `config.json` next to the weights.
    /// `None` stands for VGGT-1B.
    pub fn config_file(&self) -> Option<PathBuf> {
        match self {
            Self::File {
                config: Some(path), ..
            } => Some(path.clone()),
            Self::File { weights, .. } => {
                let beside = if weights.is_dir() {
                    weights.join("config.json")
                } else {
                    weights.with_file_name("config.json")
                };
                Some(beside).filter(|path| path.is_file())
            }
            Self::Demo | Self::Random(_) => None,
        }
    }

    /// Returns the files of the weights; none for those that are not in a file.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::File { weights, .. } => files_of(weights),
            Self::Demo | Self::Random(_) => Vec::new(),
        }
    }

    /// Returns a key that changes with the weights and with their dimensions.
    ///
    /// Made of the length and the modification time of the files: hashing the weights would take seconds of every start. A
    /// key that changes without need only means that a stored result is computed again.
    pub fn key(&self) -> String {
        let stamp = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            let time = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(format!("{} {} {time:?}", path.display(), meta.len()))
        };
        match self {
            Self::Demo => "demo".to_owned(),
            Self::Random(config) => format!("random {config:?}"),
            Self::File { weights, .. } => {
                let config = self.config_file();
                let files: Vec<_> = files_of(weights).iter().map(|file| stamp(file)).collect();
                format!("{files:?} {:?}", config.as_deref().and_then(stamp))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_key_covers_the_weights_and_the_config_next_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("model.safetensors");
        fs::write(&weights, "w").unwrap();
        let source = NetworkSource::File {
            weights: weights.clone(),
            config: None,
            name: None,
            sha256: None,
        };
        assert_eq!(source.name(), "model.safetensors");
        assert_eq!(source.config_file(), None);
        let mut keys = vec![source.key()];
        let config = dir.path().join("config.json");
        for text in ["{}", "{ }"] {
            fs::write(&config, text).unwrap();
            assert_eq!(source.config_file().as_ref(), Some(&config));
            keys.push(source.key());
        }
        fs::write(&weights, "other").unwrap();
        keys.push(source.key());
        assert_eq!(source.key(), keys[3]);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 4, "{keys:?}");
    }
}
