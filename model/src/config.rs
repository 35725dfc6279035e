//! Every dimension of the network. A missing field has VGGT-1B's value, so that the `config.json` of
//! `facebook/VGGT-1B` on the Hugging Face hub, which names three fields, is accepted as it is.

mod size;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Dimensions of one VGGT checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Side in pixels of the square pictures the position embedding was trained on; also the width of the input.
    pub img_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels `C` of a token in the trunk and the aggregator; the heads see `2 C`.
    pub embed_dim: usize,
    /// The DINOv2 trunk that turns patches into tokens.
    pub dino: DinoConfig,
    /// Alternating frame and global attention.
    pub aggregator: AggregatorConfig,
    /// Camera head; every output needs it.
    #[serde(deserialize_with = "camera_head")]
    pub camera_head: CameraHeadConfig,
    /// Shape of depth and point head, which is the same.
    pub dpt_head: DptHeadConfig,
    /// Depth head; `null` for a checkpoint without one.
    pub depth_head: Option<DenseHead>,
    /// Point head; `null` for a checkpoint without one.
    pub point_head: Option<DenseHead>,
    /// Track head; `null` for a checkpoint without one.
    pub track_head: Option<TrackHeadConfig>,
}

/// The DINOv2 vision transformer with registers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DinoConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the hidden layer of the MLP, in `C`.
    pub mlp_ratio: f64,
    /// Register tokens beside the class token.
    pub num_register_tokens: usize,
}

/// The alternating-attention transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AggregatorConfig {
    /// Number of pairs of a frame block and a global block.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the hidden layer of the MLP, in `C`.
    pub mlp_ratio: f64,
    /// Register tokens beside the camera token of each frame.
    pub num_register_tokens: usize,
    /// Base of the rotary position embedding's frequencies.
    pub rope_freq: f64,
    /// Whether q and k are normalised per head.
    pub qk_norm: bool,
}

/// The camera head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CameraHeadConfig {
    /// Blocks of its transformer.
    pub trunk_depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// How often the pose is refined.
    pub num_iterations: usize,
}

/// A dense prediction head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DptHeadConfig {
    /// Channels of the fused feature map.
    pub features: usize,
    /// Channels of the four pyramid levels.
    pub out_channels: [usize; 4],
    /// The aggregator's layers that are tapped, finest first.
    pub intermediate_layer_idx: [usize; 4],
}

/// A depth or point head that is there; [`Config::dpt_head`] has its dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DenseHead {}

/// The track head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrackHeadConfig {
    /// Channels of the feature map that points are looked up in.
    pub features: usize,
    /// How often the tracks are refined.
    pub iters: usize,
    /// Pixels of the picture per pixel of the feature map.
    pub stride: usize,
    /// Levels of the correlation pyramid.
    pub corr_levels: usize,
    /// Radius of the correlation window, in feature pixels of each level.
    pub corr_radius: usize,
    /// Channels of the update transformer.
    pub hidden_size: usize,
    /// Time blocks, and as many space blocks, of the update transformer.
    pub depth: usize,
}

/// Head activations and sizes that no checkpoint changes. Origin: upstream's constructor defaults.
impl TrackHeadConfig {
    /// Attention heads of the update transformer.
    pub const NUM_HEADS: usize = 8;
    /// Learned tokens through which the points speak to each other.
    pub const NUM_VIRTUAL_TRACKS: usize = 64;
    /// Flows are divided by this before they enter the transformer, in feature pixels.
    pub const MAX_SCALE: f64 = 518.0;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            img_size: 518,
            patch_size: 14,
            embed_dim: 1024,
            dino: DinoConfig::default(),
            aggregator: AggregatorConfig::default(),
            camera_head: CameraHeadConfig::default(),
            dpt_head: DptHeadConfig::default(),
            depth_head: Some(DenseHead {}),
            point_head: Some(DenseHead {}),
            track_head: Some(TrackHeadConfig::default()),
        }
    }
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            depth: 24,
            num_heads: 16,
            mlp_ratio: 4.0,
            num_register_tokens: 4,
        }
    }
}

impl Default for AggregatorConfig {
    fn default() -> Self {
        Self {
            depth: 24,
            num_heads: 16,
            mlp_ratio: 4.0,
            num_register_tokens: 4,
            rope_freq: 100.0,
            qk_norm: true,
        }
    }
}

impl Default for CameraHeadConfig {
    fn default() -> Self {
        Self {
            trunk_depth: 4,
            num_heads: 16,
            num_iterations: 4,
        }
    }
}

impl Default for DptHeadConfig {
    fn default() -> Self {
        Self {
            features: 256,
            out_channels: [256, 512, 1024, 1024],
            intermediate_layer_idx: [4, 11, 17, 23],
        }
    }
}

impl Default for TrackHeadConfig {
    fn default() -> Self {
        Self {
            features: 128,
            iters: 4,
            stride: 2,
            corr_levels: 7,
            corr_radius: 4,
            hidden_size: 384,
            depth: 6,
        }
    }
}

/// The camera head's dimensions; `null`, as the other heads may be, has an error of its own.
fn camera_head<'de, D: serde::Deserializer<'de>>(from: D) -> Result<CameraHeadConfig, D::Error> {
    let head = Option::<CameraHeadConfig>::deserialize(from)?;
    head.ok_or_else(|| {
        serde::de::Error::custom("camera_head is null, but every output needs the cameras")
    })
}

/// No dimension of a real checkpoint comes near this; a larger one is a typing error that would end in a huge allocation.
const MAX_DIM: usize = 1 << 16;

impl Config {
    /// Reads and checks a JSON text.
    ///
    /// # Errors
    /// [`Error::Config`] when it is no JSON of this shape or its numbers contradict each other.
    pub fn from_json(text: &str) -> Result<Self> {
        // Editors on Windows begin files with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let config: Self = serde_json::from_str(text).map_err(|e| Error::Config(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads and checks a JSON file.
    ///
    /// # Errors
    /// As [`Config::from_json`]; also when the file cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let named = |why: String| Error::Config(format!("\"{}\": {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        Self::from_json(&text).map_err(|e| match e {
            Error::Config(why) => named(why),
            e => e,
        })
    }

    /// Tokens of a frame before its patches: the camera token and the registers.
    pub fn patch_start_idx(&self) -> usize {
        1 + self.aggregator.num_register_tokens
    }

    /// Layers of the aggregator whose output a pass keeps, in ascending order: those that the dense heads read, and the last,
    /// which the camera head reads.
    pub fn kept_layers(&self) -> Vec<usize> {
        let mut layers = self.dpt_head.intermediate_layer_idx.to_vec();
        layers.push(self.aggregator.depth.saturating_sub(1));
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    fn check(&self) -> Result<()> {
        let fail = |why: String| Err(Error::Config(why));
        let c = self.embed_dim;
        let mut dims = vec![
            ("img_size", self.img_size),
            ("patch_size", self.patch_size),
            ("embed_dim", c),
            ("dino.depth", self.dino.depth),
            ("dino.num_heads", self.dino.num_heads),
            ("aggregator.depth", self.aggregator.depth),
            ("aggregator.num_heads", self.aggregator.num_heads),
            ("camera_head.trunk_depth", self.camera_head.trunk_depth),
            ("camera_head.num_heads", self.camera_head.num_heads),
            (
                "camera_head.num_iterations",
                self.camera_head.num_iterations,
            ),
            ("dpt_head.features", self.dpt_head.features),
        ];
        dims.extend(
            self.dpt_head
                .out_channels
                .map(|n| ("dpt_head.out_channels", n)),
        );
        if let Some(t) = &self.track_head {
            dims.extend([
                ("track_head.features", t.features),
                ("track_head.iters", t.iters),
                ("track_head.stride", t.stride),
                ("track_head.corr_levels", t.corr_levels),
                ("track_head.corr_radius", t.corr_radius),
                ("track_head.hidden_size", t.hidden_size),
                ("track_head.depth", t.depth),
            ]);
        }
        if let Some((name, n)) = dims.iter().find(|(_, n)| *n == 0 || *n > MAX_DIM) {
            return fail(format!("{name} is {n}, expected 1 to {MAX_DIM}"));
        }
        self.check_size()?;
        if !self.img_size.is_multiple_of(self.patch_size) {
            return fail(format!(
                "img_size {} is no multiple of patch_size {}",
                self.img_size, self.patch_size
            ));
        }
        for (name, width, heads, multiple) in [
            ("dino", c, self.dino.num_heads, 1),
            // RoPE splits a head into y and x, and each of these into pairs.
            ("aggregator", c, self.aggregator.num_heads, 4),
            ("camera_head", 2 * c, self.camera_head.num_heads, 1),
        ] {
            if width % (heads * multiple) != 0 {
                return fail(format!(
                    "{name}: {width} channels do not divide into {heads} heads of a multiple of {multiple}"
                ));
            }
        }
        for (name, ratio) in [
            ("dino", self.dino.mlp_ratio),
            ("aggregator", self.aggregator.mlp_ratio),
        ] {
            if !(ratio > 0.0 && ratio <= 64.0) {
                return fail(format!(
                    "{name}.mlp_ratio is {ratio}, expected more than 0 and at most 64"
                ));
            }
        }
        let depth = self.aggregator.depth;
        if let Some(i) = self
            .dpt_head
            .intermediate_layer_idx
            .iter()
            .find(|i| **i >= depth)
        {
            return fail(format!(
                "dpt_head.intermediate_layer_idx names layer {i}, the aggregator has {depth}"
            ));
        }
        // The UV embedding gives a quarter of the channels to each of sin x, cos x, sin y, cos y.
        let [a, b, c3, d] = self.dpt_head.out_channels;
        if let Some(n) = [a, b, c3, d, self.dpt_head.features]
            .iter()
            .find(|n| *n % 4 != 0)
        {
            return fail(format!("dpt_head: {n} channels are no multiple of 4"));
        }
        if !(self.dpt_head.features / 2).is_multiple_of(4) {
            return fail(format!(
                "dpt_head.features {} is no multiple of 8",
                self.dpt_head.features
            ));
        }
        if let Some(t) = &self.track_head {
            if t.hidden_size % TrackHeadConfig::NUM_HEADS != 0 || t.features % 4 != 0 {
                return fail(format!(
                    "track_head: hidden_size {} must be a multiple of {}, features {} of 4",
                    t.hidden_size,
                    TrackHeadConfig::NUM_HEADS,
                    t.features
                ));
            }
            if t.corr_levels > 16 || t.corr_radius > 64 {
                return fail(format!(
                    "track_head: corr_levels {} or corr_radius {} is out of range",
                    t.corr_levels, t.corr_radius
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_default_is_vggt_1b() {
        let shipped = Config::from_json(include_str!("../configs/vggt-1b.json")).unwrap();
        assert_eq!(shipped, Config::default());
    }

    #[test]
    fn the_hub_config_is_accepted_as_it_is() {
        let hub = r#"{"img_size":518,"patch_size":14,"embed_dim":1024}"#;
        assert_eq!(Config::from_json(hub).unwrap(), Config::default());
    }

    #[test]
    fn null_means_no_head() {
        let config = Config::from_json(r#"{"track_head":null}"#).unwrap();
        assert_eq!(config.track_head, None);
        assert!(config.depth_head.is_some() && config.point_head.is_some());
        let config = Config::from_json(r#"{"point_head":null,"depth_head":{}}"#).unwrap();
        assert!(config.depth_head.is_some() && config.point_head.is_none());
        let config = Config::from_json(r#"{"depth_head":null}"#).unwrap();
        assert!(config.depth_head.is_none() && config.point_head.is_some());
        let e = Config::from_json(r#"{"camera_head":null}"#).unwrap_err();
        assert!(e.to_string().contains("camera_head is null"), "{e}");
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let config = Config::from_json("\u{feff}{\"embed_dim\":512}").unwrap();
        assert_eq!(config.embed_dim, 512);
    }

    #[test]
    fn contradictions_are_named() {
        for (text, word) in [
            (r#"{"embed_dim":1000}"#, "heads"),
            (r#"{"embed_dim":0}"#, "embed_dim"),
            (r#"{"img_size":500}"#, "patch_size"),
            (r#"{"aggregator":{"depth":3}}"#, "intermediate_layer_idx"),
            (r#"{"embed_dim":99999999999}"#, "embed_dim"),
            ("<html>", "expected value"),
        ] {
            let e = Config::from_json(text).unwrap_err().to_string();
            assert!(e.contains(word), "{text}: {e}");
        }
    }
}
