//! The operations the network is made of, one file each: a plain candle version that defines it, and where it pays a
//! CPU version beside it that is chosen inside. The network's own code does not know which one runs.

mod attention;
mod bilinear;
mod conv2d;
mod conv_transpose2d;
pub(crate) mod cpu;
mod gelu;
mod layer_norm;
mod linear;
mod positions;
mod rope;

pub use attention::{SelfAttention, attention};
pub use bilinear::bilinear_align_corners;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv2d::{Conv2d, ConvFusion};
pub use cpu::{Isa, peak::measured_peak};
pub use gelu::gelu;
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::{Fusion, Linear, Then};
pub use positions::Positions;
pub use rope::RopeTable;

#[cfg(test)]
mod testing {
    //! What the tests of several operations share.

    use candle_core::{DType, Device, Tensor};

    /// Normal numbers in F32.
    pub(super) fn random(dims: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
    }

    /// The largest difference by the largest number; 0 for empty tensors.
    pub(super) fn relative_error(ours: &Tensor, exact: &Tensor) -> f64 {
        assert_eq!(ours.dims(), exact.dims());
        if exact.elem_count() == 0 {
            return 0.0;
        }
        let exact = exact.to_dtype(DType::F64).unwrap();
        let largest = |t: &Tensor| {
            t.abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
        };
        let difference = (ours.to_dtype(DType::F64).unwrap() - &exact).unwrap();
        largest(&difference) / largest(&exact).max(f64::MIN_POSITIVE)
    }
}
