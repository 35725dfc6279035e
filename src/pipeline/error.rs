//! What can go wrong between files and files.

use std::{io, path::PathBuf};

use crate::{
    colmap::ColmapError,
    frames::{FramesError, PreprocessError},
    glb::GlbError,
    scene::SceneError,
};

/// Why a reconstruction ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The pictures or the video.
    #[error(transparent)]
    Frames(FramesError),
    /// The weights or the network.
    #[error(transparent)]
    Network(vggt_model::Error),
    /// The network ran out of memory.
    #[error(
        "out of memory with {frames} frames of {width} x {height} pixels; try fewer with --max_frames"
    )]
    OutOfMemory {
        /// Number of frames.
        frames: usize,
        /// Their width in pixels.
        width: usize,
        /// Their height in pixels.
        height: usize,
    },
    /// The device or number type that was asked for cannot be had.
    #[error("cannot use {wanted}: {why}")]
    Device {
        /// What was asked for.
        wanted: String,
        /// What is in the way, and what to do.
        why: String,
    },
    /// The options or the predictions do not make a scene.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The GLB could not be written.
    #[error(transparent)]
    Glb(#[from] GlbError),
    /// The COLMAP model could not be written.
    #[error(transparent)]
    Colmap(#[from] ColmapError),
    /// A file could not be written; the message names it.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// A picture of depth could not be written.
    #[error("cannot write \"{}\"", path.display())]
    DepthImage {
        /// The picture.
        path: PathBuf,
        /// What the encoder said.
        #[source]
        source: ::image::ImageError,
    },
    /// A file of saved predictions cannot be used.
    #[error("cannot read predictions from \"{}\": {why}", path.display())]
    Predictions {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The watcher asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<FramesError> for PipelineError {
    fn from(e: FramesError) -> Self {
        match e {
            FramesError::Cancelled => Self::Cancelled,
            e => Self::Frames(e),
        }
    }
}

impl From<PreprocessError> for PipelineError {
    fn from(e: PreprocessError) -> Self {
        Self::Frames(e.into())
    }
}

impl From<vggt_model::Error> for PipelineError {
    fn from(e: vggt_model::Error) -> Self {
        match e {
            vggt_model::Error::Cancelled => Self::Cancelled,
            e => Self::Network(e),
        }
    }
}

impl From<candle_core::Error> for PipelineError {
    fn from(e: candle_core::Error) -> Self {
        Self::Network(e.into())
    }
}
