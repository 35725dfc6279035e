//! Parts of the files of a folder in one object, in the order in which they are written.
//!
//! A pack is the length of its head, `u32` in little-endian order, the head as JSON, and the bytes of the parts one after the other.
//! Packs of a folder are numbered. Written one after the other they make the folder: what a later one holds replaces what an earlier
//! one held.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{store::private::create_private, system};

/// Longest head that is read: some ten thousand parts.
const LONGEST_HEAD: u32 = 16 << 20;

/// Bytes of a pack, about, so that a bucket can copy it: S3 does so up to 5 GiB.
pub(super) const PACK: u64 = 1 << 30;

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePart {
    /// Name of the file in its folder.
    pub name: String,
    /// Which of its bytes.
    pub range: Range<u64>,
}

/// Parts of the files of a folder, as one object.
#[derive(Debug)]
pub(super) struct Pack<'a> {
    folder: &'a Path,
    head: Vec<u8>,
    parts: &'a [FilePart],
}

impl<'a> Pack<'a> {
    pub(super) fn new(folder: &'a Path, parts: &'a [FilePart]) -> io::Result<Self> {
        let json = serde_json::to_vec(parts)?;
        let length = u32::try_from(json.len()).ok();
        let length = length.filter(|length| *length <= LONGEST_HEAD);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let mut head = length.to_le_bytes().to_vec();
        head.extend(json);
        Ok(Self {
            folder,
            head,
            parts,
        })
    }

    /// Returns the length of the object in bytes.
    pub(super) fn length(&self) -> u64 {
        self.head.len() as u64 + bytes_of(self.parts)
    }

    /// Returns its bytes from the first on.
    pub(super) fn reader(&self) -> PackBytes<'_> {
        PackBytes {
            folder: self.folder,
            head: &self.head,
            parts: self.parts.iter(),
            part: None,
        }
    }
}

/// Returns the bytes of parts.
pub(super) fn bytes_of(parts: &[FilePart]) -> u64 {
    let length = |part: &FilePart| part.range.end.saturating_sub(part.range.start);
    parts.iter().map(length).sum()
}

/// Cuts parts into groups of at most [`PACK`] bytes.
pub(super) fn groups(parts: &[FilePart], most: u64) -> Vec<Vec<FilePart>> {
    let mut groups = vec![Vec::new()];
    let mut left = most;
    for part in parts {
        let mut start = part.range.start;
        while start < part.range.end {
            if left == 0 {
                groups.push(Vec::new());
                left = most;
            }
            let end = part.range.end.min(start.saturating_add(left));
            left -= end - start;
            if let Some(group) = groups.last_mut() {
                group.push(FilePart {
                    name: part.name.clone(),
                    range: start..end,
                });
            }
            start = end;
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The bytes of a pack.
#[derive(Debug)]
pub(super) struct PackBytes<'a> {
    folder: &'a Path,
    head: &'a [u8],
    parts: std::slice::Iter<'a, FilePart>,
    part: Option<io::Take<File>>,
}

impl Read for PackBytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            return self.head.read(buf);
        }
        loop {
            if let Some(part) = &mut self.part {
                match part.read(buf)? {
                    // One that has become shorter shows in the length of the whole.
                    0 => self.part = None,
                    count => return Ok(count),
                }
            }
            let Some(part) = self.parts.next() else {
                return Ok(0);
            };
            let mut file = File::open(self.folder.join(&part.name))?;
            file.seek(SeekFrom::Start(part.range.start))?;
            self.part = Some(file.take(part.range.end.saturating_sub(part.range.start)));
        }
    }
}

/// Writes the parts of a pack into a folder.
///
/// # Errors
/// When it is not a pack, ends early, or a file cannot be written.
pub(super) fn unpack(mut pack: impl Read, folder: &Path) -> io::Result<()> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = [0; 4];
    pack.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST_HEAD {
        return Err(bad("the head of a pack is too long"));
    }
    let mut head = Vec::new();
    (&mut pack).take(length.into()).read_to_end(&mut head)?;
    let parts: Vec<FilePart> = serde_json::from_slice(&head)?;
    for part in &parts {
        let count = part.range.end.checked_sub(part.range.start);
        let count = count.ok_or_else(|| bad("a part of a pack ends before it begins"))?;
        let path = plain(folder, &part.name)?;
        let mut file = open(&path)?;
        file.seek(SeekFrom::Start(part.range.start))?;
        if io::copy(&mut (&mut pack).take(count), &mut file)? != count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    match pack.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(bad("a pack is longer than its parts")),
    }
}

/// Returns the path of a file in a folder, and of nothing else.
fn plain(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.starts_with('.') && !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(folder.join(name)),
        false => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => create_private(path),
        _ => system::open_no_link(OpenOptions::new().write(true), path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, range: Range<u64>) -> FilePart {
        FilePart {
            name: name.to_owned(),
            range,
        }
    }

    #[test]
    fn packs_one_after_the_other_make_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a"), "0123456789").unwrap();
        fs::write(from.join("b"), "abc").unwrap();
        for parts in [
            vec![part("a", 5..10), part("b", 0..2)],
            vec![part("b", 2..3), part("a", 0..5)],
            vec![],
        ] {
            let pack = Pack::new(&from, &parts).unwrap();
            let mut bytes = Vec::new();
            pack.reader().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, pack.length());
            unpack(&*bytes, &to).unwrap();
            for end in 0..bytes.len() {
                let other = dir.path().join(format!("cut-{end}"));
                fs::create_dir_all(&other).unwrap();
                unpack(&bytes[..end], &other).unwrap_err();
            }
            unpack(&*[bytes, vec![0]].concat(), &to).unwrap_err();
        }
        assert_eq!(fs::read(to.join("a")).unwrap(), b"0123456789");
        assert_eq!(fs::read(to.join("b")).unwrap(), b"abc");
    }

    #[test]
    fn a_pack_writes_nothing_outside_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        fs::create_dir(&to).unwrap();
        for name in ["../x", "/tmp/x", "a/b", "", ".", ".."] {
            let head = serde_json::to_vec(&[part(name, 0..1)]).unwrap();
            let length = (head.len() as u32).to_le_bytes().to_vec();
            let e = unpack(&*[length, head, vec![7]].concat(), &to).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidFilename, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn groups_are_not_too_long() {
        let parts = [part("a", 3..10), part("b", 0..2)];
        let groups = groups(&parts, 4);
        assert_eq!(
            groups,
            [
                vec![part("a", 3..7)],
                vec![part("a", 7..10), part("b", 0..1)],
                vec![part("b", 1..2)]
            ]
        );
        assert_eq!(super::groups(&[], 4), Vec::<Vec<FilePart>>::new());
    }
}
