//! How much memory a forward pass takes, so that a long clip is shortened instead of killed.

use candle_core::{DType, Device};

use crate::{
    config::Config,
    layers::Mlp,
    ops::{Isa, MAX_COLUMNS, MAX_SCORES},
};

/// Bytes of one F32.
pub(super) const F32: u64 = 4;

/// Which implementations of the operations run, as far as memory is concerned.
// Not the enum by which an operation chooses its implementation: that one holds an instruction set, which only a processor
// that has it can make, and asks for the type of a tensor. An estimate is also made for other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The CPU's own: nothing is held between the parts of an operation.
    Cpu,
    /// The CUDA kernels between cuBLAS' products, and candle's convolutions.
    Cuda,
    /// The reference implementations, one tensor for every step.
    Reference,
}

impl Engine {
    /// Returns the engine of `device`.
    pub fn of(device: &Device) -> Self {
        match (device, Isa::best()) {
            (Device::Cpu, Some(_)) => Self::Cpu,
            (Device::Cuda(_), _) => Self::Cuda,
            _ => Self::Reference,
        }
    }

    /// Returns the elements per channel of a token that a block holds at its peak during attention.
    fn attention_width(self) -> u64 {
        match self {
            // Tokens in, output of the frame block, qkv (3), packed k and v (2), output of attention, tokens out.
            Self::Cpu => 9,
            // Tokens in, output of the frame block, qkv (3), prepared q and k (2), output of attention.
            Self::Cuda => 8,
            // Tokens in and out, norm, qkv (3), q and k normalized and rotated (4), v, output of scores, projection.
            Self::Reference => 14,
        }
    }

    /// Returns the bytes of a block at its peak for `tokens` tokens with elements of `size` bytes.
    fn block_bytes(self, config: &Config, tokens: u64, size: u64) -> u64 {
        let c = config.embed_dim as u64;
        let chunk = tokens.min(Mlp::CHUNK as u64);
        let in_attention = tokens * c * self.attention_width();
        let elements = match self {
            // Tokens in and output of the frame block; norm, hidden layer and output of one chunk of the MLP; finished chunks,
            // and all of them joined.
            Self::Cuda => {
                let hidden = (c as f64 * config.aggregator.mlp_ratio) as u64;
                in_attention.max(tokens * c * 4 + chunk * (2 * c + hidden))
            }
            Self::Cpu | Self::Reference => in_attention + chunk * 8 * c,
        };
        elements * size
    }

    /// Returns the elements per pixel of a frame that the predictions and the input take on the device.
    fn prediction_width(self) -> u64 {
        match self {
            // Image, depth, points twice, confidences, and the same again while the frames are joined.
            Self::Cpu | Self::Reference => 2 * (3 + 1 + 3 + 3 + 2),
            // One head's output at a time is on the card, points and confidence twice while the frames are joined; and as much
            // again for the feature maps of the track head.
            Self::Cuda => 16,
        }
    }

    /// Returns the bytes that do not depend on the number of frames: rows of scores and their softmax, columns of a convolution and their
    /// product; or what the CPU's threads pack, see `ops::cpu`.
    pub(super) fn workspace(self) -> u64 {
        /// What a thread holds for its part of a 3 x 3 convolution of 256 channels, the most of any operation.
        const OF_A_THREAD: u64 = 8 << 20;
        match self {
            Self::Cpu => (112 << 20) + rayon::current_num_threads() as u64 * OF_A_THREAD,
            Self::Cuda | Self::Reference => (3 * (MAX_SCORES + MAX_COLUMNS)) as u64 * F32,
        }
    }
}

/// Tokens of `s` frames of `h` x `w` pixels, special tokens included.
pub(super) fn tokens(config: &Config, s: usize, (h, w): (usize, usize)) -> u64 {
    let patches = (h / config.patch_size) * (w / config.patch_size);
    (s * (config.patch_start_idx() + patches)) as u64
}

/// Bytes of the layers that the aggregator keeps for the heads, which are F32.
pub(super) fn kept_bytes(config: &Config, tokens: u64) -> u64 {
    config.kept_layers().len() as u64 * tokens * 2 * config.embed_dim as u64 * F32
}

/// Bytes of a block at its peak for so many tokens, with the transformer in `dtype`.
pub(super) fn block_bytes_of(engine: Engine, config: &Config, tokens: u64, dtype: DType) -> u64 {
    engine.block_bytes(config, tokens, dtype.size_in_bytes() as u64)
}

/// Bytes of a dense head, which has one frame at a time.
pub(super) fn head_bytes(config: &Config, (h, w): (usize, usize)) -> u64 {
    // Half the features at full size, four times: resampled, and the levels it was made of.
    let features = config.dpt_head.features as u64;
    4 * (features / 2) * (h * w) as u64 * F32
}

/// Bytes of the predictions of `s` frames and of their input on the device.
pub(super) fn prediction_bytes(engine: Engine, s: usize, (h, w): (usize, usize)) -> u64 {
    engine.prediction_width() * (s * h * w) as u64 * F32
}

/// Bytes that the aggregator holds at its peak: what it keeps for the heads and the peak of a block. Weights
/// are not counted.
pub fn aggregator_bytes(
    config: &Config,
    s: usize,
    size: (usize, usize),
    dtype: DType,
    engine: Engine,
) -> u64 {
    let tokens = tokens(config, s, size);
    kept_bytes(config, tokens) + block_bytes_of(engine, config, tokens, dtype)
}

/// Upper estimate of the bytes that a forward pass over `s` frames of `h` x `w` pixels holds at its peak, weights
/// not counted, with the transformer in `dtype`. Grows linearly in `s`.
///
/// Counted from the code: the kept layers, the peak of a block (and a chunk of the MLP), or the peak of a
/// dense head, whichever is larger, and the predictions.
pub fn forward_bytes(
    config: &Config,
    s: usize,
    (h, w): (usize, usize),
    dtype: DType,
    engine: Engine,
) -> u64 {
    let tokens = tokens(config, s, (h, w));
    let block = block_bytes_of(engine, config, tokens, dtype);
    let head = head_bytes(config, (h, w));
    let predictions = prediction_bytes(engine, s, (h, w));
    let held = kept_bytes(config, tokens) + predictions + block.max(head) + engine.workspace();
    match engine {
        // The driver's pool rounds allocations up and leaves gaps between them.
        Engine::Cuda => held + held / 10,
        Engine::Cpu | Engine::Reference => held,
    }
}

/// Returns the largest number of frames of `h` x `w` pixels whose forward pass fits into `available` bytes; at least 1.
pub fn frames_that_fit(
    config: &Config,
    (h, w): (usize, usize),
    dtype: DType,
    engine: Engine,
    available: u64,
) -> usize {
    let bytes = |s| forward_bytes(config, s, (h, w), dtype, engine);
    let mut low = 1;
    let mut high = 2;
    while high < MAX_FRAMES && bytes(high) <= available {
        low = high;
        high *= 2;
    }
    // bytes(low) fits or low is 1; bytes(high) does not or is the limit.
    while high - low > 1 {
        let middle = low.midpoint(high);
        if bytes(middle) <= available {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Beyond this many frames the quadratic time of global attention takes too long before the memory is full.
const MAX_FRAMES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_frames_are_taken_as_fit_and_not_one_more() {
        let config = Config::default();
        for (gib, engine) in [2u64, 8, 24].into_iter().flat_map(|gib| {
            [Engine::Cpu, Engine::Cuda, Engine::Reference].map(|engine| (gib, engine))
        }) {
            let available = gib << 30;
            let s = frames_that_fit(&config, (294, 518), DType::F32, engine, available);
            let bytes = |s| forward_bytes(&config, s, (294, 518), DType::F32, engine);
            assert!(
                bytes(s) <= available && bytes(s + 1) > available,
                "{gib} GiB: {s}"
            );
        }
    }

    #[test]
    fn one_frame_is_always_tried() {
        let config = Config::default();
        let s = frames_that_fit(&config, (518, 518), DType::F32, Engine::Reference, 0);
        assert_eq!(s, 1);
    }

    #[test]
    fn the_estimate_is_above_what_was_measured() {
        // Peak resident memory of `vggt bench` with VGGT-1B's shapes in F16, less the 2.4 GB of the file that a pass without
        // the track head reads and 0.3 GB of convolutions in F32; see the README.
        let config = Config::default();
        // Each thread takes some of it.
        let two_threads = rayon::ThreadPoolBuilder::new().num_threads(2);
        let two_threads = two_threads.build().unwrap();
        let of = |s, size| {
            two_threads.install(|| forward_bytes(&config, s, size, DType::F32, Engine::Cpu))
        };
        for (s, size, measured) in [(1, (518, 518), 0.45e9), (16, (294, 518), 0.77e9)] {
            let estimate = of(s, size) as f64;
            assert!(
                measured < estimate && estimate < 3.0 * measured,
                "{s}: {estimate}"
            );
        }
    }

    #[test]
    fn the_estimate_for_a_card_is_above_what_is_held_there_and_linear_in_the_frames() {
        let config = Config::default();
        for (size, dtype) in [
            ((518, 392), DType::BF16),
            ((294, 518), DType::F16),
            ((518, 518), DType::F32),
        ] {
            let of = |s| forward_bytes(&config, s, size, dtype, Engine::Cuda);
            for s in [1, 10, 100] {
                assert!(
                    of(s) > aggregator_bytes(&config, s, size, dtype, Engine::Cuda),
                    "{s}"
                );
            }
            // Beyond the chunk of an MLP every frame takes the same, but for the rounding of the allowance.
            assert!((of(100) - of(50)).abs_diff(of(150) - of(100)) <= 1);
            assert!(of(100) < 100 * of(1));
        }
        // Published for upstream's pass: 21.15 GB.
        let weights = 2 * 1_256_537_516;
        let bytes = weights + forward_bytes(&config, 100, (518, 392), DType::BF16, Engine::Cuda);
        assert!(bytes < 21_150_000_000, "{bytes}");
    }
}
