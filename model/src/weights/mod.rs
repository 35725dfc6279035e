//! Weights on disk: PyTorch `model.pt` and `.safetensors`, mapped into memory and checked. The entry point is [`Weights`].
//!
//! | format | begins with | header | tensors |
//! |---|---|---|---|
//! | PyTorch, since 1.6 | `PK` | zip directory at the end; `<name>/data.pkl`, a pickled dict name -> view of a storage, alone or under `model`, `state_dict` or `model_state_dict` | one stored zip entry `<name>/data/<key>` per storage |
//! | safetensors | `u64` length, `{` | JSON name -> dtype, shape, offsets | one after the other behind the header |
//!
//! Weights may be split into several files: an index (`model.safetensors.index.json`) names the file of each tensor, see
//! `shards.rs`. A prefix that all names have in common, as wrappers of PyTorch add it, is dropped, see `prefix.rs`.
//!
//! The content decides, not the file's name. All numbers are little-endian. A pickle is read, never executed: see
//! `pickle.rs`. Before anything is handed out, every tensor is known to lie inside the file, so that reading one later
//! cannot fail on the header's account. Nothing is copied until [`Weights::tensor`] asks for it.
//!
//! What the network expects of a checkpoint does not live here: [`Weights::check`] is given the list.

mod archive;
mod error;
mod guard;
mod pickle;
mod prefix;
mod pytorch;
mod safetensors;
mod shards;
mod source;
pub(crate) mod values;
mod var_builder;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

pub use error::{Mismatch, WeightsError};
pub(crate) use prefix::PARTS;
pub use shards::{files_of, shard_names};
use source::Source;
pub use var_builder::{MappedMatrix, MatrixSlice, VarBuilder, record_keys};

/// More dimensions than any tensor of the network has.
const MAX_RANK: usize = 8;
/// VGGT-1B has 1797 tensors.
const MAX_TENSORS: usize = 1 << 16;
/// How much of a mapped file is read before its pages are given back.
const WINDOW: usize = 64 << 20;

/// What a reader found wrong; [`WeightsError`] adds the file.
#[derive(Debug)]
enum Fault {
    Cut(String),
    Bad(String),
    Foreign(String),
    Twice(String),
}

impl Fault {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }

    fn cut(what: impl Into<String>) -> Self {
        Self::Cut(what.into())
    }

    /// The error about a file of `size` bytes.
    fn of(self, file: &str, size: u64) -> WeightsError {
        let file = file.to_owned();
        match self {
            Self::Cut(what) => WeightsError::Truncated { file, size, what },
            Self::Bad(what) => WeightsError::Malformed { file, what },
            Self::Foreign(class) => WeightsError::ForeignClass { file, class },
            Self::Twice(tensor) => WeightsError::Duplicate { file, tensor },
        }
    }
}

/// Type, shape and place of one tensor.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// Type of the values in the file.
    pub dtype: DType,
    /// Sizes of the dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Which of the files.
    source: usize,
    /// Bytes of the file from the tensor's first element to behind its last.
    range: Range<usize>,
    /// In elements; `None` when the elements follow each other in row-major order.
    stride: Option<Vec<usize>>,
}

impl TensorEntry {
    /// Number of values.
    pub fn elem_count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A checked file of weights, or several that an index joins. Cloning shares the maps.
#[derive(Clone)]
pub struct Weights(Arc<Inner>);

struct Inner {
    name: String,
    /// At least one.
    sources: Vec<Source>,
    /// Where the sources lie, and the index; empty for weights that are part of the program.
    files: Vec<PathBuf>,
    tensors: Vec<(String, TensorEntry)>,
    places: HashMap<String, usize>,
    sha256: OnceLock<String>,
}

impl Weights {
    /// Maps the file `path` into memory and checks its header; the content decides the format.
    ///
    /// An index of several files opens all of them. A folder stands for the index in it, or else for its `model.safetensors`
    /// or `model.pt`.
    ///
    /// # Errors
    /// When there is no such file, or it holds no weights that can be read; the message says what it is instead.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let inside = path.is_dir().then(|| shards::weights_in(path)).flatten();
        let path = inside.as_deref().unwrap_or(path);
        let name = file_name(path);
        let source = Source::map(path)?;
        if let Some(shards) = shards::read_index(&name, source.bytes())? {
            return Self::open_shards(path, name, &shards);
        }
        let tensors = read(&name, &source)?;
        let weights = Self::joined(name, vec![path.to_owned()], vec![source], tensors)?;
        weights.check_intact()?;
        Ok(weights)
    }

    fn open_shards(
        index: &Path,
        name: String,
        shards: &shards::Shards,
    ) -> Result<Self, WeightsError> {
        let mut files = vec![index.to_owned()];
        let (mut sources, mut tensors) = (Vec::new(), Vec::new());
        for (place, shard) in shards.files.iter().enumerate() {
            let path = index.with_file_name(shard);
            let source = Source::map(&path)?;
            let in_shard = read(shard, &source)?.into_iter().map(|(name, entry)| {
                let source = place;
                (name, TensorEntry { source, ..entry })
            });
            tensors.extend(in_shard);
            sources.push(source);
            files.push(path);
        }
        shards.check(&name, &tensors)?;
        Self::joined(name, files, sources, tensors)
    }

    /// Reads weights that are part of the program, under the name `name`.
    ///
    /// # Errors
    /// When `bytes` are not weights.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self, WeightsError> {
        let source = Source::Static(bytes);
        let tensors = read(name, &source)?;
        Self::joined(name.to_owned(), Vec::new(), vec![source], tensors)
    }

    fn joined(
        name: String,
        files: Vec<PathBuf>,
        sources: Vec<Source>,
        mut tensors: Vec<(String, TensorEntry)>,
    ) -> Result<Self, WeightsError> {
        prefix::drop_common(&mut tensors);
        let places = index(&tensors).map_err(|fault| fault.of(&name, 0))?;
        Ok(Self(Arc::new(Inner {
            name,
            sources,
            files,
            tensors,
            places,
            sha256: OnceLock::new(),
        })))
    }

    /// Every file that is mapped, and the index that names them; empty for weights that are part of the program.
    pub fn files(&self) -> &[PathBuf] {
        &self.0.files
    }

    /// The file's name without its folder, for messages and provenance.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.tensors.len()
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.0.tensors.is_empty()
    }

    /// Name and entry of every tensor, in the order of the state dict (PyTorch) or of the bytes (safetensors).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorEntry)> {
        self.0
            .tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The entry of the tensor `name`.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.0
            .places
            .get(name)
            .map(|place| &self.0.tensors[*place].1)
    }

    /// Row-major little-endian values of the tensor `name`, of the type of its entry. Borrowed from the file, except
    /// where a PyTorch tensor is a transposed or otherwise strided view: that is copied.
    pub fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.entry(name).map(|entry| self.entry_bytes(entry))
    }

    fn entry_bytes(&self, entry: &TensorEntry) -> Cow<'_, [u8]> {
        let bytes = &self.0.sources[entry.source].bytes()[entry.range.clone()];
        match &entry.stride {
            None => Cow::Borrowed(bytes),
            Some(stride) => Cow::Owned(pytorch::gather(bytes, entry.dtype, &entry.shape, stride)),
        }
    }

    /// Copies the tensor `name` to `device` as `dtype` (F32, F16 or BF16, from these or F64), and gives the file's
    /// pages back to the system, so that weights do not count twice as resident memory.
    ///
    /// # Errors
    /// When there is no such tensor, no such conversion, or no room on the device.
    pub fn tensor(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, WeightsError> {
        let file = || self.name().to_owned();
        let entry = self.entry(name).ok_or_else(|| WeightsError::NoTensor {
            file: file(),
            tensor: name.to_owned(),
        })?;
        let tensor = values::tensor(
            &self.entry_bytes(entry),
            entry.dtype,
            dtype,
            &entry.shape,
            device,
        );
        self.release(entry);
        self.check_intact()?;
        tensor
            .ok_or_else(|| WeightsError::Conversion {
                file: file(),
                tensor: name.to_owned(),
                from: entry.dtype.as_str(),
                to: dtype.as_str(),
            })?
            .map_err(|source| WeightsError::Device {
                file: file(),
                tensor: name.to_owned(),
                source: Box::new(source),
            })
    }

    /// Checks that everything that was read of the files was there: a file that becomes shorter while it is mapped, or whose
    /// disk fails, reads as zeros from there on. To be called after what was computed from them, before it is used.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] when something was missing.
    pub fn check_intact(&self) -> Result<(), WeightsError> {
        match self.0.sources.iter().any(Source::is_broken) {
            true => Err(WeightsError::Changed {
                file: self.name().to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Gives the pages of one tensor back to the system; they are read again when touched.
    pub(crate) fn release(&self, entry: &TensorEntry) {
        self.0.sources[entry.source].release(entry.range.clone());
    }

    /// Gives all pages of the files back to the system, as [`Weights::release`] does those of one tensor.
    pub(crate) fn release_all(&self) {
        for source in &self.0.sources {
            source.release(0..source.bytes().len());
        }
    }

    /// Compares the file with the names and shapes in `expected`, all of them at once.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] when any is missing, unexpected or misshapen: it counts them and names the first few.
    pub fn check(&self, expected: &[(String, Vec<usize>)]) -> Result<(), WeightsError> {
        self.check_except(expected, |_| false)
    }

    /// As [`Weights::check`]; names for which `ignored` holds are not unexpected.
    pub(crate) fn check_except(
        &self,
        expected: &[(String, Vec<usize>)],
        ignored: impl Fn(&str) -> bool,
    ) -> Result<(), WeightsError> {
        let mut mismatch = Mismatch::default();
        let mut known = HashSet::new();
        for (name, shape) in expected {
            known.insert(name.as_str());
            match self.entry(name) {
                None => mismatch.missing.push(name.clone()),
                Some(entry) if entry.shape != *shape => {
                    mismatch
                        .misshapen
                        .push((name.clone(), entry.shape.clone(), shape.clone()));
                }
                Some(_) => {}
            }
        }
        let unexpected = self
            .iter()
            .filter(|(name, _)| !known.contains(name) && !ignored(name));
        mismatch.unexpected = unexpected.map(|(name, _)| name.to_owned()).collect();
        if mismatch.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Mismatch {
            file: self.name().to_owned(),
            mismatch: Box::new(mismatch),
        })
    }

    /// SHA-256 of the whole file in lower-case hexadecimal, as a hub lists it; of several files one after the other, in the
    /// order of their names. Computed once: some seconds for 5 GB.
    ///
    /// # Errors
    /// When a file became shorter since it was opened.
    pub fn sha256(&self) -> Result<String, WeightsError> {
        let hash = self.0.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            for source in &self.0.sources {
                let bytes = source.bytes();
                for start in (0..bytes.len()).step_by(WINDOW) {
                    let range = start..bytes.len().min(start + WINDOW);
                    hasher.update(&bytes[range.clone()]);
                    source.release(range);
                }
            }
            hasher
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        });
        self.check_intact()?;
        Ok(hash.clone())
    }
}

impl From<&Weights> for Weights {
    /// Shares the mapped file.
    fn from(weights: &Weights) -> Self {
        weights.clone()
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("name", &self.name())
            .field("tensors", &self.len())
            .finish()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The tensors of one file.
fn read(name: &str, source: &Source) -> Result<Vec<(String, TensorEntry)>, WeightsError> {
    let bytes = source.bytes();
    if let Some(error) = recognise(name, bytes) {
        return Err(error);
    }
    let tensors = if safetensors::looks_like(bytes) {
        safetensors::read(bytes)
    } else {
        pytorch::read(bytes)
    };
    tensors.map_err(|fault| fault.of(name, bytes.len() as u64))
}

/// Name -> place in `tensors`.
fn index(tensors: &[(String, TensorEntry)]) -> Result<HashMap<String, usize>, Fault> {
    if tensors.len() > MAX_TENSORS {
        return Err(Fault::bad(format!(
            "it holds {} tensors, at most {MAX_TENSORS} are read",
            tensors.len()
        )));
    }
    let mut places = HashMap::with_capacity(tensors.len());
    for (place, (name, _)) in tensors.iter().enumerate() {
        if places.insert(name.clone(), place).is_some() {
            return Err(Fault::Twice(name.clone()));
        }
    }
    Ok(places)
}

/// What `bytes` are when they are not weights of a known format.
fn recognise(name: &str, bytes: &[u8]) -> Option<WeightsError> {
    /// Enough of the beginning to tell a web page behind blank lines.
    const LOOK: usize = 512;
    /// The number with which PyTorch before 1.6 began, pickled.
    const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let file = name.to_owned();
    let start = &bytes[..bytes.len().min(LOOK)];
    let text = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    let text = text[..text.len().min(16)].to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml"]
        .iter()
        .any(|tag| text.starts_with(tag.as_bytes()))
    {
        Some(WeightsError::WebPage { file })
    } else if start.starts_with(b"version https://git-lfs") {
        Some(WeightsError::LfsPointer { file })
    } else if start.starts_with(LEGACY) {
        Some(WeightsError::Legacy { file })
    } else if start.len() < 9 {
        let what = "too short to hold a header".to_owned();
        Some(WeightsError::Truncated {
            file,
            size: bytes.len() as u64,
            what,
        })
    } else if start.starts_with(b"PK\x03\x04") || safetensors::looks_like(bytes) {
        None
    } else {
        let start = start[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(WeightsError::UnknownFormat { file, start })
    }
}
