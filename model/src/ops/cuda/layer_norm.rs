//! Calls of `layer_norm.cu`.

use candle_core::{DType, Result};

use super::call::{self, Address, Arg, Call, Module};

/// Threads of a block, a warp for each row.
const THREADS: usize = 256;
const ROWS: usize = THREADS / 32;

/// Channels of a row that a warp holds in registers.
const HELD_CHANNELS: usize = 32 * 32;

/// A norm over rows, and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct LayerNormCall {
    /// Type of everything.
    pub dtype: DType,
    /// Rows and their channels.
    pub size: (usize, usize),
    /// Added to the variance.
    pub eps: f32,
    /// [rows, c]
    pub x: Address,
    /// `[c]`
    pub weight: Address,
    /// `[c]`
    pub bias: Address,
    /// [rows, c]
    pub out: Address,
}

/// How `layer_norm.cu` is called.
///
/// # Errors
/// When the type or the size is beyond the kernel.
pub fn layer_norm(problem: LayerNormCall) -> Result<Call> {
    let LayerNormCall {
        dtype,
        size: (rows, c),
        eps,
        x,
        weight,
        bias,
        out,
    } = problem;
    let held = c <= HELD_CHANNELS && call::is_wide(dtype, c, &[x, weight, bias, out]);
    Ok(Call {
        module: Module::LayerNorm,
        function: Module::LayerNorm.kernel("layer_norm", dtype)?,
        grid: call::grid(rows.div_ceil(ROWS))?,
        block: THREADS as u32,
        shared_bytes: 0,
        args: vec![
            Arg::Address(x),
            Arg::Address(weight),
            Arg::Address(bias),
            Arg::Address(out),
            call::int(rows, "rows")?,
            call::int(c, "channels")?,
            Arg::F32(eps),
            Arg::I32(held.into()),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(dtype: DType, rows: usize, c: usize, x: u64) -> Result<Call> {
        layer_norm(LayerNormCall {
            dtype,
            size: (rows, c),
            eps: 1e-5,
            x: Address(x),
            weight: Address(256),
            bias: Address(512),
            out: Address(1024),
        })
    }

    #[test]
    fn rows_are_held_where_they_fit_and_move_whole() {
        let held = |dtype, c, x| call(dtype, 9, c, x).unwrap().args.last() == Some(&Arg::I32(1));
        assert!(held(DType::BF16, 1024, 2048) && held(DType::F32, 64, 2048));
        assert!(!held(DType::BF16, 2048, 2048));
        assert!(!held(DType::BF16, 1020, 2048));
        assert!(!held(DType::BF16, 1024, 2050));
    }

    #[test]
    fn more_rows_than_a_kernel_counts_are_refused() {
        assert_eq!(call(DType::F32, 17, 8, 2048).unwrap().grid, 3);
        assert!(call(DType::F32, 1 << 31, 8, 2048).is_err());
        assert!(call(DType::F64, 8, 8, 2048).is_err());
    }
}
