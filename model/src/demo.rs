//! The demo: a small checkpoint of the same architecture, trained on synthetic scenes, and a scene it has never seen. It knows
//! nothing but room corners with boxes, balls and cylinders.

#[cfg(feature = "image")]
use crate::preprocess::{
    Frames, ImageLimits, PreprocessError, PreprocessMode, decode_image, preprocess, stack,
};
use crate::{
    config::Config,
    error::Result,
    weights::{Weights, WeightsError},
};

/// 4,925,048 parameters in F16.
const WEIGHTS: &[u8] = include_bytes!("../demo/demo.safetensors");

// As in CONFIG; a test compares them.
#[cfg(feature = "image")]
const IMG_SIZE: usize = 112;
#[cfg(feature = "image")]
const PATCH_SIZE: usize = 14;

const CONFIG: &str = include_str!("../configs/demo.json");

/// Name of the weights, for provenance.
pub const WEIGHTS_NAME: &str = "demo.safetensors";

/// SHA-256 of the weights.
pub const WEIGHTS_SHA256: &str = "f8a76cb9f92a39a1abc131769aa88ca7d5ca06a4b1876379f259e78687bc40e7";

/// Eight images of one scene, 280 x 210 pixels, PNG, with their names.
pub const FRAMES: [(&str, &[u8]); 8] = [
    (
        "frame_00.png",
        include_bytes!("../demo/frames/frame_00.png"),
    ),
    (
        "frame_01.png",
        include_bytes!("../demo/frames/frame_01.png"),
    ),
    (
        "frame_02.png",
        include_bytes!("../demo/frames/frame_02.png"),
    ),
    (
        "frame_03.png",
        include_bytes!("../demo/frames/frame_03.png"),
    ),
    (
        "frame_04.png",
        include_bytes!("../demo/frames/frame_04.png"),
    ),
    (
        "frame_05.png",
        include_bytes!("../demo/frames/frame_05.png"),
    ),
    (
        "frame_06.png",
        include_bytes!("../demo/frames/frame_06.png"),
    ),
    (
        "frame_07.png",
        include_bytes!("../demo/frames/frame_07.png"),
    ),
];

/// The demo's weights.
///
/// # Errors
/// Never for the bytes that are shipped; a test opens them.
pub fn weights() -> Result<Weights, WeightsError> {
    Weights::from_static(WEIGHTS_NAME, WEIGHTS)
}

/// The demo's images as the network takes them. [8, 3, 84, 112] in [0, 1]
///
/// # Errors
/// Never for the files that are shipped; the examples read them.
#[cfg(feature = "image")]
pub fn images() -> Result<Frames, PreprocessError> {
    let (limits, mode) = (ImageLimits::default(), PreprocessMode::default());
    let prepared = FRAMES.map(|(name, bytes)| {
        let image = decode_image(name, bytes, &limits)?;
        preprocess(image, mode, IMG_SIZE, PATCH_SIZE)
    });
    stack(prepared.into_iter().collect::<Result<_, _>>()?)
}

/// The demo's dimensions.
///
/// # Errors
/// Never for the text that is shipped; a test reads it.
pub fn config() -> Result<Config> {
    Config::from_json(CONFIG)
}
