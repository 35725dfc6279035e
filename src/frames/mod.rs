//! Pictures and videos in, one tensor `[S, 3, H, W]` in `[0, 1]` out.
//!
//! Here lives everything between a user's files and the network's input: decoding ([`read_image`],
//! [`read_video`]), choosing ([`list_folder`], the frames of a clip), resizing and cropping
//! ([`preprocess()`]) and stacking ([`stack()`]). The sky network of `--mask_sky` ([`SkyNetwork`]) looks at
//! the same pictures and lives here too. What the network makes of the tensor does not.
//!
//! The door in: [`read_image`] or [`read_video`] give a [`Picture`], [`preprocess()`] makes it
//! [`Prepared`], [`stack()`] gathers the [`Frames`].

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
