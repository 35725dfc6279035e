//! What reads the aggregated tokens: camera, depth and points (DPT), tracks. Files named as upstream's `vggt/heads`.

mod camera_head;
mod dpt_head;
mod head_act;
mod track_head;
mod track_modules;
mod utils;

pub use camera_head::CameraHead;
pub use dpt_head::{DptFeatures, DptFeaturesConfig, DptHead};
pub use head_act::{Activation, activate_head, activate_pose};
pub use track_head::{TrackHead, TrackPrediction};
