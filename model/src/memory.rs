//! How much memory a forward pass takes, so that a long clip is shortened instead of killed.

use candle_core::{DType, Device};

use crate::{config::Config, ops::Isa};

/// Bytes of one F32.
const F32: u64 = 4;

/// Which versions of the operations run, as far as memory is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The CPU's own: nothing is held between the parts of an operation.
    Fused,
    /// The kernels for CUDA between cuBLAS' products, and candle's convolutions.
    Cuda,
    /// The definitions, one tensor for every step.
    Plain,
}

impl Engine {
    /// Those that run on `device`.
    pub fn of(device: &Device) -> Self {
        match (device, Isa::best()) {
            (Device::Cpu, Some(_)) => Self::Fused,
            (Device::Cuda(_), _) => Self::Cuda,
            _ => Self::Plain,
        }
    }

    /// Numbers for each channel of a token at the widest moment of a block, without the hidden layer of the MLP.
    fn block(self) -> u64 {
        match self {
            // Tokens in, those of the frame block, qkv (3), packed k and v (2), what attention gives, tokens out.
            Self::Fused => 9,
            // Tokens in, those of the frame block, qkv (3), queries and keys (2), what attention gives, tokens out.
            Self::Cuda => 9,
            // Tokens in and out, norm, qkv (3), q and k normalised and rotated (4), v, scores' output, projection.
            Self::Plain => 14,
        }
    }

    /// Bytes that do not depend on the number of frames: rows of scores and their softmax, see `ops::attention`, and
    /// columns of a convolution and their product, see `ops::conv2d`; or what threads pack, see `ops::cpu`.
    fn workspace(self) -> u64 {
        match self {
            Self::Fused => 128 << 20,
            Self::Cuda | Self::Plain => (3 * (1 << 24) + 3 * (1 << 25)) * F32,
        }
    }
}

/// Upper estimate of the bytes that a forward pass over `s` frames of `h` x `w` pixels holds at its worst moment, weights
/// not counted, with the transformer in `dtype`. Grows linearly in `s`.
///
/// Counted from the code: the tapped layers, the widest moment of a block (and a chunk of the MLP), or the widest moment of
/// a dense head, whichever is larger, and the predictions.
pub fn forward_bytes(
    config: &Config,
    s: usize,
    (h, w): (usize, usize),
    dtype: DType,
    engine: Engine,
) -> u64 {
    let (s, h, w) = (s as u64, h as u64, w as u64);
    let c = config.embed_dim as u64;
    let p = config.patch_size as u64;
    let size = dtype.size_in_bytes() as u64;
    let tokens = s * (config.patch_start_idx() as u64 + (h / p) * (w / p));

    let mut layers = config.dpt_head.intermediate_layer_idx.to_vec();
    layers.push(config.aggregator.depth.saturating_sub(1));
    layers.sort_unstable();
    layers.dedup();
    let taps = layers.len() as u64 * tokens * 2 * c * F32;

    let block = engine.block() * tokens * c * size + tokens.min(CHUNK) * 8 * c * size;
    // Half the features at full size, four times: resampled, and the levels it was made of.
    let features = config.dpt_head.features as u64;
    let head = 4 * (features / 2) * h * w * F32;
    // Pictures, depth, points twice, confidences, and the same again while they are put together.
    let predictions = 2 * s * h * w * (3 + 1 + 3 + 3 + 2) * F32;
    taps + predictions + block.max(head) + engine.workspace()
}

/// Tokens in a chunk of the MLP, see `layers::mlp`.
const CHUNK: u64 = 8192;

/// The most frames of `h` x `w` pixels whose forward pass fits into `available` bytes; at least 1.
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
    while high < MOST_FRAMES && bytes(high) <= available {
        low = high;
        high *= 2;
    }
    // bytes(low) fits or low is 1; bytes(high) does not or is beyond what anybody asks for.
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

/// Bytes that are free on a CUDA device; `None` on the CPU and where the driver does not say.
pub fn free_device_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => {
            let (free, _total) =
                candle_core::cuda_backend::cudarc::driver::result::mem_get_info().ok()?;
            Some(free as u64)
        }
        _ => None,
    }
}

/// Beyond this many frames the quadratic time of global attention ends the wish before the memory does.
const MOST_FRAMES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cuda::work::aggregator_bytes;

    #[test]
    fn as_many_frames_are_taken_as_fit_and_not_one_more() {
        let config = Config::default();
        for (gib, engine) in [2u64, 8, 24].into_iter().flat_map(|gib| {
            [Engine::Fused, Engine::Cuda, Engine::Plain].map(|engine| (gib, engine))
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
        let s = frames_that_fit(&config, (518, 518), DType::F32, Engine::Plain, 0);
        assert_eq!(s, 1);
    }

    #[test]
    fn the_estimate_is_above_what_was_measured() {
        // Peak resident memory of `vggt bench` with VGGT-1B's shapes in F16, less the 2.4 GB of the file that a pass without
        // the track head reads and 0.3 GB of convolutions in F32; see the README.
        let config = Config::default();
        let of = |s, size| forward_bytes(&config, s, size, DType::F32, Engine::Fused);
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
                assert!(of(s) > aggregator_bytes(&config, 0, s, size, dtype), "{s}");
            }
            // Beyond the chunk of an MLP every frame takes the same.
            assert_eq!(of(100) - of(50), of(150) - of(100));
            assert!(of(100) < 100 * of(1));
        }
        // Published for upstream's pass: 21.15 GB.
        let weights = 2 * 1_256_537_516;
        let bytes = weights + forward_bytes(&config, 100, (518, 392), DType::BF16, Engine::Cuda);
        assert!(bytes < 21_150_000_000, "{bytes}");
    }
}
