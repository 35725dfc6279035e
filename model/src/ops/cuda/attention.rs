//! Calls of `flash_attention.cu` and `attention.cu`.

use std::f64::consts::LOG2_E;

use candle_core::{DType, Result, bail};

use super::{
    ComputeCapability,
    call::{self, Address, Arg, Call, Module, SHARED_BYTES, WIDE_BYTES},
};

/// The matrices of every head somewhere in memory, their rows contiguous.
#[derive(Debug, Clone, Copy)]
pub struct HeadRows {
    /// Row 0 of head 0 of batch entry 0.
    pub start: Address,
    /// Elements from one batch entry to the next, one head to the next, one row to the next.
    pub strides: [usize; 3],
}

impl HeadRows {
    /// Those of a tensor [batch, heads, rows, depth].
    pub fn contiguous(start: Address, heads: usize, rows: usize, depth: usize) -> Self {
        Self {
            start,
            strides: [heads * rows * depth, rows * depth, depth],
        }
    }

    /// Queries (0), keys (1) or values (2) in a tensor [batch, rows, 3, heads, depth] of `dtype`.
    pub fn in_qkv(
        qkv: Address,
        which: usize,
        dtype: DType,
        (heads, rows, depth): (usize, usize, usize),
    ) -> Self {
        let row = 3 * heads * depth;
        let offset = which * heads * depth * dtype.size_in_bytes();
        Self {
            start: Address(qkv.0 + offset as u64),
            strides: [rows * row, depth, row],
        }
    }
}

/// Attention of every head, and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct AttentionCall {
    /// Type of everything.
    pub dtype: DType,
    /// Batch entries.
    pub batch: usize,
    /// Heads and elements of each.
    pub heads: (usize, usize),
    /// Queries of a head.
    pub queries: usize,
    /// Keys of a head; not 0.
    pub keys: usize,
    /// Queries.
    pub q: HeadRows,
    /// Keys.
    pub k: HeadRows,
    /// Values.
    pub v: HeadRows,
    /// [batch, queries, heads, depth]
    pub out: Address,
}

/// The tensor cores that the tiled kernel was written for. Origin: `tensor_cores.cuh`.
const TENSOR_CORES: ComputeCapability = ComputeCapability::new(8, 0);

/// What the tiled kernel takes: heads of 64 elements.
const FLASH_DEPTH: usize = 64;
/// Queries of a block, keys of a tile, threads.
const FLASH_QUERIES: usize = 128;
const FLASH_KEYS: usize = 64;
const FLASH_THREADS: u32 = 128;

/// Threads of a block of the other kernel, and its queries and keys.
const THREADS: u32 = 256;
const ROWS: usize = 32;
/// Elements of a head for which there is shared memory.
pub const MAX_DEPTH: usize = 174;

/// How attention is called where the card runs code of this compute capability: the kernel on tensor cores where code, type
/// and heads are right for it.
///
/// # Errors
/// When the type or the size is beyond both kernels.
pub fn attention(problem: AttentionCall, capability: ComputeCapability) -> Result<Call> {
    let rows = [problem.q, problem.k, problem.v];
    let size = problem.dtype.size_in_bytes();
    let strides = rows.iter().flat_map(|rows| rows.strides);
    let flash = capability >= TENSOR_CORES
        && matches!(problem.dtype, DType::F16 | DType::BF16)
        && problem.heads.1 == FLASH_DEPTH
        && strides
            .into_iter()
            .all(|s| (s * size).is_multiple_of(WIDE_BYTES))
        && call::is_wide(problem.dtype, 0, &rows.map(|rows| rows.start))
        && call::is_wide(problem.dtype, 0, &[problem.out]);
    if flash {
        on_tensor_cores(problem)
    } else {
        on_others(problem)
    }
}

fn on_tensor_cores(problem: AttentionCall) -> Result<Call> {
    let row_bytes = FLASH_DEPTH * problem.dtype.size_in_bytes();
    // The queries, and two tiles of keys and of values.
    let shared = (FLASH_QUERIES + 2 * 2 * FLASH_KEYS) * row_bytes;
    let module = Module::FlashAttention;
    let name = module.kernel("flash", problem.dtype)?;
    let shape = LaunchShape {
        queries: FLASH_QUERIES,
        threads: FLASH_THREADS,
        shared_bytes: shared,
    };
    call_of(problem, module, name, shape, &[])
}

fn on_others(problem: AttentionCall) -> Result<Call> {
    let depth = problem.heads.1;
    // Queries, and keys or values; weights. Rows are an element longer, for the banks.
    let shared = (2 * ROWS * (depth + 1) + ROWS * (ROWS + 1)) * size_of::<f32>();
    if depth > MAX_DEPTH || shared > SHARED_BYTES {
        bail!("heads of {depth} channels are wider than the kernel's")
    }
    let name = Module::Attention.kernel("attention", problem.dtype)?;
    let last = [call::int(depth, "channels of a head")?];
    let shape = LaunchShape {
        queries: ROWS,
        threads: THREADS,
        shared_bytes: shared,
    };
    call_of(problem, Module::Attention, name, shape, &last)
}

/// Converts a number of rows; the end of their last tile must fit as well.
fn rows_of_tiles(n: usize, what: &str) -> Result<Arg> {
    call::int(n + FLASH_QUERIES.max(FLASH_KEYS), what)?;
    call::int(n, what)
}

/// What a block of a kernel takes.
struct LaunchShape {
    /// Queries of a block.
    queries: usize,
    /// Threads of a block.
    threads: u32,
    /// Dynamic shared memory of a block.
    shared_bytes: usize,
}

/// Returns the call of one of the kernels; `last` are the arguments that only this one has.
fn call_of(
    problem: AttentionCall,
    module: Module,
    function: &'static str,
    shape: LaunchShape,
    last: &[Arg],
) -> Result<Call> {
    let (heads, depth) = problem.heads;
    if problem.keys == 0 {
        bail!("attention to no keys")
    }
    let scale = LOG2_E / (depth as f64).sqrt();
    let rows = [problem.q, problem.k, problem.v];
    let mut args: Vec<Arg> = rows.iter().map(|rows| Arg::Address(rows.start)).collect();
    args.extend([
        Arg::Address(problem.out),
        rows_of_tiles(problem.queries, "queries")?,
        rows_of_tiles(problem.keys, "keys")?,
        call::int(heads, "heads")?,
    ]);
    let strides = rows.iter().flat_map(|rows| rows.strides);
    args.extend(strides.map(|stride| Arg::I64(stride as i64)));
    args.push(Arg::F32(scale as f32));
    args.extend_from_slice(last);
    let tiles = problem.queries.div_ceil(shape.queries);
    Ok(Call {
        module,
        function,
        grid: call::grid(tiles * heads * problem.batch)?,
        block: shape.threads,
        shared_bytes: shape.shared_bytes as u32,
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(dtype: DType, depth: usize, start: u64) -> AttentionCall {
        let rows = HeadRows::contiguous(Address(start), 16, 1000, depth);
        AttentionCall {
            dtype,
            batch: 3,
            heads: (16, depth),
            queries: 1000,
            keys: 1000,
            q: rows,
            k: rows,
            v: rows,
            out: Address(1 << 20),
        }
    }

    #[test]
    fn tensor_cores_are_used_where_they_can_be() {
        let name = |dtype, depth, start, (major, minor)| {
            let capability = ComputeCapability::new(major, minor);
            let call = attention(problem(dtype, depth, start), capability).unwrap();
            assert!(call.shared_bytes as usize <= SHARED_BYTES);
            call.function
        };
        assert_eq!(name(DType::BF16, 64, 256, (8, 0)), "flash_bf16");
        assert_eq!(name(DType::F16, 64, 256, (9, 0)), "flash_f16");
        // An older card, another type, other heads, an odd address.
        assert_eq!(name(DType::F16, 64, 256, (7, 5)), "attention_f16");
        assert_eq!(name(DType::F32, 64, 256, (9, 0)), "attention_f32");
        assert_eq!(name(DType::BF16, 48, 256, (9, 0)), "attention_bf16");
        assert_eq!(name(DType::BF16, 64, 258, (9, 0)), "attention_bf16");
    }

    #[test]
    fn a_block_has_queries_of_one_head() {
        let call = attention(problem(DType::BF16, 64, 256), TENSOR_CORES).unwrap();
        assert_eq!(call.grid, 3 * 16 * 8);
        let call = attention(problem(DType::F32, 64, 256), TENSOR_CORES).unwrap();
        assert_eq!(call.grid, 3 * 16 * 32);
    }

    #[test]
    fn what_no_kernel_takes_is_refused() {
        let card = ComputeCapability::new(9, 0);
        assert!(attention(problem(DType::F32, MAX_DEPTH, 256), card).is_ok());
        assert!(attention(problem(DType::F32, MAX_DEPTH + 1, 256), card).is_err());
        assert!(attention(problem(DType::F64, 64, 256), card).is_err());
        let none = AttentionCall {
            keys: 0,
            ..problem(DType::BF16, 64, 256)
        };
        assert!(attention(none, card).is_err());
        let many = AttentionCall {
            keys: i32::MAX as usize,
            ..problem(DType::BF16, 64, 256)
        };
        assert!(attention(many, card).is_err());
        let many = AttentionCall {
            batch: 1 << 28,
            ..problem(DType::BF16, 64, 256)
        };
        assert!(attention(many, card).is_err());
    }
}
