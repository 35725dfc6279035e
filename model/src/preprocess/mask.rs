//! One image file that is a mask -> one value for each pixel, upright.
//!
//! [`read_image`](super::read_image) lays transparent pixels over white and keeps the high byte of 16 bits, which would lose masks whose
//! opacity tells what they keep, and masks of small numbers.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
};

use ::image::{DynamicImage, GrayImage, ImageFormat, Luma};

use super::{
    DecodedImage, ImageLimits, ImageNote, PreprocessError,
    decode::{SIGNATURE_BYTES, decode_file, format_of},
    orientation,
    stored::Name,
};

/// Decodes an open image file as a mask and returns one value for each pixel, orientation applied: 0 where it has none.
///
/// The value is the opacity if some pixel is not opaque (PNG and WebP), else the largest of red, green and blue. Of 16-bit values the
/// high byte is taken, but 1 for values that are not 0. Colors are not converted.
///
/// # Errors
/// When the file cannot be read, is of no known format, exceeds `limits`, or is damaged or cut off anywhere.
pub fn decode_mask(
    name: &str,
    mut file: File,
    limits: &ImageLimits,
) -> Result<GrayImage, PreprocessError> {
    let fail = |source| PreprocessError::Read {
        path: name.into(),
        source,
    };
    let mut head = Vec::with_capacity(SIGNATURE_BYTES);
    file.rewind().map_err(fail)?;
    (&mut file)
        .take(SIGNATURE_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(fail)?;
    match format_of(&head) {
        Some(format @ (ImageFormat::Png | ImageFormat::WebP)) => {
            let bytes = file.metadata().map_err(fail)?.len();
            limits.check_bytes(name, bytes)?;
            file.rewind().map_err(fail)?;
            let (name, mut reader) = (Name(name), BufReader::new(file));
            let decoded = name
                .decoded(&mut reader, format, limits, limits.max_memory)?
                .0;
            let mut mask = DynamicImage::ImageLuma8(values(decoded));
            mask.apply_orientation(orientation::of_file(&mut reader, format));
            Ok(mask.into_luma8())
        }
        _ => mask_of(decode_file(name, file, limits)?),
    }
}

/// Returns the values of a mask that was decoded as any other image.
///
/// # Errors
/// When a part of the image is missing.
pub fn mask_of(image: DecodedImage) -> Result<GrayImage, PreprocessError> {
    let is_cut_off = |note: &ImageNote| {
        matches!(
            note,
            ImageNote::Truncated { .. } | ImageNote::TruncatedDetail
        )
    };
    if image.notes.iter().any(is_cut_off) {
        return Err(PreprocessError::Truncated { name: image.name });
    }
    let (width, height) = image.rgb.dimensions();
    Ok(GrayImage::from_fn(width, height, |x, y| {
        Luma([largest(image.rgb.get_pixel(x, y).0)])
    }))
}

fn largest([r, g, b]: [u8; 3]) -> u8 {
    r.max(g).max(b)
}

/// Returns the opacity of each pixel if some pixel is not opaque, else its largest component.
fn values(decoded: DynamicImage) -> GrayImage {
    // So that what is not 0 stays so.
    let narrow = |value: u16| ((value >> 8) as u8).max(u8::from(value > 0));
    let (width, height) = (decoded.width(), decoded.height());
    let values: Vec<u8> = match (decoded.color().has_alpha(), decoded) {
        (false, DynamicImage::ImageLuma8(gray)) => return gray,
        (false, DynamicImage::ImageLuma16(gray)) => gray.iter().map(|v| narrow(*v)).collect(),
        (false, DynamicImage::ImageRgb8(rgb)) => rgb.pixels().map(|p| largest(p.0)).collect(),
        (false, other) => {
            let rgb = other.into_rgb16();
            rgb.pixels().map(|p| largest(p.0.map(narrow))).collect()
        }
        (true, DynamicImage::ImageRgba8(rgba)) => of_rgba(rgba.pixels().map(|p| p.0)),
        (true, other) => {
            let rgba = other.into_rgba16();
            of_rgba(rgba.pixels().map(|p| p.0.map(narrow)))
        }
    };
    // There is a value for each pixel.
    GrayImage::from_raw(width, height, values).unwrap_or_default()
}

fn of_rgba(pixels: impl Iterator<Item = [u8; 4]> + Clone) -> Vec<u8> {
    match pixels.clone().any(|[.., alpha]| alpha < u8::MAX) {
        true => pixels.map(|[.., alpha]| alpha).collect(),
        false => pixels.map(|[r, g, b, _]| largest([r, g, b])).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

    use super::*;

    fn png(pixels: &[u8], width: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(pixels, width, 1, color).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8], limits: &ImageLimits) -> Result<Vec<u8>, PreprocessError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        decode_mask("a.png", file, limits).map(GrayImage::into_raw)
    }

    #[test]
    fn the_value_is_the_opacity_where_there_is_one_else_the_largest_component() {
        let limits = ImageLimits::default();
        let ends =
            |pixels: &[u8], width, color| decoded(&png(pixels, width, color), &limits).unwrap();
        assert_eq!(ends(&[0, 1, 255], 3, ExtendedColorType::L8), [0, 1, 255]);
        assert_eq!(
            ends(&[0, 0, 0, 200, 0, 9], 2, ExtendedColorType::Rgb8),
            [0, 200]
        );
        // 1 and 300 of 65535, as native integers, as the encoder takes them.
        let wide: Vec<u8> = [0_u16, 1, 300]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect();
        assert_eq!(ends(&wide, 3, ExtendedColorType::L16), [0, 1, 1]);
        // White, half of which is transparent, and colors that all are opaque.
        assert_eq!(
            ends(&[255, 0, 255, 255], 2, ExtendedColorType::La8),
            [0, 255]
        );
        let opaque = [0, 0, 0, 255, 0, 80, 0, 255];
        assert_eq!(ends(&opaque, 2, ExtendedColorType::Rgba8), [0, 80]);
        let invisible = [90, 80, 70, 0, 60, 50, 40, 0];
        assert_eq!(ends(&invisible, 2, ExtendedColorType::Rgba8), [0, 0]);
    }

    #[test]
    fn a_mask_has_the_limits_of_images_and_is_whole_or_an_error() {
        let bytes = png(&[7; 4000], 4000, ExtendedColorType::L8);
        let limits = ImageLimits {
            max_side: 3999,
            ..ImageLimits::default()
        };
        let e = decoded(&bytes, &limits).unwrap_err();
        assert!(matches!(e, PreprocessError::ImageTooLarge { .. }), "{e}");
        let limits = ImageLimits {
            max_bytes: 10,
            ..ImageLimits::default()
        };
        let e = decoded(&bytes, &limits).unwrap_err();
        assert!(matches!(e, PreprocessError::FileTooLarge { .. }), "{e}");
        for end in 0..bytes.len() - 20 {
            assert!(
                decoded(&bytes[..end], &ImageLimits::default()).is_err(),
                "{end}"
            );
        }
    }
}
