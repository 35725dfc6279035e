//! The table of contents of a zip archive, for archives whose entries are stored as they are.
//!
//! Why not the `zip` crate: it sizes its tables by the entry count that the archive claims, and it reads through a
//! cursor where a slice of the map is wanted. What is left to do is the end record, its 64-bit form (a checkpoint
//! is larger than 4 GiB), and one walk over the central directory.

use std::{collections::HashMap, ops::Range};

use super::Fault;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Fixed part of the end record; a comment of up to 65 535 bytes follows.
const END_LEN: usize = 22;
const END_64_LEN: usize = 56;
const LOCATOR_LEN: usize = 20;
const CENTRAL_LEN: usize = 46;
const LOCAL_LEN: usize = 30;
/// Extra field that holds the sizes which do not fit into 32 bits.
const EXTRA_64: u16 = 1;
/// VGGT-1B has 1800 entries; this leaves room and bounds the table.
const MAX_ENTRIES: usize = 1 << 17;

/// Name of each entry -> where its bytes lie in `file`. Entries are inside the file and do not overlap.
///
/// # Errors
/// When the archive is cut off, contradicts itself, or holds an entry that is compressed or encrypted.
pub(super) fn entries(file: &[u8]) -> Result<HashMap<&str, Range<usize>>, Fault> {
    let (mut at, end, count) = directory(file)?;
    if count > MAX_ENTRIES {
        return Err(Fault::bad(format!(
            "it claims {count} zip entries, at most {MAX_ENTRIES} are read"
        )));
    }
    let mut found = HashMap::new();
    let mut taken = Vec::new();
    for _ in 0..count {
        let (name, range, next) = entry(file, at, end)?;
        taken.push(range.clone());
        if found.insert(name, range).is_some() {
            return Err(Fault::bad(format!("the zip entry {name:?} is there twice")));
        }
        at = next;
    }
    taken.retain(|r| !r.is_empty());
    taken.sort_by_key(|r| r.start);
    if taken.windows(2).any(|w| w[0].end > w[1].start) {
        return Err(Fault::bad("its zip entries overlap"));
    }
    Ok(found)
}

/// Start and end of the central directory, and how many entries it has.
fn directory(file: &[u8]) -> Result<(usize, usize, usize), Fault> {
    let cut = || Fault::cut("the zip directory at its end is missing");
    let last = file.len().checked_sub(END_LEN).ok_or_else(cut)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let at = (first..=last)
        .rev()
        .find(|&at| file[at..].starts_with(END))
        .ok_or_else(cut)?;
    let (count, size, start) = (
        u16_at(file, at + 10)?,
        u32_at(file, at + 12)?,
        u32_at(file, at + 16)?,
    );
    let locator = at
        .checked_sub(LOCATOR_LEN)
        .filter(|&l| file[l..].starts_with(END_64_LOCATOR));
    let (count, size, start, limit) = match locator {
        None => (u64::from(count), u64::from(size), u64::from(start), at),
        Some(locator) => {
            let record = index(u64_at(file, locator + 8)?)?;
            let inside = record.checked_add(END_64_LEN).is_some_and(|e| e <= locator);
            if !inside || !file[record..].starts_with(END_64) {
                return Err(Fault::bad("its zip64 end record is not where it should be"));
            }
            (
                u64_at(file, record + 32)?,
                u64_at(file, record + 40)?,
                u64_at(file, record + 48)?,
                record,
            )
        }
    };
    let (start, size) = (index(start)?, index(size)?);
    let end = start
        .checked_add(size)
        .filter(|&end| end <= limit)
        .ok_or_else(|| Fault::bad("its zip directory lies outside the file"))?;
    Ok((start, end, index(count)?))
}

/// The entry at `at` of the directory that ends at `end`: name, bytes, and where the next one begins.
fn entry(file: &[u8], at: usize, end: usize) -> Result<(&str, Range<usize>, usize), Fault> {
    let bad = |what: &str| Fault::bad(format!("zip directory at byte {at}: {what}"));
    let head = slice(file, at, CENTRAL_LEN)?;
    if !head.starts_with(CENTRAL) || at + CENTRAL_LEN > end {
        return Err(bad("no entry where one should be"));
    }
    let (flags, method) = (u16_at(head, 8)?, u16_at(head, 10)?);
    let lengths = [u16_at(head, 28)?, u16_at(head, 30)?, u16_at(head, 32)?].map(usize::from);
    let name_at = at + CENTRAL_LEN;
    let extra_at = name_at + lengths[0];
    let next = extra_at + lengths[1] + lengths[2];
    if next > end {
        return Err(bad("an entry runs over the directory's end"));
    }
    let name = std::str::from_utf8(slice(file, name_at, lengths[0])?)
        .map_err(|_| bad("a name that is not UTF-8"))?;
    if flags & 1 != 0 {
        return Err(Fault::bad(format!("the zip entry {name:?} is encrypted")));
    }
    if method != 0 {
        return Err(Fault::bad(format!(
            "the zip entry {name:?} is compressed; torch.save stores entries as they are, so unpack it and save it again"
        )));
    }
    let mut size = u64::from(u32_at(head, 24)?);
    let mut packed = u64::from(u32_at(head, 20)?);
    let mut offset = u64::from(u32_at(head, 42)?);
    let extra = slice(file, extra_at, lengths[1])?;
    wide(extra, [&mut size, &mut packed, &mut offset])
        .ok_or_else(|| bad("zip64 sizes are missing"))?;
    if size != packed {
        return Err(bad("an entry that is stored as it is has two sizes"));
    }
    let (offset, size) = (index(offset)?, index(size)?);
    let local = slice(file, offset, LOCAL_LEN)?;
    if !local.starts_with(LOCAL) {
        return Err(bad("an entry's own header is not where it should be"));
    }
    let start =
        offset + LOCAL_LEN + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
    slice(file, start, size)?;
    Ok((name, start..start + size, next))
}

/// Replaces each value that is all ones by its 64-bit form in `extra`, in the order of the format.
fn wide(extra: &[u8], values: [&mut u64; 3]) -> Option<()> {
    let mut rest = extra;
    let mut long: &[u8] = &[];
    while let [a, b, c, d, tail @ ..] = rest {
        let (id, len) = (
            u16::from_le_bytes([*a, *b]),
            usize::from(u16::from_le_bytes([*c, *d])),
        );
        let body = tail.get(..len)?;
        if id == EXTRA_64 {
            long = body;
        }
        rest = &tail[len..];
    }
    for value in values {
        if *value == u64::from(u32::MAX) {
            let (head, tail) = long.split_first_chunk::<8>()?;
            *value = u64::from_le_bytes(*head);
            long = tail;
        }
    }
    Some(())
}

fn slice(file: &[u8], at: usize, len: usize) -> Result<&[u8], Fault> {
    at.checked_add(len)
        .and_then(|end| file.get(at..end))
        .ok_or_else(|| Fault::bad(format!("{len} bytes at {at} lie outside the file")))
}

fn array<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], Fault> {
    let mut out = [0; N];
    out.copy_from_slice(slice(file, at, N)?);
    Ok(out)
}

fn u16_at(file: &[u8], at: usize) -> Result<u16, Fault> {
    array(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Result<u32, Fault> {
    array(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Result<u64, Fault> {
    array(file, at).map(u64::from_le_bytes)
}

fn index(value: u64) -> Result<usize, Fault> {
    usize::try_from(value)
        .map_err(|_| Fault::bad(format!("the offset {value} lies outside the file")))
}
