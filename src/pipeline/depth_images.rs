//! Depth maps as images: 16-bit gray values to measure with, and colors to look at.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use image::RgbImage;
use png::{BitDepth, ColorType};
use serde_json::{Value, json};

use super::PipelineError;
use crate::{
    frames::Placement,
    output::{MARK, OutputRules},
    scene::{
        Field, Flat, PredictedFrames, SceneError,
        ranks::{Ranked, at_ranks},
    },
};

/// Scale and files of the depth maps.
const INDEX: &str = "depth.json";

/// Names of the files that [`save_depth`] writes for frames of these names.
pub fn depth_files(names: &[String]) -> Vec<String> {
    let stems = stems(names, names.len());
    let both = |stem: &String| [gray_name(stem), color_name(stem)];
    let mut files: Vec<String> = stems.iter().flat_map(both).collect();
    files.push(INDEX.to_owned());
    files
}

/// Writes `<name>_depth.png` (16-bit gray) and `<name>_depth_color.png` for each frame into `dir`, and `depth.json`: the scale
/// of the gray values, `depth = value * units_per_value`, the same for all frames (0 means no depth, and is everywhere outside
/// of the photo), and where each map lies in its photo. Returns the number of files.
///
/// Colors run through Google's Turbo palette from near (red) to far (blue), by inverse depth between the scene's 2nd and
/// 98th percentile.
///
/// # Errors
/// When a depth map cannot be read, or a file cannot be written or is not ours.
pub fn save_depth(
    dir: &Path,
    rules: &OutputRules,
    frames: &dyn PredictedFrames,
    names: &[String],
    placements: &[Placement],
) -> Result<usize, PipelineError> {
    let range = Range::of(frames, 0..frames.count())?;
    let mut files = Vec::with_capacity(frames.count());
    let mut maps = Vec::with_capacity(frames.count());
    let (h, w) = frames.size();
    let stems = stems(names, frames.count());
    for (i, stem) in stems.iter().enumerate() {
        let depth = depth(frames, i)?;
        // PNG is big-endian.
        let gray: Vec<u8> = depth
            .iter()
            .flat_map(|d| range.gray(*d).to_be_bytes())
            .collect();
        let color: Vec<u8> = depth.iter().flat_map(|d| range.color(*d)).collect();
        let of_gray = (
            gray_name(stem),
            ColorType::Grayscale,
            BitDepth::Sixteen,
            gray,
        );
        let of_color = (color_name(stem), ColorType::Rgb, BitDepth::Eight, color);
        for (name, color, depth, bytes) in [of_gray, of_color] {
            let path = dir.join(name);
            let png = encode(&bytes, (w, h), color, depth).map_err(|source| {
                PipelineError::DepthImage {
                    path: path.clone(),
                    source,
                }
            })?;
            rules.file(&path)?.write(&png)?;
        }
        maps.push(map(stem, names.get(i), placements.get(i)));
        files.push(gray_name(stem));
    }
    let index = json!({
        "generator": MARK,
        "units_per_value": range.units_per_value,
        "unit": frames.unit(),
        "width": w,
        "height": h,
        "files": files,
        "maps": maps,
    });
    let text = format!("{index:#}\n");
    rules.file(&dir.join(INDEX))?.write(text.as_bytes())?;
    Ok(2 * frames.count() + 1)
}

/// The depth of one frame as images of the photo alone, without padding.
pub struct DepthStill {
    /// 16-bit gray PNG; `depth = value * units_per_value`, 0 means no depth.
    pub gray: Vec<u8>,
    /// Scene units for each gray value.
    pub units_per_value: f32,
    /// PNG in the colors of [`save_depth`], between the frame's own percentiles.
    pub color: Vec<u8>,
}

/// Returns the depth of frame `index` as images.
///
/// # Errors
/// When the depth cannot be read or encoded.
pub fn depth_still(
    frames: &dyn PredictedFrames,
    index: usize,
) -> Result<DepthStill, PipelineError> {
    let PhotoDepth { range, depth, size } = PhotoDepth::of(frames, index)?;
    // PNG is big-endian.
    let gray = depth.iter().flat_map(|d| range.gray(*d).to_be_bytes());
    let gray: Vec<u8> = gray.collect();
    let color: Vec<u8> = depth.iter().flat_map(|d| range.color(*d)).collect();
    let failed = |source| PipelineError::DepthImage {
        path: gray_name(&index.to_string()).into(),
        source,
    };
    Ok(DepthStill {
        gray: encode(&gray, size, ColorType::Grayscale, BitDepth::Sixteen).map_err(failed)?,
        units_per_value: range.units_per_value,
        color: encode(&color, size, ColorType::Rgb, BitDepth::Eight).map_err(failed)?,
    })
}

/// Returns the depth of frame `index` in the colors of [`depth_still`], its photo alone.
///
/// # Errors
/// When the depth cannot be read.
pub(super) fn depth_colors(
    frames: &dyn PredictedFrames,
    index: usize,
) -> Result<RgbImage, PipelineError> {
    let PhotoDepth { range, depth, size } = PhotoDepth::of(frames, index)?;
    let color = depth.iter().flat_map(|d| range.color(*d)).collect();
    let (width, height) = (size.0 as u32, size.1 as u32);
    // Three bytes for each pixel.
    Ok(RgbImage::from_raw(width, height, color).unwrap_or_default())
}

/// The depth of one frame where its photo is, without padding.
struct PhotoDepth {
    /// Of this frame alone.
    range: Range,
    depth: Vec<f32>,
    /// Width and height.
    size: (usize, usize),
}

impl PhotoDepth {
    fn of(frames: &dyn PredictedFrames, index: usize) -> Result<Self, PipelineError> {
        let range = Range::of(frames, index..index + 1)?;
        let depth = depth(frames, index)?;
        let (photo, (_, width)) = (frames.photo_area(index), frames.size());
        let (rows, columns) = (photo.rows(), photo.columns());
        let size = (columns.len(), rows.len());
        let shown = rows.flat_map(|row| &depth[row * width..][columns.clone()]);
        Ok(Self {
            range,
            depth: shown.copied().collect(),
            size,
        })
    }
}

/// Returns the entry of one map: `map_x = photo_x * scale_x + offset_x`, and the same for y, where pixel i covers [i, i + 1).
fn map(stem: &str, name: Option<&String>, placement: Option<&Placement>) -> Value {
    json!({
        "file": gray_name(stem),
        "color": color_name(stem),
        "image": name,
        "placement": placement,
    })
}

/// Where among all depths, from near to far, those lie that the colors run from and to, and the largest.
const SHARES: [f64; 3] = [0.02, 0.98, 1.0];

/// The values of all depth maps, and how they become gray and colors.
struct Range {
    units_per_value: f32,
    /// Inverse depths.
    near: f32,
    far: f32,
}

impl Range {
    fn of(frames: &dyn PredictedFrames, of: std::ops::Range<usize>) -> Result<Self, PipelineError> {
        let (h, w) = frames.size();
        let most = of.len().saturating_mul(h.saturating_mul(w));
        let ranks = |n: usize| {
            SHARES
                .map(|share| ((n - 1) as f64 * share) as usize)
                .to_vec()
        };
        let found = at_ranks(ranks, most, &mut |each| {
            let mut rows = Vec::new();
            for i in of.clone() {
                rows.clear();
                let depth = depth(frames, i)?;
                rows.extend(depth.into_iter().filter(|d| is_depth(*d)).map(|d| [d]));
                each(&rows);
            }
            Ok(())
        })?;
        let [near, far, most] = match &found {
            Some(Ranked {
                columns: [values], ..
            }) => std::array::from_fn(|i| values[i]),
            None => [1.0; 3],
        };
        Ok(Self {
            units_per_value: most / f32::from(u16::MAX),
            near: 1.0 / near,
            far: 1.0 / far,
        })
    }

    fn gray(&self, depth: f32) -> u16 {
        match is_depth(depth) {
            true => (depth / self.units_per_value).round() as u16,
            false => 0,
        }
    }

    fn color(&self, depth: f32) -> [u8; 3] {
        if !is_depth(depth) {
            return [0; 3];
        }
        let range = (self.near - self.far).max(f32::MIN_POSITIVE);
        let share = ((1.0 / depth - self.far) / range).clamp(0.0, 1.0);
        colorous::TURBO
            .eval_continuous(f64::from(share))
            .into_array()
    }
}

fn is_depth(depth: f32) -> bool {
    depth.is_finite() && depth > 0.0
}

/// Returns the depth of frame `index` in raster order, 0 outside of the photo.
fn depth(frames: &dyn PredictedFrames, index: usize) -> Result<Vec<f32>, SceneError> {
    let depth = Flat::read_from(frames, index, Field::Depth)?;
    let mut depth = depth.read().values()?.to_vec();
    let (photo, (_, width)) = (frames.photo_area(index), frames.size());
    for (i, depth) in depth.iter_mut().enumerate() {
        if !photo.contains(i / width, i % width) {
            *depth = 0.0;
        }
    }
    Ok(depth)
}

fn gray_name(stem: &str) -> String {
    format!("{stem}_depth.png")
}

fn color_name(stem: &str) -> String {
    format!("{stem}_depth_color.png")
}

/// Returns the names of `count` frames without their extensions, folders joined by `_`, with its index before a name that two
/// frames share.
fn stems(names: &[String], count: usize) -> Vec<String> {
    let stem_of = |name: &String| {
        let stem = Path::new(name).with_extension("");
        stem.to_string_lossy().replace('/', "_")
    };
    let stems: Vec<String> = names.iter().map(stem_of).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for stem in &stems {
        *uses.entry(stem).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let mut unique = |i: usize| {
        let plain = stems
            .get(i)
            .filter(|stem| uses[stem.as_str()] == 1)
            .cloned();
        let numbered = match stems.get(i) {
            Some(stem) => format!("{i:04}_{stem}"),
            None => format!("{i:04}"),
        };
        // A number in front may make the name of another frame.
        let mut name = plain.unwrap_or_else(|| numbered.clone());
        while !taken.insert(name.clone()) {
            name = format!("{i:04}_{name}");
        }
        name
    };
    (0..count).map(&mut unique).collect()
}

/// Encodes a PNG that carries the mark.
fn encode(
    bytes: &[u8],
    (w, h): (usize, usize),
    color: ColorType,
    depth: BitDepth,
) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, w as u32, h as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.add_text_chunk("Software".to_owned(), MARK.to_owned())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(bytes)?;
    writer.finish()?;
    Ok(out)
}
