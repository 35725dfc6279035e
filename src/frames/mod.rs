//! Images and videos in, one tensor `[S, 3, H, W]` in `[0, 1]` out.
//!
//! Reading folders ([`list_folder`]), videos ([`read_video`]), masks ([`read_mask`]) and HEIC and AVIF pictures (`heif`), and the
//! sky network of `--mask-sky` ([`SkyNetwork`]). Decoding all other images, resizing and stacking are [`vggt_model::preprocess`], which is
//! re-exported here.
//!
//! [`read_image`] or [`read_video`] returns a [`DecodedImage`], [`preprocess()`] makes it [`Prepared`], and [`stack()`]
//! gathers the [`Frames`].

mod companions;
mod error;
mod exif;
mod folder;
#[cfg(feature = "video")]
mod hdr;
mod heif;
mod mask;
mod notes;
mod onnx;
mod order;
mod read;
mod skipped;
mod sky;
mod video;

pub use error::FramesError;
pub use exif::{GpsPosition, PhotoNote};
pub use folder::{
    Folder, is_image_file, is_named_as_image, is_video_file, is_video_head, list_folder,
};
pub(crate) use folder::{no_images, skipped as skipped_file};
pub use mask::{Mask, read_mask};
pub use notes::{PhotoNotes, read_note};
pub use order::natural;
pub use read::{READABLE_FORMATS, decode_file, decode_image, read_image};
pub use skipped::{SkipReason, SkippedFile, SkippedFiles};
pub use sky::SkyNetwork;
pub use vggt_model::preprocess::{
    DecodedImage, Fitted, Frames, ImageLimits, ImageNote, Placement, Prepared, PreprocessError,
    PreprocessMode, RAW_FORMATS, fitted, is_plain_rgb, open_regular, preprocess, stack,
};
pub use video::{
    Keyframes, VideoChoice, VideoFile, VideoLimits, VideoProgress, VideoSummary, read_video,
    read_video_file, video_codecs, video_file_size, video_size, video_threads,
};
