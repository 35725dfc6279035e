//! A file of values of one kind, with as many bytes for each frame.

use std::{io, sync::Arc};

use candle_core::{Device, Tensor};

use super::{data::Data, error::SpoolError};

/// Values of one kind, F32 in little endian unless they are pixels, addressed by frame.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    data: Arc<Data>,
    /// Bytes of a frame.
    stride: usize,
}

impl Column {
    /// Wraps data in which every frame has `stride` bytes.
    pub(super) fn new(name: &'static str, data: impl Into<Arc<Data>>, stride: usize) -> Self {
        let data = data.into();
        Self { name, data, stride }
    }

    /// Bytes of a frame.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Writes all bytes of a frame.
    pub(super) fn write(&self, frame: usize, bytes: &[u8]) -> io::Result<()> {
        self.data.write_at(bytes, self.at(frame))
    }

    /// Reads all bytes of a frame.
    pub(super) fn read(&self, frame: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.stride];
        self.data.read_at(&mut bytes, self.at(frame))?;
        Ok(bytes)
    }

    /// Reads the values of a frame.
    pub(super) fn values(&self, frame: usize) -> io::Result<Vec<f32>> {
        let bytes = self.read(frame)?;
        let words = bytes.as_chunks::<4>().0.iter();
        Ok(words.map(|word| f32::from_le_bytes(*word)).collect())
    }

    /// Returns the values of `tensor` as bytes of a frame.
    pub(super) fn bytes(&self, frame: usize, tensor: &Tensor) -> Result<Vec<u8>, SpoolError> {
        let values = tensor.to_device(&Device::Cpu)?.flatten_all()?;
        let values: Vec<f32> = values.to_dtype(candle_core::DType::F32)?.to_vec1()?;
        self.bytes_of(frame, &values)
    }

    /// Returns `values` as bytes of a frame.
    pub(super) fn bytes_of(&self, frame: usize, values: &[f32]) -> Result<Vec<u8>, SpoolError> {
        if values.len() * 4 != self.stride {
            return Err(SpoolError::Size {
                name: self.name,
                frame,
                expected: self.stride / 4,
                found: values.len(),
            });
        }
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn at(&self, frame: usize) -> u64 {
        frame as u64 * self.stride as u64
    }
}
