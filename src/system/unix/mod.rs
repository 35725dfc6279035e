//! Calls of a Unix system.

mod channel;
mod files;
mod folder;
mod signals;

pub(crate) use channel::{
    Channel, HAS_CHANNELS, channel_of_standard_input, ending_of, receive_with_file, send_with_file,
    standard_input_is_a_channel, start_with_channel,
};
pub(crate) use files::*;
pub(crate) use folder::OpenFolder;
pub(crate) use signals::{StopSignals, exit_now, on_ending_signals};

use std::{fs::File, io, os::fd::AsFd, path::PathBuf};

/// A standard stream without its lock and its buffer.
pub(crate) type Standard = File;

/// Returns standard output, at its own position.
pub(crate) fn standard_output() -> io::Result<Standard> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Returns standard error, at its own position.
pub(crate) fn standard_error() -> io::Result<Standard> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Returns device and inode of what standard error writes to, with a colon in between.
pub(crate) fn standard_error_id() -> Option<String> {
    let stat = rustix::fs::fstat(io::stderr().as_fd()).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns the bytes of memory that the kernel counts as free. It could free more, such as cached files, but tells that in
/// /proc only.
#[cfg(linux_calls)]
pub(crate) fn free_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    let free = info.freeram.checked_add(info.bufferram)?;
    free.checked_mul(u64::from(info.mem_unit))
}

/// Other systems have no common call for it.
#[cfg(not(linux_calls))]
pub(crate) fn free_memory() -> Option<u64> {
    None
}

/// Returns the file that the kernel was asked to start as this program.
#[cfg(linux_calls)]
pub(crate) fn started_as() -> Option<PathBuf> {
    let path = rustix::param::linux_execfn().to_str().ok()?;
    let absolute = std::path::absolute(path).ok()?;
    absolute.is_file().then_some(absolute)
}

/// Other systems do not tell.
#[cfg(not(linux_calls))]
pub(crate) fn started_as() -> Option<PathBuf> {
    None
}
