//! Reading saved predictions.

use std::{borrow::Cow, collections::HashMap, fs::File, io, path::Path};

use candle_core::{Device, Tensor, safetensors::Load};
use safetensors::{
    SafeTensorError,
    tensor::{Metadata, TensorInfo, TensorView},
};
use serde::Deserialize;

use super::{FRAMES_KEY, HEADER_START, MAX_HEADER, MAX_METADATA, SavedFrames, UNIT_KEY, WORLD_KEY};
use crate::{
    frames::{Placement, open_regular},
    pipeline::PipelineError,
    scene::{Field, PhotoArea, PredictedFrames, SceneError, Unit, World},
    system,
};

/// Predictions in a file, read one frame at a time.
#[derive(Debug)]
pub struct SavedPredictions {
    file: File,
    /// Where the tensors begin, in bytes from the start of the file.
    data_start: u64,
    tensors: HashMap<Field, TensorInfo>,
    placements: Vec<Placement>,
    frames: usize,
    height: usize,
    width: usize,
    unit: Unit,
    world: World,
}

/// Opens predictions of this program, or of another with the same names and shapes. Reads no tensor yet.
///
/// # Errors
/// When the file is not a safetensors file or a tensor is missing; the message names it.
pub fn load_predictions(path: &Path) -> Result<(SavedPredictions, SavedFrames), PipelineError> {
    let failed = |why: String| PipelineError::Predictions {
        path: path.to_owned(),
        why,
    };
    let file = open_regular(path).map_err(|e| failed(e.to_string()))?;
    let (data_start, header) = read_header(&file).map_err(|e| match e {
        SafeTensorError::IoError(e) => failed(e.to_string()),
        e => failed(format!("not a safetensors file: {e}")),
    })?;
    let saved = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get(FRAMES_KEY))
        .filter(|json| json.len() <= MAX_METADATA);
    let saved: Option<SavedFrames> = saved
        .map(|json| serde_json::from_str(json))
        .transpose()
        .map_err(|e| failed(format!("bad {FRAMES_KEY} in its metadata: {e}")))?;
    for field in NEEDED {
        if header.info(field.name()).is_none() {
            return Err(failed(format!("it has no tensor \"{}\"", field.name())));
        }
    }
    let tensors = Field::ALL.into_iter().filter_map(|field| {
        let info = header.info(field.name())?;
        Some((field, info.clone()))
    });
    let tensors: HashMap<Field, TensorInfo> = tensors.collect();
    let (frames, height, width) = size(&tensors[&Field::Image].shape)?;
    let saved = match saved {
        Some(saved) if saved.names.len() == frames => saved,
        Some(saved) => {
            return Err(failed(format!(
                "it names {} frames and holds {frames}",
                saved.names.len()
            )));
        }
        None => SavedFrames {
            seconds: Vec::new(),
            names: (0..frames).map(|i| format!("frame_{i:06}.png")).collect(),
            placements: Vec::new(),
            available: None,
            weights: "unknown".to_owned(),
            weights_sha256: None,
        },
    };
    let unit = header.metadata().as_ref().and_then(|m| m.get(UNIT_KEY));
    let unit = match unit.is_some_and(|unit| unit == Unit::Meters.name()) {
        true => Unit::Meters,
        false => Unit::Arbitrary,
    };
    let predictions = SavedPredictions {
        file,
        data_start,
        tensors,
        placements: saved.placements.clone(),
        frames,
        height,
        width,
        unit,
        world: world(&header).map_err(failed)?,
    };
    Ok((predictions, saved))
}

/// Returns the world that the file tells; the network's where it tells none.
fn world(header: &Metadata) -> Result<World, String> {
    let told = header.metadata().as_ref().and_then(|m| m.get(WORLD_KEY));
    let told = told.map(|json| serde_json::from_str(json)).transpose();
    told.map(Option::unwrap_or_default)
        .map_err(|e| format!("bad {WORLD_KEY} in its metadata: {e}"))
}

/// What every file of predictions has. Others' have no [`Field::PoseEnc`], which no export needs, and the point head may not have
/// run.
const NEEDED: [Field; 6] = [
    Field::Image,
    Field::Extrinsic,
    Field::Intrinsic,
    Field::Depth,
    Field::DepthConf,
    Field::WorldPointsFromDepth,
];

/// Returns number, height and width of the frames, all at least 1.
fn size(images: &[usize]) -> Result<(usize, usize, usize), SceneError> {
    match *images {
        [s, _, h, w] if s > 0 && h > 0 && w > 0 => Ok((s, h, w)),
        _ => Err(SceneError::Shape {
            name: Field::Image.name(),
            expected: vec![1, 3, 1, 1],
            found: images.to_vec(),
        }),
    }
}

/// The header as it stands in the file.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

/// Reads the header and checks that the tensors fill the rest of the file without gaps; returns where they begin.
///
/// As `SafeTensors::read_metadata`, which wants the whole file in memory.
fn read_header(file: &File) -> Result<(u64, Metadata), SafeTensorError> {
    let file_len = file.metadata()?.len();
    if file_len < HEADER_START {
        return Err(SafeTensorError::HeaderTooSmall);
    }
    let mut length = [0; HEADER_START as usize];
    system::read_exact_at(file, &mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(SafeTensorError::HeaderTooLarge);
    }
    let data_start = HEADER_START + length;
    if data_start > file_len {
        return Err(SafeTensorError::InvalidHeaderLength);
    }
    let mut json = vec![0; length as usize];
    system::read_exact_at(file, &mut json, HEADER_START)?;
    let json = std::str::from_utf8(&json).map_err(SafeTensorError::InvalidHeader)?;
    let header: Header =
        serde_json::from_str(json).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let mut tensors: Vec<_> = header.tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    // Checks offsets, and shapes against them.
    let header = Metadata::new(header.metadata, tensors)?;
    match data_start.checked_add(header.data_len() as u64) == Some(file_len) {
        true => Ok((data_start, header)),
        false => Err(SafeTensorError::MetadataIncompleteBuffer),
    }
}

impl SavedPredictions {
    /// Reads the bytes of one frame of a tensor, which has a part of the same size for each frame.
    fn bytes(&self, info: &TensorInfo, index: usize) -> io::Result<Vec<u8>> {
        // The header was checked: the tensor lies in the file, and its size is that of its shape.
        let (start, end) = info.data_offsets;
        let length = (end - start) / self.frames;
        let mut bytes = vec![0; length];
        let offset = self.data_start + (start + index * length) as u64;
        system::read_exact_at(&self.file, &mut bytes, offset)?;
        Ok(bytes)
    }
}

impl PredictedFrames for SavedPredictions {
    fn count(&self) -> usize {
        self.frames
    }

    fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    fn has(&self, field: Field) -> bool {
        self.tensors.contains_key(&field)
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let name = field.name();
        let shape = field.shape(self.height, self.width);
        let expected = [&[self.frames], &shape[..]].concat();
        let info = match self.tensors.get(&field) {
            Some(info) if info.shape == expected && index < self.frames => info,
            found => {
                return Err(SceneError::Shape {
                    name,
                    expected,
                    found: found.map_or_else(Vec::new, |info| info.shape.clone()),
                });
            }
        };
        let bytes = self.bytes(info, index).map_err(|source| SceneError::Read {
            name,
            frame: index,
            source,
        })?;
        TensorView::new(info.dtype, shape, &bytes)
            .map_err(candle_core::Error::from)
            .and_then(|view| view.load(&Device::Cpu))
            .map_err(|source| SceneError::Tensor { name, source })
    }

    fn keep(&self, _: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        Ok(None)
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        match self.placements.get(index) {
            Some(placement) => PhotoArea::new(placement, self.height, self.width),
            None => PhotoArea::whole(self.height, self.width),
        }
    }

    fn unit(&self) -> Unit {
        self.unit
    }

    fn world(&self) -> World {
        self.world
    }
}
