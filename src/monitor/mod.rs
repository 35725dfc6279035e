//! CPU, GPU and memory over time: of the whole machine or of one process, sampled on a fixed schedule, with figures
//! and plots.
//!
//! Here live the readings ([`Sampler`]), the schedule ([`record`]), the figures ([`Stats`], [`Curve`]) and the drawings
//! ([`plot`]). Questions, files and the terminal are the caller's: this module reads no input and writes no file.
//!
//! # Memory
//! A [`Session`] stays under half a MiB however long it runs: the figures are kept as running sums, and the curve halves its own
//! resolution whenever it is full (see [`Curve`]).

mod cpu;
mod gpu;
mod memory;
pub mod plot;
mod sample;
mod session;
mod stats;

use std::{io, path::PathBuf};

pub use self::{
    gpu::{GpuMemory, GpuState},
    memory::own_resident_bytes,
    sample::{Metric, Sample, Sampler},
    session::{End, PERIOD, Session, Watcher, record},
    stats::{Curve, Stats},
};

/// Errors of measuring and drawing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// A file of the kernel's cannot be read: the monitor runs on Linux only.
    #[error("cannot read \"{}\", which Linux has wherever /proc is mounted", path.display())]
    Read {
        /// The file under `/proc`.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel's lacks a figure.
    #[error("cannot find {what} in \"{}\"", path.display())]
    Missing {
        /// The figure.
        what: &'static str,
        /// The file under `/proc`.
        path: PathBuf,
    },
    /// There is no process with this id.
    #[error("cannot watch process {0}: no such process; see `ps -e`")]
    NoProcess(u32),
    /// The image could not be drawn.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}
