//! Ctrl-C, the one signal of every system.

use std::{io, thread};

use tokio::{runtime, signal::ctrl_c};

/// Calls `obey` in a thread of its own on each Ctrl-C.
pub(crate) fn on_ending_signals(mut obey: impl FnMut() + Send + 'static) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while ctrl_c().await.is_ok() {
                    obey();
                }
            });
        })?;
    Ok(())
}

/// Ends the process.
pub(crate) fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

/// The signal that stops a service.
pub(crate) struct StopSignals;

impl StopSignals {
    /// Receives it from now on. Nothing is reloaded: there is no signal for it.
    pub(crate) fn install(_: Option<Box<dyn Fn() + Send>>) -> io::Result<Self> {
        Ok(Self)
    }

    /// Completes at the next one.
    pub(crate) async fn next(&mut self) {
        if let Err(e) = ctrl_c().await {
            tracing::warn!("cannot install the Ctrl-C handler: {e}");
            std::future::pending::<()>().await;
        }
    }
}
