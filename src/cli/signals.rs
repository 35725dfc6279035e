//! The signals that end a command: Ctrl-C, SIGTERM, and the end of the terminal.
//!
//! What is ignored when the program starts stays ignored, as `nohup` and shells ask. The first signal has half-written files
//! removed and says how to go on; nothing that may wait, such as a stuck disk or a terminal that shows nothing any more, keeps a
//! second one from ending the process. The service has signals of its own, see `serve/signals.rs`.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use super::{
    Interrupted,
    terminal::{say_last, tell},
};
use crate::{atomic_file, system};

/// How long the last words may take: a terminal that is stopped, or a pipe that nobody reads, takes none.
const LAST_LINE: Duration = Duration::from_secs(1);

/// How long a second signal waits for the work of the first: a terminal that closes sends two at once, of the kernel and of the
/// shell, and the first one needs some milliseconds to remove files.
const GRACE: Duration = Duration::from_millis(500);

/// Whether the last signal is still being obeyed.
static BUSY: AtomicBool = AtomicBool::new(false);

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
pub(super) fn set_up() {
    if let Err(e) = start() {
        tracing::warn!("Ctrl-C may leave temporary files behind: {e}");
    }
}

fn start() -> io::Result<()> {
    let (orders, obeyed) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            for () in obeyed {
                obey_at_last();
                BUSY.store(false, Ordering::Release);
            }
        })?;
    system::on_ending_signals(move || pass_on(&orders))
}

/// Has the signal obeyed by the other thread, or ends the process when that one is still at work.
fn pass_on(orders: &SyncSender<()>) {
    if BUSY.swap(true, Ordering::AcqRel) {
        thread::sleep(GRACE);
        if BUSY.swap(true, Ordering::AcqRel) {
            // Without any cleanup, which may be what it waits for.
            system::exit_now(Interrupted::CODE.into());
        }
    }
    if orders.try_send(()).is_err() {
        system::exit_now(Interrupted::CODE.into());
    }
}

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
