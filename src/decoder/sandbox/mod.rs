//! What the process that decodes gives up before it sees a file.
//!
//! - files and sockets that it inherited ([`leave_parent`]), and its life when its parent's ends;
//! - memory, processor time, open files, files that are written, core dumps (`limits`);
//! - every file by its name, and the network, through Landlock (`landlock`);
//! - every system call that no decoder needs, through seccomp (`filter`).

#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod landlock;
mod limits;
mod system;

use std::io;

use super::protocol::Settings;
use crate::frames::video_threads;

/// Lets go of what the process has from its parent, and dies with it.
///
/// # Errors
/// When the system refuses.
pub(super) fn leave_parent() -> io::Result<()> {
    system::close_inherited_files();
    // They are for the parent, which ends this process by closing its stream.
    system::ignore_signals();
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Takes everything from the process that decoding does not need. Returns in words what the system lacks or refuses of it.
pub(super) fn lock_in(settings: &Settings) -> Vec<String> {
    // Looks at files, so it comes first.
    let threads = video_threads();
    limits::be_first_to_go();
    let mut missing = limits::set(settings, threads);
    #[cfg(target_os = "linux")]
    {
        missing.extend(landlock::give_up_files());
        missing.extend(filter::give_up_calls());
    }
    #[cfg(not(target_os = "linux"))]
    missing.push("a sandbox: this is not Linux".to_owned());
    missing
}
