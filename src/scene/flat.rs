//! The elements of a tensor, read in place.

use std::ops::Range;

use candle_core::Tensor;

use super::{
    SceneError,
    frames::{Field, PredictedFrames},
};

/// A tensor made contiguous F32 on the CPU, which costs nothing when it already is.
pub(crate) struct Flat {
    name: &'static str,
    tensor: Tensor,
}

/// The elements of a tensor under a read lock, without a copy.
pub(crate) struct Reading<'a> {
    name: &'static str,
    storage: candle_core::StorageRef<'a>,
    range: Range<usize>,
}

impl Flat {
    /// Reads one field of one frame.
    pub(crate) fn read_from(
        frames: &dyn PredictedFrames,
        index: usize,
        field: Field,
    ) -> Result<Self, SceneError> {
        let name = field.name();
        let tensor = frames.read(index, field)?;
        let (height, width) = frames.size();
        let expected = field.shape(height, width);
        if tensor.dims() != expected {
            return Err(SceneError::Shape {
                name,
                expected,
                found: tensor.dims().to_vec(),
            });
        }
        tensor
            .to_device(&candle_core::Device::Cpu)
            .and_then(|t| t.to_dtype(candle_core::DType::F32))
            .and_then(|t| t.contiguous())
            .map(|tensor| Self { name, tensor })
            .map_err(|source| SceneError::Tensor { name, source })
    }

    pub(crate) fn read(&self) -> Reading<'_> {
        let (storage, layout) = self.tensor.storage_and_layout();
        let start = layout.start_offset();
        Reading {
            name: self.name,
            storage,
            range: start..start + layout.shape().elem_count(),
        }
    }
}

impl Reading<'_> {
    pub(crate) fn values(&self) -> Result<&[f32], SceneError> {
        let values = match &*self.storage {
            candle_core::Storage::Cpu(cpu) => cpu.as_slice::<f32>(),
            _ => Err(candle_core::Error::Msg("not on the CPU".to_owned())),
        };
        values
            .map(|values| &values[self.range.clone()])
            .map_err(|source| SceneError::Tensor {
                name: self.name,
                source,
            })
    }
}
