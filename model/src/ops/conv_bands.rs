//! candle's convolution, cut so that its memory is bounded.

use candle_core::{Result, Tensor};

/// Elements that candle's CPU convolution spreads its input into at once: 128 MiB in F32. The widest layer of VGGT-1B
/// would take 1.2 GiB for one frame of 518 x 518.
pub(crate) const MAX_COLUMNS: usize = 1 << 25;

/// candle's convolution, some rows of the output at a time. x [B, in, H, W], weight [out, in, k, k].
pub(super) fn in_bands(
    x: &Tensor,
    weight: &Tensor,
    padding: usize,
    stride: usize,
    max_columns: usize,
) -> Result<Tensor> {
    let (b, c_in, h, w) = x.dims4()?;
    let kernel = weight.dim(3)?;
    let rows = (h + 2 * padding - kernel) / stride + 1;
    let columns = (w + 2 * padding - kernel) / stride + 1;
    let per_row = b * c_in * kernel * kernel * columns;
    if rows * per_row <= max_columns {
        return x.conv2d(weight, padding, stride, 1, 1);
    }
    let padded = x
        .pad_with_zeros(2, padding, padding)?
        .pad_with_zeros(3, padding, padding)?;
    let band = (max_columns / per_row).max(1);
    let parts = (0..rows)
        .step_by(band)
        .map(|start| {
            let len = band.min(rows - start);
            let x = padded.narrow(2, start * stride, (len - 1) * stride + kernel)?;
            x.contiguous()?.conv2d(weight, 0, stride, 1, 1)
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn cutting_the_rows_changes_nothing() {
        let (x, weight) = (random(&[2, 3, 11, 6]), random(&[4, 3, 3, 3]));
        for stride in [1, 2] {
            let whole = x.conv2d(&weight, 1, stride, 1, 1).unwrap();
            for max_columns in [1, 700, 1000] {
                let cut = in_bands(&x, &weight, 1, stride, max_columns).unwrap();
                assert!(
                    relative_error(&cut, &whole) < 1e-6,
                    "{stride} {max_columns}"
                );
            }
        }
    }
}
