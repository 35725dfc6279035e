//! How frames attend to each other in the network's global blocks: each to all, or all to a few anchors.
//!
//! [`AttentionOptions`] is what a user asks for, `plan` what fits the frames and the memory, `anchored` the computation with
//! anchors, `preview` their scene while the others are missing, and `unrelated` looks for frames of something else.

mod anchored;
mod options;
mod plan;
mod preview;
mod unrelated;

pub(super) use anchored::{Anchored, OnAnchors};
pub use options::{AnchorCacheType, Attention, AttentionOptions};
pub use plan::AttentionUsed;
pub(super) use plan::{Anchors, Chosen, Plan, plan};
pub(super) use preview::AnchorScene;
pub(super) use unrelated::{unrelated, warning_of};
