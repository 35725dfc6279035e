//! What the aggregator hands to the heads.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// What the heads read: the tokens after some of the aggregator's layers.
#[derive(Debug)]
pub struct AggregatedTokens {
    layers: BTreeMap<usize, Tensor>,
    /// Where the patches begin among a frame's tokens.
    pub patch_start_idx: usize,
}

impl AggregatedTokens {
    /// Tokens that were computed elsewhere, by layer. Each [S, P, 2 C].
    pub fn from_layers(
        layers: impl IntoIterator<Item = (usize, Tensor)>,
        patch_start_idx: usize,
    ) -> Self {
        Self {
            layers: layers.into_iter().collect(),
            patch_start_idx,
        }
    }

    /// Output of frame block `layer` and global block `layer` side by side. [S, P, 2 C], F32
    ///
    /// # Errors
    /// [`Error::Input`] when that layer was not kept.
    pub fn layer(&self, layer: usize) -> Result<&Tensor> {
        self.layers
            .get(&layer)
            .ok_or_else(|| Error::Input(format!("layer {layer} of the aggregator was not kept")))
    }

    /// The last layer. [S, P, 2 C]
    ///
    /// # Errors
    /// [`Error::Input`] when there is none.
    pub fn last(&self) -> Result<&Tensor> {
        let last = self.layers.values().next_back();
        last.ok_or_else(|| Error::Input("the aggregator kept no layer".to_owned()))
    }
}

/// The tokens of many frames, kept until the heads read them one frame at a time: in memory, or in a file where memory is short.
#[derive(Debug)]
pub struct KeptTokens {
    layers: BTreeMap<usize, Stored>,
    /// Where layers are written; `None` keeps them in memory.
    file: Option<File>,
    /// Bytes of the file in use.
    end: u64,
    frames: usize,
    patch_start_idx: usize,
    device: Device,
}

/// Tokens of one layer. [S, P, 2 C], F32
#[derive(Debug)]
enum Stored {
    Memory(Vec<Tensor>),
    File { offset: u64, shape: (usize, usize) },
}

impl KeptTokens {
    /// Of `frames` frames on `device`. `file` is empty and of this program alone; it grows to 4 bytes for each element.
    pub(super) fn new(
        (frames, patch_start_idx): (usize, usize),
        device: &Device,
        file: Option<File>,
    ) -> Self {
        Self {
            layers: BTreeMap::new(),
            file,
            end: 0,
            frames,
            patch_start_idx,
            device: device.clone(),
        }
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Keeps a layer: the output of its frame block and of its global block, both [S, P, C].
    pub(super) fn put(&mut self, layer: usize, of_frame: &Tensor, global: &Tensor) -> Result<()> {
        let (_, p, c) = of_frame.dims3()?;
        let frames = (0..self.frames).map(|frame| side_by_side(of_frame, global, frame));
        let stored = match &mut self.file {
            None => Stored::Memory(frames.collect::<Result<_>>()?),
            Some(file) => {
                let offset = self.end;
                for frame in frames {
                    let values: Vec<f32> = frame?.flatten_all()?.to_vec1()?;
                    let bytes: &[u8] = bytemuck::cast_slice(&values);
                    file.write_all(bytes).map_err(scratch_failed)?;
                    self.end += bytes.len() as u64;
                }
                Stored::File {
                    offset,
                    shape: (p, 2 * c),
                }
            }
        };
        self.layers.insert(layer, stored);
        Ok(())
    }

    /// Returns the tokens of one frame.
    ///
    /// # Errors
    /// When there is no such frame, or the file cannot be read.
    pub fn frame(&mut self, frame: usize) -> Result<AggregatedTokens> {
        if frame >= self.frames {
            return Err(Error::Input(format!(
                "frame {frame} of {} was not kept",
                self.frames
            )));
        }
        let mut layers = BTreeMap::new();
        for (layer, stored) in &self.layers {
            let tokens = match (stored, &mut self.file) {
                (Stored::Memory(frames), _) => frames[frame].clone(),
                (Stored::File { offset, shape }, Some(file)) => {
                    let mut values = vec![0f32; shape.0 * shape.1];
                    let bytes = size_of_val(&values[..]) as u64;
                    let start = SeekFrom::Start(offset + frame as u64 * bytes);
                    file.seek(start).map_err(scratch_failed)?;
                    let bytes = bytemuck::cast_slice_mut(&mut values);
                    file.read_exact(bytes).map_err(scratch_failed)?;
                    Tensor::from_vec(values, (1, shape.0, shape.1), &Device::Cpu)?
                        .to_device(&self.device)?
                }
                (Stored::File { .. }, None) => continue,
            };
            layers.insert(*layer, tokens);
        }
        Ok(AggregatedTokens {
            layers,
            patch_start_idx: self.patch_start_idx,
        })
    }
}

fn scratch_failed(e: io::Error) -> Error {
    Error::Scratch(e)
}

/// One frame of both blocks' outputs [S, P, C], side by side. [1, P, 2 C], F32
fn side_by_side(of_frame: &Tensor, global: &Tensor, frame: usize) -> Result<Tensor> {
    let of = |t: &Tensor| t.narrow(0, frame, 1);
    let both = Tensor::cat(&[of(of_frame)?, of(global)?], candle_core::D::Minus1)?;
    Ok(both.to_dtype(DType::F32)?)
}
