//! Bytes as base64 in script elements of a type that no browser runs.

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};

/// Bytes in a piece. A multiple of 3, so that only the last one is padded and all of them in a row are base64 again;
/// the text is 1 MiB. One piece for all would end at 512 MiB, where Chromium's strings do.
const PIECE: usize = 3 << 18;

const CLOSE: &str = "</script>\n";

/// Takes bytes and writes them as elements of the page.
#[derive(Debug)]
pub struct Pieces<'a, W: Write> {
    out: &'a mut W,
    /// What stands before a piece.
    open: String,
    /// What is not written yet, less than a piece.
    bytes: Vec<u8>,
}

impl<'a, W: Write> Pieces<'a, W> {
    pub(super) fn new(out: &'a mut W, class: &str, kind: &str) -> Self {
        Self {
            out,
            open: format!("<script class=\"{class}\" type=\"{kind};base64\">"),
            bytes: Vec::with_capacity(PIECE),
        }
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.put()
    }

    fn put(&mut self) -> io::Result<()> {
        let text = BASE64_STANDARD.encode(&self.bytes);
        self.bytes.clear();
        for part in [&self.open, &text, CLOSE] {
            self.out.write_all(part.as_bytes())?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.bytes.len());
        self.bytes.extend(&bytes[..taken]);
        if self.bytes.len() == PIECE {
            self.put()?;
        }
        Ok(taken)
    }

    /// Flushes the pieces that are whole; the last one waits for its end.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a page's elements hold, put together again.
    fn written(parts: &[&[u8]]) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        let mut pieces = Pieces::new(&mut out, "glb", "model/gltf-binary");
        let open = pieces.open.clone();
        for part in parts {
            pieces.write_all(part).unwrap();
        }
        pieces.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let elements = text.matches(&open).count();
        let joined = text.replace(&open, "").replace(CLOSE, "");
        (elements, BASE64_STANDARD.decode(joined).unwrap())
    }

    #[test]
    fn all_bytes_come_back_wherever_the_pieces_end() {
        let bytes: Vec<u8> = (0..2 * PIECE + 5).map(|i| (i % 251) as u8).collect();
        for (length, elements) in [
            (0, 0),
            (1, 1),
            (PIECE - 1, 1),
            (PIECE, 1),
            (PIECE + 1, 2),
            (2 * PIECE + 5, 3),
        ] {
            let bytes = &bytes[..length];
            assert_eq!(written(&[bytes]), (elements, bytes.to_vec()));
            let (one, two) = bytes.split_at(length / 7);
            assert_eq!(written(&[one, two]), (elements, bytes.to_vec()));
        }
    }
}
