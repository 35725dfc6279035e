//! Lenses of files: focal lengths and principal points in pixels of the photo.

/// Sides of an image may differ from those of the photo by this part beyond its scale: rounding of a smaller copy's sides.
const ROUNDING_PIXELS: f64 = 1.0;

/// A lens as a file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KnownLens {
    /// In pixels of an image.
    Pixels {
        /// Focal length along x and y.
        focal: [f64; 2],
        /// Principal point, pixel centers at half numbers; `None` for the middle.
        principal: Option<[f64; 2]>,
        /// Width and height of the image; `None` for those of the photo.
        size: Option<[f64; 2]>,
        /// Coefficients k1, k2, p1, p2 of OpenCV's distortion; zeros for none.
        distortion: [f64; 4],
    },
    /// As the field of view along x and, where it is not that of square pixels, along y, radians.
    Angles {
        /// Across the width.
        x_rad: f64,
        /// Across the height.
        y_rad: Option<f64>,
    },
}

/// Why a lens does not fit a photo.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LensError {
    /// The camera is for an image of another shape.
    #[error("it is for an image of {} x {}, and the photo has {} x {} pixels", image[0], image[1], photo[0], photo[1])]
    Shape {
        /// Width and height that the file has.
        image: [f64; 2],
        /// Width and height of the photo, upright.
        photo: [u32; 2],
    },
    /// The camera is for the photo on its side.
    #[error(
        "it is for an image of {} x {}, and the photo has {} x {} pixels once it is turned upright: was its orientation ignored?",
        image[0], image[1], photo[0], photo[1]
    )]
    Turned {
        /// Width and height that the file has.
        image: [f64; 2],
        /// Width and height of the photo, upright.
        photo: [u32; 2],
    },
    /// Numbers that no lens has.
    #[error("its focal lengths must be positive and its principal point finite")]
    Numbers,
}

/// A lens in pixels of a photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhotoLens {
    /// fx, fy, cx, cy, pixel centers at half numbers.
    pub pinhole: [f64; 4],
    /// How far the distortion, which is left out, moves a corner of the photo, pixels.
    pub distortion_pixels: f64,
}

impl KnownLens {
    /// Returns the lens in pixels of a photo of this width and height.
    ///
    /// # Errors
    /// When the lens is for an image of another shape, or its numbers are those of no lens.
    pub fn in_photo(&self, photo: [u32; 2]) -> Result<PhotoLens, LensError> {
        let sides = photo.map(f64::from);
        let (pinhole, distortion) = match *self {
            Self::Angles { x_rad, y_rad } => {
                let focal = |side: f64, angle: f64| side / 2.0 / (angle / 2.0).tan();
                let fx = focal(sides[0], x_rad);
                let fy = y_rad.map_or(fx, |angle| focal(sides[1], angle));
                ([fx, fy, sides[0] / 2.0, sides[1] / 2.0], [0.0; 4])
            }
            Self::Pixels {
                focal,
                principal,
                size,
                distortion,
            } => {
                let image = size.unwrap_or(sides);
                let scale = scale(image, photo)?;
                let [cx, cy] = principal.unwrap_or(image.map(|side| side / 2.0));
                let [fx, fy] = focal;
                let pinhole = [fx * scale[0], fy * scale[1], cx * scale[0], cy * scale[1]];
                (pinhole, distortion)
            }
        };
        let fine = pinhole.iter().all(|x| x.is_finite()) && pinhole[0] > 0.0 && pinhole[1] > 0.0;
        match fine {
            true => Ok(PhotoLens {
                pinhole,
                distortion_pixels: corner_shift(pinhole, distortion, sides),
            }),
            false => Err(LensError::Numbers),
        }
    }
}

/// Photo pixels for each pixel of the image along x and y.
fn scale(image: [f64; 2], photo: [u32; 2]) -> Result<[f64; 2], LensError> {
    let sides = photo.map(f64::from);
    let is_scaled = |image: [f64; 2]| {
        // A copy's sides are rounded: (a, b) is one of (w, h) where some factor is within a pixel of both.
        let cross = (image[0] * sides[1] - image[1] * sides[0]).abs();
        cross <= ROUNDING_PIXELS * sides[0].max(sides[1])
    };
    if !image.iter().all(|side| side.is_finite() && *side >= 1.0) {
        return Err(LensError::Numbers);
    }
    if is_scaled(image) {
        return Ok([sides[0] / image[0], sides[1] / image[1]]);
    }
    match is_scaled([image[1], image[0]]) {
        true => Err(LensError::Turned { image, photo }),
        false => Err(LensError::Shape { image, photo }),
    }
}

/// How far OpenCV's distortion moves the corner that is farthest from the principal point, pixels.
fn corner_shift([fx, fy, cx, cy]: [f64; 4], [k1, k2, p1, p2]: [f64; 4], sides: [f64; 2]) -> f64 {
    let x = cx.max(sides[0] - cx) / fx;
    let y = cy.max(sides[1] - cy) / fy;
    let square = x * x + y * y;
    let radial = k1 * square + k2 * square * square;
    let dx = x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x);
    let dy = y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y;
    (dx * fx).hypot(dy * fy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(size: Option<[f64; 2]>) -> KnownLens {
        KnownLens::Pixels {
            focal: [500.0, 510.0],
            principal: Some([320.5, 240.0]),
            size,
            distortion: [0.0; 4],
        }
    }

    #[test]
    fn a_lens_of_a_smaller_copy_is_scaled_and_one_of_another_shape_refused() {
        let found = lens(Some([640.0, 480.0])).in_photo([4000, 3000]).unwrap();
        assert_eq!(found.pinhole, [3125.0, 3187.5, 2003.125, 1500.0]);
        // A third of 1000 x 667, rounded.
        assert!(lens(Some([333.0, 222.0])).in_photo([1000, 667]).is_ok());
        let of = |size| lens(Some(size)).in_photo([480, 640]);
        assert!(matches!(of([640.0, 480.0]), Err(LensError::Turned { .. })));
        assert!(matches!(of([640.0, 640.0]), Err(LensError::Shape { .. })));
        for size in [[0.0, 0.0], [f64::NAN, 640.0]] {
            assert_eq!(of(size), Err(LensError::Numbers));
        }
    }

    #[test]
    fn a_field_of_view_is_that_of_the_whole_photo() {
        let lens = KnownLens::Angles {
            x_rad: std::f64::consts::FRAC_PI_2,
            y_rad: None,
        };
        let [fx, fy, cx, cy] = lens.in_photo([800, 600]).unwrap().pinhole;
        assert!((fx - 400.0).abs() < 1e-9 && fx == fy, "{fx} {fy}");
        assert_eq!([cx, cy], [400.0, 300.0]);
        for x_rad in [0.0, -1.0, f64::NAN, 3.2] {
            let lens = KnownLens::Angles { x_rad, y_rad: None };
            assert_eq!(lens.in_photo([800, 600]), Err(LensError::Numbers));
        }
    }

    #[test]
    fn a_distortion_is_told_by_what_it_does_to_a_corner() {
        let lens = KnownLens::Pixels {
            focal: [500.0; 2],
            principal: None,
            size: None,
            distortion: [-0.1, 0.0, 0.0, 0.0],
        };
        // The corner is at (0.8, 0.6): one focal length from the center, where k1 moves by a tenth.
        let shift = lens.in_photo([800, 600]).unwrap().distortion_pixels;
        assert!((shift - 50.0).abs() < 1e-9, "{shift}");
    }
}
