//! What can go wrong inside the network.

use thiserror::Error;

use crate::weights::WeightsError;

/// Short for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the network could not be built or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The config is no JSON of the right shape, or its numbers contradict each other.
    #[error("bad config: {0}")]
    Config(String),
    /// The input has a shape that the network does not take.
    #[error("bad input: {0}")]
    Input(String),
    /// The weights lack a head.
    #[error("the weights have no {head} head, which {wanted_by} needs")]
    NoHead {
        /// camera, depth, point or track.
        head: &'static str,
        /// What cannot be done without it.
        wanted_by: &'static str,
    },
    /// The weights do not fit.
    #[error(transparent)]
    Weights(WeightsError),
    /// A file for intermediate results cannot be written or read.
    #[error("cannot use the file for intermediate results")]
    Scratch(#[source] std::io::Error),
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The device or the tensor library failed, for example out of memory.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

impl From<WeightsError> for Error {
    fn from(e: WeightsError) -> Self {
        match e {
            WeightsError::Tensor(e) => Self::Candle(e),
            e => Self::Weights(e),
        }
    }
}
