//! `vggt convert`: a checkpoint into safetensors.

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::DType;
use vggt_model::{convert, weights::Weights};

use super::{choices::choices, model_args::parse_dtype, output_error, terminal::byte_bar};
use crate::cli::terminal::{say, tell};
use crate::output::{OutputRules, Place, Target, place};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt convert model.pt model.safetensors        loads in a moment, and needs no pickle
  vggt convert model.pt half.safetensors --dtype f16
  vggt convert model.safetensors.index.json one/ joins several files";

/// Turns a PyTorch model.pt (or a .safetensors) into .safetensors, tensor by tensor, and checks the result.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The checkpoint to read: a file, the index of several (model.safetensors.index.json), or a folder with one of these
    input: PathBuf,
    /// The .safetensors file to write, or a folder for model.safetensors; another than the input
    output: PathBuf,
    /// Type of the values [default: each tensor keeps its own]
    #[arg(long, value_parser = choices(&["f32", "f16", "bf16"], parse_dtype))]
    dtype: Option<DType>,
    /// Replace an existing file that vggt did not write; the input is never replaced
    #[arg(long)]
    overwrite: bool,
}

/// Converts, reads the result back, and only then renames the file to its target.
///
/// # Errors
/// When the input is not a checkpoint or also the output, a value does not fit the type, the disk is full, or the file read back differs.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let dtype = args.dtype;
    let weights = Weights::open(&args.input)?;
    let target = args.target(weights.files())?;
    let mut file = target.create()?;
    let bar = byte_bar("convert");
    let done = convert::convert(&weights, &mut file, dtype, |at, total| {
        bar.set_length(total);
        bar.set_position(at);
        true
    })
    .with_context(|| format!("cannot convert to \"{}\"", target.path().display()))?;
    // What went into a pipe cannot be read back.
    if let Some(written) = file.temporary() {
        bar.set_prefix("verify");
        let written = Weights::open(written)?;
        convert::verify(&weights, &written, dtype, |at, _| {
            bar.set_position(at);
            true
        })?;
    }
    file.commit()
        .with_context(|| format!("cannot write \"{}\"", target.path().display()))?;
    let beside = args.input.with_file_name("config.json");
    if beside.is_file() && beside.parent() != target.path().parent() {
        tracing::info!(
            "the network's dimensions are in \"{}\": keep a copy next to the new file",
            beside.display()
        );
    }
    bar.finish_and_clear();
    let summary = format!(
        "{}: {} tensors, {} values, {} bytes, sha256 {}",
        target.path().display(),
        done.tensors,
        done.elements,
        done.bytes,
        done.sha256
    );
    match target.is_standard_output() {
        true => tell!("{summary}"),
        false => say!("{summary}"),
    }
    Ok(())
}

impl Args {
    /// Returns where the weights go: not into one of the files that they come from.
    fn target(&self, inputs: &[PathBuf]) -> anyhow::Result<Target> {
        let path = match place(&self.output, &["safetensors"]).map_err(output_error)? {
            Place::Folder => self.output.join("model.safetensors"),
            Place::File(_) | Place::Stream => self.output.clone(),
        };
        let rules = OutputRules::new(inputs, self.overwrite);
        rules.file(&path).map_err(output_error)
    }
}
