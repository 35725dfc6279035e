//! Values of one type into another, in memory and as bytes.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

/// Calls `f` with each little-endian float of `dtype` as f32 and whether it was finite before, and collects; `None`
/// for other types. Every type but f64 fits into f32 exactly; f64 is rounded. The way to f16 and bf16 leads through
/// f32 because `half` 2.7 drops the low 32 bits of an f64 before it rounds, so that values just above the middle
/// between two halves go to the wrong one.
macro_rules! each {
    (@map $bytes:expr, $kind:ident, |$v:ident| $body:expr) => {{
        let (values, _) = $bytes.as_chunks();
        values
            .iter()
            .map(|b: &[u8; size_of::<$kind>()]| {
                let $v = $kind::from_le_bytes(*b);
                $body
            })
            .collect()
    }};
    ($bytes:expr, $dtype:expr, $f:expr) => {{
        let f = &mut $f;
        match $dtype {
            DType::F64 => Some(each!(@map $bytes, f64, |v| f(v as f32, v.is_finite()))),
            DType::F32 => Some(each!(@map $bytes, f32, |v| f(v, v.is_finite()))),
            DType::F16 => Some(each!(@map $bytes, f16, |v| f(v.to_f32(), v.is_finite()))),
            DType::BF16 => Some(each!(@map $bytes, bf16, |v| f(v.to_f32(), v.is_finite()))),
            _ => None,
        }
    }};
}

fn floats(bytes: &[u8], dtype: DType) -> Option<Vec<f32>> {
    each!(bytes, dtype, |v: f32, _: bool| v)
}

fn halves(bytes: &[u8], dtype: DType) -> Option<Vec<f16>> {
    each!(bytes, dtype, |v: f32, _: bool| f16::from_f32(v))
}

fn brains(bytes: &[u8], dtype: DType) -> Option<Vec<bf16>> {
    each!(bytes, dtype, |v: f32, _: bool| bf16::from_f32(v))
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
    let () = match to {
        DType::F32 => each!(bytes, from, |v: f32, finite: bool| {
            lost |= finite && !v.is_finite();
            out.extend_from_slice(&v.to_le_bytes());
        }),
        DType::F16 => each!(bytes, from, |v: f32, finite: bool| {
            let v = f16::from_f32(v);
            lost |= finite && !v.is_finite();
            out.extend_from_slice(&v.to_le_bytes());
        }),
        DType::BF16 => each!(bytes, from, |v: f32, finite: bool| {
            let v = bf16::from_f32(v);
            lost |= finite && !v.is_finite();
            out.extend_from_slice(&v.to_le_bytes());
        }),
        _ => None,
    }?;
    Some(lost)
}
