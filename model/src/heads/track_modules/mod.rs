//! The tracker. Files named as upstream's `vggt/heads/track_modules`.

mod base_track_predictor;
mod blocks;
mod modules;
mod utils;

pub(super) use base_track_predictor::BaseTrackerPredictor;
