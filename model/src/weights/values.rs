//! Values of one type into another, in memory and as bytes.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

/// Little-endian floats of `dtype` -> each as the widest type that holds it; `None` for other types.
macro_rules! each {
    ($bytes:expr, $dtype:expr, $f:expr) => {
        match $dtype {
            DType::F64 => Some(
                $bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| $f(f64::from_le_bytes(*b)))
                    .collect(),
            ),
            DType::F32 => Some(
                $bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| $f(f32::from_le_bytes(*b).into()))
                    .collect(),
            ),
            DType::F16 => Some(
                $bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| $f(f16::from_le_bytes(*b).into()))
                    .collect(),
            ),
            DType::BF16 => Some(
                $bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| $f(bf16::from_le_bytes(*b).into()))
                    .collect(),
            ),
            _ => None,
        }
    };
}

fn floats(bytes: &[u8], dtype: DType) -> Option<Vec<f32>> {
    match dtype {
        DType::F32 => Some(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        ),
        // Exact for f16 and bf16; f64 is rounded.
        _ => each!(bytes, dtype, |v: f64| v as f32),
    }
}

fn halves(bytes: &[u8], dtype: DType) -> Option<Vec<f16>> {
    match dtype {
        DType::F16 => Some(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b))
                .collect(),
        ),
        _ => each!(bytes, dtype, f16::from_f64),
    }
}

fn brains(bytes: &[u8], dtype: DType) -> Option<Vec<bf16>> {
    match dtype {
        DType::BF16 => Some(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b))
                .collect(),
        ),
        _ => each!(bytes, dtype, bf16::from_f64),
    }
}

/// A tensor of type `to` from the row-major little-endian values `bytes` of type `from`; `None` when there is no
/// such conversion.
pub(super) fn tensor(
    bytes: &[u8],
    from: DType,
    to: DType,
    shape: &[usize],
    device: &Device,
) -> Option<candle_core::Result<Tensor>> {
    Some(match to {
        DType::F32 => Tensor::from_vec(floats(bytes, from)?, shape, device),
        DType::F16 => Tensor::from_vec(halves(bytes, from)?, shape, device),
        DType::BF16 => Tensor::from_vec(brains(bytes, from)?, shape, device),
        _ => return None,
    })
}

/// Appends `bytes` of type `from` to `out` as little-endian bytes of type `to`, and says whether a finite value became
/// infinite on the way; `None` when there is no such conversion.
pub(crate) fn append(bytes: &[u8], from: DType, to: DType, out: &mut Vec<u8>) -> Option<bool> {
    let mut lost = false;
    let mut note =
        |wide: f64, narrow_is_finite: bool| lost |= wide.is_finite() && !narrow_is_finite;
    let () = match to {
        DType::F32 => each!(bytes, from, |v: f64| {
            let n = v as f32;
            note(v, n.is_finite());
            out.extend_from_slice(&n.to_le_bytes());
        }),
        DType::F16 => each!(bytes, from, |v: f64| {
            let n = f16::from_f64(v);
            note(v, n.is_finite());
            out.extend_from_slice(&n.to_le_bytes());
        }),
        DType::BF16 => each!(bytes, from, |v: f64| {
            let n = bf16::from_f64(v);
            note(v, n.is_finite());
            out.extend_from_slice(&n.to_le_bytes());
        }),
        _ => None,
    }?;
    Some(lost)
}
