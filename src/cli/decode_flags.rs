//! Where and within which limits strangers' files are decoded, as flags of `vggt serve` and `vggt export`.

use anyhow::Context;

use crate::{
    frames::VideoLimits,
    pipeline::{Decoding, Worker, WorkerError},
};

/// Limits of the process that decodes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DecodeFlags {
    /// Stop decoding the files of one job when it needs more memory in MiB; what is free limits it too
    #[arg(long, value_name = "MIB", default_value_t = VideoLimits::default().max_memory >> 20,
        value_parser = clap::value_parser!(u64).range(1..=1 << 24), allow_negative_numbers = true, hide_short_help = true)]
    max_decode_memory: u64,
}

impl DecodeFlags {
    /// Bytes that decoding may take.
    pub(super) fn max_memory(&self) -> u64 {
        self.max_decode_memory << 20
    }

    /// Has the files of many jobs decoded in processes of their own; tries one.
    pub(super) fn isolated(&self) -> anyhow::Result<Decoding> {
        of(Worker::find(self.max_memory()))
    }

    /// Has the files of one run decoded in a process of its own.
    pub(super) fn isolated_once(&self) -> anyhow::Result<Decoding> {
        of(Worker::untried(self.max_memory()))
    }
}

fn of(worker: Result<Worker, WorkerError>) -> anyhow::Result<Decoding> {
    let worker = worker.context("images and videos cannot be decoded in a process of their own")?;
    Ok(Decoding::Isolated(worker))
}
