//! From inputs to an operation that is ready to run: on CPU tensors in F64 its definition, on others the fast version.

use candle_core::{Result, Tensor};

use super::{
    Inputs, Role,
    case::{LinearThen, NORM_EPS, Operation},
};
use crate::{
    layers::{LayerScale, Mlp, bicubic_antialias},
    ops::{
        Conv2d, Conv2dConfig, ConvFusion, ConvTranspose2d, Epilogue, Fusion, LayerNorm, Linear,
        Positions, RopeTable, SelfAttention, attention, bilinear_align_corners, gelu,
    },
    precision::Precision,
};

/// An operation with its parameters laid out. Every call computes it once more.
pub(super) type Prepared = Box<dyn Fn() -> Result<Tensor>>;

impl Operation {
    /// Lays out the parameters as loading a network does, so that calls do nothing that a forward pass does not do.
    pub(super) fn prepare(&self, inputs: &Inputs) -> Result<Prepared> {
        let get = |role| inputs.get(role).cloned();
        let norm = |weight, bias| -> Result<LayerNorm> {
            Ok(LayerNorm::from_tensors(get(weight)?, get(bias)?, NORM_EPS))
        };
        Ok(match *self {
            Self::LayerNorm { .. } => {
                let (norm, x) = (norm(Role::NormWeight, Role::NormBias)?, get(Role::X)?);
                Box::new(move || norm.forward(&x))
            }
            Self::Gelu { .. } => {
                let x = get(Role::X)?;
                Box::new(move || gelu(&x))
            }
            Self::Linear {
                after_norm, then, ..
            } => linear(inputs, after_norm, then)?,
            Self::Mlp { .. } => {
                let x = get(Role::X)?;
                let norm = norm(Role::NormWeight, Role::NormBias)?;
                let first = Linear::from_tensors(get(Role::Weight)?, get(Role::Bias)?);
                let second = Linear::from_tensors(get(Role::SecondWeight)?, get(Role::SecondBias)?);
                let mlp = Mlp::from_layers(first, second);
                let ls = LayerScale::from_tensor(get(Role::Gamma)?);
                Box::new(move || mlp.forward_residual(&norm, &x, &ls))
            }
            Self::SelfAttention {
                heads,
                norms,
                rotations,
                ..
            } => {
                let qkv = get(Role::X)?;
                let both = match norms {
                    true => Some((
                        norm(Role::QueryNormWeight, Role::QueryNormBias)?,
                        norm(Role::KeyNormWeight, Role::KeyNormBias)?,
                    )),
                    false => None,
                };
                let rope = match rotations {
                    true => Some(RopeTable::new(get(Role::Cos)?, get(Role::Sin)?)),
                    false => None,
                };
                Box::new(move || {
                    let op = SelfAttention {
                        num_heads: heads,
                        q_norm: both.as_ref().map(|(q, _)| q),
                        k_norm: both.as_ref().map(|(_, k)| k),
                        rope: rope.as_ref(),
                        precision: Precision::Exact,
                    };
                    op.forward(&qkv)
                })
            }
            Self::Attention { .. } => {
                let (q, k, v) = (get(Role::Queries)?, get(Role::Keys)?, get(Role::Values)?);
                Box::new(move || attention(&q, &k, &v))
            }
            Self::Bilinear { to, positions, .. } => {
                let x = get(Role::X)?;
                let positions = match positions {
                    true => Some(Positions::new(get(Role::Columns)?, get(Role::Rows)?)),
                    false => None,
                };
                let size = (to.height, to.width);
                Box::new(move || bilinear_align_corners(&x, size, positions.as_ref()))
            }
            Self::Conv2d {
                stride,
                padding,
                fused,
                ..
            } => {
                let (x, weight, bias) = (get(Role::X)?, get(Role::Weight)?, get(Role::Bias)?);
                let conv = Conv2d::from_tensors(weight, bias, Conv2dConfig { stride, padding })?;
                let skips = match fused {
                    true => Some((get(Role::SkipRelu)?, get(Role::Skip)?)),
                    false => None,
                };
                Box::new(move || {
                    let fusion = ConvFusion {
                        relu_before: fused,
                        relu_after: fused,
                        skip_relu: skips.as_ref().map(|(skip_relu, _)| skip_relu),
                        skip: skips.as_ref().map(|(_, skip)| skip),
                    };
                    conv.forward_fused(&x, fusion)
                })
            }
            Self::ConvTranspose2d { .. } => {
                let (x, weight, bias) = (get(Role::X)?, get(Role::Weight)?, get(Role::Bias)?);
                let conv = ConvTranspose2d::from_tensors(&weight, bias)?;
                Box::new(move || conv.forward(&x))
            }
            Self::Bicubic { to, .. } => {
                let x = get(Role::X)?;
                Box::new(move || bicubic_antialias(&x, to.height, to.width))
            }
        })
    }
}

fn linear(inputs: &Inputs, after_norm: bool, then: LinearThen) -> Result<Prepared> {
    let get = |role| inputs.get(role).cloned();
    let x = get(Role::X)?;
    let linear = Linear::from_tensors(get(Role::Weight)?, get(Role::Bias)?);
    let norm = match after_norm {
        true => {
            let (weight, bias) = (get(Role::NormWeight)?, get(Role::NormBias)?);
            Some(LayerNorm::from_tensors(weight, bias, NORM_EPS))
        }
        false => None,
    };
    let branch = match then {
        LinearThen::Residual => Some((get(Role::Gamma)?, get(Role::Residual)?)),
        LinearThen::Bias | LinearThen::Gelu => None,
    };
    Ok(Box::new(move || {
        let epilogue = match &branch {
            Some((gamma, residual)) => Epilogue::Residual { gamma, residual },
            None if then == LinearThen::Gelu => Epilogue::Gelu,
            None => Epilogue::None,
        };
        let norm = norm.as_ref();
        linear.forward_fused(&x, Fusion { norm, epilogue })
    }))
}
