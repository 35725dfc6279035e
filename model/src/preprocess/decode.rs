//! One image file -> 8-bit RGB, upright, without alpha.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use ::image::{DynamicImage, ImageBuffer, ImageFormat, Rgb, RgbImage, metadata::Orientation};

use super::{
    ColorConversion, ImageNote, PreprocessError,
    animated::is_animated,
    bmp, jpeg, orientation, png, raw,
    stored::{Name, Stored},
    tiff,
};

/// The formats that [`read_image`] reads, for messages. HEIC and AVIF are read by programs that bring a decoder.
pub const READABLE_FORMATS: &str = "JPEG, PNG, WebP, BMP, TIFF, GIF, and the previews in RAW files";

/// Number of bytes from the beginning of a file that [`is_image`] needs: the longest signature (WebP) has 12.
pub const SIGNATURE_BYTES: usize = 16;

/// One decoded image: 8-bit RGB, orientation applied, alpha over white.
#[derive(Debug, Clone)]
pub struct DecodedImage {
    /// The file's name without its folder, or the name of a video's frame.
    pub name: String,
    /// The pixels, in sRGB.
    pub rgb: RgbImage,
    /// Width and height of the original, in pixels, orientation applied: larger than `rgb` when a large image was decoded
    /// at a smaller size.
    pub source_size: (u32, u32),
    /// What a user should know of the image.
    pub notes: Vec<ImageNote>,
    /// When a video shows it, in seconds from its first frame.
    pub seconds: Option<f64>,
}

impl DecodedImage {
    /// Returns an image in its original size, of which there is nothing to tell.
    #[must_use]
    pub fn new(name: String, rgb: RgbImage) -> Self {
        Self {
            name,
            source_size: rgb.dimensions(),
            rgb,
            notes: Vec::new(),
            seconds: None,
        }
    }
}

/// Limits on the size of an image, checked against the file's header before any pixel is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Width times height, in pixels.
    pub max_pixels: u64,
    /// Width, and height, in pixels.
    pub max_side: u32,
    /// Length of the file, in bytes.
    pub max_bytes: u64,
    /// Memory that decoding takes, in bytes, estimated from the header.
    pub max_memory: u64,
}

impl Default for ImageLimits {
    /// 400 megapixels (phones have sensors of 200), 65 535 pixels a side (what a JPEG can hold), 1 GiB of file (100 megapixels
    /// of 16-bit RGBA are 800 MB), 2 GiB of memory (a progressive JPEG of 200 megapixels takes 1.5).
    fn default() -> Self {
        Self {
            max_pixels: 400_000_000,
            max_side: 65_535,
            max_bytes: 1 << 30,
            max_memory: 2 << 30,
        }
    }
}

impl ImageLimits {
    /// Checks the length of a file.
    pub(super) fn check_bytes(&self, name: &str, bytes: u64) -> Result<(), PreprocessError> {
        match bytes > self.max_bytes {
            true => Err(PreprocessError::FileTooLarge {
                name: name.to_owned(),
                bytes,
                max_bytes: self.max_bytes,
            }),
            false => Ok(()),
        }
    }
}

/// Reads one image file and returns it upright, as 8-bit RGB.
///
/// The content decides the format, not the name. Of an animated file the first frame is taken.
/// EXIF (or TIFF) orientation is applied; colors are converted to sRGB where an ICC profile says that they are others
/// ([`ColorConversion`]); transparent pixels are laid over white as
/// Pillow's `Image.alpha_composite` does; of 16-bit values the high byte is kept; gray becomes RGB.
///
/// Of a JPEG, PNG, TIFF or BMP that is cut off, what is there is decoded and the rest is gray. Images of more than 100
/// megapixels are decoded at a smaller size, which takes at most [`ImageLimits::max_memory`]. Of a camera's RAW file the
/// largest JPEG preview is decoded. [`DecodedImage::notes`] says so.
///
/// # Errors
/// When the file cannot be read, is of no known format or of a variant that is not read, exceeds `limits`, is damaged, or
/// is cut off before the first pixels (a WebP or GIF: anywhere).
pub fn read_image(path: &Path, limits: &ImageLimits) -> Result<DecodedImage, PreprocessError> {
    let fail = |source| PreprocessError::Read {
        path: path.to_path_buf(),
        source,
    };
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let file = open_regular(path).map_err(fail)?;
    decode_file(&name, file, limits).map_err(|e| match e {
        PreprocessError::Read { source, .. } => fail(source),
        e => e,
    })
}

/// Decodes an image file that is already open, from its beginning; see [`read_image`].
///
/// # Errors
/// As [`read_image`], which names the path.
pub fn decode_file(
    name: &str,
    mut file: File,
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    let fail = |source| PreprocessError::Read {
        path: name.into(),
        source,
    };
    file.rewind().map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    limits.check_bytes(name, bytes)?;
    decode(name, BufReader::new(file), limits)
}

/// Opens a regular file, following links. Opening a pipe would wait for its other end, perhaps forever.
///
/// # Errors
/// When the file cannot be opened, or is a folder, a pipe, a socket or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    File::open(path)
}

/// Decodes an image file that is already in memory, such as an upload; see [`read_image`].
///
/// # Errors
/// When the bytes are of no known format, exceed `limits`, are cut off or damaged.
pub fn decode_image(
    name: &str,
    bytes: &[u8],
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    limits.check_bytes(name, bytes.len() as u64)?;
    decode(name, Cursor::new(bytes), limits)
}

/// Returns true when a file that starts with `head` has a format that [`read_image`] reads.
#[must_use]
pub fn is_image(head: &[u8]) -> bool {
    format_of(head).is_some() || raw::format_of(head).is_some()
}

/// Returns the format that a file's beginning tells.
pub(super) fn format_of(head: &[u8]) -> Option<ImageFormat> {
    // BigTIFF, which `image` decodes but does not recognize.
    if head.starts_with(b"II+\0") || head.starts_with(b"MM\0+") {
        return Some(ImageFormat::Tiff);
    }
    ::image::guess_format(head)
        .ok()
        .filter(ImageFormat::reading_enabled)
}

fn decode<R: BufRead + Seek>(
    name: &str,
    mut reader: R,
    limits: &ImageLimits,
) -> Result<DecodedImage, PreprocessError> {
    let name = Name(name);
    let mut head = Vec::with_capacity(SIGNATURE_BYTES);
    reader
        .by_ref()
        .take(SIGNATURE_BYTES as u64)
        .read_to_end(&mut head)
        .and_then(|_| reader.rewind())
        .map_err(|e| name.damaged(e.into()))?;
    let raw = raw::format_of(&head);
    let format = format_of(&head);
    if raw.is_some() || format == Some(ImageFormat::Tiff) {
        let raw = raw::survey(&mut reader, raw).unwrap_or(None);
        if let Some(raw) = raw {
            let (stored, orientation) = raw.decode(&name, &mut reader, limits)?;
            return Ok(stored.upright(name, orientation));
        }
        reader.rewind().map_err(|e| name.damaged(e.into()))?;
    }
    let format = format.ok_or_else(|| PreprocessError::NotAnImage {
        name: name.text().to_owned(),
        known: READABLE_FORMATS,
    })?;
    let mut stored = match format {
        ImageFormat::Jpeg => {
            let (stored, outline) = jpeg::decode(&name, &mut reader, limits)?;
            let orientation = outline.orientation.unwrap_or(Orientation::NoTransforms);
            return Ok(stored.upright(name, orientation));
        }
        ImageFormat::Png => png::decode(&name, &mut reader, limits)?,
        ImageFormat::Tiff => tiff::decode(&name, &mut reader, limits)?,
        ImageFormat::Bmp => bmp::decode(&name, &mut reader, limits)?,
        _ => {
            let decoded = name.plain(reader.by_ref(), format, limits);
            Stored::shrunk(decoded.map_err(|e| match e {
                PreprocessError::Decode { .. } if is_cut_off(&mut reader, format) => {
                    name.truncated()
                }
                e => e,
            })?)
        }
    };
    if is_animated(&mut reader, format).unwrap_or(false) {
        stored.notes.push(ImageNote::FirstOfMany { what: "frames" });
    }
    let orientation = orientation::of_file(&mut reader, format);
    Ok(stored.upright(name, orientation))
}

/// Returns true when the pixels of an image file are stored upright: neither EXIF nor TIFF says that they are to be turned.
///
/// Of a RAW file this is the orientation of its first directory.
#[must_use]
pub(super) fn is_upright(path: &Path) -> bool {
    let orientation = || -> Option<Orientation> {
        let mut reader = BufReader::new(open_regular(path).ok()?);
        let format = format_of(reader.fill_buf().ok()?)?;
        match format {
            ImageFormat::Jpeg => jpeg::outline(&mut reader).ok()?.orientation,
            format => Some(orientation::of_file(&mut reader, format)),
        }
    };
    orientation().is_none_or(|o| o == Orientation::NoTransforms)
}

/// Whether a WebP is shorter than its header says, or a GIF ends within its blocks.
fn is_cut_off<R: BufRead + Seek>(reader: &mut R, format: ImageFormat) -> bool {
    match format {
        ImageFormat::WebP => {
            let mut head = [0; 8];
            let read = reader.rewind().and_then(|()| reader.read_exact(&mut head));
            let [.., a, b, c, d] = head;
            let wanted = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
            let length = reader.seek(SeekFrom::End(0));
            read.is_err() || length.is_ok_and(|length| length < wanted)
        }
        ImageFormat::Gif => is_animated(reader, format)
            .is_err_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof),
        _ => false,
    }
}

/// 8-bit RGB: high byte of 16-bit values, colors converted, alpha over white.
pub(super) fn to_rgb8(decoded: DynamicImage, conversion: Option<&ColorConversion>) -> RgbImage {
    if decoded.color().has_alpha() {
        let mut rgba = match decoded {
            DynamicImage::ImageRgba8(rgba) => rgba,
            DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
                high_bytes(&decoded.into_rgba16())
            }
            other => other.into_rgba8(),
        };
        if let Some(conversion) = conversion {
            conversion.convert_rgba(&mut rgba);
        }
        return all_over_white(&rgba);
    }
    let mut rgb = match decoded {
        DynamicImage::ImageRgb8(rgb) => rgb,
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageRgb16(_) => {
            high_bytes(&decoded.into_rgb16())
        }
        other => other.into_rgb8(),
    };
    if let Some(conversion) = conversion {
        conversion.convert_rgb(&mut rgb);
    }
    rgb
}

/// The high byte of every 16-bit value, as Pillow reads 16-bit color.
///
/// Differs from upstream: Pillow clips 16-bit gray at 255, which turns nearly all of it white.
fn high_bytes<P16, P8>(wide: &ImageBuffer<P16, Vec<u16>>) -> ImageBuffer<P8, Vec<u8>>
where
    P16: ::image::Pixel<Subpixel = u16>,
    P8: ::image::Pixel<Subpixel = u8>,
{
    let (width, height) = wide.dimensions();
    let mut narrow = ImageBuffer::new(width, height);
    for (to, from) in narrow.iter_mut().zip(wide.iter()) {
        *to = (from >> 8) as u8;
    }
    narrow
}

fn all_over_white(rgba: &::image::RgbaImage) -> RgbImage {
    let (width, height) = rgba.dimensions();
    let mut rgb = RgbImage::new(width, height);
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        *to = Rgb(over_white(from.0));
    }
    rgb
}

/// Pillow: Image.alpha_composite(white, image) in 8 bits: the exact quotient, rounded to nearest.
pub(super) fn over_white(rgba: [u8; 4]) -> [u8; 3] {
    let [r, g, b, alpha] = rgba.map(u32::from);
    [r, g, b].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_laid_over_white_and_rounded_to_nearest() {
        let rgba = ::image::RgbaImage::from_vec(
            2,
            2,
            vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 128, 0, 0, 0, 1],
        )
        .unwrap();
        // By hand: round((c * a + 255 * (255 - a)) / 255).
        let expected = [10, 20, 30, 255, 255, 255, 127, 177, 227, 254, 254, 254];
        assert_eq!(all_over_white(&rgba).as_raw(), &expected);
    }
}
