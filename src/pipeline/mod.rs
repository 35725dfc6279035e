//! The recipe: frames -> network -> scene -> file.
//!
//! [`reconstruct()`] makes a scene of a [`Source`], [`rebuild()`] makes one of saved predictions, [`write_file`] and
//! [`write_dataset`] write it. The
//! command line, the worker and the benchmark call these. In between, frames and results are in a [`Spool`]: one frame at a time,
//! and kept when the work is interrupted. Everything here is synchronous; callers receive every step and
//! every warning through a [`Watcher`] and can stop the work at each step.

mod artifact;
mod attention;
mod cameras;
mod compute;
mod control_groups;
mod corrected;
mod dataset;
mod decode;
mod depth_images;
mod error;
mod followed;
mod forecast;
mod format;
mod images;
mod masked;
mod masks;
mod memory;
mod network;
mod network_source;
mod noted_focal;
mod noting;
mod originals;
mod overall;
mod page;
mod photo_notes;
mod placing;
mod predictions_file;
mod progress;
mod rebuild;
mod reconstruct;
mod refinement;
mod rendering;
mod retry;
mod scaled;
mod sky;
mod source;
mod space;
mod spool;
mod spooled;
mod stills;
mod video;
mod warning_json;
mod write;

pub use artifact::{Artifact, ArtifactAbout, artifact_space, make_artifact};
pub use attention::{AnchorCacheType, Attention, AttentionOptions, AttentionUsed};
pub use cameras::cameras;
pub use corrected::{CorrectedCamera, CorrectedFrames};
pub use dataset::{DatasetImages, WrittenImages};
pub use depth_images::{DepthStill, depth_files, depth_still, save_depth};
pub use error::PipelineError;
pub use forecast::{Work, in_words, seconds_on_cpu};
pub use format::Format;
pub use masked::MaskedFrames;
pub use masks::{MaskError, Masks};
pub use memory::available_memory;
pub use network::{DeviceChoice, Network, OpenedDevice, transformer_dtype};
pub use network_source::NetworkSource;
pub use overall::{Overall, stage_named};
pub use page::write_view;
pub use photo_notes::photo_notes;
pub use placing::{
    FocalReport, GPS_POSITIONS, GpsReport, KnownReport, LengthReport, LevelReport, MeasuredLength,
    PhotoPoint, Placed, Placing, PlacingError,
};
pub use predictions_file::{SavedFrames, SavedPredictions, load_predictions, save_predictions};
pub use progress::{Silent, SkippedImages, Stage, StopFlag, Warning, Watcher};
pub use rebuild::{rebuild, rebuild_kept};
pub use reconstruct::{CheckFrames, ReconstructOptions, Reconstruction, ShowPreview, reconstruct};
pub use refinement::{
    FollowedPoints, KeepRefinement, LensSharing, Refined, RefinedFrame, RefinedTrack,
    RefinementOptions, RefinementReport, kept_depth_factor,
};
use retry::predict_what_fits;
pub use scaled::{METERS_PER_UNIT, ScaledFrames};
pub use sky::frame_mask;
pub use source::{FrameLimit, ReadOptions, Source, read_frames};
pub use space::{DEPTH_BYTES, PREDICTION_BYTES, scene_bytes};
pub use spool::{
    Cache, Decoded, Fields, FolderRule, FrameOutputs, MadeOf, PassedOn, Place, Spool, SpoolError,
    SpoolPart, Stamps, discard, finished_frames, has_frames, news as spool_news, note_of,
    open_finished, passed_on, take_over,
};
pub use spooled::{Spooled, Spooling};
pub use stills::{still, thumbnail};
pub use write::{
    DATASET_POINTS, WriteOptions, Written, dataset_files, save_trajectory, write_dataset,
    write_file,
};

// Types of the modules below that callers need for their options.
pub use crate::{
    decoder::{Decoding, Worker, WorkerEnd, WorkerError},
    frames::{FramesError, ImageLimits, SkyNetwork, VideoLimits},
    glb::{GlbEncoding, GlbError, GlbOptions, Thinned, write as write_glb},
    scene::{
        PredictedFrames, PredictionMode, Provenance, Scene, SceneError, SceneOptions, with_fields,
    },
};
