//! The file around the items: what it is, where its `meta` box lies, and the bytes of an item.

use std::io::{self, Read, Seek, SeekFrom};

use super::{
    boxes::{BoxHeader, FourCc, Reader, children},
    error::HeifError,
};

/// Brands that promise a single image (ISO/IEC 23008-12, MIAF, AV1 Image File Format).
const IMAGE_BRANDS: [&FourCc; 11] = [
    b"mif1", b"mif2", b"miaf", b"heic", b"heix", b"heim", b"heis", b"avif", b"1pic", b"jpeg",
    b"avci",
];

/// Brands of image sequences, most of which hold a single image too.
const SEQUENCE_BRANDS: [&FourCc; 6] = [b"msf1", b"hevc", b"hevx", b"hevm", b"hevs", b"avis"];

/// Bytes of the longest `ftyp` box that is looked at: a hundred brands. Real files have fewer than ten.
const MAX_FTYP_BYTES: u64 = 8 + 4 * 100;

/// Boxes outside of all others that are looked at; the `meta` box is the second in what cameras write.
const MAX_TOP_LEVEL_BOXES: usize = 64;

/// Bytes of the longest `meta` box that is read. A phone's has about 4 KB; one with 4096 tiles and thumbnails inside
/// stays far below.
pub(super) const MAX_META_BYTES: u64 = 16 << 20;

/// What the boxes outside of all others say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outline {
    image_brand: bool,
    sequence_brand: bool,
    /// Offset and length of the content of the `meta` box.
    meta: Option<(u64, u64)>,
    movie: bool,
}

/// Returns true when the file holds a still image in a HEIF container, whether or not it can be decoded.
///
/// A brand of HEIF is needed, and a `meta` box that names a primary item. Without that box, a file with a `moov` box is
/// a video, and one that ends early counts as an image, so that the error is about an image.
pub(super) fn is_heif<R: Read + Seek>(reader: &mut R) -> io::Result<bool> {
    let len = reader.seek(SeekFrom::End(0))?;
    let Some(outline) = outline(reader, len)? else {
        return Ok(false);
    };
    if let Some(meta) = outline.meta
        && names_primary(reader, len, meta)?
    {
        return Ok(true);
    }
    Ok(!outline.movie && outline.image_brand)
}

fn names_primary<R: Read + Seek>(
    reader: &mut R,
    len: u64,
    (offset, meta_len): (u64, u64),
) -> io::Result<bool> {
    if meta_len > MAX_META_BYTES {
        return Ok(false);
    }
    let mut meta = vec![0; meta_len.min(len.saturating_sub(offset)) as usize];
    reader.seek(SeekFrom::Start(offset))?;
    reader.read_exact(&mut meta)?;
    let children = meta.get(4..).unwrap_or_default();
    Ok(self::children(*b"meta", children)
        .filter_map(Result::ok)
        .any(|child| child.kind == *b"pitm"))
}

/// `None` where the file has no brand of HEIF.
fn outline<R: Read + Seek>(reader: &mut R, len: u64) -> io::Result<Option<Outline>> {
    let mut outline = Outline::default();
    let mut at = 0;
    for number in 0..MAX_TOP_LEVEL_BOXES {
        reader.seek(SeekFrom::Start(at))?;
        let mut header = Vec::with_capacity(BoxHeader::MAX_LEN);
        reader
            .by_ref()
            .take(BoxHeader::MAX_LEN as u64)
            .read_to_end(&mut header)?;
        let Ok(header) = BoxHeader::read(&mut Reader::new(*b"file", &header)) else {
            break;
        };
        let body = at + header.len;
        let body_len = header.body_len.unwrap_or(len.saturating_sub(body));
        match &header.kind {
            b"ftyp" if number == 0 => {
                reader.seek(SeekFrom::Start(body))?;
                let mut brands = Vec::new();
                let looked_at = body_len.min(MAX_FTYP_BYTES);
                reader.by_ref().take(looked_at).read_to_end(&mut brands)?;
                outline.look_at_brands(&brands);
                if !(outline.image_brand || outline.sequence_brand) {
                    return Ok(None);
                }
            }
            _ if number == 0 => return Ok(None),
            b"meta" if outline.meta.is_none() => outline.meta = Some((body, body_len)),
            b"moov" => outline.movie = true,
            _ => {}
        }
        match body.checked_add(body_len) {
            Some(next) if next < len => at = next,
            _ => break,
        }
    }
    Ok(Some(outline).filter(|outline| outline.image_brand || outline.sequence_brand))
}

impl Outline {
    /// `body` of an `ftyp` box: the major brand, its version, and the compatible brands.
    fn look_at_brands(&mut self, body: &[u8]) {
        for (i, brand) in body.chunks_exact(4).enumerate() {
            // The second word is a version.
            if i != 1 {
                self.image_brand |= IMAGE_BRANDS.iter().any(|b| *b == brand);
                self.sequence_brand |= SEQUENCE_BRANDS.iter().any(|b| *b == brand);
            }
        }
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Container<R> {
    reader: R,
    len: u64,
}

impl<R: Read + Seek> Container<R> {
    /// Opens a file, and returns the content of its `meta` box too.
    ///
    /// # Errors
    /// When the file has no `meta` box of a reasonable length, or ends within it.
    pub(super) fn open(mut reader: R) -> Result<(Self, Vec<u8>), HeifError> {
        let len = reader.seek(SeekFrom::End(0))?;
        let outline = outline(&mut reader, len)?.unwrap_or_default();
        let Some((offset, meta_len)) = outline.meta else {
            return Err(HeifError::Truncated);
        };
        if meta_len > MAX_META_BYTES {
            return Err(HeifError::damaged(
                *b"meta",
                format!("it has {meta_len} bytes, the limit is {MAX_META_BYTES}"),
            ));
        }
        if offset.saturating_add(meta_len) > len {
            return Err(HeifError::Truncated);
        }
        let mut meta = vec![0; meta_len as usize];
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(&mut meta)?;
        Ok((Self { reader, len }, meta))
    }

    /// Appends `len` bytes at `offset` of the file; without a length, all to its end.
    ///
    /// # Errors
    /// When the file ends before, or `into` would grow beyond `max` bytes.
    pub(super) fn append(
        &mut self,
        offset: u64,
        len: Option<u64>,
        max: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), HeifError> {
        let len = len.unwrap_or(self.len.saturating_sub(offset));
        // The file has the bytes, so that nothing is allocated for a number alone.
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(HeifError::Truncated);
        }
        let len = usize::try_from(len)
            .ok()
            .filter(|len| into.len().saturating_add(*len) <= max)
            .ok_or_else(|| {
                HeifError::damaged(*b"iloc", format!("an item has more than {max} bytes"))
            })?;
        let start = into.len();
        into.resize(start + len, 0);
        self.reader.seek(SeekFrom::Start(offset))?;
        self.reader.read_exact(&mut into[start..])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let len = 8 + body.len() as u32;
        [&len.to_be_bytes()[..], kind, body].concat()
    }

    fn is_picture(boxes: &[Vec<u8>]) -> bool {
        is_heif(&mut Cursor::new(boxes.concat())).unwrap()
    }

    #[test]
    fn a_brand_and_a_primary_item_make_a_image() {
        let ftyp = |brands: &str| {
            boxed(
                b"ftyp",
                &[&brands.as_bytes()[..4], &[0; 4], &brands.as_bytes()[4..]].concat(),
            )
        };
        let meta = boxed(
            b"meta",
            &[vec![0; 4], boxed(b"pitm", &[0, 0, 0, 0, 0, 1])].concat(),
        );
        let other_meta = boxed(b"meta", &[vec![0; 4], boxed(b"hdlr", &[0; 8])].concat());
        let moov = boxed(b"moov", &[]);
        for (expected, boxes) in [
            (true, vec![ftyp("heicmif1"), meta.clone()]),
            (true, vec![ftyp("isomavif"), moov.clone(), meta.clone()]),
            // A sequence with a primary item, and one without.
            (true, vec![ftyp("hevcmsf1"), meta.clone(), moov.clone()]),
            (false, vec![ftyp("hevcmsf1"), moov.clone()]),
            (false, vec![ftyp("avisavif"), other_meta, moov.clone()]),
            // Cut off before its meta box.
            (true, vec![ftyp("heicmif1")]),
            (false, vec![ftyp("avismsf1")]),
            // A video, whatever its metadata say.
            (false, vec![ftyp("isommp42"), meta.clone(), moov]),
            (false, vec![meta, ftyp("heicmif1")]),
            (false, vec![b"\xFF\xD8\xFF".to_vec()]),
            (false, vec![]),
        ] {
            assert_eq!(is_picture(&boxes), expected, "{boxes:?}");
        }
    }

    #[test]
    fn no_memory_is_taken_for_bytes_that_are_not_there() {
        let ftyp = boxed(b"ftyp", b"heic\0\0\0\0mif1");
        let long = b"\0\0\0\x01meta\0\0\0\x7f\xff\xff\xff\xff".to_vec();
        let e = Container::open(Cursor::new([ftyp.clone(), long].concat())).unwrap_err();
        assert!(e.to_string().contains("limit"), "{e}");
        let short = b"\0\x40\0\0meta".to_vec();
        let e = Container::open(Cursor::new([ftyp, short].concat())).unwrap_err();
        assert!(matches!(e, HeifError::Truncated), "{e}");
    }
}
