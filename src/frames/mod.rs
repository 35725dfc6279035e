//! Images and videos in, one tensor `[S, 3, H, W]` in `[0, 1]` out.
//!
//! Reading folders ([`list_folder`]) and videos ([`read_video`]), and the sky network of `--mask_sky` ([`SkyNetwork`]).
//! Decoding images, resizing and stacking are [`vggt_model::preprocess`], which is re-exported here.
//!
//! [`read_image`] or [`read_video`] returns a [`DecodedImage`], [`preprocess()`] makes it [`Prepared`], and [`stack()`]
//! gathers the [`Frames`].

mod error;
mod folder;
#[cfg(feature = "video")]
mod hdr;
mod sky;
mod video;

pub use error::FramesError;
pub use folder::{is_picture, list_folder};
pub use sky::SkyNetwork;
pub use vggt_model::preprocess::{
    DecodedImage, Frames, ImageLimits, Placement, Prepared, PreprocessError, PreprocessMode,
    decode_image, preprocess, read_image, stack,
};
pub use video::{VideoLimits, VideoProgress, VideoSummary, read_video, video_size};
