//! A process at the other end of a pair of sockets, which is handed open files.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, PipeReader},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use crate::system::Ending;

/// A stream to another process, over which open files can be handed.
pub(crate) use std::os::unix::net::UnixStream as Channel;

/// Whether this system has them.
pub(crate) const HAS_CHANNELS: bool = true;

/// A peer that has gone is an error and not a signal, and a file that arrives is not for programs that are started.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: (SendFlags, RecvFlags) = (SendFlags::NOSIGNAL, RecvFlags::CMSG_CLOEXEC);
// Apple's systems have neither flag. Rust ignores that signal from the start, and the process that receives files starts none.
#[cfg(target_vendor = "apple")]
const FLAGS: (SendFlags, RecvFlags) = (SendFlags::empty(), RecvFlags::empty());

/// Starts a process under this name, with a channel as its standard input and a pipe for its last words as output and error.
/// It inherits nothing else.
pub(crate) fn start_with_channel(
    command: &mut Command,
    name: &str,
) -> io::Result<(Child, PipeReader, Channel)> {
    let (here, there) = Channel::pair()?;
    let (errors, words) = io::pipe()?;
    // Neither a process that says too much nor one that says nothing can keep the other side waiting.
    for end in [errors.as_fd(), words.as_fd()] {
        fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    }
    command
        .arg0(name)
        .stdin(OwnedFd::from(there))
        .stdout(words.try_clone()?)
        .stderr(Stdio::from(words))
        // Ctrl-C in a terminal is for this process, which lets the running job end.
        .process_group(0);
    Ok((command.spawn()?, errors, here))
}

/// Returns how a process ended.
pub(crate) fn ending_of(status: ExitStatus) -> Ending {
    match status.signal() {
        None => Ending::Exit(status.code().unwrap_or(-1)),
        Some(signal @ libc::SIGABRT) => Ending::Aborted(signal),
        Some(libc::SIGXCPU) => Ending::CpuTime,
        Some(libc::SIGSYS) => Ending::SystemCall,
        Some(libc::SIGKILL) => Ending::Killed,
        Some(signal) => Ending::Signal(signal),
    }
}

/// Returns whether this process was started by [`start_with_channel`].
pub(crate) fn standard_input_is_a_channel() -> bool {
    rustix::net::sockopt::socket_type(io::stdin()).is_ok()
}

/// Returns the channel that is standard input.
pub(crate) fn channel_of_standard_input() -> io::Result<Channel> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Writes some of `bytes` and hands an open file over with them. Returns how many.
pub(crate) fn send_with_file(to: &Channel, bytes: &[u8], file: &File) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    loop {
        match sendmsg(to, &[IoSlice::new(bytes)], &mut control, FLAGS.0) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Reads some bytes, and the file that comes with them. Returns how many bytes; 0 at the end of the stream.
pub(crate) fn receive_with_file(
    from: &Channel,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut control, FLAGS.1) {
            Err(Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((received, file.map(File::from)))
}
