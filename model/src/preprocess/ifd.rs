//! The directories of a TIFF, which EXIF and most RAW formats have too.
//!
//! Reads entries and integers, nothing else: pixels are for the decoders.

use std::io::{self, Read, Seek, SeekFrom};

/// Entries of one directory, at most: TIFF 6.0 defines fewer than 100, and cameras add some of their own.
const MAX_ENTRIES: u64 = 4096;

/// Integers of one entry that are read, at most: offsets of strips or directories.
const MAX_VALUES: u64 = 1 << 16;

/// A TIFF whose header was read.
pub(super) struct Directories<R> {
    reader: R,
    big_endian: bool,
    /// BigTIFF: offsets and counts of 64 bits.
    big: bool,
    /// Where the first directory is.
    pub(super) first: u64,
}

/// One directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: Vec<Entry>,
    /// Where the next one of the chain is; 0 at its end.
    pub(super) next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// The values where they fit, else their offset.
    field: [u8; 8],
}

impl<R: Read + Seek> Directories<R> {
    /// Reads the header; `None` when it is not one of TIFF, BigTIFF or of the RAW formats that only have another number
    /// in it (Olympus, Panasonic).
    pub(super) fn open(mut reader: R) -> io::Result<Option<Self>> {
        let mut head = [0; 16];
        let mut length = 0;
        while length < head.len() {
            match reader.read(&mut head[length..])? {
                0 => break,
                n => length += n,
            }
        }
        let big_endian = match &head[..2] {
            b"II" => false,
            b"MM" => true,
            _ => return Ok(None),
        };
        let mut this = Self {
            reader,
            big_endian,
            big: false,
            first: 0,
        };
        match this.number(&head[2..4]) {
            // TIFF; "RO" and "RS" of Olympus, 0x55 of Panasonic.
            42 | 0x4F52 | 0x5352 | 0x55 if length >= 8 => this.first = this.number(&head[4..8]),
            43 if length == 16 => {
                this.big = true;
                this.first = this.number(&head[8..16]);
            }
            _ => return Ok(None),
        }
        Ok(Some(this))
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let shift = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian {
            bytes.iter().fold(0, shift)
        } else {
            bytes.iter().rev().fold(0, shift)
        }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the directory at an offset, as far as the file goes.
    pub(super) fn directory(&mut self, offset: u64) -> io::Result<Directory> {
        self.reader.seek(SeekFrom::Start(offset))?;
        let count = if self.big {
            let count = self.bytes::<8>()?;
            self.number(&count)
        } else {
            let count = self.bytes::<2>()?;
            self.number(&count)
        };
        let mut directory = Directory::default();
        for _ in 0..count.min(MAX_ENTRIES) {
            let Ok(entry) = self.entry() else {
                return Ok(directory);
            };
            directory.entries.push(entry);
        }
        let next = if self.big {
            self.bytes::<8>().map(|b| self.number(&b))
        } else {
            self.bytes::<4>().map(|b| self.number(&b))
        };
        // A directory at the end of an EXIF block may lack the link.
        directory.next = next.unwrap_or(0);
        Ok(directory)
    }

    fn entry(&mut self) -> io::Result<Entry> {
        let (tag, kind) = (self.bytes::<2>()?, self.bytes::<2>()?);
        let (count, field) = if self.big {
            let count = self.bytes::<8>()?;
            (self.number(&count), self.bytes::<8>()?)
        } else {
            let count = self.bytes::<4>()?;
            let [a, b, c, d] = self.bytes::<4>()?;
            (self.number(&count), [a, b, c, d, 0, 0, 0, 0])
        };
        Ok(Entry {
            tag: self.number(&tag) as u16,
            kind: self.number(&kind) as u16,
            count,
            field,
        })
    }

    /// Returns the integers of an entry, of whatever integer type; none when the entry is missing or of another type.
    pub(super) fn integers(&mut self, directory: &Directory, tag: u16) -> Vec<i64> {
        let Some(entry) = directory.entries.iter().find(|e| e.tag == tag) else {
            return Vec::new();
        };
        let Some((size, signed)) = integer(entry.kind) else {
            return Vec::new();
        };
        let Some(bytes) = self.values(entry, size) else {
            return Vec::new();
        };
        let value = |bytes: &[u8]| {
            let unused = 64 - 8 * size as u32;
            let bits = self.number(bytes) << unused;
            if signed {
                (bits as i64) >> unused
            } else {
                i64::try_from(bits >> unused).unwrap_or(i64::MAX)
            }
        };
        bytes.chunks_exact(size).map(value).collect()
    }

    /// Returns the first integer of an entry.
    pub(super) fn integer(&mut self, directory: &Directory, tag: u16) -> Option<i64> {
        self.integers(directory, tag).first().copied()
    }

    /// Returns the first integer of an entry that cannot be negative.
    pub(super) fn unsigned(&mut self, directory: &Directory, tag: u16) -> Option<u64> {
        self.integer(directory, tag)?.try_into().ok()
    }

    /// Returns the text of an entry.
    pub(super) fn text(&mut self, directory: &Directory, tag: u16) -> String {
        const ASCII: u16 = 2;
        let entry = directory
            .entries
            .iter()
            .find(|e| e.tag == tag && e.kind == ASCII);
        let bytes = entry.and_then(|entry| self.values(entry, 1));
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        text.trim_end_matches('\0').to_owned()
    }

    fn values(&mut self, entry: &Entry, size: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(entry.count.min(MAX_VALUES)).ok()? * size;
        let inline = if self.big { 8 } else { 4 };
        if entry.count.checked_mul(size as u64)? <= inline {
            return Some(entry.field[..length].to_vec());
        }
        let offset = self.number(&entry.field[..inline as usize]);
        self.reader.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = Vec::new();
        let wanted = length as u64;
        self.reader
            .by_ref()
            .take(wanted)
            .read_to_end(&mut bytes)
            .ok()?;
        (bytes.len() == length).then_some(bytes)
    }

    /// Returns offset and length of an entry's bytes, where they stand outside of the directory.
    pub(super) fn location(&self, directory: &Directory, tag: u16) -> Option<(u64, u64)> {
        let entry = directory.entries.iter().find(|e| e.tag == tag)?;
        let (size, _) = integer(entry.kind)?;
        let length = entry.count.checked_mul(size as u64)?;
        let inline = if self.big { 8 } else { 4 };
        (length > inline).then(|| (self.number(&entry.field[..inline as usize]), length))
    }

    /// Returns whether a directory has an entry.
    pub(super) fn has(directory: &Directory, tag: u16) -> bool {
        directory.entries.iter().any(|e| e.tag == tag)
    }
}

/// Returns size in bytes and sign of an integer type. TIFF 6.0, section 2; BigTIFF's 16 to 18; 13 of TIFF's supplement 1.
fn integer(kind: u16) -> Option<(usize, bool)> {
    match kind {
        // BYTE, UNDEFINED.
        1 | 7 => Some((1, false)),
        // SHORT.
        3 => Some((2, false)),
        // LONG, IFD.
        4 | 13 => Some((4, false)),
        // SBYTE, SSHORT, SLONG.
        6 => Some((1, true)),
        8 => Some((2, true)),
        9 => Some((4, true)),
        // LONG8, SLONG8, IFD8.
        16 | 18 => Some((8, false)),
        17 => Some((8, true)),
        _ => None,
    }
}
