//! What a check is made of.

use candle_core::{DType, Device, Result, Tensor};

use super::{Inputs, judge};

/// Added to the variance by every norm of a case: that of the aggregator's blocks.
pub const NORM_EPS: f32 = 1e-5;

/// Height and width of a map in positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl MapSize {
    /// A map of `height` x `width`.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Its positions.
    pub fn positions(self) -> usize {
        self.height * self.width
    }
}

/// What follows the product of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearThen {
    /// The bias.
    Bias,
    /// The bias and GELU.
    Gelu,
    /// The bias, LayerScale and the residual.
    Residual,
}

/// An operation of the network with its shapes and settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// LayerNorm of [rows, channels].
    LayerNorm {
        /// Rows.
        rows: usize,
        /// Channels of a row.
        channels: usize,
    },
    /// GELU of [rows, channels].
    Gelu {
        /// Rows.
        rows: usize,
        /// Channels of a row.
        channels: usize,
    },
    /// A linear layer over [batch, rows, c_in].
    Linear {
        /// Batch entries.
        batch: usize,
        /// Rows of each.
        rows: usize,
        /// Channels before.
        c_in: usize,
        /// Channels after.
        c_out: usize,
        /// Whether the input is normalized first.
        after_norm: bool,
        /// What follows.
        then: LinearThen,
    },
    /// The second branch of a transformer's block over [rows, channels].
    Mlp {
        /// Rows.
        rows: usize,
        /// Channels of a row.
        channels: usize,
        /// Channels between the two layers.
        hidden: usize,
    },
    /// Attention of [batch, frames * positions, 3 * heads * depth] to itself.
    SelfAttention {
        /// Batch entries: the frames of the trunk and of frame attention, 1 for global attention.
        batch: usize,
        /// Frames in a batch entry, all rotated alike.
        frames: usize,
        /// Tokens of a frame.
        positions: usize,
        /// Heads.
        heads: usize,
        /// Channels of a head.
        depth: usize,
        /// Whether queries and keys are normalized.
        norms: bool,
        /// Whether they are rotated by their position.
        rotations: bool,
    },
    /// Attention of [batch, heads, queries, depth] to other keys.
    Attention {
        /// Batch entries.
        batch: usize,
        /// Heads.
        heads: usize,
        /// Channels of a head.
        depth: usize,
        /// Queries.
        queries: usize,
        /// Keys.
        keys: usize,
    },
    /// Bilinear resampling of a map of the dense heads.
    Bilinear {
        /// Maps.
        batch: usize,
        /// Their size.
        from: MapSize,
        /// The size of the result.
        to: MapSize,
        /// Channels.
        channels: usize,
        /// Whether a position embedding is added.
        positions: bool,
    },
    /// A convolution of a map of the dense heads.
    Conv2d {
        /// Maps.
        batch: usize,
        /// Their size.
        map: MapSize,
        /// Channels before.
        c_in: usize,
        /// Channels after.
        c_out: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Places from one output to the next.
        stride: usize,
        /// Zeros around the map.
        padding: usize,
        /// Whether ReLU comes before, and both skips and ReLU after it.
        fused: bool,
    },
    /// A transposed convolution whose stride is its kernel.
    ConvTranspose2d {
        /// Maps.
        batch: usize,
        /// Their size.
        map: MapSize,
        /// Channels before.
        c_in: usize,
        /// Channels after.
        c_out: usize,
        /// Height and width of the kernel.
        kernel: usize,
    },
    /// Bicubic resampling of the trunk's position embedding.
    Bicubic {
        /// Its size.
        from: MapSize,
        /// The size of the result.
        to: MapSize,
        /// Channels.
        channels: usize,
    },
}

/// What a case is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Purpose {
    /// Whether the result is right: its error is at most this.
    Correctness {
        /// As [`Case::judge`] measures it.
        tolerance: f64,
    },
    /// How long it takes, with shapes that keep a device busy. The result only has to be finite.
    Speed,
}

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is called, once for each type and purpose.
    pub name: String,
    /// What is computed.
    pub operation: Operation,
    /// The type of inputs and result. Rotations and positions are F32 in any case.
    pub dtype: DType,
    /// What it is for.
    pub purpose: Purpose,
}

impl Case {
    pub(super) fn new(name: &str, operation: Operation, dtype: DType, tolerance: f64) -> Self {
        Self {
            name: name.to_owned(),
            operation,
            dtype,
            purpose: Purpose::Correctness { tolerance },
        }
    }

    /// Name and type, which no other case of this purpose has.
    pub fn label(&self) -> String {
        format!("{} [{}]", self.name, self.dtype.as_str())
    }

    /// The inputs of the operation on the CPU: the same in every run, rounded to the type.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn inputs(&self) -> Result<Inputs> {
        self.operation.inputs(self.dtype, &self.name)
    }

    /// The result by the operation's definition, in F64 on the CPU.
    ///
    /// # Errors
    /// When the inputs are not those of the operation.
    pub fn exact(&self, inputs: &Inputs) -> Result<Tensor> {
        // No operation has a fast version for F64.
        self.operation
            .prepare(&inputs.on(&Device::Cpu)?.in_f64()?)?()
    }

    /// How far `result`, of any type and device, is from the exact one: the largest difference of two elements, divided by the
    /// magnitude of the exact element plus the root mean square of all. NaN when an element is NaN or the shapes differ.
    ///
    /// Dividing by the largest element of all would let a small one be entirely wrong.
    ///
    /// # Errors
    /// When the result cannot be read.
    pub fn judge(&self, result: &Tensor, exact: &Tensor) -> Result<f64> {
        judge::error(result, exact)
    }

    /// The largest error that passes.
    pub fn tolerance(&self) -> f64 {
        match self.purpose {
            Purpose::Correctness { tolerance } => tolerance,
            Purpose::Speed => 0.0,
        }
    }

    /// Whether a result with this error is right.
    pub fn passed(&self, error: f64) -> bool {
        error <= self.tolerance()
    }
}
