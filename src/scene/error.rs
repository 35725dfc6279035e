//! Why a scene cannot be built or read.

/// Errors in predictions or options.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SceneError {
    /// A tensor does not have the shape that the images imply.
    #[error("cannot read the predicted {name}: expected shape {expected:?}, got {found:?}")]
    Shape {
        /// Name of the tensor.
        name: &'static str,
        /// Expected shape.
        expected: Vec<usize>,
        /// Shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor cannot be read.
    #[error("cannot read the predicted {name}")]
    Tensor {
        /// Name of the tensor.
        name: &'static str,
        /// Error of the tensor library.
        #[source]
        source: candle_core::Error,
    },
    /// A frame cannot be read from where it is kept.
    #[error("cannot read the predicted {name} of frame {frame}")]
    Read {
        /// Name of the tensor.
        name: &'static str,
        /// Index of the frame.
        frame: usize,
        /// Error of the file.
        #[source]
        source: std::io::Error,
    },
    /// A frame has another number of points than when the scene was built.
    #[error(
        "cannot read frame {frame} again: it had {expected} points and has {found}, so its predictions changed"
    )]
    Changed {
        /// Index of the frame.
        frame: usize,
        /// Number of points in the first pass.
        expected: usize,
        /// Number of points in a later pass, at most one more than expected.
        found: usize,
    },
    /// The values differ between two passes.
    #[error("cannot find a percentile: the predictions changed while they were read")]
    Unstable,
    /// More pixels in one frame than a 32-bit index can count.
    #[error(
        "cannot build a scene of frames of {pixels} pixels: the limit is 4294967295 in a frame"
    )]
    TooManyPixels {
        /// Height x width.
        pixels: usize,
    },
    /// The frame filter names a frame that does not exist.
    #[error("cannot show frame {frame} alone: frames are numbered 0 to {last}")]
    NoSuchFrame {
        /// Requested frame.
        frame: usize,
        /// Index of the last frame.
        last: usize,
    },
    /// The pose of a camera cannot be inverted.
    #[error(
        "cannot place the camera of frame {frame}: its extrinsic has no finite inverse, so the predictions are corrupt"
    )]
    Camera {
        /// Frame of the camera.
        frame: usize,
    },
    /// The value of an option cannot be parsed or is out of range.
    #[error("cannot use {value:?} as {option}: {expected}")]
    Option {
        /// Name of the option.
        option: String,
        /// Rejected value.
        value: String,
        /// Accepted values.
        expected: String,
    },
    /// There is no option of this name.
    #[error("cannot set {name:?}: the options are {known}")]
    UnknownOption {
        /// The name, shortened.
        name: String,
        /// Names of all options.
        known: String,
    },
}
