//! What can be wrong with a file of weights.

use std::{fmt, path::PathBuf};

/// Why weights could not be opened or used. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The device or the tensor library failed while a parameter was loaded.
    #[error("cannot load a parameter")]
    Tensor(#[from] candle_core::Error),
    /// There is no file of that name.
    #[error(
        "cannot open weights \"{}\": no such file; expected the path of a model.pt or .safetensors",
        path.display()
    )]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The operating system refused, or the path is a folder.
    #[error("cannot read weights \"{}\": {source}", path.display())]
    Io {
        /// The path that was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A web page was saved under the name of a checkpoint.
    #[error(
        "\"{file}\" is a web page, not weights: a page about the file was saved instead of the file; download the file itself (on a hub its address contains /resolve/)"
    )]
    WebPage {
        /// The file's name.
        file: String,
    },
    /// Git without LFS left a pointer in place of the file.
    #[error("\"{file}\" is a git-lfs pointer, not weights: run `git lfs pull` in that repository")]
    LfsPointer {
        /// The file's name.
        file: String,
    },
    /// `torch.save` before PyTorch 1.6, or with `_use_new_zipfile_serialization=False`.
    #[error(
        "\"{file}\" is in PyTorch's format from before 1.6, which is not read; save it again in Python: torch.save(torch.load(\"{file}\", map_location=\"cpu\", weights_only=True), \"model.pt\")"
    )]
    Legacy {
        /// The file's name.
        file: String,
    },
    /// Neither a zip archive nor a safetensors header.
    #[error(
        "\"{file}\" holds no weights that are known: it begins with {start}; expected a PyTorch model.pt (zip) or .safetensors"
    )]
    UnknownFormat {
        /// The file's name.
        file: String,
        /// Its first bytes, in hexadecimal.
        start: String,
    },
    /// The file ends before what its header promises.
    #[error("\"{file}\" is truncated at {size} bytes: {what}; download or copy it again")]
    Truncated {
        /// The file's name.
        file: String,
        /// How many bytes there are.
        size: u64,
        /// What is missing.
        what: String,
    },
    /// The file became shorter while it was used, or its disk failed.
    #[error(
        "\"{file}\" was cut or cannot be read any more: it changed while it was in use; copy it again under another name, and rename it"
    )]
    Changed {
        /// The file's name.
        file: String,
    },
    /// The pickle names a class outside the few that a state dict needs.
    #[error(
        "\"{file}\" is not a plain state dict: its pickle wants the class {class}, which is never executed; save it again in Python: torch.save(model.state_dict(), \"model.pt\")"
    )]
    ForeignClass {
        /// The file's name.
        file: String,
        /// `module.name` as the pickle spells it.
        class: String,
    },
    /// Two tensors have one name.
    #[error("\"{file}\" holds the tensor {tensor} twice")]
    Duplicate {
        /// The file's name.
        file: String,
        /// The name in question.
        tensor: String,
    },
    /// The header contradicts itself, the file, or a limit.
    #[error("\"{file}\" is damaged or not made by a known writer: {what}")]
    Malformed {
        /// The file's name.
        file: String,
        /// What is wrong, and where.
        what: String,
    },
    /// A tensor was asked for that is not in the file.
    #[error("\"{file}\" has no tensor {tensor}")]
    NoTensor {
        /// The file's name.
        file: String,
        /// The name in question.
        tensor: String,
    },
    /// A value type that cannot become what was asked for.
    #[error(
        "cannot convert the tensor {tensor} of \"{file}\" from {from} to {to}: only f64, f32, f16 and bf16 to f32, f16 and bf16"
    )]
    Conversion {
        /// The file's name.
        file: String,
        /// The name in question.
        tensor: String,
        /// The type in the file.
        from: &'static str,
        /// The type asked for.
        to: &'static str,
    },
    /// The file is sound, but belongs to another network.
    #[error(
        "\"{file}\" does not fit the network: {mismatch}; is it the checkpoint for this config?"
    )]
    Mismatch {
        /// The file's name.
        file: String,
        /// What is missing, unexpected and misshapen.
        mismatch: Box<Mismatch>,
    },
    /// The device refused the tensor.
    #[error("cannot load the tensor {tensor} of \"{file}\"")]
    Device {
        /// The file's name.
        file: String,
        /// The name in question.
        tensor: String,
        /// What candle said.
        #[source]
        source: Box<candle_core::Error>,
    },
}

/// How many names of each kind [`Mismatch`] spells out: enough to see which part of the network is meant.
const NAMED: usize = 3;

/// What a checkpoint lacks, what it has too much, and what has another shape than the network wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names the network wants and the file lacks, in the network's order.
    pub missing: Vec<String>,
    /// Names in the file that the network does not know, in the file's order.
    pub unexpected: Vec<String>,
    /// Name, shape in the file, shape in the network.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether the file fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = |(name, has, wants): &(String, Vec<usize>, Vec<usize>)| {
            format!("{name} is {has:?} and should be {wants:?}")
        };
        let misshapen: Vec<String> = self.misshapen.iter().take(NAMED).map(shapes).collect();
        let parts = [
            ("missing", self.missing.len(), &self.missing),
            ("unexpected", self.unexpected.len(), &self.unexpected),
            ("misshapen", self.misshapen.len(), &misshapen),
        ];
        for (i, (kind, count, names)) in parts.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {kind}")?;
            if count > 0 {
                let more = if count > NAMED { ", ..." } else { "" };
                let names = &names[..names.len().min(NAMED)];
                write!(f, " ({}{more})", names.join(", "))?;
            }
        }
        Ok(())
    }
}
