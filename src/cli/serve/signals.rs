//! The signals that stop the service.

#[cfg(unix)]
use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

#[cfg(unix)]
use crate::{
    atomic_file,
    cli::{log, signals::ignores_hangup},
};

/// Exit code after a second request to stop, by the convention of shells: 128 + SIGINT.
#[cfg(unix)]
const INTERRUPTED: i32 = 130;

/// Completes when the process is asked to stop: SIGTERM, Ctrl-C, or the end of its terminal.
#[cfg(unix)]
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = Signals::install()?;
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

#[cfg(unix)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

#[cfg(unix)]
impl Signals {
    fn install() -> io::Result<Self> {
        let hangup = (!ignores_hangup()).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    async fn next(&mut self) {
        let Self {
            interrupt,
            terminate,
            hangup,
        } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

#[cfg(not(unix))]
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(e) = tokio::signal::ctrl_c().await {
            tracing::warn!("cannot install the Ctrl-C handler: {e}");
            std::future::pending::<()>().await;
        }
    })
}
