//! Blocks as phones and cameras write them, whole and damaged.

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

fn ascii(text: &[u8]) -> Value {
    (2, text.len() as u32, text.to_vec())
}

/// A block with these entries in its EXIF and GPS directories.
fn block(exif: &[(u16, Value)], gps: &[(u16, Value)]) -> Vec<u8> {
    block_of(&[], exif, gps)
}

/// As [`block`], with more entries in the first directory.
fn block_of(first: &[(u16, Value)], exif: &[(u16, Value)], gps: &[(u16, Value)]) -> Vec<u8> {
    const FIRST: usize = 8;
    let with = |exif_at: usize, gps_at: usize| {
        let own = [
            (EXIF_DIRECTORY, long(exif_at as u32)),
            (GPS_DIRECTORY, long(gps_at as u32)),
        ];
        directory(FIRST, &[first, &own].concat())
    };
    let exif_at = FIRST + with(0, 0).len();
    let exif = directory(exif_at, exif);
    let gps_at = exif_at + exif.len();
    let first = with(exif_at, gps_at);
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

#[test]
fn a_lens_is_known_by_its_names_and_focal_lengths() {
    let exif = [
        (FOCAL_LENGTH, rationals(&[[57, 10]])),
        (LENS_MODEL, ascii(b"back camera 5.7mm f/1.5\0")),
    ];
    let first = [(MAKE, ascii(b"Maker  \0\0")), (MODEL, ascii(b"P1\0"))];
    let note = parse(&block_of(&first, &exif, &[]));
    assert_eq!(note.focal_mm, Some(5.7));
    assert_eq!(
        note.camera.as_deref(),
        Some("Maker|P1|back camera 5.7mm f/1.5")
    );
    let nameless = [(MAKE, ascii(b"\0\0\0\0\0")), (MODEL, short(7))];
    assert_eq!(parse(&block_of(&nameless, &exif[..1], &[])).camera, None);
    // Names go no further than their end, and are cut where they are not names.
    let long = [b'x'; 4000];
    let camera = parse(&block_of(&[(MAKE, ascii(&long))], &[], &[])).camera;
    assert_eq!(camera.map(|name| name.len()), Some(MAX_NAME + 2));
}
