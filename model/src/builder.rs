//! From a weights file to a network: every choice has a default.

use candle_core::{DType, Device};

use crate::{
    config::Config,
    error::{Error, Result},
    ops::cuda::default_dtype,
    precision::Precision,
    vggt::{Vggt, state_dict_keys},
    weights::{PARTS, VarBuilder, Weights},
};

/// Loads a [`Vggt`]; returned by [`Vggt::builder`].
///
/// ```
/// # #[cfg(feature = "demo")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use vggt_model::{Precision, Vggt, demo};
///
/// let model = Vggt::builder(demo::weights()?)
///     .config(demo::config()?)
///     .precision(Precision::Fast)
///     .load()?;
/// assert_eq!(model.config().patch_size, 14);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "demo"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `load` is called"]
pub struct VggtBuilder {
    weights: Weights,
    config: Option<Config>,
    dtype: Option<DType>,
    precision: Precision,
    device: Device,
}

impl Vggt {
    /// Starts to load a network from `weights`, which [`Weights::open`] returns.
    ///
    /// Without further calls [`VggtBuilder::load`] returns VGGT-1B on the CPU, in F32, computing exactly.
    pub fn builder(weights: impl Into<Weights>) -> VggtBuilder {
        VggtBuilder {
            weights: weights.into(),
            config: None,
            dtype: None,
            precision: Precision::default(),
            device: Device::Cpu,
        }
    }
}

impl VggtBuilder {
    /// Sets the dimensions of the network; the default is VGGT-1B.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Sets the type that the transformer computes in; the default is that of [`default_dtype`] for the device. The weights
    /// in the file may have another. The heads always compute in F32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Sets how the aggregator multiplies; the default is [`Precision::Exact`].
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets the device; the default is the CPU.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Loads the network. All parameters are on the device when this returns.
    ///
    /// A checkpoint without a depth, point or track head is accepted whatever the config says: the network then has none.
    /// Heads of the checkpoint that are `null` in the config are left out, and so is what lies beside the network, such as a
    /// counter of the training.
    ///
    /// # Errors
    /// [`Error::NoHead`] when the weights have no camera head,
    /// [`Error::Weights`] when parameters are missing, unexpected or misshapen: all are counted, the
    /// first few named. [`Error::Config`] when the dimensions contradict each other, and
    /// [`Error::Candle`] when the device fails.
    pub fn load(self) -> Result<Vggt> {
        let Self {
            weights,
            config,
            dtype,
            precision,
            device,
        } = self;
        let dtype = match dtype {
            Some(dtype) => dtype,
            None => default_dtype(&device)?,
        };
        let config = config.unwrap_or_default();
        let left_out = null_heads(&config);
        let config = without_missing_heads(config, &weights)?;
        // Before the list of names, which is made by building the network without its parameters: what layers prepare from
        // them is as large as they are.
        let elements = weights.iter().map(|(_, entry)| entry.elem_count() as u128);
        config.check_fits(elements.sum())?;
        weights.check_except(&state_dict_keys(&config)?, |name| {
            // A counter of the training, a loss, ...
            let beside = !PARTS.iter().any(|part| name.starts_with(part));
            beside || left_out.iter().any(|head| name.starts_with(head))
        })?;
        let intact = weights.clone();
        let vb = VarBuilder::from_weights(weights, dtype, &device).with_precision(precision);
        let model = Vggt::new(config, &vb)?;
        intact.check_intact()?;
        // On CUDA each thread has a default stream of its own, and candle works in these. Copies and conversions that this
        // thread queued are not ordered before a pass in another thread, so they end before another thread can have the
        // network.
        device.synchronize()?;
        Ok(model)
    }
}

/// What the names of parameters begin with whose head is `null` in the config.
fn null_heads(config: &Config) -> Vec<&'static str> {
    [
        ("depth_head.", config.depth_head.is_none()),
        ("point_head.", config.point_head.is_none()),
        ("track_head.", config.track_head.is_none()),
    ]
    .into_iter()
    .filter_map(|(head, is_null)| is_null.then_some(head))
    .collect()
}

/// VGGT-1B-Commercial and converted checkpoints come without the track head, fine-tuned ones often without the point head, and
/// no config says so.
fn without_missing_heads(mut config: Config, weights: &Weights) -> Result<Config> {
    let has = |part: &str| weights.iter().any(|(name, _)| name.starts_with(part));
    if !has("track_head.") && !weights.is_empty() {
        config.track_head = None;
    }
    // Without this part it is another network; then the list of what is missing says more.
    if !has("aggregator.") {
        return Ok(config);
    }
    if !has("camera_head.") {
        return Err(Error::NoHead {
            head: "camera",
            wanted_by: "every output",
        });
    }
    if !has("depth_head.") {
        config.depth_head = None;
    }
    if !has("point_head.") {
        config.point_head = None;
    }
    Ok(config)
}
