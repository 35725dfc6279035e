//! What cameras and phones note in a photo's EXIF block: the focal length, and where the photo was taken.
//!
//! EXIF 3.0 (CIPA DC-008-2023), on TIFF 6.0. Untrusted: every number is checked against the bytes that are there, and a damaged
//! block notes nothing.

/// Entries of one directory, at most.
const MAX_ENTRIES: usize = 4096;

/// Diagonal of a 35 mm frame, mm: CIPA DCG-001 defines the equivalent focal length by diagonals.
const DIAGONAL_35MM: f64 = 43.266_615_305_567_87;

/// How far the shape of a photo may be from that of the picture in its block before it counts as cropped.
const SAME_SHAPE: f64 = 0.02;

/// Longest name of a camera that is read, bytes.
const MAX_NAME: usize = 128;

// Tags of the first directory.
const MAKE: u16 = 0x010F;
const MODEL: u16 = 0x0110;
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
// Tags of the EXIF directory.
const FOCAL_LENGTH: u16 = 0x920A;
const PIXEL_WIDTH: u16 = 0xA002;
const PIXEL_HEIGHT: u16 = 0xA003;
const FOCAL_PLANE_X: u16 = 0xA20E;
const FOCAL_PLANE_UNIT: u16 = 0xA210;
const FOCAL_35MM: u16 = 0xA405;
const LENS_MODEL: u16 = 0xA434;
// Tags of the GPS directory.
const LATITUDE: [u16; 2] = [1, 2];
const LONGITUDE: [u16; 2] = [3, 4];
const ALTITUDE: [u16; 2] = [5, 6];

/// Where a photo was taken: WGS 84.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpsPosition {
    /// Degrees, north is positive.
    pub latitude: f64,
    /// Degrees, east is positive.
    pub longitude: f64,
    /// Meters above the sea level or the ellipsoid, as the device has it.
    pub altitude: Option<f64>,
}

/// What a photo notes of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhotoNote {
    /// Make and model of the camera, and of its lens.
    pub camera: Option<String>,
    /// Focal length of the lens, mm. Phones do not count a digital zoom in.
    pub focal_mm: Option<f64>,
    /// Focal length that gives the same diagonal field of view on 35 mm film, mm. Phones include a digital zoom.
    pub focal_35mm: Option<f64>,
    /// Focal length in pixels of the picture as it was stored.
    pub focal_plane_pixels: Option<f64>,
    /// Width and height of the picture when it was taken, pixels as stored: not turned.
    pub taken_size: Option<[u32; 2]>,
    /// Where it was taken.
    pub gps: Option<GpsPosition>,
}

impl PhotoNote {
    /// Returns the focal length in pixels of the photo, which has this width and height, upright; `None` where none is noted, or
    /// the photo was cropped to another shape after it was taken.
    ///
    /// By the equivalent of 35 mm film, else by the focal length and the pixels of the sensor. A photo that was cropped to the same
    /// shape cannot be told from one that was made smaller: callers check that the result is plausible.
    pub fn focal_pixels(&self, [width, height]: [u32; 2]) -> Option<f64> {
        let (width, height) = (f64::from(width), f64::from(height));
        let scale = match self.taken_size {
            Some(taken) => {
                let [w, h] = taken.map(f64::from);
                // Stored on its side or not: only lengths count.
                let (longer, shorter) = (w.max(h), w.min(h));
                let shape = width.max(height) / width.min(height) * shorter / longer;
                if (shape - 1.0).abs() > SAME_SHAPE {
                    return None;
                }
                width.max(height) / longer
            }
            None => 1.0,
        };
        let by_film = self
            .focal_35mm
            .map(|mm| mm * width.hypot(height) / DIAGONAL_35MM);
        let by_sensor = || self.focal_plane_pixels.map(|pixels| pixels * scale);
        let focal = by_film.or_else(by_sensor);
        focal.filter(|focal| focal.is_finite() && *focal > 0.0)
    }
}

/// Reads a block, from its TIFF header on; what is missing or damaged is `None`.
pub(super) fn parse(block: &[u8]) -> PhotoNote {
    let Some(tiff) = Tiff::open(block) else {
        return PhotoNote::default();
    };
    let first = tiff.u32(4).map(|at| at as usize);
    let directory = |tag: u16| Some(tiff.integer(first?, tag)? as usize);
    let (exif, gps) = (directory(EXIF_DIRECTORY), directory(GPS_DIRECTORY));
    let integer = |tag: u16| tiff.integer(exif?, tag);
    let rational = |tag: u16| tiff.rationals(exif?, tag)?.first().copied();
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    let sides = integer(PIXEL_WIDTH).zip(integer(PIXEL_HEIGHT));
    let per_mm = || {
        let millimeters = match integer(FOCAL_PLANE_UNIT).unwrap_or(2) {
            2 => 25.4,
            3 => 10.0,
            4 => 1.0,
            _ => return None,
        };
        Some(rational(FOCAL_PLANE_X).filter(positive)? / millimeters)
    };
    let focal_mm = rational(FOCAL_LENGTH).filter(positive);
    let focal_plane = focal_mm.zip(per_mm());
    let names = [(first, MAKE), (first, MODEL), (exif, LENS_MODEL)];
    let names = names.map(|(directory, tag)| tiff.text(directory?, tag));
    PhotoNote {
        camera: (names.iter().any(Option::is_some))
            .then(|| names.map(Option::unwrap_or_default).join("|")),
        focal_mm,
        focal_35mm: integer(FOCAL_35MM).map(f64::from).filter(positive),
        focal_plane_pixels: focal_plane.map(|(mm, per_mm)| mm * per_mm).filter(positive),
        taken_size: sides.filter(|(w, h)| *w > 0 && *h > 0).map(|(w, h)| [w, h]),
        gps: gps.and_then(|gps| position(&tiff, gps)),
    }
}

fn position(tiff: &Tiff<'_>, gps: usize) -> Option<GpsPosition> {
    let degrees = |[reference, value]: [u16; 2], negative: u8| {
        let parts = tiff.rationals(gps, value)?;
        // Degrees, minutes and seconds; some write fewer.
        let units = [1.0, 60.0, 3600.0];
        let sum: f64 = parts
            .iter()
            .zip(units)
            .map(|(part, unit)| part / unit)
            .sum();
        let sign = match tiff.byte(gps, reference)?.to_ascii_uppercase() == negative {
            true => -1.0,
            false => 1.0,
        };
        (!parts.is_empty()).then_some(sign * sum)
    };
    let (latitude, longitude) = (degrees(LATITUDE, b'S')?, degrees(LONGITUDE, b'W')?);
    // Devices without a fix write zeros.
    let is_fix = latitude != 0.0 || longitude != 0.0;
    let is_place = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    let altitude = tiff
        .rationals(gps, ALTITUDE[1])
        .and_then(|values| values.first().copied());
    // 1 is below the sea level.
    let below = tiff.byte(gps, ALTITUDE[0]) == Some(1);
    (is_fix && is_place).then_some(GpsPosition {
        latitude,
        longitude,
        altitude: altitude
            .filter(|a| a.is_finite())
            .map(|a| if below { -a } else { a }),
    })
}

/// A block, and its byte order.
struct Tiff<'a> {
    block: &'a [u8],
    big_endian: bool,
}

/// One entry of a directory.
struct Entry<'a> {
    kind: u16,
    count: usize,
    values: &'a [u8],
}

impl<'a> Tiff<'a> {
    fn open(block: &'a [u8]) -> Option<Self> {
        let big_endian = match block.get(..2)? {
            b"II" => false,
            b"MM" => true,
            _ => return None,
        };
        Some(Self { block, big_endian })
    }

    fn u16_of(&self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.big_endian {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    }

    fn u32_of(&self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.u32_of(self.block.get(at..)?)
    }

    fn entry(&self, directory: usize, tag: u16) -> Option<Entry<'a>> {
        let count = usize::from(self.u16_of(self.block.get(directory..)?)?).min(MAX_ENTRIES);
        let entries = self
            .block
            .get(directory + 2..)?
            .chunks_exact(12)
            .take(count);
        let entry = entries
            .into_iter()
            .find(|entry| self.u16_of(entry) == Some(tag))?;
        let kind = self.u16_of(&entry[2..])?;
        let count = usize::try_from(self.u32_of(&entry[4..])?).ok()?;
        let size = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            5 | 10 => 8,
            _ => return None,
        };
        let length = count.checked_mul(size)?;
        let values = match length <= 4 {
            true => entry.get(8..8 + length)?,
            false => {
                let start = usize::try_from(self.u32_of(&entry[8..])?).ok()?;
                self.block.get(start..start.checked_add(length)?)?
            }
        };
        Some(Entry {
            kind,
            count,
            values,
        })
    }

    /// The first value, of an unsigned type.
    fn integer(&self, directory: usize, tag: u16) -> Option<u32> {
        let entry = self.entry(directory, tag)?;
        match entry.kind {
            1 | 7 => entry.values.first().map(|value| u32::from(*value)),
            3 => self.u16_of(entry.values).map(u32::from),
            4 | 13 => self.u32_of(entry.values),
            _ => None,
        }
    }

    /// The first byte, of text or a number.
    fn byte(&self, directory: usize, tag: u16) -> Option<u8> {
        let entry = self.entry(directory, tag)?;
        matches!(entry.kind, 1 | 2 | 7).then(|| entry.values.first().copied())?
    }

    /// The beginning of a text, without what pads it.
    fn text(&self, directory: usize, tag: u16) -> Option<String> {
        let entry = self.entry(directory, tag)?;
        let end = entry.values.iter().position(|byte| *byte == 0);
        let bytes = &entry.values[..end.unwrap_or(entry.values.len()).min(MAX_NAME)];
        let text = String::from_utf8_lossy(bytes).trim().to_owned();
        (entry.kind == 2 && !text.is_empty()).then_some(text)
    }

    /// Up to three fractions; one whose denominator is 0 is NaN or infinite.
    fn rationals(&self, directory: usize, tag: u16) -> Option<Vec<f64>> {
        let entry = self.entry(directory, tag)?;
        if entry.kind != 5 || entry.count == 0 {
            return None;
        }
        let fraction = |bytes: &[u8]| {
            let (above, below) = (self.u32_of(bytes)?, self.u32_of(&bytes[4..])?);
            // Unused seconds are written as 0/0 by some.
            Some(match above {
                0 => 0.0,
                above => f64::from(above) / f64::from(below),
            })
        };
        entry.values.chunks_exact(8).take(3).map(fraction).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
