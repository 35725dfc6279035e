//! What the process that decodes gives up before it sees a file.
//!
//! - files and sockets that it inherited ([`leave_parent`]), and its life when its parent's ends;
//! - memory, processor time, open files, files that are written, core dumps (`limits`);
//! - every file by its name, and the network, through Landlock (`landlock`);
//! - every system call that no decoder needs, through seccomp (`filter`).

#[cfg(linux_calls)]
mod filter;
#[cfg(linux_calls)]
mod landlock;
#[cfg(unix_calls)]
mod limits;
#[cfg(unix_calls)]
mod system;

use std::io;

use super::protocol::Settings;
#[cfg(unix_calls)]
use crate::frames::video_threads;

/// Lets go of what the process has from its parent, and dies with it.
///
/// # Errors
/// When the system refuses.
#[cfg(unix_calls)]
pub(super) fn leave_parent() -> io::Result<()> {
    system::close_inherited_files();
    // They are for the parent, which ends this process by closing its stream.
    system::ignore_signals();
    #[cfg(linux_calls)]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Takes everything from the process that decoding does not need. Returns in words what the system lacks or refuses of it.
#[cfg(unix_calls)]
pub(super) fn lock_in(settings: &Settings) -> Vec<String> {
    // Looks at files, so it comes first.
    let threads = video_threads();
    limits::be_first_to_go();
    let mut missing = limits::set(settings, threads);
    #[cfg(linux_calls)]
    {
        missing.extend(landlock::give_up_files());
        missing.extend(filter::give_up_calls());
    }
    #[cfg(not(linux_calls))]
    missing.push("a sandbox: this is not Linux".to_owned());
    missing
}

/// Elsewhere no process decodes for another.
#[cfg(not(unix_calls))]
pub(super) fn leave_parent() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Elsewhere there is nothing to take.
#[cfg(not(unix_calls))]
pub(super) fn lock_in(_: &Settings) -> Vec<String> {
    Vec::new()
}
