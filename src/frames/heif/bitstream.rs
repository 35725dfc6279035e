//! The bytes of an item -> the stream that FFmpeg's decoder takes.
//!
//! HEVC and H.264 are stored as units with a length before each, and their parameter sets in the item's properties. The
//! decoders also take units with start codes (Annex B of both standards), which needs no state set from outside.

use super::{
    boxes::{Child, FourCc, Reader},
    error::HeifError,
    meta::Item,
};

/// How an image is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Hevc,
    Av1,
    H264,
    Jpeg,
}

/// The start code of a unit.
const START: [u8; 4] = [0, 0, 0, 1];

impl Coding {
    /// The coding of an item of this type; `None` for all that is not one coded image.
    pub(super) fn of(kind: FourCc) -> Option<Self> {
        match &kind {
            b"hvc1" | b"hev1" => Some(Self::Hevc),
            b"av01" => Some(Self::Av1),
            b"avc1" => Some(Self::H264),
            b"jpeg" => Some(Self::Jpeg),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
            Self::H264 => "H.264",
            Self::Jpeg => "JPEG",
        }
    }

    /// The property that holds what the decoder needs before the first unit.
    fn configuration(self) -> FourCc {
        match self {
            Self::Hevc => *b"hvcC",
            Self::Av1 => *b"av1C",
            Self::H264 => *b"avcC",
            Self::Jpeg => *b"jpgC",
        }
    }

    /// The stream of an item with these bytes.
    ///
    /// # Errors
    /// When its configuration is missing or damaged, or a unit ends behind the data.
    pub(super) fn stream(self, item: &Item<'_>, data: Vec<u8>) -> Result<Vec<u8>, HeifError> {
        let configuration = item.property(&self.configuration());
        match self {
            // The sequence header is in the data.
            Self::Av1 => Ok(data),
            Self::Jpeg => Ok(match configuration {
                Some(header) => [header.body, &data].concat(),
                None => data,
            }),
            Self::Hevc | Self::H264 => {
                let configuration = configuration.ok_or_else(|| {
                    HeifError::Broken(format!("an item has no {} configuration", self.name()))
                })?;
                let (sets, length_bytes) = match self {
                    Self::Hevc => hevc_sets(&configuration)?,
                    _ => h264_sets(&configuration)?,
                };
                annex_b(&sets, length_bytes, &data)
            }
        }
    }
}

/// Parameter sets, and the number of bytes of a unit's length.
type Sets<'a> = (Vec<&'a [u8]>, usize);

fn hevc_sets<'a>(configuration: &Child<'a>) -> Result<Sets<'a>, HeifError> {
    let mut reader = configuration.reader();
    // Profile, level and format, which the parameter sets repeat.
    reader.take(21)?;
    let length_bytes = usize::from(reader.u8()? & 3) + 1;
    let mut sets = Vec::new();
    for _ in 0..reader.u8()? {
        reader.u8()?;
        for _ in 0..reader.u16()? {
            sets.push(unit(&mut reader)?);
        }
    }
    Ok((sets, length_bytes))
}

fn h264_sets<'a>(configuration: &Child<'a>) -> Result<Sets<'a>, HeifError> {
    let mut reader = configuration.reader();
    reader.take(4)?;
    let length_bytes = usize::from(reader.u8()? & 3) + 1;
    let mut sets = Vec::new();
    for count_mask in [0x1F, 0xFF] {
        for _ in 0..reader.u8()? & count_mask {
            sets.push(unit(&mut reader)?);
        }
    }
    Ok((sets, length_bytes))
}

fn unit<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], HeifError> {
    let len = reader.u16()?;
    reader.take(usize::from(len))
}

fn annex_b(sets: &[&[u8]], length_bytes: usize, data: &[u8]) -> Result<Vec<u8>, HeifError> {
    let mut stream = Vec::with_capacity(data.len() + 1024);
    for set in sets {
        stream.extend(START);
        stream.extend(*set);
    }
    let mut reader = Reader::new(*b"mdat", data);
    while !reader.rest().is_empty() {
        let len = reader.uint(length_bytes)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        stream.extend(START);
        stream.extend(reader.take(len)?);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_start_codes_behind_the_parameter_sets() {
        let mut body = vec![0; 21];
        // Lengths of two bytes; one array with one set.
        body.extend([1, 1, 0x20, 0, 1, 0, 2, 0xAA, 0xBB]);
        let item = Item {
            properties: vec![Child {
                kind: *b"hvcC",
                body: &body,
            }],
            ..Item::default()
        };
        let stream = Coding::Hevc
            .stream(&item, vec![0, 1, 0x11, 0, 2, 0x22, 0x33])
            .unwrap();
        let expected = [
            &START[..],
            &[0xAA, 0xBB],
            &START,
            &[0x11],
            &START,
            &[0x22, 0x33],
        ];
        assert_eq!(stream, expected.concat());
        assert!(Coding::Hevc.stream(&item, vec![0, 9, 1]).is_err());
        assert!(Coding::Hevc.stream(&Item::default(), vec![]).is_err());
        assert_eq!(Coding::Av1.stream(&Item::default(), vec![7]).unwrap(), [7]);
    }
}
