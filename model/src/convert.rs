//! One file of weights into another: any that [`Weights`] opens into `.safetensors`, tensor by tensor.
//!
//! All sizes are known beforehand, so the header is written first and no more than one tensor is in memory, besides
//! what the system keeps of the mapped source. [`verify`] compares the written file with its source.

use std::io::{self, Write};

use candle_core::DType;
use sha2::{Digest, Sha256};

use crate::weights::{TensorEntry, Weights, WeightsError, values};

/// Values are converted and written in pieces of this many bytes of the source: a multiple of every value's size.
const PIECE: usize = 8 << 20;
/// The safetensors header is padded so that the first tensor is aligned for any value type.
const ALIGN: usize = 8;

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The target type is none that weights are stored in.
    #[error("cannot convert weights to {0}: choose f32, f16 or bf16")]
    Target(&'static str),
    /// A value is too large for the target type.
    #[error(
        "cannot convert \"{file}\" to {to}: the tensor {tensor} has values beyond its range; bf16 and f32 have room for them"
    )]
    Overflow {
        /// The source's name.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// The type asked for.
        to: &'static str,
    },
    /// Writing failed.
    #[error("cannot write the converted weights: {0}")]
    Write(#[from] io::Error),
    /// The source changed while it was read.
    #[error(transparent)]
    Source(WeightsError),
    /// The written file cannot be read back.
    #[error("cannot read the converted weights back")]
    ReadBack(#[from] WeightsError),
    /// The written file differs from its source.
    #[error(
        "the converted weights differ from \"{file}\" at the tensor {tensor}: is the disk sound?"
    )]
    Differs {
        /// The source's name.
        file: String,
        /// The tensor's name.
        tensor: String,
    },
    /// The caller's observer answered `false`.
    #[error("the conversion was stopped")]
    Cancelled,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in all of them.
    pub elements: u64,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: String,
}

/// Writes `weights` to `out` as safetensors: floats as `dtype` (F32, F16 or BF16; `None` keeps each tensor's own),
/// whole numbers as they are. `progress` is told how many bytes of how many are written; `false` stops.
///
/// # Errors
/// When `dtype` is none of the three, a finite value would become infinite, writing fails, or `progress` stops it.
/// `out` then holds a part of the file.
pub fn convert(
    weights: &Weights,
    mut out: impl Write,
    dtype: Option<DType>,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> Result<Converted, ConvertError> {
    if let Some(dtype) = dtype
        && !matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
    {
        return Err(ConvertError::Target(dtype.as_str()));
    }
    let (header, total) = header(weights, dtype);
    let mut hasher = Sha256::new();
    let mut put = |bytes: &[u8]| -> io::Result<()> {
        hasher.update(bytes);
        out.write_all(bytes)
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    let (mut done, mut elements) = (0, 0);
    for (name, entry) in weights.iter() {
        each_piece(weights, name, entry, dtype, |piece| {
            put(piece)?;
            done += piece.len() as u64;
            if progress(done, total) {
                Ok(())
            } else {
                Err(ConvertError::Cancelled)
            }
        })?;
        elements += entry.elem_count() as u64;
    }
    out.flush()?;
    weights.check_intact().map_err(ConvertError::Source)?;
    let sha256 = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let bytes = total + 8 + header.len() as u64;
    Ok(Converted {
        tensors: weights.len(),
        elements,
        bytes,
        sha256,
    })
}

/// Compares `written`, opened again, with what `weights` as `dtype` should have become: names, types, shapes and
/// every value. `progress` as in [`convert`].
///
/// # Errors
/// [`ConvertError::Differs`] at the first difference; [`ConvertError::Cancelled`].
pub fn verify(
    weights: &Weights,
    written: &Weights,
    dtype: Option<DType>,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> Result<(), ConvertError> {
    let differs = |name: &str| ConvertError::Differs {
        file: weights.name().to_owned(),
        tensor: name.to_owned(),
    };
    let total = header(weights, dtype).1;
    let mut done = 0;
    if let Some((name, _)) = written
        .iter()
        .find(|(name, _)| weights.entry(name).is_none())
    {
        return Err(differs(name));
    }
    for (name, entry) in weights.iter() {
        let back = written.entry(name).ok_or_else(|| differs(name))?;
        if back.shape != entry.shape || back.dtype != target(entry, dtype) {
            return Err(differs(name));
        }
        let bytes = written.bytes(name).ok_or_else(|| differs(name))?;
        let mut at = 0;
        each_piece(weights, name, entry, dtype, |piece| {
            if bytes.get(at..at + piece.len()) != Some(piece) {
                return Err(differs(name));
            }
            at += piece.len();
            done += piece.len() as u64;
            if progress(done, total) {
                Ok(())
            } else {
                Err(ConvertError::Cancelled)
            }
        })?;
        if at != bytes.len() {
            return Err(differs(name));
        }
        written.release(back);
    }
    Ok(())
}

/// The type that a tensor of the source gets.
fn target(entry: &TensorEntry, dtype: Option<DType>) -> DType {
    let float = matches!(
        entry.dtype,
        DType::F64 | DType::F32 | DType::F16 | DType::BF16
    );
    dtype.filter(|_| float).unwrap_or(entry.dtype)
}

/// The padded JSON header, and the length of all tensors together.
/// Program and version: what every written file carries, so that it is known to be replaceable.
const GENERATOR: &str = concat!("vggt ", env!("CARGO_PKG_VERSION"));

fn header(weights: &Weights, dtype: Option<DType>) -> (Vec<u8>, u64) {
    // By hand, since a serde_json map would sort the names or need a feature, and the order is that of the bytes.
    let mut json = format!(r#"{{"__metadata__":{{"format":"pt","vggt.generator":"{GENERATOR}"}}"#);
    let mut at = 0u64;
    for (name, entry) in weights.iter() {
        let dtype = target(entry, dtype);
        let end = at + (entry.elem_count() * dtype.size_in_bytes()) as u64;
        let (name, shape) = (serde_json::Value::from(name), &entry.shape);
        let kind = dtype.as_str().to_uppercase();
        json += &format!(
            r#",{name}:{{"dtype":"{kind}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        );
        at = end;
    }
    json.push('}');
    while json.len() % ALIGN != 0 {
        json.push(' ');
    }
    (json.into_bytes(), at)
}

/// Hands over one tensor of the source in its target type, piece by piece, and gives its pages back.
fn each_piece(
    weights: &Weights,
    name: &str,
    entry: &TensorEntry,
    dtype: Option<DType>,
    mut f: impl FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let to = target(entry, dtype);
    let bytes = weights.bytes(name).unwrap_or_default();
    let mut buffer = Vec::new();
    for piece in bytes.chunks(PIECE) {
        if to == entry.dtype {
            f(piece)?;
            continue;
        }
        buffer.clear();
        let lost = values::append(piece, entry.dtype, to, &mut buffer);
        if lost != Some(false) {
            let (file, tensor) = (weights.name().to_owned(), name.to_owned());
            return Err(ConvertError::Overflow {
                file,
                tensor,
                to: to.as_str(),
            });
        }
        f(&buffer)?;
    }
    weights.release(entry);
    Ok(())
}
