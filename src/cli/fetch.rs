//! `vggt fetch`: downloads weights ahead of time.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde_json::json;

use super::terminal::{ProgressKind, byte_bar, events, settings};
use crate::cli::terminal::{say, tell};
use crate::hub::Hub;

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt fetch                                                facebook/VGGT-1B, 5 GB
  HF_TOKEN=hf_... vggt fetch --repo facebook/VGGT-1B-Commercial
  vggt fetch --repo JianyuanWang/skyseg --file skyseg.onnx  for --mask-sky";

/// Downloads the weights into the Hugging Face cache, or finds them there, and prints the path.
///
/// The first line says how much is downloaded, to which folder, and under which license.
///
/// HF_HOME, HF_ENDPOINT and HF_TOKEN are respected; so are SSL_CERT_FILE (certificates to trust instead of the built-in
/// ones) and VGGT_NAME_SERVER (the address of the name server to ask instead of the system's).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
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

/// Time between two lines or events of a download.
const BETWEEN_LINES: Duration = Duration::from_secs(30);
const BETWEEN_EVENTS: Duration = Duration::from_millis(500);

/// The progress of a download: a bar that appears when it starts, lines, or events.
#[derive(Default)]
pub(super) struct DownloadBar {
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
}

impl DownloadBar {
    /// Returns the callback for the hub.
    pub(super) fn progress(&mut self) -> impl FnMut(&str, u64, u64) -> bool {
        |name, at, total| {
            match settings().progress {
                ProgressKind::Bar => {
                    let bar = self.bar.get_or_insert_with(|| byte_bar("download"));
                    bar.set_length(total);
                    bar.set_position(at);
                }
                ProgressKind::Json if self.is_due(BETWEEN_EVENTS) || at == total => {
                    events::write(
                        "download",
                        json!({ "file": name, "done": at, "total": total }),
                    );
                }
                ProgressKind::Lines if self.is_due(BETWEEN_LINES) => {
                    let (at, total) = (at as f64 / 1e6, total as f64 / 1e6);
                    tell!("download: {at:.0} of {total:.0} MB");
                }
                _ => {}
            }
            true
        }
    }

    fn is_due(&mut self, pause: Duration) -> bool {
        let due = self.shown.is_none_or(|at| at.elapsed() >= pause);
        if due {
            self.shown = Some(Instant::now());
        }
        due
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
