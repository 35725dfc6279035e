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

// Tags of the first directory.
const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
// Tags of the EXIF directory.
const FOCAL_LENGTH: u16 = 0x920A;
const PIXEL_WIDTH: u16 = 0xA002;
const PIXEL_HEIGHT: u16 = 0xA003;
const FOCAL_PLANE_X: u16 = 0xA20E;
const FOCAL_PLANE_UNIT: u16 = 0xA210;
const FOCAL_35MM: u16 = 0xA405;
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PhotoNote {
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
    let focal_plane = rational(FOCAL_LENGTH).filter(positive).zip(per_mm());
    PhotoNote {
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
pub(super) mod tests {
    use super::*;

    /// Values of an entry: type, count, bytes.
    type Value = (u16, u32, Vec<u8>);

    /// A little-endian directory at `at`, its values behind it, and where the next one would be.
    fn directory(at: usize, entries: &[(u16, Value)]) -> Vec<u8> {
        let mut head = (entries.len() as u16).to_le_bytes().to_vec();
        let mut behind: Vec<u8> = Vec::new();
        let end = at + 2 + 12 * entries.len() + 4;
        for (tag, (kind, count, bytes)) in entries {
            head.extend(tag.to_le_bytes());
            head.extend(kind.to_le_bytes());
            head.extend(count.to_le_bytes());
            let mut field = bytes.clone();
            if bytes.len() > 4 {
                field = ((end + behind.len()) as u32).to_le_bytes().to_vec();
                behind.extend(bytes);
            }
            field.resize(4, 0);
            head.extend(field);
        }
        head.extend([0; 4]);
        head.extend(behind);
        head
    }

    fn short(value: u16) -> Value {
        (3, 1, value.to_le_bytes().to_vec())
    }

    fn long(value: u32) -> Value {
        (4, 1, value.to_le_bytes().to_vec())
    }

    fn rationals(values: &[[u32; 2]]) -> Value {
        let bytes = values.iter().flatten().flat_map(|x| x.to_le_bytes());
        (5, values.len() as u32, bytes.collect())
    }

    fn letter(c: u8) -> Value {
        (2, 2, vec![c, 0])
    }

    /// A block with these entries in its EXIF and GPS directories.
    fn block(exif: &[(u16, Value)], gps: &[(u16, Value)]) -> Vec<u8> {
        const FIRST: usize = 8;
        let exif_at = FIRST + 2 + 2 * 12 + 4;
        let exif = directory(exif_at, exif);
        let gps_at = exif_at + exif.len();
        let first = directory(
            FIRST,
            &[
                (EXIF_DIRECTORY, long(exif_at as u32)),
                (GPS_DIRECTORY, long(gps_at as u32)),
            ],
        );
        let head = [&b"II*\0"[..], &8_u32.to_le_bytes()].concat();
        [head, first, exif, directory(gps_at, gps)].concat()
    }

    /// The block of a phone's photo: 26 mm, 4000 x 3000, at 48° 51' 29.6" N 2° 17' 40.2" E, 35 m.
    pub(in crate::frames) fn phone() -> Vec<u8> {
        block(
            &[
                (FOCAL_35MM, short(26)),
                (PIXEL_WIDTH, long(4000)),
                (PIXEL_HEIGHT, short(3000)),
            ],
            &[
                (1, letter(b'N')),
                (2, rationals(&[[48, 1], [51, 1], [296, 10]])),
                (3, letter(b'E')),
                (4, rationals(&[[2, 1], [17, 1], [402, 10]])),
                (5, (1, 1, vec![0])),
                (6, rationals(&[[350, 10]])),
            ],
        )
    }

    #[test]
    fn a_phones_photo_notes_its_focal_length_and_its_place() {
        let note = parse(&phone());
        assert_eq!(note.focal_35mm, Some(26.0));
        assert_eq!(note.taken_size, Some([4000, 3000]));
        let gps = note.gps.unwrap();
        assert!((gps.latitude - 48.858_222).abs() < 1e-6, "{gps:?}");
        assert!((gps.longitude - 2.294_5).abs() < 1e-6, "{gps:?}");
        assert_eq!(gps.altitude, Some(35.0));
        // 26 mm of 43.27 mm is 0.601 of 5000 pixels of diagonal, upright or on its side, and at half the size.
        let focal = note.focal_pixels([4000, 3000]).unwrap();
        assert!((focal - 3004.6).abs() < 0.1, "{focal}");
        assert_eq!(note.focal_pixels([3000, 4000]), Some(focal));
        assert_eq!(note.focal_pixels([2000, 1500]), Some(focal / 2.0));
        // Cropped to a square.
        assert_eq!(note.focal_pixels([3000, 3000]), None);
    }

    #[test]
    fn a_camera_notes_the_pixels_of_its_sensor() {
        let exif = [
            (FOCAL_LENGTH, rationals(&[[50, 1]])),
            // 6000 pixels on 36 mm, for each centimeter.
            (FOCAL_PLANE_X, rationals(&[[6000, 36], [0, 0]][..1]).clone()),
            (FOCAL_PLANE_UNIT, short(4)),
            (PIXEL_WIDTH, long(6000)),
            (PIXEL_HEIGHT, long(4000)),
        ];
        let note = parse(&block(&exif, &[]));
        let focal = note.focal_pixels([3000, 2000]).unwrap();
        assert!((focal - 50.0 * 6000.0 / 36.0 / 2.0).abs() < 1e-6, "{focal}");
        assert_eq!(note.gps, None);
    }

    #[test]
    fn south_west_and_below_the_sea_are_negative_and_no_fix_is_no_place() {
        let at = |lat: (u8, [u32; 2]), lon: (u8, [u32; 2])| {
            let gps = [
                (1, letter(lat.0)),
                (2, rationals(&[lat.1])),
                (3, letter(lon.0)),
                (4, rationals(&[lon.1])),
                (5, (1, 1, vec![1])),
                (6, rationals(&[[4, 1]])),
            ];
            parse(&block(&[], &gps)).gps
        };
        let found = at((b'S', [335, 10]), (b'W', [70, 1])).unwrap();
        assert_eq!(
            (found.latitude, found.longitude, found.altitude),
            (-33.5, -70.0, Some(-4.0))
        );
        assert_eq!(at((b'N', [0, 1]), (b'E', [0, 1])), None);
        assert_eq!(at((b'N', [95, 1]), (b'E', [7, 1])), None);
        assert_eq!(at((b'N', [9, 0]), (b'E', [7, 1])), None);
    }

    #[test]
    fn a_damaged_block_is_never_a_panic() {
        let whole = phone();
        for end in 0..whole.len() {
            parse(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let note = parse(&damaged);
                if let Some(gps) = note.gps {
                    assert!(gps.latitude.is_finite() && gps.longitude.is_finite());
                }
                assert!(
                    note.focal_pixels([4000, 3000])
                        .is_none_or(|f| f.is_finite() && f > 0.0)
                );
            }
        }
    }
}
