//! Which file holds the weights, and where it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vggt_model::weights::{Weights, shard_names};

use super::{DEFAULT_REPO, Hub, HubError, HubSettings, Progress, cache};

/// Names under which a repo keeps its weights, best first: safetensors needs no pickle.
const WEIGHTS: [&str; 3] = ["model.safetensors", INDEX, "model.pt"];
/// Names the files of weights that are split.
const INDEX: &str = "model.safetensors.index.json";
pub(super) const INDEX_END: &str = ".index.json";

/// Names that torch.hub gives to downloads: the last part of their address. Upstream's README loads the first.
const TORCH_NAMES: [(&str, &str); 2] = [
    (DEFAULT_REPO, "model.pt"),
    ("facebook/VGGT-1B-Commercial", "vggt_1B_commercial.pt"),
];

/// Finds the weights: `explicit`, else `model.pt` or `model.safetensors` in `folder` (the working folder), else the hub's
/// caches, else torch.hub's, else a download. A `config.json` of the repo is downloaded too, next to the weights.
///
/// An `explicit` path is returned unchecked: opening it reports the error.
///
/// # Errors
/// When the weights are not found and cannot be downloaded.
pub fn find_weights(
    explicit: Option<&Path>,
    folder: &Path,
    settings: &HubSettings,
    progress: Progress<'_>,
) -> Result<PathBuf, HubError> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    let local = ["model.pt", "model.safetensors", INDEX].map(|name| folder.join(name));
    if let Some(path) = local.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let hub = Hub::new(settings.clone())?;
    if let Some(path) = hub.cached_weights().or_else(|| torch_hub(settings)) {
        return Ok(path);
    }
    hub.weights(progress)
}

/// The weights as torch.hub downloaded them, for repositories that are loaded this way. The names are common ones, so the
/// file's own list of tensors decides.
fn torch_hub(settings: &HubSettings) -> Option<PathBuf> {
    let (_, name) = TORCH_NAMES
        .into_iter()
        .find(|(repo, _)| *repo == settings.repo && settings.revision == "main")?;
    let path = settings.torch_checkpoints.as_ref()?.join(name);
    if !path.is_file() {
        return None;
    }
    let ours = Weights::open(&path).is_ok_and(|weights| {
        weights
            .iter()
            .any(|(name, _)| name.starts_with("aggregator."))
    });
    if !ours {
        tracing::debug!("\"{}\" holds other weights", path.display());
    }
    ours.then_some(path)
}

impl Hub {
    /// Returns the weights of the repo in the settings, downloaded if needed, with its `config.json` next to them if it has
    /// one. Of weights in several files that is their index.
    ///
    /// # Errors
    /// As [`Hub::file`]; also when it is not clear which file of the repo holds the weights.
    pub fn weights(&self, progress: Progress<'_>) -> Result<PathBuf, HubError> {
        let repo = &self.settings.repo;
        if let Some(path) = self.cached_weights() {
            return Ok(path);
        }
        if self.settings.offline {
            return Err(self.offline(repo, None));
        }
        let listing =
            self.with_retries(repo, || self.client.list(repo, &self.settings.revision))?;
        let files = &listing.files;
        let name = choose(files).ok_or_else(|| HubError::NoWeights {
            repo: repo.clone(),
            files: files
                .iter()
                .filter(|name| is_weights(name))
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        if files.iter().any(|file| file == "config.json") {
            self.file(repo, "config.json", progress)?;
        }
        let license = listing.license.as_deref();
        let name = [name.to_owned()];
        let path = self
            .files(repo, &name, license, progress)?
            .pop()
            .ok_or_else(|| self.offline(repo, None))?;
        if name[0].ends_with(INDEX_END) {
            self.files(repo, &shards(&path)?, license, progress)?;
        }
        Ok(path)
    }

    /// The weights in one of the caches, if all of their files are there.
    pub(super) fn cached_weights(&self) -> Option<PathBuf> {
        let settings = &self.settings;
        settings.caches().find_map(|folder| {
            let folder = cache::snapshot(folder, &settings.repo, &settings.revision)?;
            weights_of_snapshot(&folder)
        })
    }
}

fn weights_of_snapshot(folder: &Path) -> Option<PathBuf> {
    let files: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        // Ignores a link whose blob is gone.
        .filter(|name| folder.join(name).is_file())
        .collect();
    let path = folder.join(choose(&files)?);
    if !path.to_string_lossy().ends_with(INDEX_END) {
        return Some(path);
    }
    let shards = shard_names(&path).ok()?;
    let whole = shards.iter().all(|shard| folder.join(shard).is_file());
    whole.then_some(path)
}

/// Names of the files that a downloaded index joins.
fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let names = shard_names(index).map_err(|e| HubError::Damaged {
        file: index.display().to_string(),
        what: e.to_string(),
    })?;
    for name in &names {
        cache::check_path("a file name", name)?;
    }
    Ok(names)
}

fn is_weights(name: &str) -> bool {
    !name.contains('/')
        && [".safetensors", ".pt"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Returns the weights among `files`: by name, else the only candidate.
fn choose(files: &[String]) -> Option<&str> {
    if let Some(name) = WEIGHTS
        .iter()
        .find(|name| files.iter().any(|file| file == *name))
    {
        return Some(name);
    }
    let mut possible = files.iter().filter(|name| is_weights(name));
    // VGGT-1B-Commercial has one file, of its own name.
    possible
        .next()
        .filter(|_| possible.next().is_none())
        .map(String::as_str)
}
