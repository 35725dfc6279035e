//! How messages are laid out between the two processes: a length, then JSON; a file goes with the length.
//!
//! Four bytes, little endian, hold the length of the JSON. The pixels of a frame follow its message as they are.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// Longest JSON of a message: some sentences, and room for names.
pub(super) const MAX_MESSAGE: usize = 64 << 10;

/// A peer that has gone is an error and not a signal, and a file that arrives is not for programs that are started.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: (SendFlags, RecvFlags) = (SendFlags::NOSIGNAL, RecvFlags::CMSG_CLOEXEC);
// Apple's systems have neither flag. Rust ignores that signal from the start, and the process that receives files starts none.
#[cfg(target_vendor = "apple")]
const FLAGS: (SendFlags, RecvFlags) = (SendFlags::empty(), RecvFlags::empty());

/// Writes a message.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encoded(message)?)
}

fn encoded(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {length} bytes"),
        ));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// Reads a message; `None` at the end of the stream.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for what is not a message; nothing is allocated for more than [`MAX_MESSAGE`].
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    let first = loop {
        match from.read(&mut length) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[first..])?;
    body(from, length).map(Some)
}

fn body<T: DeserializeOwned>(from: &mut impl Read, length: [u8; 4]) -> io::Result<T> {
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reads `length` bytes. Memory grows with what arrives.
pub(super) fn read_pixels(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut pixels = Vec::new();
    from.take(length as u64).read_to_end(&mut pixels)?;
    if pixels.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(pixels)
}

/// Writes a message and hands an open file over with it.
pub(super) fn send(
    to: &mut UnixStream,
    message: &impl Serialize,
    file: Option<&impl AsFd>,
) -> io::Result<()> {
    let bytes = encoded(message)?;
    let Some(file) = file else {
        return to.write_all(&bytes);
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    let sent = loop {
        let parts = [IoSlice::new(&bytes)];
        match sendmsg(&*to, &parts, &mut control, FLAGS.0) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    to.write_all(&bytes[sent..])
}

/// Reads a message and the file that comes with it; `None` at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(
    from: &mut UnixStream,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let first = loop {
        let mut parts = [IoSliceMut::new(&mut length)];
        match recvmsg(&*from, &mut parts, &mut control, FLAGS.1) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    from.read_exact(&mut length[first..])?;
    Ok(Some((body(from, length)?, file)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_sent_and_the_stream_ends() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("a", 1)).unwrap();
        let mut from = &bytes[..];
        let read_again: Option<(String, u32)> = read(&mut from).unwrap();
        assert_eq!(read_again, Some(("a".to_owned(), 1)));
        assert_eq!(read::<u32>(&mut from).unwrap(), None);
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        for length in [MAX_MESSAGE as u32 + 1, u32::MAX] {
            let e = read::<u32>(&mut &length.to_le_bytes()[..]).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData);
        }
        let long = "x".repeat(MAX_MESSAGE);
        assert!(write(&mut Vec::new(), &long).is_err());
        let e = read_pixels(&mut &[0; 3][..], usize::MAX / 2).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let mut bytes = Vec::new();
        write(&mut bytes, &"text").unwrap();
        for kept in 1..bytes.len() {
            assert!(read::<String>(&mut &bytes[..kept]).is_err(), "{kept}");
        }
    }

    #[test]
    fn an_open_file_goes_along_with_a_message() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send(&mut here, &7, Some(&file)).unwrap();
        send(&mut here, &8, None::<&File>).unwrap();
        let (number, handed) = receive::<u32>(&mut there).unwrap().unwrap();
        let mut handed = File::from(handed.unwrap());
        io::Seek::rewind(&mut handed).unwrap();
        assert_eq!(io::read_to_string(handed).unwrap(), "content");
        assert_eq!(number, 7);
        let (number, none) = receive::<u32>(&mut there).unwrap().unwrap();
        assert!(number == 8 && none.is_none());
        drop(here);
        assert!(receive::<u32>(&mut there).unwrap().is_none());
    }
}
