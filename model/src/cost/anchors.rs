//! Memory and operations of passes with anchors: see `aggregator::anchored`.

use candle_core::DType;

use super::memory::{
    Engine, F32, block_bytes_of, head_bytes, kept_bytes, prediction_bytes, tokens,
};
use crate::{anchors::AnchorSchedule, config::Config, layers::Mlp};

/// A pass over anchors, or over frames that attend to them.
#[derive(Debug, Clone, Copy)]
pub struct Anchored<'a> {
    /// The network.
    pub config: &'a Config,
    /// Height and width of the frames in pixels.
    pub size: (usize, usize),
    /// Number of anchors.
    pub anchors: usize,
    /// What the global blocks attend to.
    pub schedule: AnchorSchedule,
    /// The type that the transformer computes in.
    pub dtype: DType,
    /// The type that keys and values are kept in.
    pub cache_dtype: DType,
    /// Which implementations run.
    pub engine: Engine,
}

impl Anchored<'_> {
    /// Bytes of the anchors' keys and values.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        let layers = 0..self.config.aggregator.depth;
        let keys: u64 = layers.map(|layer| self.keys(layer)).sum();
        2 * keys * self.config.embed_dim as u64 * self.cache_dtype.size_in_bytes() as u64
    }

    /// Upper estimate of the bytes that the pass over the anchors takes at its peak, weights and [`Anchored::cache_bytes`] not
    /// counted. `in_memory`: the tokens wait for the heads in memory, not in a file.
    #[must_use]
    pub fn anchors_bytes(&self, in_memory: bool) -> u64 {
        let tokens = tokens(self.config, self.anchors, self.size);
        let kept = if in_memory {
            kept_bytes(self.config, tokens)
        } else {
            0
        };
        let images = 3 * (self.anchors * self.size.0 * self.size.1) as u64 * F32;
        let heads = self.heads_bytes(1);
        self.held(kept + 2 * images + self.block_bytes(tokens).max(heads))
    }

    /// Upper estimate of the bytes that a pass over `batch` other frames takes at its peak, weights and
    /// [`Anchored::cache_bytes`] not counted.
    #[must_use]
    pub fn frames_bytes(&self, batch: usize) -> u64 {
        let tokens = tokens(self.config, batch, self.size);
        let kept = kept_bytes(self.config, tokens);
        self.held(kept + self.block_bytes(tokens).max(self.heads_bytes(batch)))
    }

    /// Operations, counted as [`super::transformer_flops`] does, that the transformers take for one frame that is not an anchor:
    /// the same for every frame, however many there are.
    #[must_use]
    pub fn flops_of_frame(&self) -> u64 {
        let c = self.config.embed_dim as u64;
        let tokens = tokens(self.config, 1, self.size);
        let of_trunk = tokens - self.config.patch_start_idx() as u64
            + 1
            + self.config.dino.num_register_tokens as u64;
        let linear = |n: u64, ratio: f64, qkv: u64| {
            let hidden = (c as f64 * ratio) as u64;
            2 * n * c * (qkv * c + c + 2 * hidden)
        };
        let (dino, aggregator) = (&self.config.dino, &self.config.aggregator);
        let trunk = linear(of_trunk, dino.mlp_ratio, 3) + 4 * of_trunk * of_trunk * c;
        let within = linear(tokens, aggregator.mlp_ratio, 3) + 4 * tokens * tokens * c;
        let global = |layer| match self.schedule.stride_of(layer) {
            None => within,
            // Queries alone.
            Some(_) => linear(tokens, aggregator.mlp_ratio, 1) + 4 * tokens * self.keys(layer) * c,
        };
        let blocks: u64 = (0..aggregator.depth)
            .map(|layer| within + global(layer))
            .sum();
        dino.depth as u64 * trunk + blocks
    }

    /// Operations as [`Anchored::flops_of_frame`] of the pass over the anchors.
    #[must_use]
    pub fn flops_of_anchors(&self) -> u64 {
        let c = self.config.embed_dim as u64;
        // Each anchor is a frame, and has keys and values of its own.
        let keys: u64 = (0..self.config.aggregator.depth)
            .map(|layer| self.keys(layer))
            .sum();
        self.anchors as u64 * self.flops_of_frame() + 2 * keys * 2 * c * c
    }

    /// Keys of a global block; 0 where it runs within each frame.
    fn keys(&self, layer: usize) -> u64 {
        let (h, w) = self.size;
        let patch = self.config.patch_size;
        let of_frame = self.schedule.stride_of(layer).map_or(0, |stride| {
            let patches = (h / patch).div_ceil(stride) * (w / patch).div_ceil(stride);
            self.config.patch_start_idx() + patches
        });
        (self.anchors * of_frame) as u64
    }

    /// Bytes of a block at its peak for so many tokens, with the keys and values that it reads.
    fn block_bytes(&self, tokens: u64) -> u64 {
        let c = self.config.embed_dim as u64;
        let keys = (0..self.config.aggregator.depth)
            .map(|layer| self.keys(layer))
            .max();
        let read = 2 * keys.unwrap_or(0) * c;
        let size = self.dtype.size_in_bytes() as u64;
        match self.engine {
            Engine::Cpu => {
                let chunk = tokens.min(Mlp::CHUNK as u64);
                // A frame block: tokens in, qkv (3), packed k and v (2), output of attention.
                let within = 7 * tokens;
                // A global block: tokens in, q, output of attention, tokens out; keys and values are packed in F32.
                let across = 4 * tokens + read / c;
                let mlp = 3 * tokens + 8 * chunk;
                within.max(across).max(mlp) * c * F32
            }
            // Read where they lie.
            Engine::Cuda if self.dtype == self.cache_dtype => {
                block_bytes_of(self.engine, self.config, tokens, self.dtype)
            }
            Engine::Cuda | Engine::Reference => {
                read * size + block_bytes_of(self.engine, self.config, tokens, self.dtype)
            }
        }
    }

    /// Bytes of the heads for so many frames, one of which is computed at a time.
    fn heads_bytes(&self, frames: usize) -> u64 {
        head_bytes(self.config, self.size) + prediction_bytes(self.engine, frames, self.size)
    }

    fn held(&self, bytes: u64) -> u64 {
        let held = bytes + self.engine.workspace();
        match self.engine {
            // The driver's pool rounds allocations up and leaves gaps between them.
            Engine::Cuda => held + held / 10,
            Engine::Cpu | Engine::Reference => held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchored(config: &Config, anchors: usize) -> Anchored<'_> {
        Anchored {
            config,
            size: (294, 518),
            anchors,
            schedule: AnchorSchedule::of(config),
            dtype: DType::F32,
            cache_dtype: DType::F16,
            engine: Engine::Cpu,
        }
    }

    #[test]
    fn the_cache_of_vggt_1b_is_counted() {
        let config = Config::default();
        // Seven blocks of every second row and column, 11 x 19 patches, and fifteen of all 21 x 37.
        let tokens = 7 * (5 + 11 * 19) + 15 * (5 + 21 * 37);
        assert_eq!(
            anchored(&config, 40).cache_bytes(),
            40 * tokens * 2 * 1024 * 2
        );
    }

    #[test]
    fn long_captures_fit_a_laptop() {
        let config = Config::default();
        let anchored = anchored(&config, 40);
        // F16 weights without the track head, and 0.3 GB of convolutions in F32: see the README.
        let weights = 2_700_000_000;
        // Each thread takes some of it; a laptop has no more than these.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(16);
        threads.build().unwrap().install(|| {
            let peak = anchored.anchors_bytes(false).max(anchored.frames_bytes(4));
            let all = weights + anchored.cache_bytes() + peak;
            assert!(all < 6 << 30, "{all}");
            // The frames take less than the anchors.
            assert!(anchored.frames_bytes(4) < anchored.anchors_bytes(false));
        });
    }

    #[test]
    fn every_frame_takes_the_same_and_less_than_beside_all_others() {
        let config = Config::default();
        let of = anchored(&config, 40).flops_of_frame();
        let dense = |s| super::super::transformer_flops(&config, s, (294, 518));
        // Beside 64 frames in all, and beside 500.
        assert!(of < dense(64) / 64);
        assert!(dense(500) / 500 > 7 * of, "{}", dense(500) / 500 / of);
        assert!(anchored(&config, 40).flops_of_anchors() < dense(64));
    }
}
