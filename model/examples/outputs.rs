//! Writes what a network gives for random images, with the aggregator's tapped layers, as `benches/pytorch.py outputs` does:
//!
//! ```sh
//! cargo run --release -p vggt-model --example outputs -- model.safetensors images.safetensors out.safetensors fast [config.json]
//! ```
//!
//! The images are the tensor `images` [S, 3, H, W] of the second file, RGB in [0, 1].

use std::{collections::HashMap, error::Error, ops::ControlFlow};

use candle_core::{Device, safetensors};
use vggt_model::{
    Config, Precision, Vggt,
    progress::{Observer, Stage},
    weights::Weights,
};

/// Watches nothing.
struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, images, out, precision, config @ ..] = &args[..] else {
        return Err("expected: CHECKPOINT IMAGES OUT exact|fast [CONFIG]".into());
    };
    let config = match config {
        [] => Config::default(),
        [config, ..] => Config::open(config)?,
    };
    let model = Vggt::builder(Weights::open(checkpoint)?)
        .config(config)
        .precision(precision.parse::<Precision>()?)
        .load()?;
    let images = safetensors::load(images, &Device::Cpu)?
        .remove("images")
        .ok_or("the file of images has no tensor named images")?;

    let tokens = model.aggregator().forward(&images, &mut Silent)?;
    let predictions = model.forward(&images)?;
    let mut tensors = HashMap::from([
        ("pose_enc".to_owned(), predictions.pose_enc),
        ("depth".to_owned(), predictions.depth),
        ("depth_conf".to_owned(), predictions.depth_conf),
    ]);
    let points = predictions.world_points.zip(predictions.world_points_conf);
    if let Some((points, confidence)) = points {
        tensors.insert("world_points".to_owned(), points);
        tensors.insert("world_points_conf".to_owned(), confidence);
    }
    for layer in model.config().kept_layers() {
        tensors.insert(format!("layer{layer:02}"), tokens.layer(layer)?.clone());
    }
    safetensors::save(&tensors, out)?;
    Ok(())
}
