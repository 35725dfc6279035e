//! The kinds of TIFF, in words.

use std::io::{Read, Seek};

use super::ifd::{Directories, Directory};

/// How the first image of a TIFF is stored.
pub(super) struct Kind {
    compression: u64,
    photometric: Option<u64>,
    bits: u64,
    /// 1 unsigned, 2 signed, 3 floating point.
    format: u64,
    samples: u64,
    planar: bool,
    /// 1 for none.
    predictor: u64,
}

impl Kind {
    pub(super) fn of<R: Read + Seek>(tiff: &mut Directories<R>, first: &Directory) -> Self {
        // BitsPerSample, Compression, PhotometricInterpretation, SamplesPerPixel, PlanarConfiguration, Predictor,
        // SampleFormat; the defaults are those of TIFF 6.0.
        let mut get = |tag: u16| tiff.unsigned(first, tag);
        Self {
            bits: get(258).unwrap_or(1),
            compression: get(259).unwrap_or(1),
            photometric: get(262),
            samples: get(277).unwrap_or(1),
            planar: get(284) == Some(2),
            predictor: get(317).unwrap_or(1),
            format: get(339).unwrap_or(1),
        }
    }

    pub(super) fn is_uncompressed(&self) -> bool {
        self.compression == 1
    }

    /// Whether `image` would take the values for other ones: whole numbers of 32 bits for floating point.
    pub(super) fn is_misread(&self) -> bool {
        self.format == 1 && self.bits > 16
    }

    /// Whether a piece that cannot be decoded to its end has its first rows as they are: neither differences of neighbors
    /// nor inverted, and one byte a value.
    pub(super) fn has_plain_rows(&self) -> bool {
        self.bits == 8 && self.predictor == 1 && self.photometric != Some(0)
    }

    /// Returns in words what is unusual about it; `None` for gray and RGB of 8 or 16 bits in common compressions.
    pub(super) fn unusual(&self) -> Option<String> {
        let mut what = Vec::new();
        match self.format {
            1 if matches!(self.bits, 8 | 16) => {}
            1 => what.push(format!("{}-bit values", self.bits)),
            2 => what.push(format!("signed {}-bit values", self.bits)),
            3 => what.push(format!("{}-bit floating-point values", self.bits)),
            _ => what.push("complex or undefined values".to_owned()),
        }
        let colors = match self.photometric {
            Some(3) => Some("a color palette"),
            Some(4) => Some("a transparency mask only"),
            Some(5) => Some("CMYK colors"),
            Some(6) => Some("YCbCr colors"),
            Some(8..=10) => Some("CIE Lab colors"),
            Some(32_844 | 32_845) => Some("LogLuv colors"),
            _ if self.samples > 4 => Some("more than 4 channels"),
            _ => None,
        };
        what.extend(colors.map(str::to_owned));
        if self.planar {
            what.push("separate color planes".to_owned());
        }
        what.extend(compression(self.compression));
        (!what.is_empty()).then(|| format!("a TIFF with {}", what.join(" and ")))
    }
}

/// Returns the name of a compression that is unusual for photos.
fn compression(code: u64) -> Option<String> {
    let name = match code {
        // None, LZW, Deflate, PackBits.
        1 | 5 | 8 | 32_946 | 32_773 => return None,
        2..=4 => "fax compression",
        6 => "old-style JPEG compression",
        7 => "JPEG compression",
        34_661 => "JBIG compression",
        33_003 | 33_005 | 34_712 => "JPEG 2000 compression",
        34_676 | 34_677 => "SGI Log compression",
        34_887 => "LERC compression",
        34_925 => "LZMA compression",
        50_000 => "Zstandard compression",
        50_001 => "WebP compression",
        50_002 | 52_546 => "JPEG XL compression",
        code => return Some(format!("compression {code}")),
    };
    Some(name.to_owned())
}
