//! Anchors: the few frames that all frames attend to, for hundreds and thousands of frames.
//!
//! In the network as it was trained every frame attends to every other one in the global blocks, which takes time in the square
//! of their number and memory for all of them at once. With anchors, every frame attends in these blocks to the same K frames,
//! frame 0 among them. Frames that are not anchors then do not influence each other: once the anchors' keys and values are
//! computed, every other frame is computed alone, in any order, in time and memory that do not depend on how many there are.
//!
//! What lives here: which tokens of an anchor are attended to ([`AnchorSchedule`]) and which frames become anchors
//! ([`choose`]). The passes are `Vggt::anchors` and `Vggt::frames`.
//!
//! Source: GoToHunt, arXiv 2605.23892, with the descriptors of the network's own trunk.

mod choice;
mod schedule;
mod similarity;

pub use choice::{Choice, choose, described_size};
pub use schedule::AnchorSchedule;
pub(crate) use schedule::Grid;
pub(crate) use similarity::{FirstFrame, QUERY_STRIDE, mean_direction};
pub use similarity::{FrameSimilarity, unrelated_scores};

/// Anchors unless another number is asked for. More make dense scenes no more accurate and every frame slower; source as above,
/// 7-Scenes with 500 frames.
pub const DEFAULT_ANCHORS: usize = 40;

/// Fewest anchors that a lack of memory leaves: below, the error of the cameras rises; source as above.
pub const LEAST_ANCHORS: usize = 16;

/// Frames up to which every frame attends to all others: with [`DEFAULT_ANCHORS`] no slower up to there.
pub const DENSE_FRAMES: usize = 60;
