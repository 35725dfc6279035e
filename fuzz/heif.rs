//! The boxes of HEIC and AVIF files, without the decoders of what is in them.

#[path = "../src/frames/heif/bitstream.rs"]
mod bitstream;
#[path = "../src/frames/heif/boxes.rs"]
mod boxes;
#[path = "../src/frames/heif/error.rs"]
mod error;
#[path = "../src/frames/heif/file.rs"]
mod file;
#[path = "../src/frames/heif/meta.rs"]
mod meta;
#[path = "../src/frames/heif/properties.rs"]
mod properties;

use std::io::Cursor;

/// Numbers of items that are looked up.
const ITEMS: u32 = 64;

/// Bytes of an item that are read at most.
const MAX_ITEM_BYTES: usize = 1 << 20;

/// Reads all that any bytes say as a file.
pub fn read(bytes: &[u8]) {
    let _ = file::is_heif(&mut Cursor::new(bytes));
    let Ok((mut container, meta)) = file::Container::open(Cursor::new(bytes)) else {
        return;
    };
    let Ok(meta) = meta::Meta::parse(&meta) else {
        return;
    };
    for id in (0..ITEMS).chain([meta.primary]) {
        meta.references_of(b"dimg", id);
        meta.referring_to(*b"auxl", id).count();
        let Ok(item) = meta.item(id) else { continue };
        let size = properties::extent(item).ok().flatten().unwrap_or((64, 48));
        for transform in properties::transforms(item).unwrap_or_default() {
            if let properties::Transform::Crop(aperture) = transform
                && let Some(window) = aperture.window(size.0, size.1)
            {
                assert!(u64::from(window.x) + u64::from(window.width) <= u64::from(size.0));
                assert!(u64::from(window.y) + u64::from(window.height) <= u64::from(size.1));
            }
        }
        let _ = (
            properties::nclx(item),
            properties::icc_profile(item),
            properties::is_alpha(item),
        );
        let mut data = Vec::new();
        let extents = item.location.iter().flat_map(|location| &location.extents);
        for (offset, len) in extents {
            let _ = container.append(*offset, *len, MAX_ITEM_BYTES, &mut data);
        }
        assert!(data.len() <= MAX_ITEM_BYTES);
        if let Some(coding) = bitstream::Coding::of(item.kind) {
            let _ = coding.stream(item, data);
        }
    }
}
