//! The signals that end a command: Ctrl-C, SIGTERM, and the end of the terminal.
//!
//! What is ignored when the program starts stays ignored, as `nohup` and shells ask. The first signal has half-written files
//! removed and says how to go on; nothing that may wait, such as a stuck disk or a terminal that shows nothing any more, keeps a
//! second one from ending the process. The service has signals of its own, see `serve/signals.rs`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use super::{
    Interrupted,
    terminal::{say_last, tell},
};
use crate::atomic_file;

/// How long the last words may take: a terminal that is stopped, or a pipe that nobody reads, takes none.
const LAST_LINE: Duration = Duration::from_secs(1);

/// What the next signal does instead of ending the process.
static INSTEAD: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Cleans up before a signal ends the process, and returns what there is to say.
type LastWords = fn() -> Option<String>;

/// What is called before a signal ends the process.
static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

/// Makes the next signal call this instead of ending the process; the one after it ends the process.
pub(super) fn on_interrupt(instead: impl FnOnce() + Send + 'static) {
    *INSTEAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(instead));
}

/// Has this called before a signal ends the process.
pub(super) fn before_exit(words: LastWords) {
    *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// Handles the signals that are not ignored, from now on.
#[cfg(unix)]
pub(super) fn set_up() {
    if let Err(e) = unix::set_up() {
        tracing::warn!("Ctrl-C may leave temporary files behind: {e}");
    }
}

/// Elsewhere the system ends the process.
#[cfg(not(unix))]
pub(super) fn set_up() {}

/// Does what a signal asks for. Returns only when something else was to be done than to end.
fn obey() {
    let taken = INSTEAD
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(instead) = taken {
        return instead();
    }
    // A signal runs no `Drop`, so half-written files are removed here. Nothing else needs a cleanup.
    atomic_file::remove_unfinished();
    let words = *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    let words = words.and_then(|words| words());
    // In a thread of its own: the holder of the lock of standard error may be waiting for a terminal.
    let (said, done) = mpsc::sync_channel(1);
    let speaker = thread::Builder::new().spawn(move || {
        say_last(|| match words {
            Some(more) => tell!("{Interrupted}; {more}"),
            None => tell!("{Interrupted}"),
        });
        let _ = said.send(());
    });
    if speaker.is_ok() {
        let _ = done.recv_timeout(LAST_LINE);
    }
    std::process::exit(Interrupted::CODE.into());
}

/// As [`obey`]; a panic ends the process too.
fn obey_at_last() {
    if catch_unwind(AssertUnwindSafe(obey)).is_err() {
        std::process::exit(Interrupted::CODE.into());
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        io,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc::{self, SyncSender},
        },
        thread,
        time::Duration,
    };

    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
        low_level,
    };

    use super::{Interrupted, obey_at_last};

    /// How long a second signal waits for the work of the first: a terminal that closes sends two at once, of the kernel and of the
    /// shell, and the first one needs some milliseconds to remove files.
    const GRACE: Duration = Duration::from_millis(500);

    /// Whether the last signal is still being obeyed.
    static BUSY: AtomicBool = AtomicBool::new(false);

    pub(super) fn set_up() -> io::Result<()> {
        let ignored = ignored_signals();
        let wanted = [SIGINT, SIGTERM, SIGHUP];
        let mut signals = Signals::new(wanted.into_iter().filter(|s| !contains(ignored, *s)))?;
        let (orders, obeyed) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                for () in obeyed {
                    obey_at_last();
                    BUSY.store(false, Ordering::Release);
                }
            })?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    pass_on(&orders);
                }
            })?;
        Ok(())
    }

    /// Has the signal obeyed by the other thread, or ends the process when that one is still at work.
    fn pass_on(orders: &SyncSender<()>) {
        if BUSY.swap(true, Ordering::AcqRel) {
            thread::sleep(GRACE);
            if BUSY.swap(true, Ordering::AcqRel) {
                // Without any cleanup, which may be what it waits for.
                low_level::exit(Interrupted::CODE.into());
            }
        }
        if orders.try_send(()).is_err() {
            low_level::exit(Interrupted::CODE.into());
        }
    }

    /// Returns the signals that the process was started to ignore: bit 0 is signal 1. None where the system does not tell.
    pub(in crate::cli) fn ignored_signals() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        in_status(&status).unwrap_or_default()
    }

    pub(in crate::cli) fn contains(set: u64, signal: i32) -> bool {
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
}

/// Whether the process that started this one wants it to survive its terminal, as `nohup` does.
#[cfg(unix)]
pub(super) fn ignores_hangup() -> bool {
    unix::contains(unix::ignored_signals(), signal_hook::consts::SIGHUP)
}
