//! Colors of other spaces -> sRGB, which the network was trained on.

use std::{fmt::Display, sync::Arc};

use ::image::{RgbImage, RgbaImage};
use moxcms::{
    CicpColorPrimaries, CicpProfile, CmsError, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, ParsingOptions, ProfileClass, ToneReprCurve, TransferCharacteristics,
    Transform8BitExecutor, TransformOptions,
};
use rayon::prelude::*;

/// Pixels that one thread converts at a time.
const PIXELS_AT_ONCE: usize = 16_384;

/// Bytes of a profile that are read at most. Those of printers take 4 MiB; a JPEG can hold 16.
pub(super) const MAX_PROFILE: usize = 16 << 20;

/// Largest change of a channel, of 255, by a profile that counts as sRGB.
///
/// The many files that are called sRGB differ in how they round curves and primaries; converting one into the other would
/// change values by 1 and improve none. Profiles that mean other colors change some by 10 or more.
const SRGB_TOLERANCE: u8 = 2;

/// Steps of a channel in the colors at which a profile is compared with sRGB: 0, 15, 30, ..., 255.
const PROBE_STEP: usize = 15;

/// How the colors of one image become sRGB.
///
/// Nothing is converted, and there is no `ColorConversion`, for images that are sRGB already: their bytes stay as they are.
pub struct ColorConversion(How);

enum How {
    /// Three channels to three.
    Color(Arc<Transform8BitExecutor>),
    /// One channel, by a table.
    Gray(Box<[u8; 256]>),
}

impl ColorConversion {
    /// Returns how to convert from the colors of an ICC profile, as LittleCMS does with its perceptual intent.
    ///
    /// `None` for sRGB. A profile that is damaged or of an unsupported kind (CMYK, whose images are converted by their
    /// decoder) is ignored with a warning in the log that names the image.
    #[must_use]
    pub fn of_icc(name: &str, icc: &[u8]) -> Option<Self> {
        if icc.len() > MAX_PROFILE {
            ignore(name, &TOO_LARGE);
            return None;
        }
        let options = ParsingOptions {
            max_profile_size: MAX_PROFILE,
            ..ParsingOptions::default()
        };
        let profile = ColorProfile::new_from_slice_with_options(icc, options);
        let conversion = profile.and_then(|profile| {
            check(&profile)?;
            of_profile(&profile)
        });
        conversion.unwrap_or_else(|e| {
            ignore(name, &e);
            None
        })
    }

    /// Returns how to convert from the primaries and the transfer function with these code points of ITU-T H.273.
    ///
    /// `None` for those of BT.709, which sRGB shares, and for the nearly equal ones of older television, which files name
    /// more often than they mean them. Values of BT.709's transfer function are taken for sRGB's, as all viewers do.
    #[must_use]
    pub fn of_code_points(primaries: u8, transfer: u8) -> Option<Self> {
        // BT.2020, DCI-P3, Display P3.
        if !matches!(primaries, 9 | 11 | 12) {
            return None;
        }
        let mut profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries: CicpColorPrimaries::try_from(primaries).ok()?,
            transfer_characteristics: TransferCharacteristics::Srgb,
            matrix_coefficients: MatrixCoefficients::Bt709,
            full_range: true,
        });
        // BT.470 M, BT.470 B/G, linear; high dynamic range (16 and 18) is mapped where the brightness of white is known.
        let gamma = match transfer {
            4 => Some(2.2),
            5 => Some(2.8),
            8 => Some(1.0),
            _ => None,
        };
        if let Some(gamma) = gamma {
            let curve = Some(ToneReprCurve::Parametric(vec![gamma]));
            profile.red_trc.clone_from(&curve);
            profile.green_trc.clone_from(&curve);
            profile.blue_trc = curve;
        }
        of_profile(&profile).ok().flatten()
    }

    /// Converts the pixels of an image to sRGB. A profile for gray changes only an image without color.
    pub fn convert_rgb(&self, rgb: &mut RgbImage) {
        match &self.0 {
            How::Color(transform) => rgb.par_chunks_mut(3 * PIXELS_AT_ONCE).for_each(|pixels| {
                convert(&**transform, pixels);
            }),
            How::Gray(table) => {
                if rgb.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]) {
                    rgb.iter_mut().for_each(|c| *c = table[usize::from(*c)]);
                }
            }
        }
    }

    /// Converts the colors of an image to sRGB and leaves its transparency.
    pub fn convert_rgba(&self, rgba: &mut RgbaImage) {
        let (width, height) = rgba.dimensions();
        let mut rgb = RgbImage::new(width, height);
        for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
            to.0.copy_from_slice(&from.0[..3]);
        }
        self.convert_rgb(&mut rgb);
        for (to, from) in rgba.pixels_mut().zip(rgb.pixels()) {
            to.0[..3].copy_from_slice(&from.0);
        }
    }
}

/// Why a profile of more than [`MAX_PROFILE`] bytes is ignored.
const TOO_LARGE: &str = "it is larger than 16 MiB";

/// Warns that the profile of an image is not used.
pub(super) fn ignore(name: &str, why: &dyn Display) {
    tracing::warn!("ignoring the color profile of \"{name}\": {why}");
}

/// Refuses profiles that do not say what the colors of an image are, or not in a way that is computed here: those between
/// two devices, effects, names of colors, and matrices to Lab, which ICC.1 does not permit (8.3 to 8.5).
fn check(profile: &ColorProfile) -> Result<(), CmsError> {
    let has_table = profile.lut_a_to_b_perceptual.is_some()
        || profile.lut_a_to_b_colorimetric.is_some()
        || profile.lut_a_to_b_saturation.is_some();
    let is_matrix = profile.color_space == DataColorSpace::Rgb && !has_table;
    match profile.profile_class {
        ProfileClass::DeviceLink | ProfileClass::Abstract | ProfileClass::Named => {
            Err(CmsError::InvalidProfile)
        }
        _ if is_matrix && profile.pcs != DataColorSpace::Xyz => {
            Err(CmsError::UnsupportedProfileConnection)
        }
        _ => Ok(()),
    }
}

fn of_profile(profile: &ColorProfile) -> Result<Option<ColorConversion>, CmsError> {
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions {
        // LittleCMS knows curves only.
        allow_use_cicp_transfer: false,
        ..TransformOptions::default()
    };
    if profile.color_space == DataColorSpace::Gray {
        let ramp: Vec<u8> = (0..=255).collect();
        let mut rgb = [0; 3 * 256];
        profile
            .create_transform_8bit(Layout::Gray, &srgb, Layout::Rgb, options)?
            .transform(&ramp, &mut rgb)?;
        let mut table = [0; 256];
        for (to, pixel) in table.iter_mut().zip(rgb.chunks_exact(3)) {
            *to = pixel[0];
        }
        let same = is_near(&ramp, &table);
        return Ok((!same).then_some(ColorConversion(How::Gray(Box::new(table)))));
    }
    let transform = profile.create_transform_8bit(Layout::Rgb, &srgb, Layout::Rgb, options)?;
    let probe = probe();
    let mut converted = vec![0; probe.len()];
    transform.transform(&probe, &mut converted)?;
    let same = is_near(&probe, &converted);
    Ok((!same).then_some(ColorConversion(How::Color(transform))))
}

/// Colors from everywhere in the cube.
fn probe() -> Vec<u8> {
    let steps = || (0..=255u8).step_by(PROBE_STEP);
    let of_plane = |r| steps().flat_map(move |g| steps().flat_map(move |b| [r, g, b]));
    steps().flat_map(of_plane).collect()
}

fn is_near(a: &[u8], b: &[u8]) -> bool {
    a.iter()
        .zip(b)
        .all(|(a, b)| a.abs_diff(*b) <= SRGB_TOLERANCE)
}

fn convert(transform: &Transform8BitExecutor, pixels: &mut [u8]) {
    let from = pixels.to_vec();
    if transform.transform(&from, pixels).is_err() {
        // It asks for whole pixels only, which these are.
        pixels.copy_from_slice(&from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_one(conversion: &ColorConversion, rgb: [u8; 3]) -> [u8; 3] {
        let mut image = RgbImage::from_pixel(1, 1, ::image::Rgb(rgb));
        conversion.convert_rgb(&mut image);
        image.get_pixel(0, 0).0
    }

    #[test]
    fn what_is_srgb_is_left_alone() {
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        assert!(ColorConversion::of_icc("a.jpg", &srgb).is_none());
        for primaries in [0, 1, 2, 5, 6, 7, 22, 255] {
            assert!(ColorConversion::of_code_points(primaries, 13).is_none());
        }
    }

    #[test]
    fn display_p3_has_stronger_colors_at_the_same_values() {
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        let of_icc = ColorConversion::of_icc("a.jpg", &icc).unwrap();
        let of_code_points = ColorConversion::of_code_points(12, 13).unwrap();
        for conversion in [of_icc, of_code_points] {
            // LittleCMS 2.19 through Pillow 13.
            for (from, expected) in [
                ([200, 100, 50], [215, 93, 31]),
                ([30, 160, 90], [0, 163, 82]),
                ([128, 128, 128], [128, 128, 128]),
            ] {
                let rgb = convert_one(&conversion, from);
                let near = rgb.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
                assert!(near, "{from:?}: {rgb:?}, expected {expected:?}");
            }
        }
    }

    #[test]
    fn transparency_is_not_a_color() {
        let conversion = ColorConversion::of_code_points(12, 13).unwrap();
        let mut rgba = RgbaImage::from_pixel(1, 1, ::image::Rgba([200, 100, 50, 77]));
        conversion.convert_rgba(&mut rgba);
        let [r, g, b, a] = rgba.get_pixel(0, 0).0;
        assert_eq!(convert_one(&conversion, [200, 100, 50]), [r, g, b]);
        assert_eq!(a, 77);
    }

    #[test]
    fn a_gray_profile_changes_gray_images_only() {
        let icc = ColorProfile::new_gray_with_gamma(1.8).encode().unwrap();
        let conversion = ColorConversion::of_icc("a.jpg", &icc).unwrap();
        let [r, g, b] = convert_one(&conversion, [100; 3]);
        assert!(r == g && g == b && r > 105, "{r} {g} {b}");
        assert_eq!(convert_one(&conversion, [100, 0, 0]), [100, 0, 0]);
    }

    #[test]
    fn profiles_that_do_not_describe_an_image_are_ignored() {
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        // ICC.1, 7.2: the class is at byte 12, the connection space at byte 20.
        let with = |at: usize, value: &[u8; 4]| {
            let mut icc = icc.clone();
            icc[at..at + 4].copy_from_slice(value);
            ColorConversion::of_icc("a.jpg", &icc)
        };
        for class in [b"link", b"abst", b"nmcl"] {
            assert!(with(12, class).is_none(), "{class:?}");
        }
        for class in [b"scnr", b"mntr", b"prtr", b"spac"] {
            assert!(with(12, class).is_some(), "{class:?}");
        }
        assert!(with(20, b"Lab ").is_none());
        assert!(with(20, b"XYZ ").is_some());
        let large = [icc.clone(), vec![0; MAX_PROFILE]].concat();
        assert!(ColorConversion::of_icc("a.jpg", &large).is_none());
    }

    #[test]
    fn a_damaged_profile_is_ignored() {
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        for cut in 0..icc.len() {
            let _ = ColorConversion::of_icc("a.jpg", &icc[..cut]);
        }
        assert!(ColorConversion::of_icc("a.jpg", b"").is_none());
        assert!(ColorConversion::of_icc("a.jpg", &[0; 200]).is_none());
        // Every byte once: nothing may panic, and what is left of the profile may be used.
        for at in 0..icc.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut spoilt = icc.clone();
                spoilt[at] = value;
                let _ = ColorConversion::of_icc("a.jpg", &spoilt);
            }
        }
    }
}
