//! Signals. What is ignored when the program starts stays ignored, as `nohup` and shells ask.

use std::{fs, future::pending, io, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{Signals, SignalsInfo, exfiltrator::WithOrigin},
    low_level::{
        self,
        siginfo::{Cause, Origin},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Calls `obey` in a thread of its own on each signal that ends a command: Ctrl-C, SIGTERM, and the end of the terminal.
pub(crate) fn on_ending_signals(mut obey: impl FnMut() + Send + 'static) -> io::Result<()> {
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP];
    let mut signals = Signals::new(wanted.into_iter().filter(|s| !contains(ignored, *s)))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                obey();
            }
        })?;
    Ok(())
}

/// Ends the process without any cleanup, which may be what it waits for.
pub(crate) fn exit_now(code: i32) -> ! {
    low_level::exit(code)
}

/// The signals that stop a service: SIGTERM, Ctrl-C, and the end of its terminal.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<mpsc::UnboundedReceiver<()>>,
}

impl StopSignals {
    /// Receives them from now on. A SIGHUP that is not the end of the terminal calls `reload` instead, where there is something to
    /// reload.
    pub(crate) fn install(reload: Option<Box<dyn Fn() + Send>>) -> io::Result<Self> {
        // The process that started this one may want it to survive its terminal.
        let hangup = (!contains(ignored_signals(), SIGHUP)).then(|| hangups(reload));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    /// Completes at the next one.
    pub(crate) async fn next(&mut self) {
        let Self {
            interrupt,
            terminate,
            hangup,
        } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Tells of each SIGHUP that is not one to reload at.
fn hangups(reload: Option<Box<dyn Fn() + Send>>) -> io::Result<mpsc::UnboundedReceiver<()>> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGHUP])?;
    let (tell, told) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("hangup".to_owned())
        .spawn(move || {
            for origin in signals.forever() {
                match &reload {
                    Some(reload) if !is_of_terminal(&origin) => reload(),
                    _ => {
                        let _ = tell.send(());
                    }
                }
            }
        })?;
    Ok(told)
}

/// Whether a SIGHUP tells the end of the terminal: the kernel sends it to a shell and to what runs in the foreground, and the shell,
/// which leads the session, passes it on to the rest.
fn is_of_terminal(origin: &Origin) -> bool {
    if matches!(origin.cause, Cause::Kernel) {
        return true;
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let sender = origin.process.as_ref().map(|process| process.pid);
    sender.is_some_and(|sender| sender != own && session_leader() == sender)
}

/// Returns the process that leads this one's session: 0 where it is outside of the container, like each sender out there.
#[allow(unsafe_code, reason = "rustix::process::getsid panics at 0")]
fn session_leader() -> libc::pid_t {
    // SAFETY: takes a number and returns one.
    unsafe { libc::getsid(0) }
}

/// Returns the signals that the process was started to ignore: bit 0 is signal 1. None where the system does not tell.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    in_status(&status).unwrap_or_default()
}

fn contains(set: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).is_ok_and(|bit| set.checked_shr(bit).unwrap_or_default() & 1 == 1)
}

/// Returns the set of ignored signals from the text of `/proc/self/status`.
fn in_status(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tvggt\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        let set = in_status(status).unwrap();
        assert!(contains(set, SIGHUP) && !contains(set, SIGINT) && !contains(set, SIGTERM));
        assert!(!contains(set, 0) && !contains(set, 1000));
        assert_eq!(in_status("Name:\tvggt\n"), None);
    }
}
