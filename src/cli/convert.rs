//! `vggt convert`: a checkpoint into safetensors.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use candle_core::DType;
use vggt_model::{convert, weights::Weights};

use super::{UsageError, model_args::parse_dtype, terminal::byte_bar};
use crate::atomic_file::AtomicFile;

/// Turns a PyTorch model.pt (or a .safetensors) into .safetensors, tensor by tensor, and checks the result.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The checkpoint to read: a file, the index of several (model.safetensors.index.json), or a folder with one of these
    input: PathBuf,
    /// The .safetensors file to write; another than the input
    output: PathBuf,
    /// Type of the values: f32, f16 or bf16 [default: each tensor keeps its own]
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<DType>,
}

/// Converts, reads the result back, and only then renames the file to its target.
///
/// # Errors
/// When the input is not a checkpoint or also the output, a value does not fit the type, the disk is full, or the file read back differs.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let dtype = args.dtype;
    let weights = Weights::open(&args.input)?;
    if let Some(input) = weights
        .files()
        .iter()
        .find(|file| is_same(file, &args.output))
    {
        return Err(UsageError(format!(
            "cannot convert \"{}\" to \"{}\": that is the same file; name another",
            input.display(),
            args.output.display()
        ))
        .into());
    }
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

/// Whether two paths lead to one file, also through symbolic and hard links.
fn is_same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        id(a).is_ok_and(|a| id(b).is_ok_and(|b| a == b))
    }
    #[cfg(not(unix))]
    {
        a.canonicalize()
            .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
    }
}
