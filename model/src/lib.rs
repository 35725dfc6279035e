//! VGGT on Candle: the network, its weights and its geometry. Knows nothing of sockets, users or databases.
//!
//! ```text
//! config       every dimension of the network, as JSON
//! weights      model.pt and .safetensors, mapped into memory and checked
//! convert      one weights file into another, tensor by tensor
//! vggt         the whole network: images [S, 3, H, W] -> Predictions
//! aggregator   patch embedding, alternating frame and global attention
//! heads        camera, depth and point (DPT), track
//! layers       what the above are made of
//! geometry     pose encoding, rotations, unprojection
//! predictions  what comes out
//! progress     what is being done, for whoever watches
//! error        what can go wrong inside the network
//! ```

pub mod predictions;
pub mod progress;
pub mod weights;

pub use predictions::{Predictions, Tracks};
