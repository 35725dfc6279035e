//! The CUDA kernels against the reference implementations of their operations, run with the very calls that the device would get: in an
//! emulator, compiled as C++, and with the feature `cuda-kernel-tests` on a card as well. Exact is the reference implementation in F64 on
//! what the kernel read.

mod attention;
#[cfg(feature = "cuda-kernel-tests")]
mod card;
mod doctor;
mod elementwise;
mod emulator;
#[cfg(all(
    feature = "cuda-kernel-tests",
    target_arch = "x86_64",
    target_os = "linux"
))]
mod fake_card;
mod harness;
mod resampling;
mod roofline;
mod runner;

use candle_core::{DType, Tensor};

use emulator::Memory;
use runner::Runner;

/// The types that kernels compute in.
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The largest relative error of one rounding to `dtype`: half a step, with 24, 11 and 8 bits of mantissa.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2f64.powi(-24),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    }
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Near normal: the sum of some even ones. Mean 0, variance 1.
    fn values(&mut self, count: usize) -> Vec<f32> {
        let mut normal = || (0..12).map(|_| self.unit()).sum::<f32>() - 6.0;
        (0..count).map(|_| normal()).collect()
    }

    /// One of `low .. high`.
    fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low)
    }
}

/// The largest difference relative to the largest value. NaN when something was not written.
fn relative_error(ours: &Tensor, exact: &Tensor) -> f64 {
    assert_eq!(ours.dims(), exact.dims());
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (ours, exact) = (values(ours), values(exact));
    let largest = exact.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let differences = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs());
    // Not by max, which passes over NaN.
    differences.fold(0.0, |m: f64, d| if d <= m { m } else { d }) / largest
}
