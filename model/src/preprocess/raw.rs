//! Cameras' RAW files: the largest JPEG preview that is inside.
//!
//! Nothing is developed: a preview is what the camera made of the sensor's data, upright and in its colors. Formats that
//! are TIFF (DNG, CR2, NEF, ARW and others) list their images in directories; in the others (CR3, RAF, ORF, RW2) the file
//! is searched for JPEGs. Thumbnails that are not JPEG are never taken.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use ::image::metadata::Orientation;

use super::{
    ImageLimits, ImageNote, PreprocessError,
    ifd::{Directories, Directory},
    jpeg, orientation,
    stored::{Name, Stored},
};

/// Directories of one file, at most: an original has the sensor's image and some previews.
const MAX_DIRECTORIES: usize = 64;

/// Starts of JPEGs in one file, at most. Compressed sensor data holds the three bytes of one by chance in 16 MB.
const MAX_STARTS: usize = 256;

const NEW_SUBFILE_TYPE: u16 = 254;
const IMAGE_LENGTH: u16 = 257;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const MAKE: u16 = 271;
const STRIP_OFFSETS: u16 = 273;
const STRIP_BYTE_COUNTS: u16 = 279;
const SUB_IFDS: u16 = 330;
const JPEG_OFFSET: u16 = 513;
const JPEG_LENGTH: u16 = 514;
const DNG_VERSION: u16 = 50706;
/// Panasonic's RW2: JpgFromRaw.
const RW2_JPEG: u16 = 0x2E;

/// The names that [`ImageNote::Preview`] and [`PreprocessError::NoPreview`] have for formats.
pub const FORMAT_NAMES: [&str; 15] = [
    "RAF", "ORF", "RW2", "CR3", "CRW", "X3F", "MRW", "DNG", "CR2", "NEF", "ARW", "PEF", "SRW",
    "3FR", UNKNOWN,
];

/// The name of a RAW format that is recognized by its sensor's data only.
const UNKNOWN: &str = "camera RAW";

/// A RAW file's format, and where its previews may be.
pub(super) struct Raw {
    format: &'static str,
    previews: Vec<Preview>,
    orientation: Option<Orientation>,
}

#[derive(Clone, Copy)]
struct Preview {
    offset: u64,
    length: u64,
    /// Rows of pixels that the directory promises: a JPEG with fewer is one of several strips.
    rows: u64,
}

/// Returns the RAW format that a file's first bytes name, of those that are not plain TIFF.
pub(super) fn format_of(head: &[u8]) -> Option<&'static str> {
    const FORMATS: [(usize, &[u8], &str); 9] = [
        (0, b"FUJIFILMCCD-RAW", "RAF"),
        (0, b"IIRO", "ORF"),
        (0, b"IIRS", "ORF"),
        (0, b"MMOR", "ORF"),
        (0, b"IIU\0", "RW2"),
        (4, b"ftypcrx ", "CR3"),
        (6, b"HEAPCCDR", "CRW"),
        (0, b"FOVb", "X3F"),
        (0, b"\0MRM", "MRW"),
    ];
    let matches = |at: usize, signature: &[u8]| {
        head.get(at..)
            .is_some_and(|rest| rest.starts_with(signature))
    };
    let found = FORMATS
        .iter()
        .find(|(at, signature, _)| matches(*at, signature));
    found.map(|(.., name)| *name)
}

/// Looks at a TIFF, or at a file with the format of [`format_of`]; `None` when it is not a camera's RAW file.
pub(super) fn survey<R: BufRead + Seek>(
    reader: &mut R,
    format: Option<&'static str>,
) -> io::Result<Option<Raw>> {
    reader.rewind()?;
    let mut raw = Raw {
        format: format.unwrap_or(UNKNOWN),
        previews: Vec::new(),
        orientation: None,
    };
    let mut head = [0; 10];
    let is_cr2 = reader.read_exact(&mut head).is_ok() && &head[8..] == b"CR";
    reader.rewind()?;
    let mut is_raw = format.is_some() || is_cr2;
    if let Some(mut tiff) = Directories::open(reader.by_ref())? {
        let (mut queue, mut seen) = (vec![tiff.first], Vec::new());
        while let Some(offset) = queue.pop() {
            if offset == 0 || seen.contains(&offset) || seen.len() == MAX_DIRECTORIES {
                continue;
            }
            let Ok(directory) = tiff.directory(offset) else {
                continue;
            };
            if seen.is_empty() {
                let name = name_of(&mut tiff, &directory, is_cr2);
                raw.format = format.or(name).unwrap_or(raw.format);
                is_raw |= Directories::<R>::has(&directory, DNG_VERSION);
                let value = tiff.unsigned(&directory, orientation::ORIENTATION);
                let value = value.and_then(|v| u8::try_from(v).ok());
                raw.orientation = value.and_then(Orientation::from_exif);
            }
            seen.push(offset);
            is_raw |= holds_sensor_data(&mut tiff, &directory);
            queue.push(directory.next);
            let below = tiff.integers(&directory, SUB_IFDS);
            queue.extend(below.iter().filter_map(|v| u64::try_from(*v).ok()));
            raw.previews.extend(preview(&mut tiff, &directory));
        }
    }
    if format.is_some() {
        raw.previews.extend(starts(reader)?);
        raw.orientation = raw.orientation.or(canon_orientation(reader)?);
    }
    Ok(is_raw.then_some(raw))
}

/// Returns the name of a TIFF's RAW format.
fn name_of<R: Read + Seek>(
    tiff: &mut Directories<R>,
    first: &Directory,
    is_cr2: bool,
) -> Option<&'static str> {
    if Directories::<R>::has(first, DNG_VERSION) {
        return Some("DNG");
    }
    if is_cr2 {
        return Some("CR2");
    }
    let make = tiff.text(first, MAKE).to_ascii_uppercase();
    let by_make = [
        ("NIKON", "NEF"),
        ("SONY", "ARW"),
        ("PENTAX", "PEF"),
        ("RICOH", "PEF"),
        ("SAMSUNG", "SRW"),
        ("OLYMPUS", "ORF"),
        ("HASSELBLAD", "3FR"),
    ];
    let found = by_make.iter().find(|(maker, _)| make.starts_with(maker));
    found.map(|(_, name)| *name)
}

/// Whether a directory describes a sensor's data. TIFF/EP: color filter array; DNG: linear RAW; the rest are compressions
/// that only RAW files have: ARW, NEF, SRW, PEF and DNG's lossy JPEG.
fn holds_sensor_data<R: Read + Seek>(tiff: &mut Directories<R>, directory: &Directory) -> bool {
    let photometric = tiff.unsigned(directory, PHOTOMETRIC);
    let compression = tiff.unsigned(directory, COMPRESSION);
    matches!(photometric, Some(32_803 | 34_892))
        || matches!(
            compression,
            Some(32_767 | 32_769 | 32_770 | 32_772 | 34_713 | 65_535 | 34_892)
        )
}

/// Returns where the JPEG of a directory is, if it holds one as a whole.
fn preview<R: Read + Seek>(tiff: &mut Directories<R>, directory: &Directory) -> Option<Preview> {
    let get = |tiff: &mut Directories<R>, tag| tiff.unsigned(directory, tag);
    if let Some((offset, length)) = tiff.location(directory, RW2_JPEG) {
        let rows = 0;
        return Some(Preview {
            offset,
            length,
            rows,
        });
    }
    if let Some(offset) = get(tiff, JPEG_OFFSET).filter(|offset| *offset > 0) {
        let length = get(tiff, JPEG_LENGTH).unwrap_or(u64::MAX);
        let rows = 0;
        return Some(Preview {
            offset,
            length,
            rows,
        });
    }
    // Old and new JPEG compression. A single strip is a whole file; tiles and several strips are pieces.
    let is_jpeg = matches!(get(tiff, COMPRESSION), Some(6 | 7));
    let offsets = tiff.integers(directory, STRIP_OFFSETS);
    let lengths = tiff.integers(directory, STRIP_BYTE_COUNTS);
    match (is_jpeg, &offsets[..], &lengths[..]) {
        (true, [offset], [length]) => Some(Preview {
            offset: u64::try_from(*offset).ok()?,
            length: u64::try_from(*length).ok()?,
            rows: get(tiff, IMAGE_LENGTH).unwrap_or(0),
        }),
        _ => None,
    }
}

/// Returns the orientation of a CR3, whose first directory is a TIFF of its own in the box CMT1 near the beginning.
fn canon_orientation<R: BufRead + Seek>(reader: &mut R) -> io::Result<Option<Orientation>> {
    /// Canon's boxes in front of the thumbnail take some ten KiB.
    const FRONT: u64 = 256 << 10;
    const NAME: &[u8] = b"CMT1";
    reader.rewind()?;
    let mut front = Vec::new();
    reader.take(FRONT).read_to_end(&mut front)?;
    let at = front.windows(NAME.len()).position(|name| name == NAME);
    Ok(at.and_then(|at| orientation::of_exif(&front[at + NAME.len()..])))
}

/// Searches a file for JPEGs.
fn starts<R: BufRead + Seek>(reader: &mut R) -> io::Result<Vec<Preview>> {
    const START: [u8; 3] = [0xFF, 0xD8, 0xFF];
    reader.rewind()?;
    let (mut found, mut matched, mut position) = (Vec::new(), 0, 0u64);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() || found.len() == MAX_STARTS {
            return Ok(found);
        }
        for byte in buffer {
            position += 1;
            matched = match *byte == START[matched] {
                true => matched + 1,
                false => usize::from(*byte == START[0]),
            };
            if matched == START.len() {
                found.push(Preview {
                    offset: position - START.len() as u64,
                    length: u64::MAX,
                    rows: 0,
                });
                // The last byte may begin the next one.
                matched = 1;
            }
        }
        let length = buffer.len();
        reader.consume(length);
    }
}

impl Raw {
    /// Decodes the largest preview.
    ///
    /// # Errors
    /// When there is none, or it cannot be decoded.
    pub(super) fn decode<R: BufRead + Seek>(
        self,
        name: &Name<'_>,
        reader: &mut R,
        limits: &ImageLimits,
    ) -> Result<(Stored, Orientation), PreprocessError> {
        let mut largest = None;
        for preview in self.previews {
            let Some(frame) = jpeg::frame_at(reader, preview.offset) else {
                continue;
            };
            if u64::from(frame.height) < preview.rows {
                continue;
            }
            let pixels = u64::from(frame.width) * u64::from(frame.height);
            if largest.is_none_or(|(_, _, most)| pixels > most) {
                largest = Some((preview, frame, pixels));
            }
        }
        let Some((preview, frame, _)) = largest else {
            return Err(PreprocessError::NoPreview {
                name: name.text().to_owned(),
                format: self.format,
            });
        };
        let mut bytes = Vec::new();
        reader
            .seek(SeekFrom::Start(preview.offset))
            .and_then(|_| reader.take(preview.length).read_to_end(&mut bytes))
            .map_err(|e| name.damaged(e.into()))?;
        let (mut stored, outline) = jpeg::decode(name, &mut Cursor::new(bytes), limits)?;
        stored.notes.insert(
            0,
            ImageNote::Preview {
                format: self.format,
                width: frame.width.into(),
                height: frame.height.into(),
            },
        );
        let orientation = outline.orientation.or(self.orientation);
        Ok((stored, orientation.unwrap_or(Orientation::NoTransforms)))
    }
}

/// Whether a directory's image is a smaller copy of another, such as a thumbnail.
pub(super) fn is_reduced<R: Read + Seek>(tiff: &mut Directories<R>, directory: &Directory) -> bool {
    tiff.unsigned(directory, NEW_SUBFILE_TYPE)
        .is_some_and(|kind| kind & 1 == 1)
}
