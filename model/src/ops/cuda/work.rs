//! What the aggregator costs on a card, on paper: bytes moved and operations of every kernel and every product between them.

use candle_core::DType;

use crate::config::Config;

/// One kind of call during a pass of the aggregator, all of its calls together.
#[derive(Debug, Clone, PartialEq)]
pub struct OpWork {
    /// The kernel or the product.
    pub name: &'static str,
    /// Whether it is a kernel of `model/kernels`, or cuBLAS' or candle's.
    pub ours: bool,
    /// What it is limited by where it is not limited by memory.
    pub unit: Unit,
    /// How often it is called.
    pub calls: u64,
    /// Bytes read and written, each tensor once a call.
    pub bytes: u64,
    /// Operations, a multiplication and an addition being two; 0 where nothing is multiplied.
    pub flops: u64,
}

/// Which part of a card does the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing that would count beside the memory.
    Memory,
    /// The tensor cores, as cuBLAS uses them.
    Product,
    /// The tensor cores, as the flash kernel uses them.
    Attention,
}

/// How fast a card is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Card {
    /// Bytes a second.
    pub bandwidth: f64,
    /// Operations a second of the tensor cores, in 16 bits, dense.
    pub peak: f64,
    /// Part of the bandwidth that a kernel gets which does nothing but move numbers.
    pub of_bandwidth: f64,
    /// Part of the peak that cuBLAS gets for products as large as these.
    pub of_peak_product: f64,
    /// Part of the peak that the flash kernel gets.
    pub of_peak_attention: f64,
    /// Seconds of each call in which the card fills and empties.
    pub of_call: f64,
}

impl Card {
    /// NVIDIA's H100 SXM by its data sheet. The parts of it that are reached are assumptions: what published measurements of
    /// cuBLAS and of attention with the same instructions (FlashAttention-2, heads of 64 numbers) reach on it.
    pub const H100: Self = Self {
        bandwidth: 3.35e12,
        peak: 990e12,
        of_bandwidth: 0.8,
        of_peak_product: 0.65,
        of_peak_attention: 0.32,
        of_call: 3e-6,
    };

    /// Seconds that the calls take one after the other.
    pub fn seconds(&self, work: &OpWork) -> f64 {
        let memory = work.bytes as f64 / (self.bandwidth * self.of_bandwidth);
        let part = match work.unit {
            Unit::Memory => return memory + work.calls as f64 * self.of_call,
            Unit::Product => self.of_peak_product,
            Unit::Attention => self.of_peak_attention,
        };
        let arithmetic = work.flops as f64 / (self.peak * part);
        memory.max(arithmetic) + work.calls as f64 * self.of_call
    }
}

/// Tokens that go through an MLP at once, see `layers::mlp`.
const CHUNK: u64 = 8192;

/// The calls of a pass of the aggregator over `s` frames of `h` x `w` pixels in `dtype`, in the order in which a block makes
/// them.
///
/// Left out, as too small to count: parameters of norms and biases, and the few calls that make the special tokens and the
/// tables of positions.
pub fn aggregator(config: &Config, s: usize, (h, w): (usize, usize), dtype: DType) -> Vec<OpWork> {
    let (s, c) = (s as u64, config.embed_dim as u64);
    let size = dtype.size_in_bytes() as u64;
    let f32_size = DType::F32.size_in_bytes() as u64;
    let patches = (h / config.patch_size * (w / config.patch_size)) as u64;
    let of_frame = patches + config.patch_start_idx() as u64;
    let of_trunk = patches + 1 + config.dino.num_register_tokens as u64;
    let trunk_blocks = config.dino.depth as u64;
    let pairs = config.aggregator.depth as u64;
    // Tokens that go through all blocks: how often a row of C numbers meets a block.
    let (trunk_rows, pair_rows) = (trunk_blocks * s * of_trunk, 2 * pairs * s * of_frame);
    let rows = trunk_rows + pair_rows;
    let blocks = trunk_blocks + 2 * pairs;
    let hidden = (c as f64 * config.aggregator.mlp_ratio) as u64;
    let chunks =
        trunk_blocks * (s * of_trunk).div_ceil(CHUNK) + 2 * pairs * (s * of_frame).div_ceil(CHUNK);

    let memory = |name, calls, numbers: u64| OpWork {
        name,
        ours: true,
        unit: Unit::Memory,
        calls,
        bytes: numbers * size,
        flops: 0,
    };
    // Rows [rows, depth] by a matrix [n, depth], which every call reads.
    let product = |name, calls, rows: u64, depth: u64, n: u64| OpWork {
        name,
        ours: false,
        unit: Unit::Product,
        calls,
        bytes: (rows * (depth + n) + calls * depth * n) * size,
        flops: 2 * rows * depth * n,
    };
    // `blocks` times `sequences` of n tokens, each token attending to all of its sequence. Keys and values of a head stay in
    // the cache while its blocks run.
    let attention = |name, blocks: u64, sequences: u64, n: u64| OpWork {
        name,
        ours: true,
        unit: Unit::Attention,
        calls: blocks,
        bytes: blocks * sequences * 4 * n * c * size,
        flops: blocks * sequences * 4 * n * n * c,
    };
    let copies = |name, calls, bytes| OpWork {
        name,
        ours: false,
        unit: Unit::Memory,
        calls,
        bytes,
        flops: 0,
    };
    let of_patch = 3 * (config.patch_size * config.patch_size) as u64;
    let prepared = if config.aggregator.qk_norm { pairs } else { 0 };
    let mut taps = config.dpt_head.intermediate_layer_idx.to_vec();
    taps.push(config.aggregator.depth.saturating_sub(1));
    taps.sort_unstable();
    taps.dedup();
    let taps = taps.len() as u64;
    let joined = |tokens: u64, blocks: u64| if tokens > CHUNK { blocks * tokens } else { 0 };
    let joined = joined(s * of_trunk, trunk_blocks) + joined(s * of_frame, 2 * pairs);

    vec![
        product("patch embedding", 1, s * patches, of_patch, c),
        memory(
            "layer_norm",
            2 * blocks + 1,
            2 * (2 * rows + s * of_trunk) * c,
        ),
        product("qkv", blocks, rows, c, 3 * c),
        memory("bias", blocks, 2 * rows * 3 * c),
        // Queries and keys are read and written; those of the trunk stay where they are.
        memory("heads", 2 * prepared, 2 * 2 * pair_rows * c),
        attention("flash (trunk)", trunk_blocks, s, of_trunk),
        attention("flash (frame)", pairs, s, of_frame),
        attention("flash (global)", pairs, 1, s * of_frame),
        product("proj", blocks, rows, c, c),
        product("fc1", chunks, rows, c, hidden),
        memory("bias_gelu", chunks, 2 * rows * hidden),
        product("fc2", chunks, rows, hidden, c),
        // After proj and after fc2: the output read and written, the residual read.
        memory("bias_residual", blocks + chunks, 2 * 3 * rows * c),
        copies(
            "joined chunks",
            if joined > 0 { blocks } else { 0 },
            2 * joined * c * size,
        ),
        // Side by side, and the same in F32.
        copies(
            "kept layers",
            2 * taps,
            taps * s * of_frame * 2 * c * (3 * size + f32_size),
        ),
    ]
}

/// Bytes that the aggregator holds at its worst moment on a card: its weights, given as their number, what it keeps for the
/// heads, and the widest moment of a block.
pub fn aggregator_bytes(
    config: &Config,
    weights: u64,
    s: usize,
    (h, w): (usize, usize),
    dtype: DType,
) -> u64 {
    let c = config.embed_dim as u64;
    let size = dtype.size_in_bytes() as u64;
    let patches = (h / config.patch_size * (w / config.patch_size)) as u64;
    let tokens = s as u64 * (patches + config.patch_start_idx() as u64);
    let mut taps = config.dpt_head.intermediate_layer_idx.to_vec();
    taps.push(config.aggregator.depth.saturating_sub(1));
    taps.sort_unstable();
    taps.dedup();
    let kept = taps.len() as u64 * tokens * 2 * c * DType::F32.size_in_bytes() as u64;
    // Tokens in, those of the frame block, qkv, queries and keys, what attention gives.
    let in_attention = tokens * c * (2 + 3 + 2 + 1);
    // Tokens in and those of the frame block; the norm, the hidden layer and the output of a chunk; the chunks done, and them
    // together.
    let chunk = tokens.min(CHUNK);
    let hidden = (c as f64 * config.aggregator.mlp_ratio) as u64;
    let in_mlp = tokens * c * 4 + chunk * (2 * c + hidden);
    weights * size + kept + in_attention.max(in_mlp) * size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::transformer_operations;

    #[test]
    fn the_operations_are_those_of_the_transformers() {
        let config = Config::default();
        for (s, size) in [(1, (518, 392)), (7, (294, 518))] {
            let work = aggregator(&config, s, size, DType::BF16);
            let all: u64 = work.iter().map(|op| op.flops).sum();
            let embedding = work[0].flops;
            assert_eq!(
                all - embedding,
                transformer_operations(&config, s, size),
                "{s}"
            );
        }
    }

    #[test]
    fn halves_move_half_the_bytes_but_for_what_is_kept() {
        let config = Config::default();
        let bytes = |dtype| -> Vec<u64> {
            let work = aggregator(&config, 3, (518, 392), dtype);
            work.iter().map(|op| op.bytes).collect()
        };
        let (wide, half) = (bytes(DType::F32), bytes(DType::BF16));
        let last = wide.len() - 1;
        for i in 0..last {
            assert_eq!(wide[i], 2 * half[i]);
        }
        assert!(wide[last] < 2 * half[last]);
    }

    #[test]
    fn more_frames_take_longer_and_more_memory() {
        let config = Config::default();
        let of = |s| {
            let work = aggregator(&config, s, (518, 392), DType::BF16);
            work.iter().map(|op| Card::H100.seconds(op)).sum::<f64>()
        };
        assert!(of(10) > 5.0 * of(1) && of(100) > 10.0 * of(10));
        let bytes = |s| aggregator_bytes(&config, 0, s, (518, 392), DType::BF16);
        // All of it grows with the frames but the chunk of an MLP.
        assert!(bytes(100) > 9 * bytes(10) && bytes(100) < 10 * bytes(10));
    }
}
