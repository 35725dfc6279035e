//! Writes the surfaces of the bundled images as a colored point cloud in PLY.
//!
//! From the folder of this crate:
//!
//! ```text
//! cargo run --release --features demo,image --example point_cloud -- points.ply
//! ```

use std::{
    env,
    error::Error,
    fs::File,
    io::{BufWriter, Write},
};

use vggt_model::{Vggt, candle_core::Tensor, demo};

/// The fraction of points, those of the lowest confidence, that are left out.
const LEFT_OUT: f64 = 0.3;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args()
        .nth(1)
        .unwrap_or_else(|| "points.ply".to_owned());
    let frames = demo::images()?;
    let model = Vggt::builder(demo::weights()?)
        .config(demo::config()?)
        .load()?;
    let predictions = model.forward(&frames.images)?;

    // One row for each pixel of all frames; colors are [S, 3, H, W], so that their channels have to come last.
    let rows = |t: &Tensor| t.reshape(((), 3))?.to_vec2::<f32>();
    let points = rows(&predictions.world_points_from_depth)?;
    let colors = rows(&predictions.images.permute((0, 2, 3, 1))?.contiguous()?)?;
    let confidence: Vec<f32> = predictions.depth_conf.flatten_all()?.to_vec1()?;

    let mut sorted = confidence.clone();
    sorted.sort_by(f32::total_cmp);
    let threshold = sorted[(sorted.len() as f64 * LEFT_OUT) as usize];
    let kept: Vec<usize> = (0..points.len())
        .filter(|i| confidence[*i] >= threshold)
        .collect();

    let mut ply = BufWriter::new(File::create(&path)?);
    writeln!(ply, "ply\nformat ascii 1.0\nelement vertex {}", kept.len())?;
    for axis in ["x", "y", "z"] {
        writeln!(ply, "property float {axis}")?;
    }
    for channel in ["red", "green", "blue"] {
        writeln!(ply, "property uchar {channel}")?;
    }
    writeln!(ply, "end_header")?;
    for i in &kept {
        let [x, y, z] = [0, 1, 2].map(|axis| points[*i][axis]);
        let [r, g, b] = [0, 1, 2].map(|channel| (colors[*i][channel] * 255.0).round() as u8);
        writeln!(ply, "{x} {y} {z} {r} {g} {b}")?;
    }
    ply.flush()?;
    println!("{path}: {} of {} points", kept.len(), points.len());
    Ok(())
}
