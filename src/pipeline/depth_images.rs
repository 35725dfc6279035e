//! Depth maps as images: 16-bit gray values to measure with, and colors to look at.

use std::path::Path;

use candle_core::Device;
use image::{
    ExtendedColorType, ImageBuffer, ImageEncoder, Luma, Rgb, RgbImage, codecs::png::PngEncoder,
};

use super::PipelineError;
use crate::{
    atomic_file::AtomicFile,
    scene::{Field, PredictedFrames},
};

/// Writes `<name>_depth.png` (16-bit gray) and `<name>_depth_color.png` for each frame into `dir`, and `depth.json`, which
/// holds the scale of the gray values: `depth = value * units_per_value`, the same for all frames; 0 means no depth.
/// Returns the number of files.
///
/// Colors run through Google's Turbo palette from near (red) to far (blue), by inverse depth between the scene's 2nd and
/// 98th percentile.
///
/// # Errors
/// When a depth map cannot be read, or the folder or a file cannot be written.
pub fn save_depth(
    dir: &Path,
    frames: &dyn PredictedFrames,
    names: &[String],
) -> Result<usize, PipelineError> {
    std::fs::create_dir_all(dir)?;
    let (h, w) = frames.size();
    let usable = |d: &f32| d.is_finite() && *d > 0.0;
    let mut sorted: Vec<f32> = Vec::with_capacity(frames.count() * h * w);
    for i in 0..frames.count() {
        sorted.extend(depth(frames, i)?.into_iter().filter(usable));
    }
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| match sorted.len() {
        0 => 1.0,
        n => sorted[((n - 1) as f64 * share) as usize],
    };
    let units_per_value = at(1.0) / f32::from(u16::MAX);
    let (near, far) = (1.0 / at(0.02), 1.0 / at(0.98));
    let range = (near - far).max(f32::MIN_POSITIVE);

    let mut files = Vec::with_capacity(frames.count());
    for i in 0..frames.count() {
        let depth = depth(frames, i)?;
        let gray = |d: f32| {
            if usable(&d) {
                (d / units_per_value).round() as u16
            } else {
                0
            }
        };
        let color = |d: f32| {
            if !usable(&d) {
                return Rgb([0, 0, 0]);
            }
            let share = ((1.0 / d - far) / range).clamp(0.0, 1.0);
            Rgb(colorous::TURBO
                .eval_continuous(f64::from(share))
                .into_array())
        };
        let at = |x: u32, y: u32| depth[y as usize * w + x as usize];
        let gray: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_fn(w as u32, h as u32, |x, y| Luma([gray(at(x, y))]));
        let color = RgbImage::from_fn(w as u32, h as u32, |x, y| color(at(x, y)));

        let stem = stem(names, i);
        let gray_name = format!("{stem}_depth.png");
        // The encoder takes 16-bit values in native byte order.
        let values: Vec<u8> = gray.iter().flat_map(|v| v.to_ne_bytes()).collect();
        write_png(
            &dir.join(&gray_name),
            &values,
            (w, h),
            ExtendedColorType::L16,
        )?;
        let color_path = dir.join(format!("{stem}_depth_color.png"));
        write_png(&color_path, &color, (w, h), ExtendedColorType::Rgb8)?;
        files.push(gray_name);
    }
    let about = serde_json::json!({
        "units_per_value": units_per_value,
        "unit": "arbitrary",
        "files": files,
    });
    AtomicFile::write(dir.join("depth.json"), format!("{about:#}\n").as_bytes())?;
    Ok(2 * frames.count() + 1)
}

/// Returns the depth of frame `index` in raster order.
fn depth(frames: &dyn PredictedFrames, index: usize) -> Result<Vec<f32>, PipelineError> {
    let depth = frames.read(index, Field::Depth)?;
    Ok(depth
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1::<f32>()?)
}

/// Returns the name of a frame without its extension, prefixed with its index where two frames share it.
fn stem(names: &[String], i: usize) -> String {
    let stem_of = |name: &String| -> String {
        let stem = Path::new(name).file_stem();
        stem.map(|s| s.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let stems: Vec<String> = names.iter().map(stem_of).collect();
    match stems.get(i) {
        Some(stem) if stems.iter().filter(|s| *s == stem).count() == 1 => stem.clone(),
        Some(stem) => format!("{i:04}_{stem}"),
        None => format!("{i:04}"),
    }
}

fn write_png(
    path: &Path,
    bytes: &[u8],
    (w, h): (usize, usize),
    color: ExtendedColorType,
) -> Result<(), PipelineError> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(bytes, w as u32, h as u32, color)
        .map_err(|source| PipelineError::DepthImage {
            path: path.to_owned(),
            source,
        })?;
    Ok(AtomicFile::write(path, &png)?)
}
