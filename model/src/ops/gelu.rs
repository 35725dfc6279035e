//! GELU in its exact form.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::cpu;

/// x Φ(x), with Φ by the error function and not by tanh, which is another function. Any shape.
///
/// # Errors
/// When the device fails.
// PyTorch: F.gelu(x)
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    match x.device() {
        Device::Cpu if x.dtype() == candle_core::DType::F32 => {
            x.contiguous()?.apply_op1_no_bwd(&ParallelGelu)
        }
        _ => reference(x),
    }
}

/// The reference implementation; candle runs it on one thread.
fn reference(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

struct ParallelGelu;

impl CustomOp1 for ParallelGelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = cpu::gelu::gelu(cpu::contiguous(storage, layout)?);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parallel_version_is_the_reference() {
        let x = Tensor::randn(0f32, 3.0, (7, 1031), &Device::Cpu).unwrap();
        let x = x.t().unwrap();
        let (a, b) = (gelu(&x).unwrap(), reference(&x).unwrap());
        let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(worst.to_scalar::<f32>().unwrap(), 0.0);
    }
}
