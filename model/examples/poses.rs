//! Prints where each camera was: position, viewing direction and field of view.
//!
//! From the folder of this crate:
//!
//! ```text
//! cargo run --release --features demo,image --example poses
//! cargo run --release --features demo,image --example poses -- model.pt a.jpg b.jpg
//! ```
//!
//! The first runs the bundled weights on the bundled images; the second VGGT-1B on your own.

use std::error::Error;

use vggt_model::{
    Config, Vggt, Weights, demo,
    preprocess::{PreprocessMode, load_and_preprocess_images},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (config, weights, frames) = match arguments.split_first() {
        None => (demo::config()?, demo::weights()?, demo::images()?),
        Some((weights, images)) => {
            let config = Config::default();
            let frames = load_and_preprocess_images(images, PreprocessMode::Crop, &config)?;
            (config, Weights::open(weights)?, frames)
        }
    };
    let model = Vggt::builder(weights).config(config).load()?;
    let predictions = model.forward(&frames.images)?;

    // camera_from_world [R | t]: the camera is at -R^T t and looks along the last row of R.
    let extrinsic: Vec<Vec<Vec<f32>>> = predictions.extrinsic.to_vec3()?;
    let pose_enc: Vec<Vec<f32>> = predictions.pose_enc.to_vec2()?;
    println!(
        "{:<16} {:>24}   {:>24}   {:>15}",
        "frame", "position x y z", "looks along x y z", "fov deg, v x h"
    );
    for ((name, camera), encoding) in frames.names.iter().zip(&extrinsic).zip(&pose_enc) {
        let position =
            [0, 1, 2].map(|axis| -camera.iter().map(|row| row[axis] * row[3]).sum::<f32>());
        let direction = &camera[2][..3];
        println!(
            "{name:<16} {:8.3}{:8.3}{:8.3}   {:8.3}{:8.3}{:8.3}   {:6.1} x {:6.1}",
            position[0],
            position[1],
            position[2],
            direction[0],
            direction[1],
            direction[2],
            encoding[7].to_degrees(),
            encoding[8].to_degrees(),
        );
    }
    Ok(())
}
