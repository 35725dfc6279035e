//! Writing saved predictions.

use std::{collections::BTreeMap, io::Write};

use safetensors::{Dtype, tensor::TensorInfo};
use serde::Serialize;
use vggt_model::Tracks;

use super::{FRAMES_KEY, HEADER_START, MAX_HEADER, SavedFrames, UNIT_KEY, WORLD_KEY};
use crate::{
    output::{MARK, Sink, Target},
    pipeline::{PipelineError, write::to_target},
    scene::{Field, Flat, PredictedFrames},
};

/// The header of the file, in the form that [`safetensors`] writes; the metadata is sorted, so that the same predictions give the
/// same bytes.
#[derive(Serialize)]
struct Header<'a> {
    __metadata__: BTreeMap<&'a str, &'a str>,
    /// By name, which is also their order in the file: all are F32.
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// A tensor of the file.
enum Source<'a> {
    /// One part for each frame.
    Frames(Field),
    /// A tensor that has no part of its own for each frame.
    Whole(&'a candle_core::Tensor),
}

/// Writes predictions and their metadata, reading one frame at a time; the file appears whole or not at all.
///
/// # Errors
/// When a frame cannot be read or the file cannot be written.
pub fn save_predictions(
    target: &Target,
    frames: &dyn PredictedFrames,
    tracks: Option<&Tracks>,
    saved: &SavedFrames,
) -> Result<(), PipelineError> {
    let tensors = tensors(frames, tracks);
    let header = header(frames, &tensors, saved).map_err(|why| PipelineError::Predictions {
        path: target.path().to_owned(),
        why,
    })?;
    to_target(target, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for source in tensors.values() {
            write_tensor(source, frames, out)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns the tensors by name.
fn tensors<'a>(
    frames: &dyn PredictedFrames,
    tracks: Option<&'a Tracks>,
) -> BTreeMap<&'static str, Source<'a>> {
    let fields = Field::ALL.into_iter().filter(|field| frames.has(*field));
    let mut tensors: BTreeMap<_, _> = fields
        .map(|field| (field.name(), Source::Frames(field)))
        .collect();
    if let Some(tracks) = tracks {
        tensors.extend([
            ("query_points", Source::Whole(&tracks.query_points)),
            ("track", Source::Whole(&tracks.track)),
            ("vis", Source::Whole(&tracks.vis)),
            ("conf", Source::Whole(&tracks.conf)),
        ]);
    }
    tensors
}

/// Returns the header, padded to a multiple of 8 bytes as the format recommends.
fn header(
    frames: &dyn PredictedFrames,
    tensors: &BTreeMap<&'static str, Source<'_>>,
    saved: &SavedFrames,
) -> Result<Vec<u8>, String> {
    let (height, width) = frames.size();
    let mut end = 0_usize;
    let mut info = |source: &Source<'_>| -> Option<TensorInfo> {
        let shape = match source {
            Source::Frames(field) => {
                let mut shape = vec![frames.count()];
                shape.extend(field.shape(height, width));
                shape
            }
            Source::Whole(tensor) => tensor.dims().to_vec(),
        };
        let bytes = shape.iter().try_fold(4_usize, |n, d| n.checked_mul(*d))?;
        let start = end;
        end = start.checked_add(bytes)?;
        Some(TensorInfo {
            dtype: Dtype::F32,
            shape,
            data_offsets: (start, end),
        })
    };
    let infos = tensors
        .iter()
        .map(|(name, source)| Some((*name, info(source)?)));
    let infos = infos.collect::<Option<_>>().ok_or("too many values")?;
    let json = serde_json::to_string(saved).map_err(|e| e.to_string())?;
    let world = serde_json::to_string(&frames.world()).map_err(|e| e.to_string())?;
    let mut metadata = BTreeMap::from([
        (FRAMES_KEY, json.as_str()),
        ("vggt.generator", MARK),
        ("vggt.axes", frames.world().axes()),
        (UNIT_KEY, frames.unit().name()),
    ]);
    if !frames.world().is_network() {
        metadata.insert(WORLD_KEY, world.as_str());
    }
    let header = Header {
        __metadata__: metadata,
        tensors: infos,
    };
    let mut bytes = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    bytes.resize(bytes.len().next_multiple_of(HEADER_START as usize), b' ');
    match bytes.len() as u64 > MAX_HEADER {
        true => Err("header too large".to_owned()),
        false => Ok(bytes),
    }
}

fn write_tensor(
    source: &Source<'_>,
    frames: &dyn PredictedFrames,
    out: &mut Sink,
) -> Result<(), PipelineError> {
    match source {
        Source::Frames(field) => {
            for index in 0..frames.count() {
                let values = Flat::read_from(frames, index, *field)?;
                write_values(values.read().values()?, out)?;
            }
        }
        Source::Whole(tensor) => {
            let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?;
            write_values(&values.to_vec1::<f32>()?, out)?;
        }
    }
    Ok(())
}

fn write_values(values: &[f32], out: &mut Sink) -> std::io::Result<()> {
    /// Values encoded between two writes.
    const CHUNK: usize = 16 << 10;
    let mut bytes = Vec::with_capacity(4 * CHUNK);
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}
