//! `vggt fetch`: the weights ahead of time.

use std::path::PathBuf;

use super::convert::bar;
use crate::hub::{Hub, HubSettings};

/// Download the weights into the Hugging Face cache, or find them there, and print the path.
///
/// HF_HOME, HF_ENDPOINT and HF_TOKEN are honoured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Repository on the hub.
    #[arg(long, default_value = crate::hub::DEFAULT_REPO)]
    pub repo: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// One file of the repository instead of its weights.
    #[arg(long)]
    pub file: Option<String>,
    /// Never ask the network: only say whether the file is there.
    #[arg(long)]
    pub offline: bool,
    /// The cache's folder instead of $HF_HOME/hub.
    #[arg(long)]
    pub cache: Option<PathBuf>,
}

/// Prints the path of the weights on stdout.
///
/// # Errors
/// When they cannot be had; what has arrived is kept.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut settings = HubSettings::from_env();
    settings.offline |= args.offline;
    settings.repo = args.repo.clone();
    settings.revision = args.revision;
    if let Some(cache) = args.cache {
        settings.cache = cache;
    }
    let hub = Hub::new(settings)?;
    let bar = bar("fetching");
    let mut progress = |_: &str, at: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(at);
        true
    };
    let path = match &args.file {
        Some(file) => hub.file(&args.repo, file, &mut progress)?,
        None => hub.weights(&mut progress)?,
    };
    bar.finish_and_clear();
    println!("{}", path.display());
    Ok(())
}
