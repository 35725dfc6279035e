//! The one recipe: frames -> network -> scene -> file. The command line, the worker and the benchmark all use it.
//!
//! [`read_frames`] -> [`predict_what_fits`] -> [`sky_mask`] -> [`crate::scene::build`] -> [`write_scene`]. Everything
//! here is synchronous; whoever calls is told of every step through a [`Watcher`] and can stop at each of them.

mod depth_images;
mod error;
mod memory;
mod network;
mod predictions_file;
mod progress;
mod retry;
mod sky;
mod source;
mod write;

pub use depth_images::save_depth;
pub use error::PipelineError;
pub use memory::{available_memory, return_freed_memory};
pub use network::{DeviceChoice, Network, NetworkSource, OpenedDevice, transformer_dtype};
pub use predictions_file::{SavedFrames, load_predictions, save_predictions};
pub use progress::{Silent, Stage, Watcher};
pub use retry::predict_what_fits;
pub use sky::sky_mask;
pub use source::{FrameLimit, ReadOptions, Source, read_frames};
pub use write::{Format, WriteOptions, write_scene};

// What a caller needs of the rooms below to say what it wants.
pub use crate::{
    frames::{SkyNetwork, VideoLimits},
    glb::{GlbError, GlbOptions, write as write_glb},
    scene::{PredictionMode, Provenance, SceneOptions, build as build_scene},
};
