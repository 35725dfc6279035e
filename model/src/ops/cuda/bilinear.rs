//! Calls of `bilinear.cu`.

use candle_core::{DType, Result, bail};

use super::call::{self, Address, Arg, Call, Module};

/// Threads of a block, a warp for each pixel.
const THREADS: usize = 256;
const PIXELS: usize = THREADS / 32;

/// A resampling in F32, and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct BilinearCall {
    /// Maps.
    pub batch: usize,
    /// Height and width before.
    pub from: (usize, usize),
    /// Height and width after.
    pub to: (usize, usize),
    /// Channels.
    pub channels: usize,
    /// [batch, h, w, c]
    pub x: Address,
    /// [batch, height, width, c]
    pub out: Address,
    /// Embeddings [width, c / 2] of the columns and [height, c / 2] of the rows; both null: none.
    pub positions: [Address; 2],
}

/// How `bilinear.cu` is called.
///
/// # Errors
/// When the size is beyond the kernel.
pub fn bilinear(problem: BilinearCall) -> Result<Call> {
    let BilinearCall {
        batch,
        from: (h, w),
        to: (height, width),
        channels: c,
        x,
        out,
        positions: [columns, rows],
    } = problem;
    if h == 0 || w == 0 {
        bail!("a map of {h} x {w} has nothing to resample")
    }
    let addresses = [x, out, columns, rows];
    // No vector may cover channels of both embeddings.
    let unit = if columns == Address::NULL { c } else { c / 2 };
    let wide = call::is_wide(DType::F32, unit, &addresses);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Address).collect();
    args.extend([
        call::int(batch, "maps")?,
        call::int(h, "rows")?,
        call::int(w, "columns")?,
        call::int(height, "rows")?,
        call::int(width, "columns")?,
        call::int(c, "channels")?,
        Arg::I32(wide.into()),
    ]);
    Ok(Call {
        module: Module::Bilinear,
        function: Module::Bilinear.kernel("bilinear", DType::F32)?,
        grid: call::grid((batch * height * width).div_ceil(PIXELS))?,
        block: THREADS as u32,
        shared_bytes: 0,
        args,
    })
}
