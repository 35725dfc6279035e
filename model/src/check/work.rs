//! What a case costs: bytes, operations, and the part of a card that limits it.

use candle_core::DType;

use super::case::{Case, LinearThen, Operation};
use crate::{
    cost::{OpWork, Unit},
    layers::Mlp,
};

/// Heads that the kernel on tensor cores takes. Origin: `ops/cuda/attention.rs`.
const FLASH_DEPTH: usize = 64;

impl Case {
    /// Bytes that one run reads and writes, each tensor once, its operations, and what limits it on a card.
    pub fn work(&self) -> OpWork {
        let (elements, products) = self.operation.elements_and_products();
        OpWork {
            name: self.operation.family(),
            ours: self.operation.has_kernel(),
            unit: self.operation.unit(self.dtype),
            calls: 1,
            bytes: (elements * self.dtype.size_in_bytes()) as u64,
            flops: 2 * products as u64,
            instructions: 0,
        }
    }
}

impl Operation {
    /// What it is called in the code.
    pub fn family(&self) -> &'static str {
        match self {
            Self::LayerNorm { .. } => "layer_norm",
            Self::Gelu { .. } => "gelu",
            Self::Linear { .. } => "linear",
            Self::Mlp { .. } => "mlp",
            Self::SelfAttention { .. } => "self_attention",
            Self::Attention { .. } => "attention",
            Self::Bilinear { .. } => "bilinear",
            Self::Conv2d { .. } => "conv2d",
            Self::ConvTranspose2d { .. } => "conv_transpose2d",
            Self::Bicubic { .. } => "bicubic",
        }
    }

    /// Whether a kernel of `model/kernels` takes part in it on CUDA.
    fn has_kernel(&self) -> bool {
        !matches!(
            self,
            Self::Gelu { .. } | Self::ConvTranspose2d { .. } | Self::Bicubic { .. }
        )
    }

    /// What limits it on a card where it is not the memory.
    fn unit(&self, dtype: DType) -> Unit {
        let is_half = matches!(dtype, DType::F16 | DType::BF16);
        match self {
            Self::LayerNorm { .. }
            | Self::Gelu { .. }
            | Self::Bilinear { .. }
            | Self::Bicubic { .. } => Unit::Memory,
            Self::Linear { .. } | Self::Mlp { .. } if is_half => Unit::Product,
            Self::SelfAttention { depth, .. } | Self::Attention { depth, .. }
                if is_half && *depth == FLASH_DEPTH =>
            {
                Unit::Attention
            }
            _ => Unit::ProductF32,
        }
    }

    /// Elements that are read and written, each tensor once, and multiplications with an addition each.
    fn elements_and_products(&self) -> (usize, usize) {
        match *self {
            Self::LayerNorm { rows, channels } => (2 * rows * channels + 2 * channels, 0),
            Self::Gelu { rows, channels } => (2 * rows * channels, 0),
            Self::Linear {
                batch,
                rows,
                c_in,
                c_out,
                then,
                ..
            } => {
                let rows = batch * rows;
                let residual = match then {
                    LinearThen::Residual => rows * c_out,
                    LinearThen::Bias | LinearThen::Gelu => 0,
                };
                (
                    rows * (c_in + c_out) + c_in * c_out + residual,
                    rows * c_in * c_out,
                )
            }
            Self::Mlp {
                rows,
                channels,
                hidden,
            } => {
                let chunks = rows.div_ceil(Mlp::CHUNK);
                let product = channels * hidden;
                (
                    rows * (3 * channels + 2 * hidden) + 2 * chunks * product,
                    2 * rows * product,
                )
            }
            Self::SelfAttention {
                batch,
                frames,
                positions,
                heads,
                depth,
                ..
            } => {
                let (n, c) = (frames * positions, heads * depth);
                (batch * n * 4 * c, batch * 2 * n * n * c)
            }
            Self::Attention {
                batch,
                heads,
                depth,
                queries,
                keys,
            } => {
                let c = batch * heads * depth;
                (c * 2 * (queries + keys), c * 2 * queries * keys)
            }
            Self::Bilinear {
                batch,
                from,
                to,
                channels,
                ..
            } => (batch * (from.positions() + to.positions()) * channels, 0),
            Self::Conv2d {
                batch,
                map,
                c_in,
                c_out,
                kernel,
                stride,
                fused,
                ..
            } => {
                let outputs = batch * map.positions() / (stride * stride) * c_out;
                let weights = c_in * c_out * kernel * kernel;
                let maps = if fused { 3 } else { 1 };
                (
                    batch * map.positions() * c_in + maps * outputs + weights,
                    outputs * c_in * kernel * kernel,
                )
            }
            Self::ConvTranspose2d {
                batch,
                map,
                c_in,
                c_out,
                kernel,
            } => {
                let positions = batch * map.positions();
                let tiles = c_out * kernel * kernel;
                (
                    positions * (c_in + tiles) + c_in * tiles,
                    positions * c_in * tiles,
                )
            }
            Self::Bicubic { from, to, channels } => {
                ((from.positions() + to.positions()) * channels, 0)
            }
        }
    }
}
