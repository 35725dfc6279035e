//! Weights and device, shared by the subcommands that run the network.

use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::{DType, Device};
use clap::Args;
use vggt_model::{Config, Precision};

use super::{UsageError, choices::choices, fetch::DownloadBar};
use crate::{
    hub::{self, HubSettings},
    pipeline::{DeviceChoice, Network, NetworkSource},
};

/// Default revision of a repository.
const DEFAULT_REVISION: &str = "main";

/// Weights and device.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct ModelArgs {
    /// Weights: a PyTorch model.pt or .safetensors, the index of several files, or a folder with one of these [default:
    /// ./model.pt, ./model.safetensors, the caches of the Hugging Face hub and of torch.hub, then a download]
    #[arg(long, value_name = "FILE")]
    pub(super) checkpoint: Option<PathBuf>,
    /// The network's dimensions [default: config.json next to the weights, else VGGT-1B]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) config: Option<PathBuf>,
    /// Use the small bundled weights; trained on synthetic scenes only
    #[arg(long, conflicts_with_all = ["checkpoint", "config", "repo"])]
    pub(super) demo: bool,
    /// Hugging Face repository to take weights from
    #[arg(long, value_name = "OWNER/NAME", default_value = hub::DEFAULT_REPO, hide_short_help = true)]
    pub(super) repo: String,
    /// Branch, tag or commit of the repository
    #[arg(long, default_value = DEFAULT_REVISION, hide_short_help = true)]
    pub(super) revision: String,
    /// Do not download anything
    #[arg(long, hide_short_help = true)]
    pub(super) offline: bool,
    /// Where to compute; cuda:N is a certain GPU
    #[arg(long, default_value = "auto", value_parser = choices(&["auto", "cpu", "cuda"], |s| s.parse::<DeviceChoice>()))]
    pub(super) device: DeviceChoice,
    /// Number type of the transformer [default: f32 on the CPU; on CUDA bf16, f16 before
    /// compute capability 8.0]
    #[arg(long, value_parser = choices(&["f32", "f16", "bf16"], parse_dtype), hide_short_help = true)]
    pub(super) dtype: Option<DType>,
    /// How the transformer multiplies: fast takes 16-bit integers for layers and attention, on the CPU
    #[arg(long, default_value_t, value_parser = choices(&["exact", "fast"], parse_precision), hide_short_help = true)]
    pub(super) precision: Precision,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), hide_short_help = true)]
    pub(super) threads: Option<u16>,
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

pub(super) fn parse_dtype(s: &str) -> Result<DType, String> {
    match s {
        "f32" | "float32" => Ok(DType::F32),
        "f16" | "float16" => Ok(DType::F16),
        "bf16" | "bfloat16" => Ok(DType::BF16),
        _ => Err(format!("invalid type {s:?}: expected f32, f16 or bf16")),
    }
}

fn parse_precision(s: &str) -> Result<Precision, String> {
    s.parse()
        .map_err(|_| format!("invalid precision {s:?}: expected exact or fast"))
}

impl ModelArgs {
    /// Sets the size of the thread pool that everything computes in.
    pub(super) fn set_threads(&self) -> anyhow::Result<()> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(threads))
                .build_global()
                .context("cannot start the threads")?;
        }
        Ok(())
    }

    /// Returns the local files that hold, or may hold, the weights and their dimensions.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        if self.demo {
            return Vec::new();
        }
        let searched = ["model.pt", "model.safetensors", "config.json"].map(PathBuf::from);
        let given = [self.checkpoint.clone(), self.config.clone()];
        let mut files: Vec<PathBuf> = given.into_iter().flatten().chain(searched).collect();
        // A folder of weights, or an index, stands for the files in its folder.
        if let Some(checkpoint) = &self.checkpoint {
            let folder = match checkpoint.is_dir() {
                true => Some(checkpoint.as_path()),
                false => checkpoint.parent().filter(|_| is_json(checkpoint)),
            };
            let folder = folder.map(|f| {
                if f.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    f
                }
            });
            let entries = folder.and_then(|folder| folder.read_dir().ok());
            files.extend(entries.into_iter().flatten().flatten().map(|e| e.path()));
        }
        files
    }

    /// Returns the settings of the hub, from the environment and the arguments.
    pub(super) fn hub(&self) -> anyhow::Result<HubSettings> {
        Ok(HubSettings {
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            offline: self.offline,
            ..super::hub_settings()?
        })
    }

    /// Finds the weights, downloading them if needed.
    pub(super) fn source(&self) -> anyhow::Result<NetworkSource> {
        if self.demo {
            return Ok(NetworkSource::Demo);
        }
        let settings = self.hub()?;
        let mut bar = DownloadBar::default();
        let weights = hub::find_weights(
            self.checkpoint.as_deref(),
            Path::new("."),
            &settings,
            &mut bar.progress(),
        )
        .context("no weights (--checkpoint FILE names some, --demo uses the bundled ones)")?;
        bar.finish();
        Ok(NetworkSource::File {
            // A file of the cache is named after its repository, not after its file name there.
            name: settings.holds(&weights).then(|| self.repo.clone()),
            sha256: hub::known_sha256(&weights, &settings),
            config: self.config.clone(),
            weights,
        })
    }

    /// Returns what is known of weights that other processes load.
    pub(super) fn source_elsewhere(&self) -> NetworkSource {
        if self.demo {
            return NetworkSource::Demo;
        }
        let file = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = self.checkpoint.as_ref().and_then(file);
        NetworkSource::File {
            name: Some(name.unwrap_or_else(|| self.repo.clone())),
            sha256: None,
            config: None,
            weights: self.checkpoint.clone().unwrap_or_default(),
        }
    }

    /// Returns random weights of the dimensions that the arguments name.
    pub(super) fn random_source(&self) -> anyhow::Result<NetworkSource> {
        if self.checkpoint.is_some() {
            let why = "--random and --checkpoint exclude each other".to_owned();
            return Err(UsageError(why).into());
        }
        let config = match &self.config {
            Some(path) => Config::open(path)?,
            None if self.demo => vggt_model::demo::config()?,
            None => Config::default(),
        };
        Ok(NetworkSource::Random(config))
    }

    /// Loads the network onto the device that the arguments name.
    pub(super) fn load(&self, source: &NetworkSource) -> anyhow::Result<Network> {
        self.load_on(source, self.device.open()?)
    }

    /// Loads the network onto `device`.
    pub(super) fn load_on(
        &self,
        source: &NetworkSource,
        device: Device,
    ) -> anyhow::Result<Network> {
        Ok(Network::load(source, device, self.dtype, self.precision)?)
    }
}
