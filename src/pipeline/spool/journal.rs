//! The journal of a spool: one line for each thing that is finished.
//!
//! A line is the CRC-32 of what follows, in eight hex digits, a blank, and a record as JSON. Records are only ever appended, and
//! each is written after the data that it speaks of and holds the data's checksum. A process that is killed leaves at most
//! one torn line, the last. A power cut may also lose pages of any file that were written before: then the checksums tell.
//! So nothing has to wait for a disk; at worst some frames are computed again.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use serde::{Deserialize, Serialize};

use super::{
    super::attention::Chosen,
    decoded::Decoded,
    error::SpoolError,
    header::read_all,
    home::{Home, JOURNAL},
};

/// Longest journal that is read back: the names and placements of a hundred thousand frames.
pub(super) const MAX_JOURNAL: u64 = 256 << 20;

/// Something that is finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// All frames are there. Whatever was recorded before is void.
    Decoded(Box<Decoded>),
    /// Anchors are chosen.
    Chosen(Box<Chosen>),
    /// The results of a frame are there.
    Frame {
        /// Its number.
        index: usize,
        /// Checksum of its bytes in all columns.
        sum: u32,
    },
    /// The cameras of all frames are there.
    Cameras {
        /// Checksum of all of them.
        sum: u32,
    },
}

/// The file, open at its end.
#[derive(Debug)]
pub(super) struct Journal {
    /// Nobody goes on with a spool that has no folder.
    file: Option<File>,
}

impl Journal {
    /// Begins an empty one.
    pub(super) fn begin(home: &Home) -> Result<Self, SpoolError> {
        let file = home.folder().map(|folder| folder.create_file(JOURNAL));
        Ok(Self {
            file: file.transpose()?,
        })
    }

    /// Reads the records of an older one, as far as they are whole. Where `repair`, what follows them is cut off, so that new
    /// ones begin on a line of their own.
    pub(super) fn open(mut file: File, repair: bool) -> io::Result<(Self, Vec<Record>)> {
        let bytes = read_all(file.try_clone()?, MAX_JOURNAL)?;
        let mut records = Vec::new();
        let mut whole = 0;
        for (record, end) in whole_records(&bytes) {
            records.push(record);
            whole = end as u64;
        }
        if repair {
            file.set_len(whole)?;
            file.seek(SeekFrom::Start(whole))?;
        }
        Ok((Self { file: Some(file) }, records))
    }

    /// Appends a record.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let json = serde_json::to_string(record)?;
        let sum = crc32fast::hash(json.as_bytes());
        // In one call, so that only a crash of the system or a full disk tears it.
        let line = format!("{sum:08x} {json}\n");
        let start = file.stream_position()?;
        file.write_all(line.as_bytes()).inspect_err(|_| {
            // A torn line in the middle would hide all that comes after it.
            let _ = file.set_len(start);
            let _ = file.seek(SeekFrom::Start(start));
        })
    }
}

/// Returns the records of a journal as far as they are whole, each with the place where its line ends.
pub(super) fn whole_records(journal: &[u8]) -> impl Iterator<Item = (Record, usize)> {
    let lines = journal.split_inclusive(|byte| *byte == b'\n');
    let records = lines.scan(0, |end, line| {
        *end += line.len();
        let record = line.strip_suffix(b"\n").and_then(parsed)?;
        Some((record, *end))
    });
    records.fuse()
}

fn parsed(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(index: usize) -> Record {
        Record::Frame { index, sum: 7 }
    }

    #[test]
    fn whole_lines_are_read_and_a_torn_or_damaged_one_ends_them() {
        let mut whole = tempfile::tempfile().unwrap();
        let mut journal = Journal {
            file: Some(whole.try_clone().unwrap()),
        };
        for index in 0..3 {
            journal.append(&frame(index)).unwrap();
        }
        whole.rewind().unwrap();
        let bytes = read_all(whole, MAX_JOURNAL).unwrap();
        let line = bytes.len() / 3;
        for end in 0..=bytes.len() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes[..end]).unwrap();
            file.rewind().unwrap();
            let (mut journal, records) = Journal::open(file.try_clone().unwrap(), true).unwrap();
            assert_eq!(records.len(), end / line, "cut at {end}");
            journal.append(&frame(9)).unwrap();
            file.rewind().unwrap();
            let (_, records) = Journal::open(file, true).unwrap();
            assert_eq!(records.last(), Some(&frame(9)), "cut at {end}");
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            file.rewind().unwrap();
            let (_, records) = Journal::open(file, false).unwrap();
            assert_eq!(records.len(), place / line, "damaged at {place}");
        }
    }
}
