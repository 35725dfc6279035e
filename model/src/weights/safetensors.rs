//! `.safetensors`: eight bytes of header length, a JSON header, and the tensors one after the other.
//!
//! Why not the `safetensors` crate's reader: it keeps the last of two equal names, and reports an offset without the
//! tensor's name or the file's size.

use std::fmt;

use candle_core::DType;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{Fault, MAX_RANK, TensorEntry};

/// VGGT-1B's is 240 kB.
const MAX_HEADER: usize = 16 << 20;
/// Length of the header's length.
const PREFIX: usize = 8;

/// Whether `file` begins as a safetensors file does: a length, then an open brace.
pub(super) fn looks_like(file: &[u8]) -> bool {
    file.get(PREFIX) == Some(&b'{')
}

/// Finds every tensor in `file`, in the order of their bytes.
///
/// # Errors
/// When the header is no header, or its offsets do not tile the rest of the file.
pub(super) fn read(file: &[u8]) -> Result<Vec<(String, TensorEntry)>, Fault> {
    let (len, rest) = file
        .split_first_chunk::<PREFIX>()
        .ok_or_else(|| Fault::cut("the header is missing"))?;
    let len = u64::from_le_bytes(*len);
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= MAX_HEADER)
        .ok_or_else(|| {
            Fault::bad(format!(
                "its header claims {len} bytes, at most {MAX_HEADER} are read"
            ))
        })?;
    let (header, data) = rest
        .split_at_checked(len)
        .ok_or_else(|| Fault::cut(format!("its header should have {len} bytes")))?;
    let Header(infos) =
        serde_json::from_slice(header).map_err(|e| Fault::bad(format!("its header: {e}")))?;
    let mut tensors = infos
        .into_iter()
        .map(|(name, info)| info.check(&name, PREFIX + len).map(|entry| (name, entry)))
        .collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|(_, entry)| (entry.range.start, entry.range.end));
    let mut end = PREFIX + len;
    for (name, entry) in &tensors {
        if entry.range.start != end {
            let what = if entry.range.start < end {
                "overlaps the tensor before it"
            } else {
                "leaves a gap before it"
            };
            return Err(Fault::bad(format!(
                "tensor {name} at byte {} {what}",
                entry.range.start
            )));
        }
        end = entry.range.end;
    }
    if end > file.len() {
        return Err(Fault::cut(format!("its tensors end at byte {end}")));
    }
    if end < file.len() {
        return Err(Fault::bad(format!(
            "its tensors end at byte {end}, but {} bytes follow",
            PREFIX + len + data.len() - end
        )));
    }
    Ok(tensors)
}

/// The header in the order in which it is written, without `__metadata__`.
struct Header(Vec<(String, Info)>);

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Info {
    fn check(self, name: &str, base: usize) -> Result<TensorEntry, Fault> {
        let bad = |what: String| Fault::bad(format!("tensor {name}: {what}"));
        let dtype = match self.dtype.as_str() {
            "F64" => DType::F64,
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            "I64" => DType::I64,
            "I32" => DType::I32,
            "I16" => DType::I16,
            "U32" => DType::U32,
            "U8" | "BOOL" => DType::U8,
            other => return Err(bad(format!("the value type {other} is not read"))),
        };
        if self.shape.len() > MAX_RANK {
            return Err(bad(format!(
                "{} dimensions, at most {MAX_RANK} are read",
                self.shape.len()
            )));
        }
        let (start, end) = self.data_offsets;
        let size = self
            .shape
            .iter()
            .try_fold(dtype.size_in_bytes(), |size, n| size.checked_mul(*n));
        if size.is_none() || end.checked_sub(start) != size {
            return Err(bad(format!(
                "shape {:?} of {} does not take the bytes {start} to {end}",
                self.shape, self.dtype
            )));
        }
        let range = base.checked_add(start).zip(base.checked_add(end));
        let (start, end) =
            range.ok_or_else(|| bad("its offset lies outside the file".to_owned()))?;
        Ok(TensorEntry {
            dtype,
            shape: self.shape,
            source: 0,
            range: start..end,
            stride: None,
        })
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut pairs = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        pairs.push((name, map.next_value()?));
                    }
                }
                Ok(Header(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
