//! Weights from the hub: finding, downloading and verifying them. The entry points are [`find_weights`] and, for any other
//! file, [`Hub::file`].
//!
//! The cache has the layout that every client of the hub shares:
//!
//! ```text
//! <cache>/models--<org>--<name>/blobs/<etag>              the bytes, under their hash
//!                              /blobs/<etag>.part         what has arrived so far (ours; other clients ignore it)
//!                              /blobs/<etag>.part.lock    held by the process that downloads
//!                              /snapshots/<commit>/<file> a link to the blob
//!                              /refs/<revision>           the commit a branch stood at
//! ```
//!
//! A blob gets its name after its bytes were verified, so whatever has a name may be used.

mod agent;
mod cache;
mod download;
mod error;
mod transfer;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::HubError;

use crate::resolver::Resolver;
use transfer::Client;

/// Default repository.
pub const DEFAULT_REPO: &str = "facebook/VGGT-1B";
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Resolver under which a repo keeps its weights, best first: safetensors needs no pickle.
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.pt"];

/// Receives the progress of a download: file, finished bytes, total bytes. Returning `false` stops it.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64) -> bool;

/// Where files come from and where they are cached.
#[derive(Clone)]
pub struct HubSettings {
    /// The cache's folder, `$HF_HOME/hub`.
    pub cache: PathBuf,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// Access token. Only sent to `endpoint`.
    pub token: Option<String>,
    /// `org/name`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Disables downloads.
    pub offline: bool,
    /// Resolver of the hub's host name.
    pub resolver: Resolver,
    /// PEM file of the certificates to trust, instead of Mozilla's, which are built in.
    pub roots: Option<PathBuf>,
    /// Wait before the first repetition; it doubles with each.
    pub backoff: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            cache: home().join(".cache/huggingface/hub"),
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            token: None,
            repo: DEFAULT_REPO.to_owned(),
            revision: "main".to_owned(),
            offline: false,
            resolver: Resolver::default(),
            roots: None,
            backoff: Duration::from_secs(1),
        }
    }
}

impl HubSettings {
    /// Settings from `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (else the token that the hub's own login
    /// command left in `$HF_HOME/token`) and `HF_HUB_OFFLINE`, and from `SSL_CERT_FILE`.
    ///
    /// The only place of this module that reads the environment, for the command line to call: these variables are
    /// conventions of the hub and of OpenSSL, not of this program.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut settings = Self::default();
        if let Some(home) = var("HF_HOME") {
            settings.cache = Path::new(&home).join("hub");
        }
        let login = hf_hub::Cache::new(settings.cache.clone());
        if let Some(cache) = var("HF_HUB_CACHE") {
            settings.cache = cache.into();
        }
        if let Some(endpoint) = var("HF_ENDPOINT") {
            settings.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        settings.token = var("HF_TOKEN")
            .or_else(|| login.token())
            .map(|token| token.trim().to_owned());
        settings.offline = var("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
        settings.roots = var("SSL_CERT_FILE").map(PathBuf::from);
        settings
    }
}

/// Returns the user's home folder; the working folder where there is none, as in an empty root file system.
fn home() -> PathBuf {
    let home = if cfg!(target_feature = "crt-static") {
        // Without HOME `home_dir` asks the C library for the user, which loads libraries that may not exist.
        std::env::var_os("HOME").map(PathBuf::from)
    } else {
        std::env::home_dir()
    };
    home.unwrap_or_default()
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("repo", &self.repo)
            .field("revision", &self.revision)
            .field("offline", &self.offline)
            .field("resolver", &self.resolver)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// Finds the weights: `explicit`, else `model.pt` or `model.safetensors` in `folder` (the working folder), else the
/// cache, else a download. A `config.json` of the repo is downloaded too, next to the weights.
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
    let local = ["model.pt", "model.safetensors"].map(|name| folder.join(name));
    if let Some(path) = local.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    Hub::new(settings.clone())?.weights(progress)
}

/// Returns the SHA-256 of a file of the cache, in lower-case hexadecimal, without reading it: the cache names each blob
/// after its hash, which was verified before. `None` for any other file.
pub fn known_sha256(path: &Path, settings: &HubSettings) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let cache = settings.cache.canonicalize().ok()?;
    let name = blob.file_name()?.to_str()?;
    let in_blobs = blob.starts_with(cache) && blob.parent()?.ends_with("blobs");
    let is_hash = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (in_blobs && is_hash).then(|| name.to_ascii_lowercase())
}

/// A hub with its cache.
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

impl Hub {
    /// Checks `settings`; does not touch the network.
    ///
    /// # Errors
    /// When the repo, the revision or the endpoint is invalid, or the file of trusted certificates cannot be read.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        cache::check_repo(&settings.repo)?;
        cache::check_path("a revision", &settings.revision)?;
        let client = Client::new(&settings)?;
        Ok(Self { settings, client })
    }

    /// Returns the weights of the repo in the settings, downloaded if needed, with its `config.json` next to them if it has
    /// one.
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
        let files = self.with_retries(repo, || self.client.list(repo, &self.settings.revision))?;
        let name = choose(&files).ok_or_else(|| HubError::NoWeights {
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
        self.file(repo, name, progress)
    }

    fn cached_weights(&self) -> Option<PathBuf> {
        let folder = cache::snapshot(
            &self.settings.cache,
            &self.settings.repo,
            &self.settings.revision,
        )?;
        let files: Vec<String> = std::fs::read_dir(&folder)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // Ignores a link whose blob is gone.
            .filter(|name| folder.join(name).is_file())
            .collect();
        choose(&files).map(|name| folder.join(name))
    }

    /// Returns the file `name` of `repo` (at `main`, or at the settings' revision when it is the settings' repo) from the
    /// cache, else downloads and verifies it.
    ///
    /// # Errors
    /// When it is not in the cache and cannot be downloaded.
    pub fn file(
        &self,
        repo: &str,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        cache::check_repo(repo)?;
        cache::check_path("a file name", name)?;
        let settings = &self.settings;
        let revision = if repo == settings.repo {
            settings.revision.as_str()
        } else {
            "main"
        };
        let cached =
            cache::snapshot(&settings.cache, repo, revision).map(|folder| folder.join(name));
        if let Some(path) = cached.filter(|path| path.is_file()) {
            return Ok(path);
        }
        if settings.offline {
            return Err(self.offline(repo, Some(name)));
        }
        let remote = self.with_retries(repo, || self.client.look(repo, revision, name))?;
        let blob = self.blob(repo, name, &remote, progress)?;
        cache::link(&settings.cache, repo, revision, &remote.commit, name, &blob)
    }

    /// Returns the error for a file that is missing from the cache, or for the weights.
    fn offline(&self, repo: &str, file: Option<&str>) -> HubError {
        HubError::Offline {
            repo: repo.to_owned(),
            file: file.map(str::to_owned),
            cache: self.settings.cache.clone(),
        }
    }
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
