//! How two results are compared, and how far apart they may be.

use candle_core::{DType, Device, Result, Tensor};

/// See [`super::Case::judge`].
pub(super) fn error(result: &Tensor, exact: &Tensor) -> Result<f64> {
    if result.dims() != exact.dims() {
        return Ok(f64::NAN);
    }
    let (result, exact) = (values(result)?, values(exact)?);
    let squares: f64 = exact.iter().map(|x| x * x).sum();
    let rms = (squares / exact.len().max(1) as f64).sqrt();
    let errors = result.iter().zip(&exact).map(|(a, b)| {
        // Where all are 0, only 0 is right.
        (a - b).abs() / (b.abs() + rms).max(f64::MIN_POSITIVE)
    });
    // Not by max, which passes over NaN.
    Ok(errors.fold(0.0, |m: f64, e| if e <= m { m } else { e }))
}

/// Whether every element is finite.
pub(super) fn is_finite(result: &Tensor) -> Result<bool> {
    Ok(values(result)?.iter().all(|x| x.is_finite()))
}

fn values(t: &Tensor) -> Result<Vec<f64>> {
    let t = t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    t.flatten_all()?.to_vec1::<f64>()
}

/// The largest relative error of one rounding to `dtype`, which keeps 24, 11 or 8 bits of a significand.
pub fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-24),
    }
}

/// How many roundings to its own type a result may be off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roundings {
    /// In F32.
    pub(super) single: f64,
    /// In F16 and BF16.
    pub(super) half: f64,
}

impl Roundings {
    /// Of an operation that is F32 everywhere.
    pub(super) const fn single(single: f64) -> Self {
        Self { single, half: 0.0 }
    }

    pub(super) fn tolerance(self, dtype: DType) -> f64 {
        let roundings = match dtype {
            DType::F16 | DType::BF16 => self.half,
            _ => self.single,
        };
        roundings * unit_roundoff(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_small_element_that_is_wrong_counts_beside_large_ones() {
        let exact = tensor(&[100.0, 0.5, -0.5, 0.0]);
        let rms = (10_000.5f64 / 4.0).sqrt();
        let wrong = tensor(&[100.0, -0.5, -0.5, 0.0]);
        let found = error(&wrong, &exact).unwrap();
        assert!((found - 1.0 / (0.5 + rms)).abs() < 1e-12, "{found}");
        assert_eq!(error(&exact, &exact).unwrap(), 0.0);
    }

    #[test]
    fn nan_and_other_shapes_do_not_pass() {
        let exact = tensor(&[1.0, 2.0]);
        for wrong in [tensor(&[1.0, f64::NAN]), tensor(&[1.0])] {
            assert!(error(&wrong, &exact).unwrap().is_nan());
        }
        let infinite = tensor(&[1.0, f64::INFINITY]);
        assert_eq!(error(&infinite, &exact).unwrap(), f64::INFINITY);
        assert!(!is_finite(&infinite).unwrap() && is_finite(&exact).unwrap());
    }

    #[test]
    fn zeros_are_right_and_nothing_else_is_where_all_are_zero() {
        let zeros = tensor(&[0.0, 0.0]);
        assert_eq!(error(&zeros, &zeros).unwrap(), 0.0);
        assert!(error(&tensor(&[0.0, 1e-9]), &zeros).unwrap() > 1.0);
    }
}
