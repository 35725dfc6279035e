//! Errors of a reconstruction.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{MaskError, PlacingError, SpoolError};
use crate::{
    cameras::CamerasError,
    colmap::ColmapError,
    decoder::{DecoderError, WorkerError},
    frames::{FramesError, PreprocessError},
    glb::GlbError,
    output::OutputError,
    ply::PlyError,
    points::PointsError,
    scene::SceneError,
    trajectory::TrajectoryError,
};

/// Why a reconstruction failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The images or the video cannot be read.
    #[error(transparent)]
    Frames(FramesError),
    /// The process that decodes failed.
    #[error(transparent)]
    Decoder(#[from] WorkerError),
    /// The weights cannot be used, or the network failed.
    #[error(transparent)]
    Network(vggt_model::Error),
    /// The network ran out of memory.
    #[error("out of memory with {frames} frames of {width} x {height} pixels")]
    OutOfMemory {
        /// Number of frames.
        frames: usize,
        /// Width of the frames in pixels.
        width: usize,
        /// Height of the frames in pixels.
        height: usize,
    },
    /// A point to track lies outside of the frames.
    #[error("query point {x},{y} lies outside of the network's image of {width} x {height} pixels")]
    QueryPoint {
        /// Column in pixels.
        x: f32,
        /// Row in pixels.
        y: f32,
        /// Width of the frames in pixels.
        width: usize,
        /// Height of the frames in pixels.
        height: usize,
    },
    /// The options of attention do not fit each other, the frames or the network.
    #[error("{0}")]
    Attention(String),
    /// The requested device cannot be used.
    #[error("cannot use {wanted}: {why}")]
    Device {
        /// The requested device.
        wanted: String,
        /// Reason.
        why: String,
    },
    /// The device does not compute in the requested type.
    #[error("cannot use {dtype} on the CPU: it computes in f32, whatever type the weights have")]
    Dtype {
        /// The requested type.
        dtype: &'static str,
    },
    /// The device does not have the requested arithmetic.
    #[error(
        "cannot use fast precision on CUDA: its integer arithmetic is for the CPU; CUDA computes in bf16 by default"
    )]
    Precision,
    /// The masks cannot be used.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A scene cannot be built with these options and predictions.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The GLB could not be written.
    #[error(transparent)]
    Glb(#[from] GlbError),
    /// The COLMAP model could not be written.
    #[error(transparent)]
    Colmap(#[from] ColmapError),
    /// The points could not be written.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// An archive of several files could not be written.
    #[error("cannot write an archive")]
    Archive(#[from] zip::result::ZipError),
    /// A frame could not be encoded as an image.
    #[error("cannot encode frame {frame}")]
    Still {
        /// Index of the frame.
        frame: usize,
        /// Error of the encoder.
        #[source]
        source: image::ImageError,
    },
    /// A file may not or cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A writer failed; the message names the file.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// A depth image could not be written.
    #[error("cannot write \"{}\"", path.display())]
    DepthImage {
        /// The image file.
        path: PathBuf,
        /// Error of the encoder.
        #[source]
        source: png::EncodingError,
    },
    /// A video gave other frames when it was decoded again.
    #[error("cannot find the frame {frame} in \"{}\" again: did the file change?", path.display())]
    Vanished {
        /// The video.
        path: PathBuf,
        /// Name of the frame.
        frame: String,
    },
    /// The folder of the results in progress cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A file of saved predictions cannot be used.
    #[error("cannot read predictions from \"{}\": {why}", path.display())]
    Predictions {
        /// The file.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// Known cameras do not belong to the frames.
    #[error(transparent)]
    Cameras(#[from] CamerasError),
    /// The result cannot be placed as asked for.
    #[error(transparent)]
    Placing(#[from] PlacingError),
    /// The cameras of a result that other files show are not kept any more.
    #[error("the refined cameras of this result cannot be read any more; send the images again")]
    RefinementLost,
    /// The watcher asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl PipelineError {
    /// Returns how many bytes a disk lacks for the results, where that is why.
    pub fn missing_space(&self) -> Option<u64> {
        match self {
            Self::Output(OutputError::NoSpace { needed, free, .. }) => {
                Some(needed.saturating_sub(*free))
            }
            _ => None,
        }
    }

    /// Names the file whose writer failed.
    pub(super) fn at(self, path: &Path) -> Self {
        let source = match self {
            Self::Write(e) | Self::Glb(GlbError::Io(e)) => e,
            e => return e,
        };
        Self::Output(OutputError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

impl From<FramesError> for PipelineError {
    fn from(e: FramesError) -> Self {
        match e {
            FramesError::Cancelled => Self::Cancelled,
            e => Self::Frames(e),
        }
    }
}

impl From<TrajectoryError> for PipelineError {
    fn from(e: TrajectoryError) -> Self {
        match e {
            TrajectoryError::Scene(e) => Self::Scene(e),
            TrajectoryError::Io(e) => Self::Write(e),
        }
    }
}

impl From<PlyError> for PipelineError {
    fn from(e: PlyError) -> Self {
        match e {
            PlyError::Scene(e) => Self::Scene(e),
            PlyError::Io(e) => Self::Write(e),
        }
    }
}

impl From<DecoderError> for PipelineError {
    fn from(e: DecoderError) -> Self {
        match e {
            DecoderError::Frames(e) => e.into(),
            DecoderError::Worker(e) => Self::Decoder(e),
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
