//! The marker segments of a JPEG: size, orientation, and where the image ends.

use std::io::{self, BufRead, Read, Seek};

use ::image::metadata::Orientation;

use crate::preprocess::orientation::{EXIF_PREFIX, of_exif};

pub(super) const MARKER: u8 = 0xFF;
pub(super) const START_OF_IMAGE: u8 = 0xD8;
pub(super) const END_OF_IMAGE: u8 = 0xD9;
pub(super) const START_OF_SCAN: u8 = 0xDA;
const APP1: u8 = 0xE1;

/// The header of a JPEG's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::preprocess) struct Frame {
    /// The process, as the marker's code: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others are not read.
    pub(in crate::preprocess) process: u8,
    /// Bits of a sample.
    pub(in crate::preprocess) bits: u8,
    /// Width, in pixels.
    pub(in crate::preprocess) width: u16,
    /// Height, in pixels.
    pub(in crate::preprocess) height: u16,
    /// Number of color components.
    pub(in crate::preprocess) components: u8,
}

impl Frame {
    /// Returns the frame of a start-of-frame segment's body.
    pub(super) fn parse(process: u8, body: &[u8]) -> Option<Self> {
        let &[bits, h1, h0, w1, w0, components, ..] = body else {
            return None;
        };
        Some(Self {
            process,
            bits,
            width: u16::from_be_bytes([w1, w0]),
            height: u16::from_be_bytes([h1, h0]),
            components,
        })
    }

    pub(super) fn is_progressive(&self) -> bool {
        self.process == 0xC2
    }

    /// Returns what keeps the frame from being decoded, in words.
    pub(in crate::preprocess) fn unsupported(&self) -> Option<&'static str> {
        match self.process {
            0xC0..=0xC2 if self.bits == 8 => None,
            0xC0..=0xC2 => Some("a JPEG of more than 8 bits a sample"),
            0xC3 => Some("a lossless JPEG"),
            0xC9..=0xCB => Some("a JPEG with arithmetic coding"),
            _ => Some("a hierarchical JPEG"),
        }
    }
}

/// What the marker segments of a JPEG say.
#[derive(Debug, Default)]
pub(in crate::preprocess) struct Outline {
    /// The frame's header, if the file reaches it.
    pub(in crate::preprocess) frame: Option<Frame>,
    /// Orientation of the EXIF block.
    pub(in crate::preprocess) orientation: Option<Orientation>,
    /// Whether there is any entropy-coded data.
    pub(super) has_scan: bool,
    /// Bytes up to and with the end-of-image marker; `None` when the file has none.
    pub(in crate::preprocess) end: Option<u64>,
    /// Whether there are markers that cannot be inside of an image: its end marker is missing, and other data follows.
    pub(super) is_overrun: bool,
    /// Each component's number, and the coefficients that have arrived to their last bit, one bit each.
    scans: Vec<(u8, u64)>,
}

impl Outline {
    /// Whether a progressive image ends, with an end marker, before all of its coefficients have arrived.
    pub(super) fn lacks_scans(&self) -> bool {
        let components = self.frame.map_or(0, |frame| usize::from(frame.components));
        let is_progressive = self.frame.is_some_and(|frame| frame.is_progressive());
        let complete = self.scans.iter().filter(|(_, known)| *known == u64::MAX);
        is_progressive && complete.count() < components
    }

    /// Notes which coefficients a scan completes. T.81, B.2.3.
    fn add_scan(&mut self, head: &[u8]) {
        let count = head.first().map_or(0, |count| usize::from(*count));
        let Some((listed, &[from, to, bits, ..])) = head
            .get(1..)
            .and_then(|rest| rest.split_at_checked(2 * count))
        else {
            return;
        };
        if bits & 15 > 0 {
            return;
        }
        let completed = (from..=to.min(63)).fold(0, |known, at| known | 1u64 << at);
        for component in listed.chunks_exact(2) {
            let id = component[0];
            match self.scans.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => *known |= completed,
                None => self.scans.push((id, completed)),
            }
        }
    }
}

/// Whether a marker stands alone, without a length: stuffed zero, TEM, restart, start-of-image.
pub(super) fn stands_alone(code: u8) -> bool {
    matches!(code, 0x00 | 0x01 | 0xD0..=0xD8)
}

/// Whether a marker starts a frame's header: C0 to CF without DHT, JPG and DAC.
pub(super) fn starts_frame(code: u8) -> bool {
    matches!(code, 0xC0..=0xCF) && !matches!(code, 0xC4 | 0xC8 | 0xCC)
}

/// Whether a marker may stand inside of a scan or behind one: stuffed zero, restart, tables, further scans, applications' data
/// and comments.
fn may_follow_a_scan(code: u8) -> bool {
    matches!(code, 0x00 | 0xC4 | 0xD0..=0xD7 | 0xDA..=0xDD | 0xE0..=0xEF | 0xFE)
}

/// Reads a JPEG's segments up to its end-of-image marker, or to the end of the file.
pub(in crate::preprocess) fn outline<R: BufRead>(reader: &mut R) -> io::Result<Outline> {
    let mut outline = Outline::default();
    let mut position = 0;
    while let Some(code) = next_marker(reader, &mut position)? {
        if code == END_OF_IMAGE {
            outline.end = Some(position);
            break;
        }
        outline.is_overrun |= outline.has_scan && !may_follow_a_scan(code);
        if stands_alone(code) {
            continue;
        }
        let Some(length) = length(reader, &mut position)? else {
            break;
        };
        let frame = outline.frame.is_none() && starts_frame(code);
        let exif = outline.orientation.is_none() && code == APP1;
        let scan = code == START_OF_SCAN;
        let mut body = reader.by_ref().take(length);
        let mut bytes = Vec::new();
        if frame || exif || scan {
            body.read_to_end(&mut bytes)?;
        }
        // Thumbnails with end markers of their own are stepped over.
        let passed = bytes.len() as u64 + io::copy(&mut body, &mut io::sink())?;
        position += passed;
        if frame {
            outline.frame = Frame::parse(code, &bytes);
        }
        if exif && bytes.starts_with(EXIF_PREFIX) {
            outline.orientation = of_exif(&bytes);
        }
        if passed < length {
            break;
        }
        if scan {
            outline.add_scan(&bytes);
        }
        outline.has_scan |= scan;
    }
    Ok(outline)
}

/// Steps to the next marker and returns its code. Inside entropy-coded data a literal 0xFF is followed by 0, which is
/// returned too.
fn next_marker<R: BufRead>(reader: &mut R, position: &mut u64) -> io::Result<Option<u8>> {
    *position += skip_until(reader, MARKER)?;
    loop {
        let Some(byte) = next_byte(reader)? else {
            return Ok(None);
        };
        *position += 1;
        if byte != MARKER {
            return Ok(Some(byte));
        }
    }
}

/// Reads up to and with a byte, keeping nothing; returns the number of bytes.
fn skip_until<R: BufRead>(reader: &mut R, byte: u8) -> io::Result<u64> {
    let mut passed = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(passed);
        }
        let found = buffer.iter().position(|b| *b == byte);
        let used = found.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        passed += used as u64;
        if found.is_some() {
            return Ok(passed);
        }
    }
}

fn next_byte<R: BufRead>(reader: &mut R) -> io::Result<Option<u8>> {
    let byte = reader.fill_buf()?.first().copied();
    if byte.is_some() {
        reader.consume(1);
    }
    Ok(byte)
}

/// Reads the length of a segment's body; the stored one counts itself.
fn length<R: BufRead>(reader: &mut R, position: &mut u64) -> io::Result<Option<u64>> {
    let (Some(high), Some(low)) = (next_byte(reader)?, next_byte(reader)?) else {
        return Ok(None);
    };
    *position += 2;
    Ok(Some(
        u64::from(u16::from_be_bytes([high, low])).saturating_sub(2),
    ))
}

/// Segments in front of a frame's header, at most: profiles and previews take some dozens.
const MAX_SEGMENTS: usize = 256;

/// Reads the header of a JPEG that begins at an offset of a file; `None` when there is none that can be decoded.
pub(in crate::preprocess) fn frame_at<R: BufRead + Seek>(
    reader: &mut R,
    offset: u64,
) -> Option<Frame> {
    reader.seek(io::SeekFrom::Start(offset)).ok()?;
    let mut pair = [0; 2];
    reader.read_exact(&mut pair).ok()?;
    if pair != [MARKER, START_OF_IMAGE] {
        return None;
    }
    for _ in 0..MAX_SEGMENTS {
        let mut head = [0; 4];
        reader.read_exact(&mut head).ok()?;
        let [marker, code, high, low] = head;
        if marker != MARKER || stands_alone(code) || code == END_OF_IMAGE || code == MARKER {
            return None;
        }
        let length = u16::from_be_bytes([high, low]).checked_sub(2)?;
        if starts_frame(code) {
            let mut body = vec![0; length.into()];
            reader.read_exact(&mut body).ok()?;
            let frame = Frame::parse(code, &body)?;
            // Sensor data is stored as lossless JPEG, too.
            let decodes = frame.unsupported().is_none() && matches!(frame.components, 1 | 3);
            return (decodes && frame.width > 0 && frame.height > 0).then_some(frame);
        }
        reader.seek_relative(length.into()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_marker_inside_a_segment_does_not_end_the_image() {
        let segment = [0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9];
        assert_eq!(outline(&mut segment.as_slice()).unwrap().end, None);
        let whole = [&segment[..], &[0xFF, 0x00, 7, 0xFF, 0xFF, 0xD9, 1, 2]].concat();
        let outline = outline(&mut whole.as_slice()).unwrap();
        // Up to the marker, without the two bytes behind it.
        assert_eq!(outline.end, Some(whole.len() as u64 - 2));
    }
}
