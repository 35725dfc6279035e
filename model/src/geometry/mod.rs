//! From the network's pose encoding to cameras and points. All in F32 on plain numbers: these are small.

mod pose_enc;
mod rotation;
mod unproject;

pub use pose_enc::pose_encoding_to_extri_intri;
pub use rotation::quat_to_mat;
pub use unproject::unproject_depth_map_to_point_map;
