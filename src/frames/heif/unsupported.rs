//! What a program that was built without the feature `video` does with a HEIF file.

use ::image::RgbImage;

use super::error::HeifError;
use crate::frames::ImageLimits;

/// Refuses the image: the program has no decoder.
///
/// # Errors
/// Always.
pub(super) fn decode<R>(_name: &str, _: R, _: &ImageLimits) -> Result<RgbImage, HeifError> {
    Err(HeifError::Unsupported(
        "HEIC or AVIF in a program that was built without video support (feature `video`)"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_refused_with_the_missing_feature() {
        let e = decode("a.heic", (), &ImageLimits::default()).unwrap_err();
        assert!(e.to_string().contains("feature `video`"), "{e}");
    }
}
