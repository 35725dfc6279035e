//! `vggt convert`: a checkpoint into safetensors.

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::DType;
use vggt_model::{convert, weights::Weights};

use super::{model_args::parse_dtype, terminal::byte_bar};
use crate::atomic_file::AtomicFile;

/// Turns a PyTorch model.pt (or a .safetensors) into .safetensors, tensor by tensor, and checks the result.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The checkpoint to read
    input: PathBuf,
    /// The .safetensors file to write
    output: PathBuf,
    /// Type of the values: f32, f16 or bf16 [default: each tensor keeps its own]
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<DType>,
}

/// Converts, reads the result back, and only then renames the file to its target.
///
/// # Errors
/// When the input is not a checkpoint, a value does not fit the type, the disk is full, or the file read back differs.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let dtype = args.dtype;
    let weights = Weights::open(&args.input)?;
    let mut file = AtomicFile::create(&args.output)?;
    let bar = byte_bar("convert");
    let done = convert::convert(&weights, &mut file, dtype, |at, total| {
        bar.set_length(total);
        bar.set_position(at);
        true
    })
    .with_context(|| format!("cannot convert to \"{}\"", args.output.display()))?;
    bar.set_prefix("verify");
    let written = Weights::open(file.temporary())?;
    convert::verify(&weights, &written, dtype, |at, _| {
        bar.set_position(at);
        true
    })?;
    file.commit()?;
    let beside = args.input.with_file_name("config.json");
    if beside.is_file() && beside.parent() != args.output.parent() {
        tracing::info!(
            "the network's dimensions are in \"{}\": keep a copy next to the new file",
            beside.display()
        );
    }
    bar.finish_and_clear();
    println!(
        "{}: {} tensors, {} values, {} bytes, sha256 {}",
        args.output.display(),
        done.tensors,
        done.elements,
        done.bytes,
        done.sha256
    );
    Ok(())
}
