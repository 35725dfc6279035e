//! PyTorch's `model.pt`: a zip archive of `<name>/data.pkl` and one entry `<name>/data/<key>` per storage.

use candle_core::DType;

use super::{
    Fault, MAX_TENSORS, TensorEntry, archive,
    pickle::{self, Id, Pickle, Value},
};

/// VGGT-1B's is 380 kB.
const MAX_PICKLE: usize = 16 << 20;
/// Longest name of a tensor; VGGT-1B's longest has 76 bytes.
const MAX_NAME: usize = 1024;
/// Under these keys training scripts put the state dict beside other things.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// Finds every tensor of the state dict in `file`, in the order of the dict.
///
/// # Errors
/// When the archive or its pickle is not one of a state dict, or a tensor lies outside its storage.
pub(super) fn read(file: &[u8]) -> Result<Vec<(String, TensorEntry)>, Fault> {
    let entries = archive::entries(file)?;
    let mut pickles = entries
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"));
    let prefix = match (pickles.next(), pickles.next()) {
        (Some(prefix), None) => prefix,
        _ => {
            return Err(Fault::bad(
                "it is a zip archive without one data.pkl, so not from torch.save",
            ));
        }
    };
    if let Some(order) = entries.get(format!("{prefix}byteorder").as_str())
        && &file[order.clone()] != b"little"
    {
        return Err(Fault::bad(
            "its numbers are big-endian, only little-endian is read",
        ));
    }
    let pkl = &file[entries[format!("{prefix}data.pkl").as_str()].clone()];
    if pkl.len() > MAX_PICKLE {
        return Err(Fault::bad(format!(
            "its data.pkl has {} bytes, at most {MAX_PICKLE} are read",
            pkl.len()
        )));
    }
    let pickle = pickle::read(pkl)?;
    let mut tensors = Vec::new();
    let dict = state_dict(&pickle)?;
    if dict.len() > MAX_TENSORS {
        return Err(Fault::bad(format!(
            "its state dict has {} entries, at most {MAX_TENSORS} are read",
            dict.len()
        )));
    }
    for (key, value) in dict {
        let name = match &pickle.values[*key] {
            // Many entries may share one text: its copies have to stay small.
            Value::Text(name) if name.len() <= MAX_NAME => name,
            _ => return Err(Fault::bad("its state dict has a key that is no name")),
        };
        let Value::Tensor(view) = &pickle.values[*value] else {
            return Err(Fault::bad(format!("{name} in its state dict is no tensor")));
        };
        let bad = |what: String| Fault::bad(format!("tensor {name}: {what}"));
        let storage = entries
            .get(format!("{prefix}data/{}", view.storage).as_str())
            .ok_or_else(|| {
                bad(format!(
                    "its storage {:?} is not in the archive",
                    view.storage
                ))
            })?
            .clone();
        let item = view.dtype.size_in_bytes();
        if view.storage_len.checked_mul(item) != Some(storage.len()) {
            return Err(bad(format!(
                "its storage {:?} should hold {} values of {item} bytes and has {} bytes",
                view.storage,
                view.storage_len,
                storage.len()
            )));
        }
        let span = span(&view.shape, &view.stride)
            .and_then(|(count, span)| Some((count, view.offset.checked_add(span)?)))
            .filter(|(count, end)| *end <= view.storage_len && *count <= view.storage_len)
            .ok_or_else(|| {
                bad(format!(
                    "shape {:?} does not fit into its storage",
                    view.shape
                ))
            })?;
        let start = storage.start + view.offset.min(view.storage_len) * item;
        let stride = (!is_row_major(&view.shape, &view.stride)).then(|| view.stride.clone());
        tensors.push((
            name.clone(),
            TensorEntry {
                dtype: view.dtype,
                shape: view.shape.clone(),
                source: 0,
                range: start..storage.start + span.1 * item,
                stride,
            },
        ));
    }
    Ok(tensors)
}

/// The dict of tensors: the outermost value, or the one that training scripts wrap in another dict.
fn state_dict(pickle: &Pickle) -> Result<&[(Id, Id)], Fault> {
    let dict = |id: Id| match &pickle.values[id] {
        Value::Dict(items) => Some(items.as_slice()),
        _ => None,
    };
    let root = dict(pickle.root).ok_or_else(|| Fault::bad("its pickle holds no dict"))?;
    let named = |wanted: &str| {
        root.iter()
            .find(|(key, _)| matches!(&pickle.values[*key], Value::Text(name) if name == wanted))
            .and_then(|(_, value)| dict(*value))
    };
    Ok(WRAPPERS.iter().find_map(|key| named(key)).unwrap_or(root))
}

/// Number of elements, and one past the last element that the strides reach; `None` on overflow.
fn span(shape: &[usize], stride: &[usize]) -> Option<(usize, usize)> {
    let mut count = 1usize;
    let mut last = 0usize;
    for (size, step) in shape.iter().zip(stride) {
        count = count.checked_mul(*size)?;
        last = last.checked_add(size.saturating_sub(1).checked_mul(*step)?)?;
    }
    Some(if count == 0 {
        (0, 0)
    } else {
        (count, last.checked_add(1)?)
    })
}

/// Whether elements follow each other without gaps; the stride of a dimension of size 1 says nothing.
fn is_row_major(shape: &[usize], stride: &[usize]) -> bool {
    let mut wanted = 1usize;
    for (size, step) in shape.iter().zip(stride).rev() {
        if *size != 1 && *step != wanted {
            return false;
        }
        wanted = wanted.saturating_mul(*size);
    }
    true
}

/// Copies a strided tensor out of `bytes`, which begin at its first element, in row-major order.
pub(super) fn gather(bytes: &[u8], dtype: DType, shape: &[usize], stride: &[usize]) -> Vec<u8> {
    let item = dtype.size_in_bytes();
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * item);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let at = index
            .iter()
            .zip(stride)
            .map(|(i, step)| i * step)
            .sum::<usize>()
            * item;
        out.extend_from_slice(&bytes[at..at + item]);
        for (i, size) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    out
}
