//! The signals that stop the service.

use crate::{atomic_file, cli::log, system::StopSignals};

/// Exit code after a second request to stop, by the convention of shells: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Completes when the process is asked to stop: SIGTERM, Ctrl-C, or the end of its terminal.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = StopSignals::install()?;
    Ok(async move {
        signals.next().await;
        // A second signal does not wait for the grace period. Jobs with a row run again in any case.
        tokio::spawn(async move {
            signals.next().await;
            atomic_file::remove_unfinished();
            log::flush();
            std::process::exit(INTERRUPTED);
        });
    })
}
