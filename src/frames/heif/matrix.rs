//! The arithmetic between luma with chroma and RGB, by the code points of ITU-T H.273.

/// Bits behind the point of the factors.
const POINT: u32 = 16;

/// One channel of a converted pixel.
pub(super) trait Channel: Copy + Default + Send {
    /// From a value between 0 and 2 to the power of `bits`, less one.
    fn of(value: i32, bits: u32) -> Self;
}

impl Channel for u8 {
    /// The upper 8 bits, as everywhere in this program.
    fn of(value: i32, bits: u32) -> Self {
        (value >> (bits - 8)) as u8
    }
}

impl Channel for u16 {
    fn of(value: i32, bits: u32) -> Self {
        // Copies of the upper bits below the lower ones, so that the largest value stays the largest.
        let value = value << (16 - bits);
        (value | value >> bits) as u16
    }
}

/// How luma and chroma make RGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Matrix {
    /// Luma is a weighted sum; the weights of red and blue.
    Luma { red: f64, blue: f64 },
    /// The planes are green, blue and red.
    Identity,
    /// YCgCo.
    Orange,
}

impl Default for Matrix {
    /// BT.601, which libheif, libavif and JPEG take where nothing is said.
    fn default() -> Self {
        Self::Luma {
            red: 0.299,
            blue: 0.114,
        }
    }
}

impl Matrix {
    /// Of code points of the matrix coefficients and of the primaries, from which some matrices follow.
    pub(super) fn of(matrix: u8, primaries: u8) -> Self {
        let (red, blue) = match (matrix, primaries) {
            (0, _) => return Self::Identity,
            (8, _) => return Self::Orange,
            // BT.709.
            (1, _) | (12 | 13, 1) => (0.2126, 0.0722),
            // Title 47 of the FCC.
            (4, _) => (0.30, 0.11),
            // SMPTE 240M.
            (7, _) => (0.212, 0.087),
            // BT.2020; with constant luminance (10) the same is near enough.
            (9 | 10, _) | (12 | 13, 9) => (0.2627, 0.0593),
            // What follows from the primaries of Display P3.
            (12 | 13, 12) => (0.228_975, 0.079_287),
            _ => return Self::default(),
        };
        Self::Luma { red, blue }
    }

    pub(super) fn converter(self, bits: u32, full_range: bool) -> Converter {
        let max = f64::from((1 << bits) - 1);
        let unit = f64::from(1 << (bits - 8));
        // H.273: 16 to 235 for luma, 224 steps for chroma, at 8 bits.
        let (black, luma, chroma) = match full_range {
            true => (0.0, 1.0, 1.0),
            false => (16.0 * unit, max / (219.0 * unit), max / (224.0 * unit)),
        };
        let factors = match self {
            Self::Luma { red, blue } => {
                let green = 1.0 - red - blue;
                let (to_red, to_blue) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
                // Rows: red, green, blue; columns: luma, blue chroma, red chroma.
                [
                    [1.0, 0.0, to_red],
                    [1.0, -to_blue * blue / green, -to_red * red / green],
                    [1.0, to_blue, 0.0],
                ]
            }
            Self::Orange => [[1.0, -1.0, 1.0], [1.0, 1.0, 0.0], [1.0, -1.0, -1.0]],
            Self::Identity => [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        };
        // Planes of color have the range of luma.
        let of_color = self == Self::Identity;
        let (chroma, middle) = match of_color {
            true => (luma, black),
            false => (chroma, 128.0 * unit),
        };
        let one = f64::from(1 << POINT);
        Converter {
            factors: factors.map(|[y, cb, cr]| {
                [y * luma, cb * chroma, cr * chroma].map(|factor| (factor * one).round() as i32)
            }),
            luma: (luma * one).round() as i32,
            black: black as i32,
            middle: middle as i32,
            max: max as i32,
            bits,
        }
    }
}

/// Fixed-point factors for one depth and range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Converter {
    factors: [[i32; 3]; 3],
    luma: i32,
    black: i32,
    middle: i32,
    max: i32,
    bits: u32,
}

impl Converter {
    /// One row of luma and chroma, as many chroma samples as luma's, into RGB.
    pub(super) fn color<T: Channel>(
        &self,
        luma: &[i32],
        blue: &[i32],
        red: &[i32],
        into: &mut [T],
    ) {
        let samples = luma.iter().zip(blue).zip(red);
        for (pixel, ((y, cb), cr)) in into.chunks_exact_mut(3).zip(samples) {
            let (y, cb, cr) = (y - self.black, cb - self.middle, cr - self.middle);
            for (channel, [of_y, of_cb, of_cr]) in pixel.iter_mut().zip(self.factors) {
                *channel = self.finish(y * of_y + cb * of_cb + cr * of_cr);
            }
        }
    }

    /// One row of luma into equal red, green and blue.
    pub(super) fn gray<T: Channel>(&self, luma: &[i32], into: &mut [T]) {
        for (pixel, y) in into.chunks_exact_mut(3).zip(luma) {
            pixel.fill(self.finish((y - self.black) * self.luma));
        }
    }

    fn finish<T: Channel>(&self, sum: i32) -> T {
        // At 12 bits sums are below 2^30: 4095 * (1.17 + 0.5 * 2.2) * 65536.
        let rounded = (sum + (1 << (POINT - 1))) >> POINT;
        T::of(rounded.clamp(0, self.max), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(matrix: Matrix, bits: u32, full: bool, [y, cb, cr]: [i32; 3]) -> [u8; 3] {
        let mut rgb = [0; 3];
        matrix
            .converter(bits, full)
            .color(&[y], &[cb], &[cr], &mut rgb);
        rgb
    }

    #[test]
    fn ranges_and_matrices_give_what_the_standards_say() {
        let (bt601, bt709) = (Matrix::of(6, 2), Matrix::of(1, 1));
        for bits in [8, 10, 12] {
            let unit = 1 << (bits - 8);
            let limited = |yuv: [i32; 3]| pixel(bt709, bits, false, yuv.map(|v| v * unit));
            assert_eq!(limited([16, 128, 128]), [0; 3], "{bits}");
            assert_eq!(limited([235, 128, 128]), [255; 3], "{bits}");
            assert_eq!(limited([1, 128, 128]), [0; 3], "{bits}");
        }
        assert_eq!(pixel(bt601, 8, true, [76, 85, 255]), [254, 0, 0]);
        // By hand: 100 + 1.5748 * 50, 100 - 0.1873 * 20 - 0.4681 * 50, 100 + 1.8556 * 20.
        assert_eq!(pixel(bt709, 8, true, [100, 148, 178]), [179, 73, 137]);
        assert_eq!(pixel(Matrix::of(0, 1), 8, true, [10, 20, 30]), [30, 10, 20]);
        assert_eq!(
            pixel(Matrix::of(0, 1), 8, false, [16, 235, 16]),
            [0, 0, 255]
        );
        assert_eq!(
            pixel(Matrix::of(8, 1), 8, true, [100, 138, 148]),
            [110, 110, 70]
        );
        assert_eq!(Matrix::of(2, 2), bt601);
        assert_eq!(Matrix::of(12, 9), Matrix::of(9, 9));
    }

    #[test]
    fn black_and_white_stay_so_in_every_depth() {
        for bits in [8, 10, 12] {
            let white = (1 << bits) - 1;
            assert_eq!((u8::of(0, bits), u8::of(white, bits)), (0, 255));
            assert_eq!((u16::of(0, bits), u16::of(white, bits)), (0, u16::MAX));
        }
        assert_eq!(u8::of(0x1FF, 10), 0x7F);
        assert_eq!(u16::of(0x12, 8), 0x1212);
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        for matrix in 0..=14 {
            for full in [false, true] {
                for y in [0, 4095] {
                    for cb in [0, 4095] {
                        for cr in [0, 4095] {
                            pixel(Matrix::of(matrix, 1), 12, full, [y, cb, cr]);
                            // A sample that its depth does not permit.
                            pixel(Matrix::of(matrix, 1), 8, full, [y >> 4, cb >> 4, cr >> 4]);
                        }
                    }
                }
            }
        }
    }
}
