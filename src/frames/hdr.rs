//! HDR and wide-gamut RGB -> sRGB.
//!
//! Light is made linear in units of paper white (HLG and PQ by BT.2100), its primaries become BT.709's, what is brighter
//! than a display of standard range is compressed by a knee, and the result is coded as sRGB. Paper white is 203 cd/m²,
//! the reference level of BT.2408: 75 % of HLG's signal and 58 % of PQ's.

use rayon::prelude::*;

/// Paper white in cd/m², BT.2408 section 2.2.
const PAPER_WHITE: f32 = 203.0;
/// Peak of the display that HLG's gamma of 1.2 is for, in cd/m², BT.2100 table 5.
const HLG_PEAK: f32 = 1000.0;
const HLG_GAMMA: f32 = 1.2;
/// Peak of PQ's signal in cd/m², BT.2100 table 4.
const PQ_PEAK: f32 = 10_000.0;
/// Gamma of a display of standard range, BT.1886.
const SDR_GAMMA: f32 = 2.4;

/// Light up to here is unchanged, in units of the display's white; above, the knee begins. Paper white becomes 0.926, 246 or
/// 247 of 255: diffuse surfaces keep their contrast, and the lights above keep the last 8 of 255 values.
const KNEE: f32 = 0.85;

/// Entries of the table of codes. Its index is the root of the light, which is near enough to sRGB's curve that an entry
/// covers a tenth of a code at most.
const CODES: usize = 4096;

/// How signal becomes light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::frames) enum Transfer {
    /// Hybrid log-gamma, BT.2100.
    Hlg,
    /// Perceptual quantizer, BT.2100 and SMPTE ST 2084.
    Pq,
    /// Standard range; stays coded as it is.
    Sdr,
}

/// Colors of the three primaries; white is D65 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::frames) enum Primaries {
    Bt709,
    Bt2020,
    DisplayP3,
}

impl Primaries {
    /// Linear light of these primaries -> BT.709's, by rows. BT.2087 for BT.2020; Display P3 from the chromaticities of
    /// SMPTE EG 432-1.
    const fn to_bt709(self) -> [[f32; 3]; 3] {
        match self {
            Self::Bt709 => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            Self::Bt2020 => [
                [1.660_491, -0.587_641_1, -0.072_849_9],
                [-0.124_550_5, 1.132_899_9, -0.008_349_4],
                [-0.018_150_8, -0.100_578_9, 1.118_729_7],
            ],
            Self::DisplayP3 => [
                [1.224_940_1, -0.224_940_1, 0.0],
                [-0.042_056_9, 1.042_056_9, 0.0],
                [-0.019_637_6, -0.078_636_1, 1.098_273_7],
            ],
        }
    }

    /// Luminance of the primaries.
    const fn luminance(self) -> [f32; 3] {
        match self {
            Self::Bt709 => [0.2126, 0.7152, 0.0722],
            Self::Bt2020 => [0.2627, 0.6780, 0.0593],
            Self::DisplayP3 => [0.2290, 0.6917, 0.0793],
        }
    }
}

/// Maps pixels of one kind; its tables take 260 KB.
#[derive(Debug, Clone)]
pub(in crate::frames) struct ToSrgb {
    transfer: Transfer,
    matrix: [[f32; 3]; 3],
    luminance: [f32; 3],
    /// Light of each 16-bit signal. HLG: of the scene, 0 to 1. PQ: in units of paper white. SDR: 0 to 1.
    light: Vec<f32>,
    /// Code of each root of light.
    codes: Vec<u8>,
}

impl ToSrgb {
    pub(in crate::frames) fn new(transfer: Transfer, primaries: Primaries) -> Self {
        let light = match transfer {
            Transfer::Hlg => hlg_scene_light,
            Transfer::Pq => pq_light,
            Transfer::Sdr => sdr_light,
        };
        let code = match transfer {
            Transfer::Hlg | Transfer::Pq => srgb_signal,
            Transfer::Sdr => sdr_signal,
        };
        let root = |i: usize| i as f32 / (CODES - 1) as f32;
        Self {
            transfer,
            matrix: primaries.to_bt709(),
            luminance: primaries.luminance(),
            light: (0..=u16::MAX)
                .map(|signal| light(f32::from(signal) / f32::from(u16::MAX)))
                .collect(),
            codes: (0..CODES)
                .map(|i| (code(root(i) * root(i)) * 255.0).round() as u8)
                .collect(),
        }
    }

    /// Maps RGB pixels of 16 bits, full range, to 8 bits. Both slices hold whole pixels, equally many.
    pub(in crate::frames) fn map(&self, signal: &[u16], codes: &mut [u8]) {
        /// Pixels that one task maps.
        const PIXELS: usize = 4096;
        codes
            .par_chunks_mut(3 * PIXELS)
            .zip(signal.par_chunks(3 * PIXELS))
            .for_each(|(codes, signal)| {
                for (to, from) in codes.chunks_exact_mut(3).zip(signal.chunks_exact(3)) {
                    to.copy_from_slice(&self.pixel([from[0], from[1], from[2]]));
                }
            });
    }

    fn pixel(&self, signal: [u16; 3]) -> [u8; 3] {
        let mut light = signal.map(|signal| self.light[usize::from(signal)]);
        if self.transfer == Transfer::Hlg {
            // BT.2100: the display shows the scene's light times a power of its luminance.
            let scene = dot(self.luminance, light);
            let gain = scene.powf(HLG_GAMMA - 1.0) * (HLG_PEAK / PAPER_WHITE);
            light = light.map(|light| light * gain);
        }
        // Colors that a display of standard range does not have are cut off at its most saturated ones.
        let mut rgb = self.matrix.map(|row| dot(row, light).max(0.0));
        let brightest = rgb[0].max(rgb[1]).max(rgb[2]);
        let peak = match self.transfer {
            Transfer::Hlg => HLG_PEAK / PAPER_WHITE,
            Transfer::Pq => PQ_PEAK / PAPER_WHITE,
            Transfer::Sdr => 1.0,
        };
        if brightest > KNEE && peak > 1.0 {
            // All channels by the same factor, which keeps the hue.
            let factor = knee(brightest, peak) / brightest;
            rgb = rgb.map(|light| light * factor);
        }
        rgb.map(|light| {
            let index = (light.min(1.0).sqrt() * (CODES - 1) as f32).round();
            self.codes[index as usize]
        })
    }
}

/// Compresses `KNEE..peak` to `KNEE..1`, with a slope of 1 at the knee: a hyperbola.
fn knee(light: f32, peak: f32) -> f32 {
    let bend = 1.0 / (1.0 - KNEE) - 1.0 / (peak - KNEE);
    let above = light - KNEE;
    (KNEE + above / (1.0 + bend * above)).min(1.0)
}

/// BT.2100 table 5: the inverse of HLG's OETF.
fn hlg_scene_light(signal: f32) -> f32 {
    const A: f32 = 0.178_832_77;
    const B: f32 = 1.0 - 4.0 * A;
    const C: f32 = 0.559_910_7;
    if signal <= 0.5 {
        signal * signal / 3.0
    } else {
        (((signal - C) / A).exp() + B) / 12.0
    }
}

/// BT.2100 table 4: PQ's EOTF, in units of paper white.
fn pq_light(signal: f32) -> f32 {
    const M1: f32 = 2610.0 / 16384.0;
    const M2: f32 = 2523.0 / 4096.0 * 128.0;
    const C1: f32 = 3424.0 / 4096.0;
    const C2: f32 = 2413.0 / 4096.0 * 32.0;
    const C3: f32 = 2392.0 / 4096.0 * 32.0;
    let power = signal.powf(1.0 / M2);
    let light = ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1);
    light * (PQ_PEAK / PAPER_WHITE)
}

fn sdr_light(signal: f32) -> f32 {
    signal.powf(SDR_GAMMA)
}

fn sdr_signal(light: f32) -> f32 {
    light.powf(1.0 / SDR_GAMMA)
}

/// IEC 61966-2-1.
fn srgb_signal(light: f32) -> f32 {
    if light <= 0.003_130_8 {
        12.92 * light
    } else {
        1.055 * light.powf(1.0 / 2.4) - 0.055
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(Transfer, Primaries); 4] = [
        (Transfer::Hlg, Primaries::Bt2020),
        (Transfer::Pq, Primaries::Bt2020),
        (Transfer::Sdr, Primaries::Bt2020),
        (Transfer::Sdr, Primaries::DisplayP3),
    ];

    fn mapped(map: &ToSrgb, signal: [f32; 3]) -> [u8; 3] {
        let signal = signal.map(|signal| (signal * 65535.0).round() as u16);
        let mut codes = [0; 3];
        map.map(&signal, &mut codes);
        codes
    }

    #[test]
    fn paper_white_and_gray_card_land_where_bt_2408_has_them() {
        // BT.2408 table 1: 75 % and 38 % of HLG, 58 % and 38 % of PQ.
        for (transfer, white, card) in [(Transfer::Hlg, 0.75, 0.38), (Transfer::Pq, 0.58, 0.38)] {
            let map = ToSrgb::new(transfer, Primaries::Bt2020);
            let white = mapped(&map, [white; 3])[0];
            assert!((245..=248).contains(&white), "{transfer:?}: {white}");
            // 26 cd/m², 0.128 of paper white, is 101 in sRGB.
            let card = mapped(&map, [card; 3])[0];
            assert!((98..=104).contains(&card), "{transfer:?}: {card}");
        }
    }

    #[test]
    fn gray_stays_gray_and_rises_from_black_to_white() {
        for (transfer, primaries) in KINDS {
            let map = ToSrgb::new(transfer, primaries);
            let mut last = 0;
            for signal in (0..=u16::MAX).step_by(13) {
                let mut rgb = [0; 3];
                map.map(&[signal; 3], &mut rgb);
                let [r, g, b] = rgb.map(i32::from);
                assert!((r - g).abs() <= 1 && (g - b).abs() <= 1, "{rgb:?}");
                assert!(rgb[1] >= last, "{transfer:?} at {signal}");
                last = rgb[1];
            }
            assert_eq!(mapped(&map, [0.0; 3]), [0; 3]);
            assert_eq!(mapped(&map, [1.0; 3]), [255; 3], "{transfer:?}");
        }
    }

    #[test]
    fn gray_of_standard_range_is_unchanged() {
        for primaries in [Primaries::Bt2020, Primaries::DisplayP3, Primaries::Bt709] {
            let map = ToSrgb::new(Transfer::Sdr, primaries);
            for code in 0..=255_u8 {
                let [_, green, _] = mapped(&map, [f32::from(code) / 255.0; 3]);
                assert!(
                    green.abs_diff(code) <= 1,
                    "{primaries:?}: {code} -> {green}"
                );
            }
        }
    }

    #[test]
    fn colors_of_bt_709_survive_the_way_through_wider_primaries() {
        // Rec. 709 (0.9, 0.3, 0.2), by BT.2087's matrix and gamma 2.4, in BT.2020.
        let light = [0.9_f32, 0.3, 0.2].map(sdr_light);
        let to_2020 = [
            [0.627_404, 0.329_283, 0.043_313_1],
            [0.069_097_3, 0.919_540_4, 0.011_362_3],
            [0.016_391_4, 0.088_013_3, 0.895_595_3],
        ];
        let signal = to_2020.map(|row| sdr_signal(dot(row, light)));
        let map = ToSrgb::new(Transfer::Sdr, Primaries::Bt2020);
        let rgb = mapped(&map, signal);
        for (value, expected) in rgb.into_iter().zip([230_u8, 77, 51]) {
            assert!(value.abs_diff(expected) <= 1, "{rgb:?}");
        }
    }

    #[test]
    fn saturated_lights_keep_their_hue_and_do_not_overflow() {
        for (transfer, primaries) in KINDS {
            let map = ToSrgb::new(transfer, primaries);
            let [r, g, b] = mapped(&map, [1.0, 0.4, 0.4]);
            assert!(r > 240 && g < 160 && b < 160, "{transfer:?}: {r} {g} {b}");
        }
    }
}
