//! Transposed convolutions without overlap: the product, then every row of a tile to its position.

use candle_core::Result;
use rayon::prelude::*;

use super::{Isa, Shared, collect_into_uninit, epilogue::Identity, gemm, weights};

/// A transposed convolution whose operands have been checked against each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvTranspose2d<'a> {
    /// The maps, [batch height width, c_in].
    pub(crate) x: gemm::Matrix<'a>,
    /// Width of a map.
    pub(crate) width: usize,
    /// Side of the kernel, and stride.
    pub(crate) kernel: usize,
    /// [kernel kernel c_out, c_in]
    pub(crate) weight: &'a [f32],
    /// `[c_out]`
    pub(crate) bias: &'a [f32],
}

impl ConvTranspose2d<'_> {
    /// Returns [batch, kernel height, kernel width, c_out].
    ///
    /// # Panics
    /// When the operands do not fit each other.
    pub(crate) fn run(&self, isa: Isa) -> Result<Vec<f32>> {
        let Self {
            x,
            width: w,
            kernel: k,
            weight,
            bias,
        } = *self;
        let c_out = bias.len();
        let n = k * k * c_out;
        let pixels = x.data.len() / x.depth;
        let multiply = |tiles: Shared<'_, f32>| {
            let weights = weights::Weights::F32(weight);
            let left = (&x, gemm::Prepare::Plain);
            gemm::gemm(isa, (pixels, n), left, weights, &Identity, tiles);
            Ok(())
        };
        // SAFETY: the product writes every element, and reads none before.
        let tiles = unsafe { collect_into_uninit(pixels * n, multiply)? };
        let scatter = |out: Shared<'_, f32>| {
            let len = w * k * c_out;
            (0..pixels / w.max(1) * k).into_par_iter().for_each(|row| {
                // SAFETY: each task has a row of its own.
                let out = unsafe { out.slice(row * len, len) };
                // Row k y + i of the result has row i of the tiles of row y.
                let (y, i) = (row / k, row % k);
                for (x, out) in out.chunks_exact_mut(k * c_out).enumerate() {
                    let tile = &tiles[(y * w + x) * n + i * k * c_out..][..k * c_out];
                    for (out, tile) in out.chunks_exact_mut(c_out).zip(tile.chunks(c_out)) {
                        for ((out, tile), bias) in out.iter_mut().zip(tile).zip(bias) {
                            *out = tile + bias;
                        }
                    }
                }
            });
            Ok(())
        };
        // SAFETY: the rows of all maps are written.
        unsafe { collect_into_uninit(tiles.len(), scatter) }
    }
}
