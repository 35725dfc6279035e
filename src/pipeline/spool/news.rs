//! What of a spool is finished and was not passed on yet, so that its folder can be followed from elsewhere while it is written.
//!
//! The journal tells: what is passed on is the data of its records, and then the records. At every time what was passed on by then is a
//! spool that another process can go on with.

use std::{fs, ops::Range, path::Path};

use super::{
    decoded::Decoded,
    error::{SpoolError, failed},
    header::{Header, read_all},
    home::{CAMERAS, HEADER, IMAGES, JOURNAL, REFINEMENT},
    journal::{MAX_JOURNAL, Record, whole_records},
};

/// How far a spool was passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOn {
    /// Bytes of the journal.
    journal: usize,
    /// Checksum of these.
    sum: u32,
}

/// Some bytes of a file of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolPart {
    /// Name of the file.
    pub file: &'static str,
    /// Which of its bytes.
    pub bytes: Range<u64>,
}

/// What is new of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolNews {
    /// In an order in which they may be written.
    pub parts: Vec<SpoolPart>,
    /// How far it is passed on with these.
    pub passed_on: PassedOn,
    /// It was begun again: what was passed on before belongs to another one.
    pub begun_again: bool,
}

/// Returns how far a spool is that was passed on as a whole.
///
/// # Errors
/// When the journal cannot be read.
pub fn passed_on(folder: &Path) -> Result<PassedOn, SpoolError> {
    let journal = journal_of(folder)?;
    let end = whole_records(&journal).last().map_or(0, |(_, end)| end);
    Ok(PassedOn::of(&journal, end))
}

/// Returns what is new of the spool in a folder since it was passed on so far. With `finished` it belongs to this process and nothing
/// follows: then the files are part of it that the journal does not tell of. A process may be at work on the folder otherwise.
///
/// # Errors
/// When it cannot be read or is not a spool of this version.
pub fn news(folder: &Path, since: PassedOn, finished: bool) -> Result<SpoolNews, SpoolError> {
    let journal = journal_of(folder)?;
    let is_same = since.journal <= journal.len() && PassedOn::of(&journal, since.journal) == since;
    let since = match is_same {
        true => since,
        false => PassedOn::default(),
    };
    let mut news = SpoolNews {
        parts: Vec::new(),
        passed_on: since,
        begun_again: !is_same,
    };
    let records: Vec<(Record, usize)> = whole_records(&journal).collect();
    let is_decoded = |(record, _): &(Record, usize)| matches!(record, Record::Decoded(_));
    let Some(last) = records.iter().rposition(is_decoded) else {
        // Frames are being decoded.
        return Ok(news);
    };
    let end = records.last().map_or(0, |(_, end)| *end);
    if end == since.journal && !finished {
        return Ok(news);
    }
    let header = Header::peek(folder)?;
    let mut whole = vec![HEADER];
    let mut rows = Vec::new();
    let (mut decoded, mut size) = (None::<&Decoded>, (0, 0));
    for (record, end) in records.get(last..).unwrap_or_default() {
        let is_new = *end > since.journal;
        match record {
            Record::Decoded(all) => {
                size = (all.height, all.width);
                decoded = is_new.then_some(&**all);
            }
            Record::Frame { index, .. } if is_new => rows.push(*index as u64),
            Record::Cameras { .. } if is_new => whole.push(CAMERAS),
            _ => {}
        }
    }
    if let Some(decoded) = decoded {
        let bytes = 3 * decoded.width * decoded.height * decoded.names.len();
        news.parts.push(SpoolPart {
            file: IMAGES,
            bytes: 0..bytes as u64,
        });
    }
    rows.sort_unstable();
    for (file, values) in header.fields.columns(size) {
        let stride = 4 * values as u64;
        for row in &rows {
            let bytes = row * stride..(row + 1) * stride;
            match news.parts.last_mut() {
                Some(last) if last.file == file && last.bytes.end == bytes.start => {
                    last.bytes.end = bytes.end;
                }
                _ => news.parts.push(SpoolPart { file, bytes }),
            }
        }
    }
    if finished {
        whole.push(REFINEMENT);
    }
    for file in whole {
        let path = folder.join(file);
        match fs::metadata(&path) {
            Ok(meta) => news.parts.push(SpoolPart {
                file,
                bytes: 0..meta.len(),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read", &path)(e)),
        }
    }
    if end > since.journal {
        news.parts.push(SpoolPart {
            file: JOURNAL,
            bytes: since.journal as u64..end as u64,
        });
    }
    news.passed_on = PassedOn::of(&journal, end);
    Ok(news)
}

impl PassedOn {
    fn of(journal: &[u8], end: usize) -> Self {
        Self {
            journal: end,
            sum: crc32fast::hash(journal.get(..end).unwrap_or_default()),
        }
    }
}

fn journal_of(folder: &Path) -> Result<Vec<u8>, SpoolError> {
    let path = folder.join(JOURNAL);
    let read = fs::File::open(&path).and_then(|file| read_all(file, MAX_JOURNAL));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(failed("read", &path)),
    }
}
