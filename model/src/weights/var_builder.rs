//! Names the network's parameters the way the checkpoint does: `vb.pp("frame_blocks").pp(3).get(c, "norm1.weight")`.
//!
//! candle's own builder hands out tensors only; this one can also hand out a matrix where it lies in the mapped file.

use std::{
    borrow::Cow,
    fmt::Display,
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};

use super::{Mismatch, Weights, WeightsError};
use crate::precision::Precision;

type Result<T, E = WeightsError> = std::result::Result<T, E>;

/// A place in the tree of parameters, with the type and device they are wanted in.
#[derive(Clone)]
pub struct VarBuilder {
    source: Arc<dyn Source>,
    path: String,
    dtype: DType,
    device: Device,
    precision: Precision,
}

/// Where parameters come from.
trait Source: Send + Sync {
    fn get(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;

    /// Checks that a parameter is there without loading it.
    fn expect(&self, name: &str, shape: &Shape) -> Result<()>;

    /// The matrix where it lies, when it lies in memory in a form the CPU can read.
    fn mapped(&self, _name: &str, _shape: &Shape) -> Option<MappedMatrix> {
        None
    }

    /// The file, when it is one.
    fn weights(&self) -> Option<&Weights> {
        None
    }
}

impl VarBuilder {
    /// Parameters of a weights file.
    pub fn from_weights(weights: Weights, dtype: DType, device: &Device) -> Self {
        Self::new(weights, dtype, device)
    }

    /// Random parameters of the right shapes, the same for the same seed: for benchmarks.
    pub fn random(seed: u64, dtype: DType, device: &Device) -> Self {
        Self::new(Random { seed }, dtype, device)
    }

    fn new(source: impl Source + 'static, dtype: DType, device: &Device) -> Self {
        Self {
            source: Arc::new(source),
            path: String::new(),
            dtype,
            device: device.clone(),
            precision: Precision::Exact,
        }
    }

    /// One step down the tree.
    pub fn pp(&self, name: impl Display) -> Self {
        Self {
            path: self.full(name),
            ..self.clone()
        }
    }

    /// The same place, with parameters in another type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self {
            dtype,
            ..self.clone()
        }
    }

    /// The same place, with layers that multiply in another way.
    pub fn with_precision(&self, precision: Precision) -> Self {
        Self {
            precision,
            ..self.clone()
        }
    }

    /// How layers multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The type parameters come in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device parameters come to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Loads one parameter.
    ///
    /// # Errors
    /// When it is missing, has another shape or does not fit into memory.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.source
            .get(&self.full(name), &shape.into(), self.dtype, &self.device)
    }

    /// Checks that a parameter is there which the network does not use, such as a token of the training.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn expect(&self, shape: impl Into<Shape>, name: &str) -> Result<()> {
        self.source.expect(&self.full(name), &shape.into())
    }

    /// A matrix where it lies in the mapped file, if the CPU can read it there; `None` means: use [`Self::get`].
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn mapped_matrix(&self, shape: (usize, usize), name: &str) -> Result<Option<MappedMatrix>> {
        if !self.device.is_cpu() || self.dtype != DType::F32 {
            return Ok(None);
        }
        let (name, shape) = (self.full(name), Shape::from(shape));
        let mapped = self.source.mapped(&name, &shape);
        if mapped.is_some() {
            self.source.expect(&name, &shape)?;
        }
        Ok(mapped)
    }

    /// The weights file that the parameters come from, if they do.
    pub(crate) fn weights(&self) -> Option<&Weights> {
        self.source.weights()
    }

    fn full(&self, name: impl Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// The names and shapes that `build` asks a builder for, in its order; nothing is allocated.
///
/// # Errors
/// Whatever `build` returns.
pub fn record_keys<T, E>(
    build: impl FnOnce(&VarBuilder) -> Result<T, E>,
) -> Result<Vec<(String, Vec<usize>)>, E> {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder(Arc::clone(&keys));
    build(&VarBuilder::new(recorder, DType::F32, &Device::Cpu))?;
    let mut keys = keys.lock().unwrap_or_else(|e| e.into_inner());
    Ok(std::mem::take(&mut *keys))
}

impl Source for Weights {
    fn get(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Source::expect(self, name, shape)?;
        self.tensor(name, dtype, device)
    }

    fn expect(&self, name: &str, shape: &Shape) -> Result<()> {
        self.check_one(name, shape.dims())
    }

    fn mapped(&self, name: &str, shape: &Shape) -> Option<MappedMatrix> {
        let (rows, columns) = shape.dims2().ok()?;
        let matrix = MappedMatrix {
            weights: self.clone(),
            name: name.to_owned(),
            first_row: 0,
            rows,
            columns,
        };
        matrix.try_slice().is_some().then_some(matrix)
    }

    fn weights(&self) -> Option<&Weights> {
        Some(self)
    }
}

/// Name and shape of a parameter.
type Key = (String, Vec<usize>);

struct Recorder(Arc<Mutex<Vec<Key>>>);

impl Source for Recorder {
    fn get(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.expect(name, shape)?;
        // One number, shown at every place: the shape without the memory.
        Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
    }

    fn expect(&self, name: &str, shape: &Shape) -> Result<()> {
        let mut keys = self.0.lock().unwrap_or_else(|e| e.into_inner());
        keys.push((name.to_owned(), shape.dims().to_vec()));
        Ok(())
    }
}

struct Random {
    seed: u64,
}

impl Source for Random {
    fn get(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        // FNV-1a, so that a parameter does not depend on the order in which parameters are asked for.
        let mut state = name
            .bytes()
            .fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |h, b| {
                (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
            });
        // Variance-keeping uniform weights, norms near one: activations stay near one through all layers.
        let (centre, spread) = match shape.dims() {
            [_] if name.ends_with("weight") => (1.0, 0.1),
            [_] if name.ends_with("gamma") => (0.1, 0.05),
            [_] => (0.0, 0.02),
            [_, fan_in @ ..] => {
                let fan_in: usize = fan_in.iter().product();
                (0.0, (3.0 / fan_in.max(1) as f32).sqrt())
            }
            [] => (0.0, 1.0),
        };
        let numbers: Vec<f32> = (0..shape.elem_count())
            .map(|_| {
                // PCG's linear congruential step; the upper bits are the good ones.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let unit = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                centre + spread * unit
            })
            .collect();
        Ok(Tensor::from_vec(numbers, shape, device)?.to_dtype(dtype)?)
    }

    fn expect(&self, _: &str, _: &Shape) -> Result<()> {
        Ok(())
    }
}

/// Rows of a matrix of F32, F16 or BF16 inside a mapped weights file.
#[derive(Debug, Clone)]
pub struct MappedMatrix {
    weights: Weights,
    name: String,
    first_row: usize,
    rows: usize,
    columns: usize,
}

impl MappedMatrix {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The numbers, row by row, in the type in which the file has them.
    pub fn as_slice(&self) -> MatrixSlice<'_> {
        // A matrix is only made when this gives it.
        self.try_slice().unwrap_or(MatrixSlice::F32(&[]))
    }

    /// Gives the pages of the file back to the system until they are read again, those of all rows of the file's matrix.
    pub(crate) fn release(&self) {
        if let Some(entry) = self.weights.entry(&self.name) {
            self.weights.release(entry);
        }
    }

    /// `len` rows from `start`.
    ///
    /// # Errors
    /// When the matrix has no such rows.
    pub fn narrow_rows(&self, start: usize, len: usize) -> candle_core::Result<Self> {
        if start.checked_add(len).is_none_or(|end| end > self.rows) {
            candle_core::bail!("rows {start}..+{len} of {}", self.rows)
        }
        Ok(Self {
            first_row: self.first_row + start,
            rows: len,
            ..self.clone()
        })
    }

    fn try_slice(&self) -> Option<MatrixSlice<'_>> {
        if cfg!(target_endian = "big") {
            return None;
        }
        let entry = self.weights.entry(&self.name)?;
        let bytes = self.weights.mapped_bytes(&self.name)?;
        match entry.dtype {
            DType::F32 => self.rows_of(bytes).map(MatrixSlice::F32),
            DType::F16 => self.rows_of(bytes).map(MatrixSlice::F16),
            DType::BF16 => self.rows_of(bytes).map(MatrixSlice::BF16),
            _ => None,
        }
    }

    fn rows_of<'a, T: bytemuck::AnyBitPattern>(&self, bytes: &'a [u8]) -> Option<&'a [T]> {
        // Fails when a file was written without alignment; such a matrix is copied instead.
        let numbers: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
        let start = self.first_row * self.columns;
        numbers.get(start..start + self.rows * self.columns)
    }
}

/// Numbers of a matrix where they lie, row by row.
#[derive(Debug, Clone, Copy)]
pub enum MatrixSlice<'a> {
    /// As the CPU computes.
    F32(&'a [f32]),
    /// Halves.
    F16(&'a [f16]),
    /// Brain floats.
    BF16(&'a [bf16]),
}

impl Weights {
    /// As [`Weights::check`] for one parameter.
    fn check_one(&self, name: &str, shape: &[usize]) -> Result<(), WeightsError> {
        let mismatch = match self.entry(name) {
            Some(entry) if entry.shape == shape => return Ok(()),
            Some(entry) => Mismatch {
                misshapen: vec![(name.to_owned(), entry.shape.clone(), shape.to_vec())],
                ..Mismatch::default()
            },
            None => Mismatch {
                missing: vec![name.to_owned()],
                ..Mismatch::default()
            },
        };
        Err(WeightsError::Mismatch {
            file: self.name().to_owned(),
            mismatch: Box::new(mismatch),
        })
    }

    fn mapped_bytes(&self, name: &str) -> Option<&[u8]> {
        match self.bytes(name)? {
            Cow::Borrowed(bytes) => Some(bytes),
            Cow::Owned(_) => None,
        }
    }
}
