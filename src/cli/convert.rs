//! `vggt convert`: a checkpoint into safetensors.

use std::path::PathBuf;

use anyhow::Context as _;
use candle_core::DType;
use indicatif::{ProgressBar, ProgressStyle};
use vggt_model::{convert, weights::Weights};

use crate::atomic_file::AtomicFile;

/// Turn a PyTorch model.pt (or a .safetensors) into .safetensors, tensor by tensor, and check the result.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint to read.
    pub input: PathBuf,
    /// The .safetensors file to write.
    pub output: PathBuf,
    /// Type of the values; without it each tensor keeps its own.
    #[arg(long, value_parser = ["f32", "f16", "bf16"])]
    pub dtype: Option<String>,
}

/// Converts, reads back, and only then gives the file its name.
///
/// # Errors
/// When the input is no checkpoint, a value does not fit the type, the disk is full, or the file read back differs.
pub fn run(args: Args) -> anyhow::Result<()> {
    let dtype = args.dtype.as_deref().map(str::parse::<DType>).transpose()?;
    let weights = Weights::open(&args.input)?;
    let mut file = AtomicFile::create(&args.output)?;
    let bar = bar("converting");
    let done = convert::convert(&weights, &mut file, dtype, |at, total| {
        bar.set_length(total);
        bar.set_position(at);
        true
    })
    .with_context(|| format!("cannot convert to \"{}\"", args.output.display()))?;
    bar.set_message("verifying");
    let written = Weights::open(file.temporary())?;
    convert::verify(&weights, &written, dtype, |at, _| {
        bar.set_position(at);
        true
    })?;
    file.commit()?;
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

/// A bar in bytes, drawn on a terminal only.
pub(super) fn bar(message: &'static str) -> ProgressBar {
    const TEMPLATE: &str = "{msg:12} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    let style =
        ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(message)
}
