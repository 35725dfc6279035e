//! The signals that stop the service.

use std::sync::Arc;

use crate::{atomic_file, cli::log, http::Tls, system::StopSignals};

/// Exit code after a second request to stop, by the convention of shells: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Completes when the process is asked to stop: SIGTERM, Ctrl-C, or the end of its terminal.
/// With TLS a SIGHUP that no terminal sent has its files read again.
pub(super) fn stop_signal(tls: Option<Arc<Tls>>) -> anyhow::Result<impl Future<Output = ()>> {
    let reload = tls.map(|tls| Box::new(move || reload(&tls)) as Box<dyn Fn() + Send>);
    let mut signals = StopSignals::install(reload)?;
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

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("the certificate of HTTPS was read again"),
        Err(e) => tracing::error!("{e}; the certificate before stays in use"),
    }
}
