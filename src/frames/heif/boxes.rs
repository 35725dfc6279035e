//! Boxes of the ISO base media file format (ISO/IEC 14496-12) in a slice of bytes.

use super::error::HeifError;

/// The type of a box, an item or a brand.
pub(super) type FourCc = [u8; 4];

/// Reads big-endian numbers of one box, front to back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    kind: FourCc,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `kind` is the box that errors name.
    pub(super) fn new(kind: FourCc, bytes: &'a [u8]) -> Self {
        Self { kind, rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], HeifError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| {
            HeifError::damaged(
                self.kind,
                format!(
                    "{count} bytes are missing at its end, {} are left",
                    self.rest.len()
                ),
            )
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned number of 0 to 8 bytes; 0 bytes are a zero.
    pub(super) fn uint(&mut self, bytes: usize) -> Result<u64, HeifError> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, HeifError> {
        Ok(self.uint(1)? as u8)
    }

    pub(super) fn u16(&mut self) -> Result<u16, HeifError> {
        Ok(self.uint(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, HeifError> {
        Ok(self.uint(4)? as u32)
    }

    pub(super) fn fourcc(&mut self) -> Result<FourCc, HeifError> {
        Ok(self.u32()?.to_be_bytes())
    }

    /// Version and flags, with which a full box opens.
    pub(super) fn full_box(&mut self) -> Result<(u8, u32), HeifError> {
        let both = self.u32()?;
        Ok(((both >> 24) as u8, both & 0x00FF_FFFF))
    }

    /// An item's number: 16 bits in older versions of a box, 32 in later ones.
    pub(super) fn item_id(&mut self, wide: bool) -> Result<u32, HeifError> {
        Ok(self.uint(if wide { 4 } else { 2 })? as u32)
    }
}

/// One box inside of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child<'a> {
    pub(super) kind: FourCc,
    pub(super) body: &'a [u8],
}

impl<'a> Child<'a> {
    pub(super) fn reader(&self) -> Reader<'a> {
        Reader::new(self.kind, self.body)
    }
}

/// The boxes of `bytes`, which are the content of a box of type `parent`; nothing follows an error.
pub(super) fn children(
    parent: FourCc,
    bytes: &[u8],
) -> impl Iterator<Item = Result<Child<'_>, HeifError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = split_box(parent, rest);
        rest = next.as_ref().map_or(&[][..], |(_, rest)| rest);
        Some(next.map(|(child, _)| child))
    })
}

fn split_box(parent: FourCc, bytes: &[u8]) -> Result<(Child<'_>, &[u8]), HeifError> {
    let mut reader = Reader::new(parent, bytes);
    let header = BoxHeader::read(&mut reader)?;
    let body = match header.body_len {
        None => reader.take(reader.rest().len())?,
        Some(len) => {
            let whole = usize::try_from(len).unwrap_or(usize::MAX);
            if whole > reader.rest().len() {
                return Err(HeifError::damaged(
                    header.kind,
                    "it ends behind the box around it",
                ));
            }
            reader.take(whole)?
        }
    };
    let child = Child {
        kind: header.kind,
        body,
    };
    Ok((child, reader.rest()))
}

/// Type and length of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoxHeader {
    pub(super) kind: FourCc,
    /// Bytes behind the header; `None` reaches to the end of what is around it.
    pub(super) body_len: Option<u64>,
    /// Bytes of the header itself.
    pub(super) len: u64,
}

impl BoxHeader {
    /// Bytes of the longest header.
    pub(super) const MAX_LEN: usize = 16;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, HeifError> {
        let short = reader.u32()?;
        let kind = reader.fourcc()?;
        let (size, len) = match short {
            0 => {
                return Ok(Self {
                    kind,
                    body_len: None,
                    len: 8,
                });
            }
            1 => (reader.uint(8)?, 16),
            _ => (u64::from(short), 8),
        };
        let body_len = size.checked_sub(len).ok_or_else(|| {
            HeifError::damaged(
                kind,
                format!("its length of {size} is less than its header"),
            )
        })?;
        Ok(Self {
            kind,
            body_len: Some(body_len),
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_split_by_their_lengths() {
        let mut bytes = b"\0\0\0\x0aabcd\x01\x02".to_vec();
        bytes.extend(b"\0\0\0\x01long\0\0\0\0\0\0\0\x11\x03");
        bytes.extend(b"\0\0\0\0restxyz");
        let all: Vec<_> = children(*b"meta", &bytes).map(Result::unwrap).collect();
        let seen: Vec<_> = all.iter().map(|c| (&c.kind, c.body)).collect();
        let expected: [(&FourCc, &[u8]); 3] =
            [(b"abcd", &[1, 2]), (b"long", &[3]), (b"rest", b"xyz")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_box_that_ends_behind_its_parent_is_an_error_and_the_last() {
        for bytes in [
            &b"\0\0\0\x09abcd"[..],
            b"\0\0\0\x07abcd",
            b"\0\0\0\x01abcd\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\0\0\x01abcd\0\0\0\0\0\0\0\x0f",
            b"\0\0",
        ] {
            let all: Vec<_> = children(*b"meta", bytes).collect();
            assert!(matches!(all[..], [Err(_)]), "{all:?}");
        }
    }
}
