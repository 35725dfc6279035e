//! Weights in several files: the index that names them.
//!
//! `model.safetensors.index.json` (and `pytorch_model.bin.index.json`) is JSON: `{"weight_map": {tensor: file, ...}}`. The
//! files lie beside it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use super::{Fault, MAX_TENSORS, TensorEntry, WeightsError};

/// What names of an index end with.
const INDEX_END: &str = ".index.json";
/// What names of weights in a folder are, best first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.pt"];
/// 200 bytes a tensor, a name and a file, of as many as are read.
const MAX_INDEX: usize = 200 * MAX_TENSORS;
/// Checkpoints of hundreds of gigabytes have some hundred files.
const MAX_SHARDS: usize = 1024;

/// An index.
#[derive(Debug)]
pub(super) struct Shards {
    /// Names of the files, sorted.
    pub(super) files: Vec<String>,
    /// File of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Returns the names of the files that an index joins; they lie beside it.
///
/// # Errors
/// When `path` cannot be read, is no index, or names files elsewhere.
pub fn shard_names(path: &Path) -> Result<Vec<String>, WeightsError> {
    let name = super::file_name(path);
    let source = super::Source::map(path)?;
    let bytes = source.bytes();
    match read_index(&name, bytes)? {
        Some(shards) => Ok(shards.files),
        None => Err(Fault::bad("it is no index of weights").of(&name, bytes.len() as u64)),
    }
}

/// Returns the files that [`Weights::open`](super::Weights::open) would map for `path`, and the index that names them. Where
/// they cannot be told, that is `path` alone: opening it reports the error.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let inside = path.is_dir().then(|| weights_in(path)).flatten();
    let path = inside.unwrap_or_else(|| path.to_owned());
    let is_index = path.to_string_lossy().ends_with(INDEX_END);
    let shards = is_index.then(|| shard_names(&path).ok()).flatten();
    let mut files = vec![path.clone()];
    files.extend(
        shards
            .iter()
            .flatten()
            .map(|shard| path.with_file_name(shard)),
    );
    files
}

/// Finds the weights in a folder: a file of a usual name, else an index.
pub(super) fn weights_in(folder: &Path) -> Option<PathBuf> {
    let indices = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(INDEX_END));
    let indices: BTreeSet<String> = indices.collect();
    // Safetensors before pickles.
    let preferred = indices
        .iter()
        .find(|name| name.ends_with(".safetensors.index.json"))
        .or(indices.first());
    let whole = WEIGHTS.map(|name| folder.join(name));
    let whole = whole.into_iter().find(|path| path.is_file());
    whole.or(preferred.map(|name| folder.join(name)))
}

/// Reads an index; `None` when `bytes` are something else.
///
/// # Errors
/// When it is an index that names no files, too many, or files elsewhere.
pub(super) fn read_index(name: &str, bytes: &[u8]) -> Result<Option<Shards>, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A safetensors file may begin with this byte too: its header would have 123 bytes, or as many as end with it.
    let is_json = text.first().is_some_and(|b| b"{ \t\r\n".contains(b));
    if !is_json || super::safetensors::looks_like(bytes) && !name.ends_with(INDEX_END) {
        return Ok(None);
    }
    let bad = |what: String| Fault::bad(what).of(name, bytes.len() as u64);
    if bytes.len() > MAX_INDEX {
        let what = format!(
            "an index of {} bytes, at most {MAX_INDEX} are read",
            bytes.len()
        );
        return Err(bad(what));
    }
    let index: Index = match serde_json::from_slice(text) {
        Ok(index) => index,
        Err(e) if name.ends_with(INDEX_END) => return Err(bad(format!("its index: {e}"))),
        Err(_) => return Ok(None),
    };
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    if files.is_empty() || files.len() > MAX_SHARDS {
        let what = format!(
            "its index names {} files, expected 1 to {MAX_SHARDS}",
            files.len()
        );
        return Err(bad(what));
    }
    if let Some(file) = files.iter().find(|file| !is_plain(file)) {
        let what = format!("its index names the file {file:?}, which is not beside it");
        return Err(bad(what));
    }
    Ok(Some(Shards {
        files: files.into_iter().cloned().collect(),
        weight_map: index.weight_map,
    }))
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

impl Shards {
    /// Checks that every tensor lies in the file that the index names.
    pub(super) fn check(
        &self,
        index: &str,
        tensors: &[(String, TensorEntry)],
    ) -> Result<(), WeightsError> {
        let places: HashMap<&str, usize> = tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), entry.source))
            .collect();
        let lies_in = |tensor: &str| {
            let file = places.get(tensor).and_then(|place| self.files.get(*place));
            file.map(String::as_str)
        };
        let missing = self
            .weight_map
            .iter()
            .find(|(tensor, file)| lies_in(tensor) != Some(file.as_str()));
        match missing {
            None => Ok(()),
            Some((tensor, file)) => {
                let what =
                    format!("it says that {file} holds the tensor {tensor}, which it does not");
                Err(Fault::bad(what).of(index, 0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_files_beside_it() {
        let text = br#"{"metadata":{"total_size":8},"weight_map":{"a":"x-2","b":"x-1","c":"x-2"}}"#;
        let marked = [b"\xef\xbb\xbf".as_slice(), text].concat();
        for bytes in [text.as_slice(), &marked] {
            let shards = read_index("i.index.json", bytes).unwrap().unwrap();
            assert_eq!(shards.files, ["x-1", "x-2"]);
        }
        for file in ["../x", "/x", "a/b", "", ".x", "c:x"] {
            let text = serde_json::json!({"weight_map": {"a": file}}).to_string();
            let e = read_index("i", text.as_bytes()).unwrap_err().to_string();
            assert!(e.contains("beside"), "{e}");
        }
    }

    #[test]
    fn what_is_no_index_is_left_to_the_other_readers() {
        for bytes in [&b"PK\x03\x04"[..], b"", b"{\0\0\0\0\0\0\0{}", b"{\"a\": 1}"] {
            assert!(read_index("model.safetensors", bytes).unwrap().is_none());
        }
        let e = read_index("model.safetensors.index.json", b"{").unwrap_err();
        assert!(e.to_string().contains("index"), "{e}");
    }
}
