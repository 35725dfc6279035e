//! Lines of text files, with limits.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::CamerasError;
use vggt_model::preprocess::open_regular;

/// Longest line that is kept, bytes; the rest of a longer one is skipped.
const MAX_LINE: usize = 64 << 10;

/// Longest text file: COLMAP's images.txt with its observations has some MiB for each hundred images.
const MAX_TEXT: u64 = 8 << 30;

/// A text file, read line by line.
pub(super) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    number: u64,
    line: Vec<u8>,
}

/// One line, without its end.
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    /// The text, without blanks around it.
    pub(super) text: &'a str,
    path: &'a Path,
}

impl<'a> Lines<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, CamerasError> {
        Ok(Self {
            path,
            reader: BufReader::new(open(path, MAX_TEXT)?),
            number: 0,
            line: Vec::new(),
        })
    }

    /// Returns the next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, CamerasError> {
        let whole = match self.advance()? {
            None => return Ok(None),
            Some(whole) => whole,
        };
        let (path, number) = (self.path, self.number);
        let fail = |why: &str| Err(CamerasError::content(path, format!("line {number}"), why));
        if !whole {
            return fail("the line is longer than 64 KiB");
        }
        match std::str::from_utf8(&self.line) {
            Ok(text) => Ok(Some(Line {
                number,
                text: text.trim_start_matches('\u{feff}').trim(),
                path,
            })),
            Err(_) => fail("the line is not UTF-8"),
        }
    }

    /// Skips a line of any length.
    pub(super) fn skip(&mut self) -> Result<(), CamerasError> {
        self.advance().map(drop)
    }

    /// Reads the next line; returns whether it was kept whole, `None` at the end.
    fn advance(&mut self) -> Result<Option<bool>, CamerasError> {
        self.line.clear();
        let (mut any, mut whole) = (false, true);
        loop {
            let bytes = self.reader.fill_buf();
            let bytes = bytes.map_err(|e| CamerasError::io(self.path, e))?;
            if bytes.is_empty() {
                break;
            }
            any = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let free = MAX_LINE - self.line.len();
            whole &= part.len() <= free;
            self.line.extend_from_slice(&part[..part.len().min(free)]);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += u64::from(any);
        Ok(any.then_some(whole))
    }
}

impl Line<'_> {
    pub(super) fn fail(&self, why: impl Into<String>) -> CamerasError {
        CamerasError::content(self.path, format!("line {}", self.number), why)
    }

    pub(super) fn is_comment(&self) -> bool {
        self.text.is_empty() || self.text.starts_with('#')
    }

    /// Returns a number; NaN and infinity are none.
    pub(super) fn number(&self, text: &str, what: &str) -> Result<f64, CamerasError> {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.fail(format!(
                "expected a number as {what}, got {:?}",
                short(text)
            ))),
        }
    }

    /// Returns the next number of a line.
    pub(super) fn next_number<'a>(
        &self,
        words: &mut impl Iterator<Item = &'a str>,
        what: &str,
    ) -> Result<f64, CamerasError> {
        match words.next() {
            Some(word) => self.number(word, what),
            None => Err(self.fail(format!("the line ends before {what}"))),
        }
    }
}

/// Opens a regular file of at most `limit` bytes.
pub(super) fn open(path: &Path, limit: u64) -> Result<File, CamerasError> {
    let fail = |e| CamerasError::io(path, e);
    let file = open_regular(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    match bytes > limit {
        true => Err(CamerasError::TooLarge {
            path: path.to_owned(),
            bytes,
            limit,
        }),
        false => Ok(file),
    }
}

/// The beginning of a text, for a message.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
