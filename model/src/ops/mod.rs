//! The operations that the network consists of.
//!
//! Each has one file here: its interface, its reference implementation in candle's operations, which defines it, the check of
//! its shapes, and the choice between the reference and the backends in `cpu` and `cuda`. The network's own code does not
//! know which one runs. Backends take slices, tensors and sizes that were checked, never an operation of this folder.

mod attention;
mod backend;
mod bilinear;
mod conv2d;
mod conv_bands;
mod conv_transpose2d;
pub(crate) mod cpu;
pub mod cuda;
mod epilogue;
mod gelu;
mod layer_norm;
mod linear;
mod positions;
mod rope;
mod taps;

pub(crate) use attention::MAX_SCORES;
pub use attention::{
    CrossAttention, HeadPreparation, KeysValues, PackedKeys, SelfAttention, attention,
};
pub use bilinear::bilinear_align_corners;
pub(crate) use conv_bands::MAX_COLUMNS;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv2d::{Conv2d, Conv2dConfig, ConvFusion};
pub use cpu::{Isa, peak::measured_peak};
pub use epilogue::Epilogue;
pub use gelu::gelu;
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::{Fusion, Linear};
pub use positions::Positions;
pub use rope::RopeTable;

#[cfg(test)]
mod testing {
    //! What the tests of several operations share.

    use std::cell::Cell;

    use candle_core::{DType, Device, Tensor};

    thread_local! {
        /// Every test runs in a thread of its own, so that it sees the same values in every run.
        static STATE: Cell<u64> = const { Cell::new(1) };
    }

    /// A value in [0, 1).
    fn unit() -> f32 {
        // PCG's linear congruential step; the upper bits are the good ones.
        let state = STATE
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        STATE.set(state);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Elements near 0 with variance 1, the same in every run.
    pub(super) fn random(dims: &[usize]) -> Tensor {
        // The sum of three uniform values is close to normal and has no outliers.
        let elements: Vec<f32> = (0..dims.iter().product())
            .map(|_| 2.0 * (unit() + unit() + unit() - 1.5))
            .collect();
        Tensor::from_vec(elements, dims, &Device::Cpu).unwrap()
    }

    /// `count` sizes between 1 and `max`, the same in every run.
    pub(super) fn random_sizes<const N: usize>(count: usize, max: [usize; N]) -> Vec<[usize; N]> {
        (0..count)
            .map(|_| max.map(|max| 1 + (unit() * max as f32) as usize % max))
            .collect()
    }

    /// The largest difference by the largest element, or by 1 where all are smaller; 0 for empty tensors.
    pub(super) fn relative_error(ours: &Tensor, exact: &Tensor) -> f64 {
        assert_eq!(ours.dims(), exact.dims());
        if exact.elem_count() == 0 {
            return 0.0;
        }
        let exact = exact.to_dtype(DType::F64).unwrap();
        let largest = |t: &Tensor| {
            let largest = t.abs().unwrap().max_all().unwrap();
            largest.to_scalar::<f64>().unwrap()
        };
        let difference = (ours.to_dtype(DType::F64).unwrap() - &exact).unwrap();
        largest(&difference) / largest(&exact).max(1.0)
    }
}
