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
mod find;
mod license;
mod transfer;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::HubError;
pub use find::find_weights;

use crate::resolver::Resolver;
use transfer::Client;

/// Default repository.
pub const DEFAULT_REPO: &str = "facebook/VGGT-1B";
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Receives the progress of a download: file, finished bytes, total bytes. Returning `false` stops it.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64) -> bool;

/// Where files come from and where they are cached.
#[derive(Clone)]
pub struct HubSettings {
    /// The cache's folder, `$HF_HOME/hub`.
    pub cache: PathBuf,
    /// Further caches of the same layout, which are searched but not written.
    pub other_caches: Vec<PathBuf>,
    /// Folder in which torch.hub keeps checkpoints, `$TORCH_HOME/hub/checkpoints`; searched but not written.
    pub torch_checkpoints: Option<PathBuf>,
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
            other_caches: Vec::new(),
            torch_checkpoints: None,
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
    /// Settings from the environment: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (else the token that the hub's own
    /// login command left in `$HF_HOME/token`) and `HF_HUB_OFFLINE`; the names that these had before
    /// (`HUGGINGFACE_HUB_CACHE`, `TRANSFORMERS_CACHE`, `HUGGING_FACE_HUB_TOKEN`, `TRANSFORMERS_OFFLINE`); `TORCH_HOME`;
    /// `XDG_CACHE_HOME`; and `SSL_CERT_FILE`.
    ///
    /// The only place of this module that reads the environment, for the command line to call: these variables are
    /// conventions of the hub, of PyTorch and of OpenSSL, not of this program.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(read: &dyn Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| read(name).filter(|value| !value.is_empty());
        let folder = |name: &str| var(name).map(|value| expanded(&value));
        let mut settings = Self::default();
        let caches = folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
        let hub_home = folder("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        settings.cache = hub_home.join("hub");
        let login = hf_hub::Cache::new(settings.cache.clone());
        // The hub's own client takes the older name only without the newer; files may be left under either.
        let mut named: Vec<PathBuf> = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
            .into_iter()
            .filter_map(folder)
            .collect();
        if !named.is_empty() {
            settings.cache = named.remove(0);
        }
        named.extend(folder("TRANSFORMERS_CACHE"));
        named.retain(|cache| *cache != settings.cache);
        settings.other_caches = named;
        let torch = folder("TORCH_HOME").unwrap_or_else(|| caches.join("torch"));
        settings.torch_checkpoints = Some(torch.join("hub/checkpoints"));
        if let Some(endpoint) = var("HF_ENDPOINT") {
            settings.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        settings.token = var("HF_TOKEN")
            .or_else(|| var("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| login.token())
            .map(|token| token.trim().to_owned());
        let offline = var("HF_HUB_OFFLINE").or_else(|| var("TRANSFORMERS_OFFLINE"));
        settings.offline = offline.is_some_and(|value| value != "0");
        settings.roots = var("SSL_CERT_FILE").map(PathBuf::from);
        settings
    }

    /// The folders of all caches, the one that is written first.
    fn caches(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.cache).chain(&self.other_caches)
    }

    /// Whether a path that [`find_weights`] returned is in one of the hub's caches.
    pub fn holds(&self, path: &Path) -> bool {
        self.caches().any(|cache| path.starts_with(cache))
    }
}

/// A path whose `~` is the home folder, as the hub's own client reads it.
fn expanded(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home().join(rest),
        None => path.into(),
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
            .field("other_caches", &self.other_caches)
            .field("torch_checkpoints", &self.torch_checkpoints)
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

/// Returns the SHA-256 of a file of the cache, in lower-case hexadecimal, without reading it: the cache names each blob
/// after its hash, which was verified before. `None` for any other file, and for weights in several files.
pub fn known_sha256(path: &Path, settings: &HubSettings) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let name = blob.file_name()?.to_str()?;
    let in_cache = settings
        .caches()
        .filter_map(|cache| cache.canonicalize().ok())
        .any(|cache| blob.starts_with(cache));
    let in_blobs = in_cache && blob.parent()?.ends_with("blobs");
    let is_hash = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let is_whole = !path.to_string_lossy().ends_with(find::INDEX_END);
    (in_blobs && is_hash && is_whole).then(|| name.to_ascii_lowercase())
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

    /// Returns the file `name` of `repo` (at `main`, or at the settings' revision when it is the settings' repo) from a
    /// cache, else downloads and verifies it.
    ///
    /// # Errors
    /// When it is not in a cache and cannot be downloaded.
    pub fn file(
        &self,
        repo: &str,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        cache::check_repo(repo)?;
        cache::check_path("a file name", name)?;
        self.files(repo, &[name.to_owned()], None, progress)?
            .pop()
            .ok_or_else(|| self.offline(repo, Some(name)))
    }

    fn revision_of(&self, repo: &str) -> &str {
        if repo == self.settings.repo {
            self.settings.revision.as_str()
        } else {
            "main"
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn folders_come_from_the_newest_variable() {
        let plain = settings(&[]);
        assert!(plain.cache.ends_with(".cache/huggingface/hub"));
        assert!(
            plain
                .torch_checkpoints
                .unwrap()
                .ends_with(".cache/torch/hub/checkpoints")
        );
        let xdg = settings(&[("XDG_CACHE_HOME", "/x")]);
        assert_eq!(xdg.cache, Path::new("/x/huggingface/hub"));
        assert_eq!(
            xdg.torch_checkpoints.unwrap(),
            Path::new("/x/torch/hub/checkpoints")
        );
        let homes = [
            ("XDG_CACHE_HOME", "/x"),
            ("HF_HOME", "/h"),
            ("TORCH_HOME", "/t"),
        ];
        let homes = settings(&homes);
        assert_eq!(homes.cache, Path::new("/h/hub"));
        assert_eq!(
            homes.torch_checkpoints.unwrap(),
            Path::new("/t/hub/checkpoints")
        );
        let older = settings(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o")]);
        assert_eq!(older.cache, Path::new("/o"));
        assert!(older.other_caches.is_empty());
        let both = [
            ("HF_HUB_CACHE", "/n"),
            ("HUGGINGFACE_HUB_CACHE", "/o"),
            ("TRANSFORMERS_CACHE", "/f"),
        ];
        let both = settings(&both);
        assert_eq!(both.cache, Path::new("/n"));
        assert_eq!(both.other_caches, [Path::new("/o"), Path::new("/f")]);
        assert!(both.holds(Path::new("/f/models--a--b/x")) && !both.holds(Path::new("/g")));
    }

    #[test]
    fn older_names_of_token_and_offline_are_read() {
        let older = settings(&[
            ("HUGGING_FACE_HUB_TOKEN", " t\n"),
            ("TRANSFORMERS_OFFLINE", "1"),
        ]);
        assert_eq!((older.token.as_deref(), older.offline), (Some("t"), true));
        let newer = settings(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]);
        assert!(!newer.offline);
    }
}
