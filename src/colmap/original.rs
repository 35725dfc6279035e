//! The original images: their names, and where they lie in what the network saw.

use std::collections::HashSet;

use super::ColmapError;

/// An original image, and where it lies in the image that the network saw.
///
/// `network_x = source_x * scale_x + offset_x`, both with pixel centers at half numbers; the same for y.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginalImage {
    /// The name of the image, as COLMAP is to find it: relative, with forward slashes.
    pub name: String,
    /// Width of the original, pixels.
    pub width: u32,
    /// Height of the original, pixels.
    pub height: u32,
    /// Network pixels for each original pixel.
    pub scale_x: f64,
    /// Network pixels for each original pixel.
    pub scale_y: f64,
    /// Where the original's left edge lies, network pixels; negative when it was cropped.
    pub offset_x: f64,
    /// Where the original's upper edge lies, network pixels; negative when it was cropped.
    pub offset_y: f64,
}

impl OriginalImage {
    /// A point of the network's image in this one. Both with pixel centers at half numbers.
    pub(super) fn source_of(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            (x - self.offset_x) / self.scale_x,
            (y - self.offset_y) / self.scale_y,
        ]
    }

    pub(super) fn holds(&self, [x, y]: [f64; 2]) -> bool {
        (0.0..f64::from(self.width)).contains(&x) && (0.0..f64::from(self.height)).contains(&y)
    }

    pub(super) fn check(&self) -> Result<(), ColmapError> {
        let scales = [self.scale_x, self.scale_y];
        let offsets = [self.offset_x, self.offset_y];
        let fine = self.width > 0
            && self.height > 0
            && scales.iter().all(|s| s.is_finite() && *s > 0.0)
            && offsets.iter().all(|o| o.is_finite());
        if fine {
            Ok(())
        } else {
            Err(ColmapError::Placement {
                name: self.name.clone(),
            })
        }
    }
}

/// Whether COLMAP can tell these images apart: to be asked before the network runs.
///
/// # Errors
/// Names the first image whose name is empty, holds a NUL, or was there before.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), ColmapError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() || name.contains('\0') {
            return Err(ColmapError::BadName {
                name: name.to_owned(),
            });
        }
        if !seen.insert(name) {
            return Err(ColmapError::DuplicateName {
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_be_there_and_differ() {
        assert!(check_names(["a.png", "b/a.png", "my photo.png"]).is_ok());
        let e = check_names(["a.png", "b.png", "a.png"]).unwrap_err();
        assert!(e.to_string().contains("\"a.png\""), "{e}");
        assert!(check_names(["a.png", ""]).is_err());
        assert!(check_names(["a\0.png"]).is_err());
    }
}
