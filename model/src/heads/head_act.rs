//! Activations of the heads. Port of vggt/heads/head_act.py.

use candle_core::{D, Result, Tensor};

/// How a dense head's numbers become what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// exp(x): depth.
    Exp,
    /// sign(x) (exp(|x|) - 1): points.
    InvLog,
}

/// Splits [S, H, W, C + 1] into the activated values [S, H, W, C] and their confidence 1 + exp(c) [S, H, W].
///
/// # Errors
/// When the device fails.
// Differs from upstream: conf_activation is "expp1" in every head of VGGT, so it is no parameter here.
pub fn activate_head(x: &Tensor, activation: Activation) -> Result<(Tensor, Tensor)> {
    let channels = x.dim(D::Minus1)?;
    let values = x.narrow(D::Minus1, 0, channels - 1)?.contiguous()?;
    let conf = x.narrow(D::Minus1, channels - 1, 1)?.squeeze(D::Minus1)?;
    let conf = conf.contiguous()?;
    let values = match activation {
        Activation::Exp => values.exp()?,
        Activation::InvLog => (values.sign()? * expm1(&values.abs()?)?)?,
    };
    Ok((values, (conf.exp()? + 1.0)?))
}

/// exp(x) - 1 for x >= 0, without the loss of digits near 0.
// candle has no expm1: exp(x) - 1 = 2 sinh(x/2) exp(x/2) = tanh(x/2) (exp(x) + 1).
fn expm1(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)?.tanh()? * (x.exp()? + 1.0)?
}

/// Translation and quaternion as they are, fields of view not below 0. [..., 9]
///
/// # Errors
/// When the device fails.
pub fn activate_pose(pose_enc: &Tensor) -> Result<Tensor> {
    let rest = pose_enc.narrow(D::Minus1, 0, 7)?;
    let fov = pose_enc.narrow(D::Minus1, 7, 2)?.relu()?;
    Tensor::cat(&[&rest, &fov], D::Minus1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn expm1_keeps_its_digits_near_zero() {
        for x in [0.0f32, 1e-7, 1e-3, 0.5, 3.0, 20.0] {
            let t = Tensor::new(x, &Device::Cpu).unwrap();
            let y = expm1(&t).unwrap().to_scalar::<f32>().unwrap();
            assert!((y - x.exp_m1()).abs() <= 3e-7 * x.exp_m1(), "{x}: {y}");
        }
    }
}
