//! Writes the depth of each bundled image as a gray PNG of 16 bits, near dark and far bright.
//!
//! From the folder of this crate:
//!
//! ```text
//! cargo run --release --features demo,image --example depth_map -- out
//! ```
//!
//! The argument is the folder for the files, the current one by default.

use std::{env, error::Error, fs, ops::ControlFlow, path::PathBuf};

use image::{ImageBuffer, Luma};
use vggt_model::{ForwardOptions, Vggt, demo, progress::Stage};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    fs::create_dir_all(&folder)?;
    let frames = demo::images()?;
    let model = Vggt::builder(demo::weights()?)
        .config(demo::config()?)
        .load()?;

    // Depth needs no point head; the observer is a closure that prints each stage when it is finished.
    let options = ForwardOptions {
        skip_points: true,
        ..ForwardOptions::default()
    };
    let mut observer = |stage: Stage, done: usize, total: usize| {
        if done == total {
            eprintln!("{stage:?}: {total} steps");
        }
        ControlFlow::Continue(())
    };
    let predictions = model.forward_with(&frames.images, &options, &mut observer)?;

    let (_, h, w, _) = predictions.depth.dims4()?;
    for (i, name) in frames.names.iter().enumerate() {
        let depth: Vec<f32> = predictions.depth.get(i)?.flatten_all()?.to_vec1()?;
        let near = depth.iter().copied().fold(f32::INFINITY, f32::min);
        let far = depth.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let gray = depth.iter().map(|depth| {
            let fraction = (depth - near) / (far - near).max(f32::EPSILON);
            (fraction * f32::from(u16::MAX)) as u16
        });
        let map: ImageBuffer<Luma<u16>, Vec<u16>> =
            ImageBuffer::from_vec(w as u32, h as u32, gray.collect())
                .ok_or("the depth map has no pixels")?;
        let path = folder.join(format!("depth_{name}"));
        map.save(&path)?;
        println!("{}: 0 is {near:.3}, 65535 is {far:.3}", path.display());
    }
    Ok(())
}
