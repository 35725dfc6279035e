//! `vggt fetch`: downloads weights ahead of time.

use std::path::PathBuf;

use indicatif::ProgressBar;

use super::terminal::byte_bar;
use crate::cli::terminal::say;
use crate::hub::Hub;

/// Downloads the weights into the Hugging Face cache, or finds them there, and prints the path.
///
/// The first line says how much is downloaded, to which folder, and under which license.
///
/// HF_HOME, HF_ENDPOINT and HF_TOKEN are respected; so are SSL_CERT_FILE (certificates to trust instead of the built-in
/// ones) and VGGT_NAME_SERVER (the address of the name server to ask instead of the system's).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Repository on the hub
    #[arg(long, default_value = crate::hub::DEFAULT_REPO)]
    repo: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    /// One file of the repository instead of its weights
    #[arg(long)]
    file: Option<String>,
    /// Do not download: only check whether the file is in the cache
    #[arg(long)]
    offline: bool,
    /// The cache's folder instead of $HF_HOME/hub
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Prints the path of the weights on stdout.
///
/// # Errors
/// When they cannot be downloaded; a part that was downloaded is kept.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut settings = super::hub_settings()?;
    settings.offline |= args.offline;
    settings.repo = args.repo.clone();
    settings.revision = args.revision;
    if let Some(cache) = args.cache {
        settings.cache = cache;
    }
    let hub = Hub::new(settings)?;
    let mut bar = DownloadBar::default();
    let mut progress = bar.progress();
    let path = match &args.file {
        Some(file) => hub.file(&args.repo, file, &mut progress)?,
        None => hub.weights(&mut progress)?,
    };
    drop(progress);
    bar.finish();
    say!("{}", path.display());
    Ok(())
}

/// A progress bar that appears when a download starts.
#[derive(Default)]
pub(super) struct DownloadBar {
    bar: Option<ProgressBar>,
}

impl DownloadBar {
    /// Returns the callback for the hub.
    pub(super) fn progress(&mut self) -> impl FnMut(&str, u64, u64) -> bool {
        |_, at, total| {
            let bar = self.bar.get_or_insert_with(|| byte_bar("download"));
            bar.set_length(total);
            bar.set_position(at);
            true
        }
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
