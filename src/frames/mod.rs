//! Images and videos -> one tensor `[S, 3, H, W]` in `[0, 1]`.
//!
//! What lives here: everything between the user's files and the network's input: decoding ([`read_image`],
//! [`read_video`]), selecting ([`list_folder`], the frames of a clip), resizing and cropping ([`preprocess()`]) and stacking
//! ([`stack()`]), and the sky network of `--mask_sky` ([`SkyNetwork`]), which reads the same images. What does not: anything
//! that the network makes of the tensor.
//!
//! The entry points: [`read_image`] or [`read_video`] return a [`Picture`], [`preprocess()`] makes it [`Prepared`],
//! [`stack()`] collects the [`Frames`].

mod error;
mod folder;
mod image;
mod preprocess;
mod resample;
mod sky;
mod stack;
mod video;

pub use error::FramesError;
pub use folder::{is_picture, list_folder};
pub use image::{ImageLimits, Picture, decode_image, read_image};
pub use preprocess::{Placement, Prepared, PreprocessMode, preprocess};
pub use sky::SkyNetwork;
pub use stack::{Frames, stack};
pub use video::{VideoLimits, VideoProgress, VideoSummary, read_video, video_size};
