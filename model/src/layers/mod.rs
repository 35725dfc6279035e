//! What the transformers are made of. One file each, named as upstream's `vggt/layers`.

mod attention;
mod block;
mod interpolate;
mod layer_scale;
mod mlp;
mod patch_embed;
mod rope;
mod vision_transformer;

pub use attention::Attention;
pub use block::{Block, BlockConfig};
pub use interpolate::bicubic_antialias;
pub use layer_scale::LayerScale;
pub use mlp::Mlp;
pub use patch_embed::PatchEmbed;
pub use rope::RotaryPositionEmbedding2D;
pub use vision_transformer::DinoVisionTransformer;
