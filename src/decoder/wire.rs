//! How messages are laid out between the two processes: a length, then JSON; a file goes with the length.
//!
//! Four bytes, little endian, hold the length of the JSON. The pixels of a frame follow its message as they are.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::system::{self, Channel};

/// Longest JSON of a message: some sentences, and room for names.
pub(super) const MAX_MESSAGE: usize = 64 << 10;

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
pub(super) fn send(to: &mut Channel, message: &impl Serialize, file: &File) -> io::Result<()> {
    let bytes = encoded(message)?;
    let sent = system::send_with_file(to, &bytes, file)?;
    to.write_all(&bytes[sent..])
}

/// Reads a message and the file that comes with it; `None` at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(
    from: &mut Channel,
) -> io::Result<Option<(T, Option<File>)>> {
    let mut length = [0; 4];
    let (first, file) = system::receive_with_file(from, &mut length)?;
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[first..])?;
    Ok(Some((body(from, length)?, file)))
}

#[cfg(test)]
mod tests {
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
        let (mut here, mut there) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send(&mut here, &7, &file).unwrap();
        write(&mut here, &8).unwrap();
        let (number, handed) = receive::<u32>(&mut there).unwrap().unwrap();
        let mut handed = handed.unwrap();
        io::Seek::rewind(&mut handed).unwrap();
        assert_eq!(io::read_to_string(handed).unwrap(), "content");
        assert_eq!(number, 7);
        let (number, none) = receive::<u32>(&mut there).unwrap().unwrap();
        assert!(number == 8 && none.is_none());
        drop(here);
        assert!(receive::<u32>(&mut there).unwrap().is_none());
    }
}
