//! Properties of an item: its size, how it is turned and cropped, and what its numbers mean as colors.

use super::{
    boxes::{Child, FourCc},
    error::HeifError,
    meta::Item,
};

/// What an `irot`, `imir` or `clap` property does to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    /// Quarter turns against the clock.
    Turn(u8),
    /// The left and the right half are exchanged.
    MirrorX,
    /// The upper and the lower half are exchanged.
    MirrorY,
    Crop(Aperture),
}

/// A `clap` box: a size, and how far its center lies from the image's, as fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aperture {
    width: Fraction,
    height: Fraction,
    right: Fraction,
    down: Fraction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction(i64, i64);

impl Fraction {
    fn value(self) -> f64 {
        self.0 as f64 / self.1 as f64
    }
}

/// Columns and rows of a crop: the first, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Aperture {
    /// The pixels of an image of this size that remain; `None` when none does.
    pub(super) fn window(&self, width: u32, height: u32) -> Option<Window> {
        let (x, width) = Self::span(width, self.width, self.right)?;
        let (y, height) = Self::span(height, self.height, self.down)?;
        Some(Window {
            x,
            y,
            width,
            height,
        })
    }

    fn span(side: u32, kept: Fraction, offset: Fraction) -> Option<(u32, u32)> {
        // ISO/IEC 14496-12: the center is at offset + (side - 1) / 2; the pixels whose centers lie inside remain.
        let center = offset.value() + (f64::from(side) - 1.0) / 2.0;
        let first = (center - (kept.value() - 1.0) / 2.0).round();
        let last = first + (kept.value() - 1.0).round();
        let (first, last) = (first.max(0.0), last.min(f64::from(side) - 1.0));
        (first <= last).then_some((first as u32, (last - first) as u32 + 1))
    }
}

/// What numbers mean as colors: code points of ITU-T H.273, as a `colr` box of type `nclx` or a coded stream has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CodePoints {
    pub(super) primaries: u8,
    pub(super) transfer: u8,
    pub(super) matrix: u8,
    pub(super) full_range: bool,
}

/// The code point for "unspecified".
const UNSPECIFIED: u8 = 2;

impl CodePoints {
    /// These, and where they leave something open, those of the stream.
    pub(super) fn or(self, stream: Self) -> Self {
        let either = |own: u8, other: u8| if own == UNSPECIFIED { other } else { own };
        Self {
            primaries: either(self.primaries, stream.primaries),
            transfer: either(self.transfer, stream.transfer),
            matrix: either(self.matrix, stream.matrix),
            full_range: self.full_range,
        }
    }
}

/// Width and height in pixels before turning and cropping, as `ispe` says.
pub(super) fn extent(item: &Item<'_>) -> Result<Option<(u32, u32)>, HeifError> {
    let Some(ispe) = item.property(b"ispe") else {
        return Ok(None);
    };
    let mut reader = ispe.reader();
    reader.full_box()?;
    let (width, height) = (reader.u32()?, reader.u32()?);
    if width == 0 || height == 0 {
        return Err(HeifError::damaged(
            ispe.kind,
            format!("{width}x{height} pixels"),
        ));
    }
    Ok(Some((width, height)))
}

/// What turns and crops the image, in the order of its properties, which is the order of application.
pub(super) fn transforms(item: &Item<'_>) -> Result<Vec<Transform>, HeifError> {
    let known = item.properties.iter().filter_map(|property| {
        let mut reader = property.reader();
        Some(match &property.kind {
            b"irot" => reader.u8().map(|angle| Transform::Turn(angle & 3)),
            // ISO/IEC 23008-12:2022, 6.5.12; the first edition's words can be read the other way round.
            b"imir" => reader.u8().map(|axis| match axis & 1 {
                1 => Transform::MirrorX,
                _ => Transform::MirrorY,
            }),
            b"clap" => aperture(property).map(Transform::Crop),
            _ => return None,
        })
    });
    known.collect()
}

fn aperture(clap: &Child<'_>) -> Result<Aperture, HeifError> {
    let mut reader = clap.reader();
    let mut fraction = |signed: bool| {
        let (numerator, denominator) = (reader.u32()?, reader.u32()?);
        if denominator == 0 {
            return Err(HeifError::damaged(clap.kind, "a denominator is zero"));
        }
        Ok(match signed {
            true => Fraction(
                i64::from(numerator.cast_signed()),
                i64::from(denominator.cast_signed()),
            ),
            false => Fraction(i64::from(numerator), i64::from(denominator)),
        })
    };
    Ok(Aperture {
        width: fraction(false)?,
        height: fraction(false)?,
        right: fraction(true)?,
        down: fraction(true)?,
    })
}

/// The code points of the item's colors, where it has any.
pub(super) fn nclx(item: &Item<'_>) -> Result<Option<CodePoints>, HeifError> {
    let Some(body) = color_box(item, &[*b"nclx"]) else {
        return Ok(None);
    };
    let mut reader = Child {
        kind: *b"colr",
        body,
    }
    .reader();
    // All code points that exist are below 256; what is not counts as unspecified.
    let mut code = || Ok::<_, HeifError>(u8::try_from(reader.u16()?).unwrap_or(UNSPECIFIED));
    let (primaries, transfer, matrix) = (code()?, code()?, code()?);
    Ok(Some(CodePoints {
        primaries,
        transfer,
        matrix,
        full_range: reader.u8()? & 0x80 != 0,
    }))
}

/// Whether the item says anything about its colors.
pub(super) fn has_colors(item: &Item<'_>) -> bool {
    item.property(b"colr").is_some()
}

/// The item's ICC profile.
pub(super) fn icc_profile<'a>(item: &Item<'a>) -> Option<&'a [u8]> {
    color_box(item, &[*b"prof", *b"rICC"])
}

/// The content of the first `colr` box of one of these types, behind its type.
fn color_box<'a>(item: &Item<'a>, kinds: &[FourCc]) -> Option<&'a [u8]> {
    let boxes = item.properties.iter().filter(|p| p.kind == *b"colr");
    boxes
        .filter_map(|property| property.body.split_first_chunk::<4>())
        .find(|(kind, _)| kinds.contains(kind))
        .map(|(_, content)| content)
}

/// Whether the item holds the transparency of another one.
pub(super) fn is_alpha(item: &Item<'_>) -> bool {
    const NAMES: [&[u8]; 2] = [
        b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
        // HEVC's own, of the first edition.
        b"urn:mpeg:hevc:2015:auxid:1",
    ];
    item.property(b"auxC").is_some_and(|property| {
        let name = property.body.get(4..).unwrap_or_default();
        NAMES.contains(&name.split(|byte| *byte == 0).next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aperture_of(numbers: [i32; 8]) -> Result<Aperture, HeifError> {
        let body: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        aperture(&Child {
            kind: *b"clap",
            body: &body,
        })
    }

    #[test]
    fn an_aperture_lies_around_the_center() {
        let window = |numbers, width, height| {
            let w = aperture_of(numbers).unwrap().window(width, height)?;
            Some((w.x, w.y, w.width, w.height))
        };
        // 4x2 of 8x6, centered.
        assert_eq!(window([4, 1, 2, 1, 0, 1, 0, 1], 8, 6), Some((2, 2, 4, 2)));
        // Encoders crop what they padded: 63x47 of 64x48 at the upper left corner.
        assert_eq!(
            window([63, 1, 47, 1, -1, 2, -1, 2], 64, 48),
            Some((0, 0, 63, 47))
        );
        // Beyond the image only what is there remains.
        assert_eq!(window([8, 1, 6, 1, 4, 1, 0, 1], 8, 6), Some((4, 0, 4, 6)));
        assert_eq!(window([4, 1, 4, 1, 100, 1, 0, 1], 8, 6), None);
        assert_eq!(window([0, 1, 4, 1, 0, 1, 0, 1], 8, 6), None);
        assert!(aperture_of([4, 0, 2, 1, 0, 1, 0, 1]).is_err());
    }

    #[test]
    fn turning_keeps_the_order_of_the_properties() {
        let property = |kind: &FourCc, body: &'static [u8]| Child { kind: *kind, body };
        let item = Item {
            properties: vec![
                property(b"imir", &[1]),
                property(b"ispe", &[0; 12]),
                property(b"irot", &[3]),
                property(b"imir", &[0]),
            ],
            ..Item::default()
        };
        assert_eq!(
            transforms(&item).unwrap(),
            [Transform::MirrorX, Transform::Turn(3), Transform::MirrorY]
        );
        assert!(extent(&item).is_err());
    }
}
