//! What one forward pass gives.

use candle_core::Tensor;

/// Everything the network says about one scene of `S` frames of `H` x `W` pixels. All tensors are F32 on the CPU.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// The frames as the network saw them, RGB in [0, 1]. [S, 3, H, W]
    pub images: Tensor,
    /// Translation, quaternion (x, y, z, w) and vertical and horizontal field of view in radians. [S, 9]
    pub pose_enc: Tensor,
    /// Upstream's `extrinsic`: camera_from_world, OpenCV axes (x right, y down, z forward). [S, 3, 4]
    pub extrinsic: Tensor,
    /// Pinhole intrinsics in pixels of the H x W frame. [S, 3, 3]
    pub intrinsic: Tensor,
    /// Depth along the camera z axis, scene units; not a number everywhere if the weights have no depth head. [S, H, W, 1]
    pub depth: Tensor,
    /// Confidence of `depth`, 1 and up. [S, H, W]
    pub depth_conf: Tensor,
    /// World position of every pixel by the point head, scene units; `None` when it did not run. [S, H, W, 3]
    pub world_points: Option<Tensor>,
    /// Confidence of `world_points`, 1 and up. [S, H, W]
    pub world_points_conf: Option<Tensor>,
    /// `depth` unprojected through `extrinsic` and `intrinsic`, scene units. [S, H, W, 3]
    pub world_points_from_depth: Tensor,
    /// Where the query points went, when any were asked for.
    pub tracks: Option<Tracks>,
}

/// Results of some frames, on the CPU in F32: everything that the network says of a frame but its camera, which depends on all
/// frames.
#[derive(Debug, Clone)]
pub struct FrameResults {
    /// What the camera head reads of each frame, see `Vggt::cameras`. [B, 2 C]
    pub camera_tokens: Tensor,
    /// Depth along the camera's z axis, scene units; `None` without a depth head. [B, H, W, 1]
    pub depth: Option<Tensor>,
    /// Confidence of `depth`, 1 and up. [B, H, W]
    pub depth_conf: Option<Tensor>,
    /// World points of the point head, scene units; `None` where it did not run. [B, H, W, 3]
    pub world_points: Option<Tensor>,
    /// Confidence of `world_points`, 1 and up. [B, H, W]
    pub world_points_conf: Option<Tensor>,
}

/// The cameras of all frames, on the CPU in F32.
#[derive(Debug, Clone)]
pub struct Cameras {
    /// Translation, quaternion (x, y, z, w), vertical and horizontal field of view in radians. [S, 9]
    pub pose_enc: Tensor,
    /// camera_from_world, OpenCV axes. [S, 3, 4]
    pub extrinsic: Tensor,
    /// Pinhole intrinsics in pixels. [S, 3, 3]
    pub intrinsic: Tensor,
}

/// Query points of the first frame, followed through all frames.
#[derive(Debug, Clone)]
pub struct Tracks {
    /// Where each of the `N` points was asked for in the first frame, (x, y) in pixels. [N, 2]
    pub query_points: Tensor,
    /// Position of each point in each frame, (x, y) in pixels. [S, N, 2]
    pub track: Tensor,
    /// How likely the point is visible, in [0, 1]. [S, N]
    pub vis: Tensor,
    /// How sure the network is of the position, in [0, 1]. [S, N]
    pub conf: Tensor,
}
