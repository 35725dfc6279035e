//! Calls of `heads.cu`.

use candle_core::{DType, Result, bail};

use super::call::{self, Address, Arg, Call, Module};

/// Threads of a block, a warp for each vector.
const THREADS: usize = 256;
const VECTORS: usize = THREADS / 32;

/// Elements of a head that a warp can hold.
const MAX_DEPTH: usize = 256;

/// How queries or keys are normalized. Null: not.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm {
    /// `[depth]`
    pub weight: Address,
    /// `[depth]`
    pub bias: Address,
    /// Added to the variance.
    pub eps: f32,
}

impl HeadNorm {
    /// None.
    pub const NONE: Self = Self {
        weight: Address::NULL,
        bias: Address::NULL,
        eps: 0.0,
    };
}

/// Rotations of the positions of a sequence, F32. Null: none.
#[derive(Debug, Clone, Copy)]
pub struct HeadRotation {
    /// [positions, depth]
    pub cos: Address,
    /// [positions, depth]
    pub sin: Address,
    /// How many; the sequence is that long or a multiple of it.
    pub positions: usize,
}

impl HeadRotation {
    /// None.
    pub const NONE: Self = Self {
        cos: Address::NULL,
        sin: Address::NULL,
        positions: 1,
    };
}

/// Queries and keys of every head, and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct HeadsCall {
    /// Type of everything but the rotations.
    pub dtype: DType,
    /// Batch entries and tokens of each.
    pub tokens: (usize, usize),
    /// Heads and elements of each.
    pub heads: (usize, usize),
    /// Of queries and of keys.
    pub norms: [HeadNorm; 2],
    /// Of both.
    pub rotation: HeadRotation,
    /// [batch, n, 3, heads, depth]; [batch, n, heads, depth] without `k`.
    pub qkv: Address,
    /// [batch, heads, n, depth]
    pub q: Address,
    /// [batch, heads, n, depth]; null where `qkv` holds nothing but what goes to `q`.
    pub k: Address,
}

/// How `heads.cu` is called.
///
/// # Errors
/// When the type or the size is beyond the kernel, or the rotations are those of other heads.
pub fn heads(problem: HeadsCall) -> Result<Call> {
    let HeadsCall {
        dtype,
        tokens: (batch, n),
        heads: (heads, depth),
        norms: [q_norm, k_norm],
        rotation,
        qkv,
        q,
        k,
    } = problem;
    if depth > MAX_DEPTH {
        bail!("heads of {depth} channels are wider than the kernel's {MAX_DEPTH}")
    }
    let rotated = rotation.cos != Address::NULL;
    if rotated && (rotation.positions == 0 || n % rotation.positions != 0 || depth % 4 != 0) {
        bail!(
            "{n} tokens of {depth} channels a head, rotated by {} positions",
            rotation.positions
        )
    }
    let vectors = if k == Address::NULL { heads } else { 2 * heads };
    let mut addresses = vec![qkv, q, k];
    addresses.extend([q_norm.weight, q_norm.bias, k_norm.weight, k_norm.bias]);
    addresses.extend([rotation.cos, rotation.sin]);
    // Pairs move at once.
    let wide = depth.is_multiple_of(2) && call::is_wide(dtype, 0, &addresses);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Address).collect();
    args.extend([
        call::int(batch * n, "tokens")?,
        call::int(n, "tokens")?,
        call::int(heads, "heads")?,
        call::int(depth, "channels of a head")?,
        call::int(rotation.positions, "positions")?,
        Arg::F32(q_norm.eps),
        Arg::F32(k_norm.eps),
        Arg::I32(wide.into()),
    ]);
    Ok(Call {
        module: Module::Heads,
        function: Module::Heads.kernel("heads", dtype)?,
        grid: call::grid((batch * n * vectors).div_ceil(VECTORS))?,
        block: THREADS as u32,
        shared_bytes: 0,
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(depth: usize, n: usize) -> HeadsCall {
        HeadsCall {
            dtype: DType::BF16,
            tokens: (2, n),
            heads: (16, depth),
            norms: [HeadNorm::NONE; 2],
            rotation: HeadRotation {
                cos: Address(256),
                sin: Address(512),
                positions: 5,
            },
            qkv: Address(1024),
            q: Address(2048),
            k: Address(4096),
        }
    }

    #[test]
    fn every_vector_of_queries_and_keys_has_a_warp() {
        let call = heads(problem(64, 15)).unwrap();
        assert_eq!(call.grid as usize * VECTORS, 2 * 15 * 2 * 16);
        assert_eq!(heads(problem(64, 0)).unwrap().grid, 0);
        let alone = HeadsCall {
            k: Address::NULL,
            ..problem(64, 15)
        };
        let call = heads(alone).unwrap();
        assert_eq!(call.grid as usize * VECTORS, 2 * 15 * 16);
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused() {
        assert!(heads(problem(MAX_DEPTH, 5)).is_ok());
        // Too wide, no multiple of the positions, no pairs to rotate, more vectors than warps.
        assert!(heads(problem(MAX_DEPTH + 4, 5)).is_err());
        assert!(heads(problem(64, 6)).is_err());
        assert!(heads(problem(62, 5)).is_err());
        assert!(heads(problem(64, 5 << 27)).is_err());
    }
}
