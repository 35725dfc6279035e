//! The limits on images and videos, as flags of `vggt export` and `vggt serve`.

use crate::frames::ImageLimits;

/// Limits on the size of one image.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ImageFlags {
    /// Refuse images with more pixels; those above 100 megapixels are decoded at a smaller size
    #[arg(long, value_name = "N", default_value_t = ImageLimits::default().max_pixels,
        value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    max_image_pixels: u64,
    /// Refuse images with more pixels a side
    #[arg(long, value_name = "N", default_value_t = ImageLimits::default().max_side,
        value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    max_image_side: u32,
    /// Refuse image files with more bytes
    #[arg(long, value_name = "N", default_value_t = ImageLimits::default().max_bytes,
        value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, hide_short_help = true)]
    max_image_bytes: u64,
    /// Refuse images that need more memory in MiB to be decoded, one at a time
    #[arg(long, value_name = "MIB", default_value_t = ImageLimits::default().max_memory >> 20,
        value_parser = clap::value_parser!(u64).range(1..=1 << 24), allow_negative_numbers = true, hide_short_help = true)]
    max_image_memory: u64,
}

/// Reads a length of time in seconds.
///
/// # Errors
/// When it is not a number above 0.
pub(super) fn parse_seconds(s: &str) -> Result<f64, String> {
    match s.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => Ok(seconds),
        _ => Err(format!("invalid time {s:?}: expected a number above 0")),
    }
}

impl ImageFlags {
    pub(super) fn limits(&self) -> ImageLimits {
        ImageLimits {
            max_pixels: self.max_image_pixels,
            max_side: self.max_image_side,
            max_bytes: self.max_image_bytes,
            max_memory: self.max_image_memory << 20,
        }
    }
}
