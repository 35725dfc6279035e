//! How many operations the transformers of a forward pass take.

use crate::config::Config;

/// Returns the operations, a multiplication and an addition being two, that the transformers of a forward pass take: the linear layers
/// and the attention of the blocks of the trunk, the frame blocks and the global blocks. Norms, softmax and activations are not counted.
pub fn transformer_flops(config: &Config, s: usize, (h, w): (usize, usize)) -> u64 {
    let (s, c) = (s as u64, config.embed_dim as u64);
    let patches = (h / config.patch_size * (w / config.patch_size)) as u64;
    let block = |sequences: u64, n: u64, mlp_ratio: f64| {
        let hidden = (c as f64 * mlp_ratio) as u64;
        // qkv, proj, fc1, fc2; then q k and the weighted v.
        let linear = 2 * n * c * (3 * c + c + 2 * hidden);
        sequences * (linear + 4 * n * n * c)
    };
    let tokens = patches + config.patch_start_idx() as u64;
    let of_trunk = patches + 1 + config.dino.num_register_tokens as u64;
    let (dino, aggregator) = (&config.dino, &config.aggregator);
    dino.depth as u64 * block(s, of_trunk, dino.mlp_ratio)
        + aggregator.depth as u64
            * (block(s, tokens, aggregator.mlp_ratio) + block(1, s * tokens, aggregator.mlp_ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_attention_grows_faster_than_the_frames() {
        let config = Config::default();
        let of = |s| transformer_flops(&config, s, (294, 518));
        // 72 blocks of 12 C² weights for 782 tokens, and their attention.
        let (n, c) = (782u64, 1024u64);
        assert_eq!(of(1), 72 * (24 * n * c * c + 4 * n * n * c));
        let global = 24 * 4 * n * n * c;
        assert_eq!(of(3), 3 * of(1) + (9 - 3) * global);
    }
}
