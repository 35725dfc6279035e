//! Decoding an image as a whole, within the limits, and what is common to all formats.

use std::io::{BufRead, Seek};

use ::image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};

use super::{
    ColorConversion, DecodedImage, ImageLimits, ImageNote, PreprocessError, decode::to_rgb8,
    shrink::shrink,
};

/// An image as it is stored, before its orientation is applied.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) rgb: RgbImage,
    /// Size that the file declares: larger than the pixels when the image was scaled.
    size: (u32, u32),
    pub(super) notes: Vec<ImageNote>,
}

impl Stored {
    /// An image in its own size.
    pub(super) fn new(rgb: RgbImage) -> Self {
        Self {
            size: rgb.dimensions(),
            rgb,
            notes: Vec::new(),
        }
    }

    /// An image that was decoded at a smaller size, if that differs from its own.
    pub(super) fn scaled(rgb: RgbImage, width: u32, height: u32) -> Self {
        let (to_width, to_height) = rgb.dimensions();
        let note = ImageNote::Scaled {
            width,
            height,
            to_width,
            to_height,
        };
        let is_scaled = (width, height) != (to_width, to_height);
        Self {
            rgb,
            size: (width, height),
            notes: is_scaled.then_some(note).into_iter().collect(),
        }
    }

    /// An image that was decoded as a whole, scaled down if it is large.
    pub(super) fn shrunk(rgb: RgbImage) -> Self {
        let (width, height) = rgb.dimensions();
        Self::scaled(shrink(rgb), width, height)
    }

    /// Converts the colors of an image that was decoded piece by piece.
    pub(super) fn with_profile(mut self, name: &Name<'_>, icc: Option<&[u8]>) -> Self {
        if let Some(conversion) = icc.and_then(|icc| ColorConversion::of_icc(name.0, icc)) {
            conversion.convert_rgb(&mut self.rgb);
        }
        self
    }

    /// Applies the orientation.
    pub(super) fn upright(self, name: Name<'_>, orientation: Orientation) -> DecodedImage {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let (width, height) = self.size;
        let mut image = DynamicImage::ImageRgb8(self.rgb);
        image.apply_orientation(orientation);
        let turned = matches!(
            orientation,
            Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH
        );
        DecodedImage {
            name: name.0.to_owned(),
            rgb: image.into_rgb8(),
            source_size: if turned {
                (height, width)
            } else {
                (width, height)
            },
            notes: self.notes,
            seconds: None,
        }
    }
}

/// Bytes for each pixel while an image is turned upright: 8-bit RGB, twice.
pub(super) const TURNING: u64 = 6;

/// The name of an image, for its errors.
#[derive(Clone, Copy)]
pub(super) struct Name<'a>(pub(super) &'a str);

impl Name<'_> {
    pub(super) fn text(&self) -> &str {
        self.0
    }

    /// The error of a decoder, or of reading.
    pub(super) fn damaged(&self, source: ImageError) -> PreprocessError {
        match source {
            ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.truncated()
            }
            source => PreprocessError::Decode {
                name: self.0.to_owned(),
                source,
            },
        }
    }

    /// The error of a file that is cut off before the first pixels, or of a format that cannot be decoded in part.
    pub(super) fn truncated(&self) -> PreprocessError {
        PreprocessError::Truncated {
            name: self.0.to_owned(),
        }
    }

    /// The error of a variant of a format that is not read, named with its article.
    pub(super) fn unsupported(&self, what: String) -> PreprocessError {
        PreprocessError::Unsupported {
            name: self.0.to_owned(),
            what,
        }
    }

    pub(super) fn check_size(
        &self,
        width: u32,
        height: u32,
        limits: &ImageLimits,
    ) -> Result<(), PreprocessError> {
        let pixels = u64::from(width) * u64::from(height);
        if width > limits.max_side || height > limits.max_side || pixels > limits.max_pixels {
            return Err(PreprocessError::ImageTooLarge {
                name: self.0.to_owned(),
                width,
                height,
                max_side: limits.max_side,
                max_pixels: limits.max_pixels,
            });
        }
        Ok(())
    }

    pub(super) fn check_memory(
        &self,
        bytes: u64,
        limits: &ImageLimits,
    ) -> Result<(), PreprocessError> {
        if bytes > limits.max_memory {
            return Err(PreprocessError::NeedsMemory {
                name: self.0.to_owned(),
                mib: bytes.div_ceil(1 << 20),
                max_mib: limits.max_memory >> 20,
            });
        }
        Ok(())
    }

    /// Decodes an image as a whole, with `image`'s decoders.
    pub(super) fn plain<R: BufRead + Seek>(
        &self,
        reader: R,
        format: ImageFormat,
        limits: &ImageLimits,
    ) -> Result<RgbImage, PreprocessError> {
        self.within(reader, format, limits, limits.max_memory)
    }

    /// As [`Name::plain`]; the decoder itself may allocate `max_alloc` bytes beside the pixels.
    pub(super) fn within<R: BufRead + Seek>(
        &self,
        reader: R,
        format: ImageFormat,
        limits: &ImageLimits,
        max_alloc: u64,
    ) -> Result<RgbImage, PreprocessError> {
        let (decoded, profile) = self.decoded(reader, format, limits, max_alloc)?;
        let conversion = profile.and_then(|icc| ColorConversion::of_icc(self.0, &icc));
        Ok(to_rgb8(decoded, conversion.as_ref()))
    }

    /// As [`Name::within`], in the type of the file, with the color profile if there is one.
    pub(super) fn decoded<R: BufRead + Seek>(
        &self,
        reader: R,
        format: ImageFormat,
        limits: &ImageLimits,
        max_alloc: u64,
    ) -> Result<(DynamicImage, Option<Vec<u8>>), PreprocessError> {
        let damaged = |e| self.damaged(e);
        let mut reader = ImageReader::with_format(reader, format);
        let mut allocation = Limits::default();
        allocation.max_alloc = Some(max_alloc);
        reader.limits(allocation);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        self.check_size(width, height, limits)?;
        let color = decoder.color_type();
        let is_rgb8 = color == ::image::ColorType::Rgb8;
        // What the decoder gives, which TIFF's copies, and the steps to RGB: 8-bit RGBA, then RGB.
        let copies = if format == ImageFormat::Tiff { 2 } else { 1 };
        let steps = if is_rgb8 { 0 } else { 7 };
        // The decoder of WebP keeps 8-bit RGBA, or planes, beside what it gives.
        let inside = if format == ImageFormat::WebP { 4 } else { 0 };
        let pixels = u64::from(width) * u64::from(height);
        let decoding = decoder.total_bytes().saturating_mul(copies);
        let decoding = decoding.saturating_add(pixels.saturating_mul(steps + inside));
        self.check_memory(decoding.max(pixels.saturating_mul(TURNING)), limits)?;
        // An image with a corrupt color profile is still an image.
        let profile = decoder.icc_profile().ok().flatten();
        let decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        Ok((decoded, profile))
    }
}
