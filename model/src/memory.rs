//! How much memory a forward pass takes, so that a long clip is shortened instead of killed.

use candle_core::{DType, Device};

#[cfg(feature = "cuda")]
use crate::cuda::pool::Pool;
use crate::{
    config::Config,
    layers::Mlp,
    ops::{Isa, MAX_COLUMNS, MAX_SCORES},
};

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

    /// Elements per channel of a token that a block holds at its widest moment during attention.
    fn attention_width(self) -> u64 {
        match self {
            // Tokens in, output of the frame block, qkv (3), packed k and v (2), output of attention, tokens out.
            Self::Fused => 9,
            // Tokens in, output of the frame block, qkv (3), prepared q and k (2), output of attention.
            Self::Cuda => 8,
            // Tokens in and out, norm, qkv (3), q and k normalized and rotated (4), v, output of scores, projection.
            Self::Plain => 14,
        }
    }

    /// Bytes of a block's widest moment for `tokens` tokens with elements of `size` bytes.
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
            Self::Fused | Self::Plain => in_attention + chunk * 8 * c,
        };
        elements * size
    }

    /// Elements per pixel of a frame that the predictions and the input take on the device.
    fn prediction_width(self) -> u64 {
        match self {
            // Image, depth, points twice, confidences, and the same again while the frames are joined.
            Self::Fused | Self::Plain => 2 * (3 + 1 + 3 + 3 + 2),
            // One head's output at a time is on the card, points and confidence twice while the frames are joined; and as much
            // again for the feature maps of the track head.
            Self::Cuda => 16,
        }
    }

    /// Bytes that do not depend on the number of frames: rows of scores and their softmax, columns of a convolution and their
    /// product; or what the CPU's threads pack, see `ops::cpu`.
    fn workspace(self) -> u64 {
        match self {
            Self::Fused => 128 << 20,
            Self::Cuda | Self::Plain => (3 * (MAX_SCORES + MAX_COLUMNS)) as u64 * F32,
        }
    }
}

/// Tokens of `s` frames of `h` x `w` pixels, special tokens included.
fn tokens(config: &Config, s: usize, (h, w): (usize, usize)) -> u64 {
    let patches = (h / config.patch_size) * (w / config.patch_size);
    (s * (config.patch_start_idx() + patches)) as u64
}

/// Bytes of the layers that the aggregator keeps for the heads, which are F32.
fn kept_bytes(config: &Config, tokens: u64) -> u64 {
    config.kept_layers().len() as u64 * tokens * 2 * config.embed_dim as u64 * F32
}

/// Bytes that the aggregator holds at its worst moment: what it keeps for the heads and the widest moment of a block. Weights
/// are not counted.
pub fn aggregator_bytes(
    config: &Config,
    s: usize,
    size: (usize, usize),
    dtype: DType,
    engine: Engine,
) -> u64 {
    let tokens = tokens(config, s, size);
    let element = dtype.size_in_bytes() as u64;
    kept_bytes(config, tokens) + engine.block_bytes(config, tokens, element)
}

/// Upper estimate of the bytes that a forward pass over `s` frames of `h` x `w` pixels holds at its worst moment, weights
/// not counted, with the transformer in `dtype`. Grows linearly in `s`.
///
/// Counted from the code: the kept layers, the widest moment of a block (and a chunk of the MLP), or the widest moment of a
/// dense head, whichever is larger, and the predictions.
pub fn forward_bytes(
    config: &Config,
    s: usize,
    (h, w): (usize, usize),
    dtype: DType,
    engine: Engine,
) -> u64 {
    let tokens = tokens(config, s, (h, w));
    let pixels = (h * w) as u64;
    let block = engine.block_bytes(config, tokens, dtype.size_in_bytes() as u64);
    // Half the features at full size, four times: resampled, and the levels it was made of.
    let features = config.dpt_head.features as u64;
    let head = 4 * (features / 2) * pixels * F32;
    let predictions = engine.prediction_width() * s as u64 * pixels * F32;
    let held = kept_bytes(config, tokens) + predictions + block.max(head) + engine.workspace();
    match engine {
        // The driver's pool rounds allocations up and leaves gaps between them.
        Engine::Cuda => held + held / 10,
        Engine::Fused | Engine::Plain => held,
    }
}

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

/// Bytes that a CUDA device has for this program: those that are free, and those that the driver's memory pool has reserved
/// and does not use. Waits for the device. `None` on the CPU and where the driver does not say.
pub fn free_device_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            // Memory that was freed counts as used until the device has executed the free.
            device.synchronize().ok()?;
            let (free, _total) = cuda.cuda_stream().context().mem_get_info().ok()?;
            let pool = Pool::of(cuda).ok()?.map(|pool| pool.current()).transpose();
            let unused = pool.ok()?.map_or(0, DeviceMemory::unused_bytes);
            Some(free as u64 + unused)
        }
        _ => None,
    }
}

/// Beyond this many frames the quadratic time of global attention ends the wish before the memory does.
const MOST_FRAMES: usize = 1 << 16;

/// What tensors take of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes of tensors.
    pub used_bytes: u64,
    /// Bytes that the driver took from the device for them. It keeps some more than it uses.
    pub reserved_bytes: u64,
}

impl DeviceMemory {
    /// Bytes that the next tensors can have without more of the device's memory.
    #[cfg(any(feature = "cuda", test))]
    fn unused_bytes(self) -> u64 {
        self.reserved_bytes.saturating_sub(self.used_bytes)
    }
}

/// The most memory that tensors took of a CUDA device since [`reset_device_peak`], or since the start of the program. `None` on
/// the CPU and where the driver does not count.
///
/// The driver's own memory, which holds kernels and cuBLAS' workspace, is not in it.
pub fn device_peak(device: &Device) -> Option<DeviceMemory> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => Pool::of(cuda).ok()??.peak().ok(),
        _ => None,
    }
}

/// Starts the measurement of [`device_peak`] again, from what is in use now. Does nothing on the CPU.
pub fn reset_device_peak(device: &Device) {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            // Where it fails, `device_peak` has the peak of a longer time, or says that there is none.
            if let Ok(Some(pool)) = Pool::of(cuda) {
                let _unchanged = pool.reset_peak();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_cpu_has_no_device_memory() {
        reset_device_peak(&Device::Cpu);
        assert_eq!(device_peak(&Device::Cpu), None);
        assert_eq!(free_device_bytes(&Device::Cpu), None);
    }

    #[test]
    fn what_a_pool_keeps_beyond_its_use_is_free_for_the_next_tensors() {
        let unused = |used_bytes, reserved_bytes| {
            let memory = DeviceMemory {
                used_bytes,
                reserved_bytes,
            };
            memory.unused_bytes()
        };
        assert_eq!(unused(3, 10), 7);
        // The two are read one after the other, and another thread may allocate between them.
        assert_eq!(unused(11, 10), 0);
    }
}
