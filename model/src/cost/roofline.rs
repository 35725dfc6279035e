//! Roofline estimate of a forward pass on a CUDA device: bytes moved, operations and, where they decide, instructions of every
//! kernel and every product between them.

use candle_core::DType;

use crate::{config::Config, layers::Mlp};

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
    /// Instructions of all threads, counted only for kernels that are limited by them; otherwise 0.
    pub instructions: u64,
}

/// Which part of a device does the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing that counts next to the memory.
    Memory,
    /// The tensor cores, as cuBLAS uses them.
    Product,
    /// The tensor cores, as the flash kernel uses them.
    Attention,
    /// The ordinary cores in F32, as cuBLAS uses them without TF32.
    ProductF32,
}

/// How fast a device is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Card {
    /// Bytes a second.
    pub bandwidth: f64,
    /// Operations a second of the tensor cores, in 16 bits, dense.
    pub peak: f64,
    /// Operations a second of the ordinary cores in F32.
    pub peak_f32: f64,
    /// Instructions a second of all threads: the multiprocessors, four schedulers each, a warp of 32 a clock.
    pub instructions: f64,
    /// Part of the bandwidth that a kernel gets which does nothing but move elements.
    pub of_bandwidth: f64,
    /// Part of the peak that cuBLAS gets for products as large as these.
    pub of_peak_product: f64,
    /// Part of the peak that the flash kernel gets.
    pub of_peak_attention: f64,
    /// Seconds of each call in which the device fills and empties.
    pub of_call: f64,
}

impl Card {
    /// NVIDIA's H100 SXM by its data sheet, at a clock of 1.7 GHz. The parts of it that are reached are assumptions: what
    /// published measurements reach with cuBLAS, and what the flash kernel's instructions per tile leave of the tensor cores'
    /// peak (about 710 instructions for 128 `mma.sync` in sm_90's machine code).
    pub const H100: Self = Self {
        bandwidth: 3.35e12,
        peak: 990e12,
        peak_f32: 67e12,
        instructions: 132.0 * 4.0 * 32.0 * 1.7e9,
        of_bandwidth: 0.8,
        of_peak_product: 0.65,
        of_peak_attention: 0.35,
        of_call: 3e-6,
    };

    /// Returns the seconds that the calls take one after the other.
    pub fn seconds(&self, work: &OpWork) -> f64 {
        let memory = work.bytes as f64 / (self.bandwidth * self.of_bandwidth);
        let speed = match work.unit {
            Unit::Memory => f64::INFINITY,
            Unit::Product => self.peak * self.of_peak_product,
            Unit::Attention => self.peak * self.of_peak_attention,
            Unit::ProductF32 => self.peak_f32 * self.of_peak_product,
        };
        let arithmetic = work.flops as f64 / speed;
        let issue = work.instructions as f64 / self.instructions;
        memory.max(arithmetic).max(issue) + work.calls as f64 * self.of_call
    }

    /// Seconds below which no program comes: all bytes at the whole bandwidth, or all operations at the whole peak.
    pub fn least_seconds(&self, work: &OpWork) -> f64 {
        let memory = work.bytes as f64 / self.bandwidth;
        let arithmetic = match work.unit {
            Unit::Memory => 0.0,
            Unit::Product | Unit::Attention => work.flops as f64 / self.peak,
            Unit::ProductF32 => work.flops as f64 / self.peak_f32,
        };
        memory.max(arithmetic)
    }
}

/// Returns the calls of a pass of the aggregator over `s` frames of `h` x `w` pixels in `dtype`, in the order in which a block makes
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
    // Tokens that go through all blocks: how often a row of C elements meets a block.
    let (trunk_rows, pair_rows) = (trunk_blocks * s * of_trunk, 2 * pairs * s * of_frame);
    let rows = trunk_rows + pair_rows;
    let blocks = trunk_blocks + 2 * pairs;
    let hidden = (c as f64 * config.aggregator.mlp_ratio) as u64;
    let chunk = Mlp::CHUNK as u64;
    let chunks =
        trunk_blocks * (s * of_trunk).div_ceil(chunk) + 2 * pairs * (s * of_frame).div_ceil(chunk);

    let memory = |name, calls, elements: u64| OpWork {
        name,
        ours: true,
        unit: Unit::Memory,
        calls,
        bytes: elements * size,
        flops: 0,
        instructions: 0,
    };
    // Rows [rows, depth] by a matrix [n, depth], which every call reads.
    let product = |name, calls, rows: u64, depth: u64, n: u64| OpWork {
        name,
        ours: false,
        unit: Unit::Product,
        calls,
        bytes: (rows * (depth + n) + calls * depth * n) * size,
        flops: 2 * rows * depth * n,
        instructions: 0,
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
        instructions: 0,
    };
    let copies = |name, calls, bytes| OpWork {
        name,
        ours: false,
        unit: Unit::Memory,
        calls,
        bytes,
        flops: 0,
        instructions: 0,
    };
    let of_patch = 3 * (config.patch_size * config.patch_size) as u64;
    let prepared = if config.aggregator.qk_norm { pairs } else { 0 };
    let kept = config.kept_layers().len() as u64;
    let joined = |tokens: u64, blocks: u64| if tokens > chunk { blocks * tokens } else { 0 };
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
            2 * kept,
            kept * s * of_frame * 2 * c * (3 * size + f32_size),
        ),
    ]
}

/// Instructions per element of candle's `im2col_f32`, whose index arithmetic divides 64-bit integers five times. Origin: its
/// machine code for sm_90 (candle-kernels 0.11.1).
const IM2COL_INSTRUCTIONS: u64 = 270;
/// The same of candle's strided copy, `ucopy_f32`.
const COPY_INSTRUCTIONS: u64 = 240;

/// Returns the calls of the camera head: its blocks over one token a frame, once for each refinement. Its weights, which every
/// refinement reads anew in F32, outweigh everything else.
pub fn camera_head(config: &Config, s: usize) -> Vec<OpWork> {
    let head = &config.camera_head;
    let c = 2 * config.embed_dim as u64;
    let blocks = (head.num_iterations * head.trunk_depth) as u64;
    // qkv, proj, and an MLP four times as wide.
    let weights = blocks * 12 * c * c;
    vec![OpWork {
        name: "camera head",
        ours: false,
        unit: Unit::ProductF32,
        // Two norms, four products with what follows each, heads and attention.
        calls: blocks * 12,
        bytes: weights * DType::F32.size_in_bytes() as u64,
        flops: 2 * s as u64 * weights,
        instructions: 0,
    }]
}

/// Returns the calls of the depth head or the point head for `s` frames of `h` x `w` pixels: candle's `im2col` and cuBLAS' products in
/// F32, the copies around them, and the kernels of this crate that follow.
pub fn dense_head(config: &Config, s: usize, (h, w): (usize, usize)) -> Vec<OpWork> {
    let f32_size = DType::F32.size_in_bytes() as u64;
    let head = &config.dpt_head;
    let f = head.features as u64;
    let [out0, out1, out2, out3] = head.out_channels.map(|c| c as u64);
    let (rows, columns) = (h / config.patch_size, w / config.patch_size);
    let pixels = |times: usize| (times * times * rows * columns) as u64;
    let grid = pixels(1);
    let half = (rows.div_ceil(2) * columns.div_ceil(2)) as u64;
    let full = (h * w) as u64;
    let c = 2 * config.embed_dim as u64;

    /// What the convolutions of one frame add up to.
    #[derive(Default)]
    struct Sums {
        calls: u64,
        spread: u64,
        columns: u64,
        copied: u64,
        weights: u64,
        flops: u64,
        bytes: u64,
        finished: u64,
    }
    let mut sum = Sums::default();
    // A convolution of `kernel` x `kernel` from `c_in` to `c_out` channels with `pixels` outputs, `times` times.
    let mut conv = |times: u64, kernel: u64, c_in: u64, c_out: u64, pixels: u64| {
        let depth = kernel * kernel * c_in;
        sum.calls += times;
        sum.flops += times * 2 * pixels * depth * c_out;
        sum.weights += times * depth * c_out;
        sum.bytes += times * pixels * (depth + c_out);
        sum.finished += times * pixels * c_out;
        if kernel > 1 {
            sum.spread += times;
            sum.columns += times * pixels * depth;
            // To channels first, the product back to channels first, and that to channels last.
            sum.copied += times * pixels * (c_in + 2 * c_out);
        }
    };
    for out in [out0, out1, out2, out3] {
        conv(1, 1, c, out, grid);
    }
    // Transposed convolutions whose kernel is their stride are products.
    conv(1, 1, out0, 16 * out0, grid);
    conv(1, 1, out1, 4 * out1, grid);
    conv(1, 3, out3, out3, half);
    for (out, pixels) in [
        (out0, pixels(4)),
        (out1, pixels(2)),
        (out2, grid),
        (out3, half),
    ] {
        conv(1, 3, out, f, pixels);
    }
    // Residual units of two convolutions: one in the coarsest level, two in the others; and a 1 x 1 convolution each.
    for (units, pixels) in [(1, half), (2, grid), (2, pixels(2)), (2, pixels(4))] {
        conv(2 * units, 3, f, f, pixels);
        conv(1, 1, f, f, pixels);
    }
    conv(1, 3, f, f / 2, pixels(8));
    conv(1, 3, f / 2, 32, full);
    conv(1, 1, 32, 4, full);

    let s = s as u64;
    let memory = |name, ours, calls: u64, elements: u64, instructions: u64| OpWork {
        name,
        ours,
        unit: Unit::Memory,
        calls: s * calls,
        bytes: s * elements * f32_size,
        flops: 0,
        instructions: s * instructions,
    };
    // Each level resampled to the next, the result to the size of the frame: read and written once.
    let resampled =
        f * (half + 2 * (grid + pixels(2) + pixels(4)) + pixels(8)) + f / 2 * (pixels(8) + full);
    vec![
        OpWork {
            name: "products of convolutions",
            ours: false,
            unit: Unit::ProductF32,
            calls: s * sum.calls,
            bytes: s * (sum.bytes + sum.weights) * f32_size,
            flops: s * sum.flops,
            instructions: 0,
        },
        memory(
            "im2col",
            false,
            sum.spread,
            sum.columns,
            sum.columns * IM2COL_INSTRUCTIONS,
        ),
        memory(
            "copies",
            false,
            3 * sum.spread,
            2 * sum.copied,
            sum.copied * COPY_INSTRUCTIONS,
        ),
        // The output read and written, and a skip connection read at most of the time.
        memory("bias, skips, ReLU", true, sum.calls, 3 * sum.finished, 0),
        memory("bilinear", true, 5, resampled, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::flops::transformer_flops;
    use super::*;

    #[test]
    fn the_operations_are_those_of_the_transformers() {
        let config = Config::default();
        for (s, size) in [(1, (518, 392)), (7, (294, 518))] {
            let work = aggregator(&config, s, size, DType::BF16);
            let all: u64 = work.iter().map(|op| op.flops).sum();
            let embedding = work[0].flops;
            assert_eq!(all - embedding, transformer_flops(&config, s, size), "{s}");
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
    fn the_dense_heads_cost_what_was_counted_by_hand() {
        // One frame of 518 x 392, one head: 217 GFLOP, 660 million elements of columns.
        let work = dense_head(&Config::default(), 1, (518, 392));
        let flops: u64 = work.iter().map(|op| op.flops).sum();
        assert_eq!(flops / 1_000_000_000, 217);
        let columns = work.iter().find(|op| op.name == "im2col").unwrap();
        assert_eq!(columns.instructions / IM2COL_INSTRUCTIONS / 1_000_000, 660);
        let all = dense_head(&Config::default(), 7, (518, 392));
        for (one, seven) in work.iter().zip(&all) {
            assert_eq!(7 * one.flops, seven.flops);
            assert_eq!(7 * one.calls, seven.calls);
        }
    }

    #[test]
    fn more_frames_take_longer() {
        let config = Config::default();
        let of = |s| {
            let work = aggregator(&config, s, (518, 392), DType::BF16);
            work.iter().map(|op| Card::H100.seconds(op)).sum::<f64>()
        };
        assert!(of(10) > 5.0 * of(1) && of(100) > 10.0 * of(10));
    }
}
