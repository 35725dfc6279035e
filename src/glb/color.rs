//! sRGB bytes to what COLOR_0 holds.

use super::ColorSpace;

/// Encodes sRGB colors as normalized integers with an opaque alpha.
pub(crate) struct Encoder {
    space: ColorSpace,
    /// Linear light of each sRGB code, 16-bit.
    linear: [u16; 256],
}

impl Encoder {
    pub(crate) fn new(space: ColorSpace) -> Self {
        Self {
            space,
            linear: std::array::from_fn(|code| {
                (linear_from_srgb(code as f64 / 255.0) * f64::from(u16::MAX)).round() as u16
            }),
        }
    }

    /// Bytes that one color takes: four components of one or two bytes.
    pub(crate) fn stride(space: ColorSpace) -> usize {
        match space {
            ColorSpace::Linear => 8,
            ColorSpace::Srgb => 4,
        }
    }

    /// Appends the bytes of one color.
    pub(crate) fn push(&self, color: [u8; 3], bytes: &mut Vec<u8>) {
        match self.space {
            ColorSpace::Linear => {
                for code in color {
                    bytes.extend(self.linear[usize::from(code)].to_le_bytes());
                }
                bytes.extend(u16::MAX.to_le_bytes());
            }
            ColorSpace::Srgb => bytes.extend([color[0], color[1], color[2], u8::MAX]),
        }
    }
}

/// IEC 61966-2-1, both in [0, 1].
fn linear_from_srgb(srgb: f64) -> f64 {
    if srgb <= 0.04045 {
        srgb / 12.92
    } else {
        ((srgb + 0.055) / 1.055).powf(2.4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_srgb_code_keeps_a_linear_code_of_its_own() {
        let table = Encoder::new(ColorSpace::Linear).linear;
        assert!(table.windows(2).all(|w| w[0] < w[1]));
        // 128 / 255 is 21.586 % of the light.
        assert_eq!((table[0], table[128], table[255]), (0, 14146, 65535));
    }
}
