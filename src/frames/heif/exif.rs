//! The EXIF block of a file: ISO/IEC 23008-12, annex A.

use std::io::{Read, Seek};

use super::{file::Container, meta::Meta};

/// Longest block, with its thumbnail.
const MAX_BYTES: usize = 16 << 20;

/// Returns the block from its TIFF header on; `None` where there is none, or it is damaged.
pub(super) fn exif<R: Read + Seek>(reader: R) -> Option<Vec<u8>> {
    let (mut container, meta) = Container::open(reader).ok()?;
    let meta = Meta::parse(&meta).ok()?;
    let item = meta.item_of_kind(b"Exif")?;
    let location = item.location.as_ref()?;
    if location.unsupported.is_some() || location.in_idat {
        return None;
    }
    let mut bytes = Vec::new();
    for (offset, len) in &location.extents {
        container
            .append(*offset, *len, MAX_BYTES, &mut bytes)
            .ok()?;
    }
    // The distance of the TIFF header from here comes first.
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let start = usize::try_from(u32::from_be_bytes(*head)).ok()?;
    Some(rest.get(start..)?.to_vec())
}
