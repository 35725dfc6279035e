//! Calls of `epilogue.cu`.

use candle_core::{DType, Result};

use super::call::{self, Address, Arg, Call, Module};

/// Threads of a block.
const THREADS: u32 = 128;

/// Rows of a block.
const ROWS: usize = 8;

/// What happens to the output y of a product, in place.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue {
    /// y + bias
    Bias,
    /// gelu(y + bias)
    Gelu,
    /// residual + gamma (y + bias)
    Residual {
        /// `[n]`
        gamma: Address,
        /// [rows, n]
        residual: Address,
    },
    /// y + bias + max(skip_relu, 0) + skip, and max(that, 0) when `relu`. What is null is not added.
    Skip {
        /// [rows, n]
        skip_relu: Address,
        /// [rows, n]
        skip: Address,
        /// Whether the result is cut at 0.
        relu: bool,
    },
}

/// How `epilogue.cu` is called for `y` [rows, n] and `bias` `[n]`.
///
/// # Errors
/// When the type or the size is beyond the kernel.
pub fn epilogue(
    kind: Epilogue,
    dtype: DType,
    (rows, n): (usize, usize),
    (y, bias): (Address, Address),
) -> Result<Call> {
    let (name, others) = match kind {
        Epilogue::Bias => ("bias", vec![]),
        Epilogue::Gelu => ("bias_gelu", vec![]),
        Epilogue::Residual { gamma, residual } => ("bias_residual", vec![gamma, residual]),
        Epilogue::Skip {
            skip_relu, skip, ..
        } => ("bias_skip", vec![skip_relu, skip]),
    };
    let addresses = [vec![y, bias], others].concat();
    let wide = call::is_wide(dtype, n, &addresses);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Address).collect();
    args.extend([call::int(rows, "rows")?, call::int(n, "columns")?]);
    if let Epilogue::Skip { relu, .. } = kind {
        args.push(Arg::I32(relu.into()));
    }
    args.push(Arg::I32(wide.into()));
    Ok(Call {
        module: Module::Epilogue,
        function: Module::Epilogue.kernel(name, dtype)?,
        grid: call::grid(rows.div_ceil(ROWS))?,
        block: THREADS,
        shared_bytes: 0,
        args,
    })
}
