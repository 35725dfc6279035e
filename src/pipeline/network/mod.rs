//! Weights and a device -> a network that is ready to run.

mod anchored;
mod device;

use candle_core::{DType, Device, Tensor};
use vggt_model::{
    Config, ForwardOptions, Isa, Precision, Predictions, Vggt,
    anchors::FrameSimilarity,
    cost::{Engine, forward_bytes, frames_that_fit},
    cuda, default_dtype, demo, limits,
    weights::{VarBuilder, Weights},
};

pub use device::{DeviceChoice, OpenedDevice};

use super::{NetworkSource, PipelineError, Watcher, available_memory, progress::NetworkSteps};
use crate::allocator;

/// A network with its weights loaded, and what is known of them.
#[derive(Debug)]
pub struct Network {
    model: Vggt,
    weights: Option<Weights>,
    sha256: Option<String>,
    name: String,
    is_demo: bool,
    device: Device,
    dtype: DType,
    precision: Precision,
}

/// What of `precision` the device can do.
fn supported(precision: Precision, device: &Device) -> Result<Precision, PipelineError> {
    if precision == Precision::Exact {
        return Ok(precision);
    }
    if !device.is_cpu() {
        return Err(PipelineError::Precision);
    }
    if Isa::best().is_none() {
        tracing::warn!("this processor has no fast precision (AVX2 or AVX-512): computing exactly");
        return Ok(Precision::Exact);
    }
    Ok(precision)
}

/// The type the transformer computes in on `device`: the one that is asked for, else F32 on the CPU, and on CUDA the one that
/// the card's tensor cores take.
///
/// # Errors
/// When the device cannot compute in this type, or does not say what it is.
pub fn transformer_dtype(asked: Option<DType>, device: &Device) -> Result<DType, PipelineError> {
    match asked {
        None => Ok(default_dtype(device).map_err(vggt_model::Error::from)?),
        Some(dtype) if device.is_cpu() && dtype != DType::F32 => Err(PipelineError::Dtype {
            dtype: dtype.as_str(),
        }),
        Some(dtype) => Ok(dtype),
    }
}

impl Network {
    /// Loads a network. `dtype` is the type of the transformer; without it the one of
    /// [`transformer_dtype`]. `precision` says how its transformer multiplies; where the processor has no fast way it is
    /// exact, and that is logged. All parameters are on the device when it returns.
    ///
    /// # Errors
    /// When the weights or the config cannot be used, or the type cannot be computed with on this device.
    pub fn load(
        source: &NetworkSource,
        device: Device,
        dtype: Option<DType>,
        precision: Precision,
    ) -> Result<Self, PipelineError> {
        let network = Self::queued(source, device, dtype, precision)?;
        // On CUDA every thread has a default stream of its own, and candle works in these. Copies and conversions of
        // parameters that this thread queued are not ordered before a pass in another thread; so they are done before
        // another thread can have the network.
        let synchronized = network.device.synchronize();
        synchronized.map_err(vggt_model::Error::from)?;
        Ok(network)
    }

    /// As [`Network::load`]; the device may still be at work on the parameters.
    fn queued(
        source: &NetworkSource,
        device: Device,
        dtype: Option<DType>,
        precision: Precision,
    ) -> Result<Self, PipelineError> {
        let precision = supported(precision, &device)?;
        let dtype = transformer_dtype(dtype, &device)?;
        allocator::keep_freed_memory();
        let (config, weights, sha256) = match source {
            NetworkSource::Random(config) => {
                let vb = VarBuilder::random(0, dtype, &device).with_precision(precision);
                return Ok(Self {
                    model: Vggt::new(config.clone(), &vb)?,
                    weights: None,
                    sha256: None,
                    name: source.name(),
                    is_demo: false,
                    device,
                    dtype,
                    precision,
                });
            }
            NetworkSource::Demo => {
                let weights = demo::weights().map_err(vggt_model::Error::from)?;
                (demo::config()?, weights, None)
            }
            NetworkSource::File {
                weights, sha256, ..
            } => {
                let config = match source.config_file() {
                    Some(path) => Config::open(&path)?,
                    None => Config::default(),
                };
                let weights = Weights::open(weights).map_err(vggt_model::Error::from)?;
                (config, weights, sha256.clone())
            }
        };
        let model = Vggt::builder(&weights)
            .config(config)
            .dtype(dtype)
            .precision(precision)
            .device(device.clone())
            .load()?;
        Ok(Self {
            model,
            name: source.name(),
            is_demo: matches!(source, NetworkSource::Demo),
            weights: Some(weights),
            sha256,
            device,
            dtype,
            precision,
        })
    }

    /// Checks that the weights have the heads that `options` ask for; costs nothing.
    ///
    /// # Errors
    /// [`vggt_model::Error::NoHead`] when they lack one.
    pub fn check_heads(&self, options: &ForwardOptions) -> Result<(), PipelineError> {
        Ok(self.model.check_heads(options)?)
    }

    /// Whether the weights are the demo's.
    pub fn is_demo(&self) -> bool {
        self.is_demo
    }

    /// Whether the weights have a point head.
    pub fn has_point_head(&self) -> bool {
        self.model.point_head().is_some()
    }

    /// Checks that the weights have a depth head, which `wanted_by` needs.
    ///
    /// # Errors
    /// [`vggt_model::Error::NoHead`] when they have none.
    pub fn check_depth_head(&self, wanted_by: &'static str) -> Result<(), PipelineError> {
        match self.model.depth_head() {
            Some(_) => Ok(()),
            None => Err(vggt_model::Error::NoHead {
                head: "depth",
                wanted_by,
            }
            .into()),
        }
    }

    /// Runs the network on images [S, 3, H, W] in [0, 1].
    ///
    /// # Errors
    /// When the input does not fit, the device fails or the watcher stopped it.
    pub fn predict(
        &self,
        images: &Tensor,
        options: &ForwardOptions,
        watcher: &mut dyn Watcher,
    ) -> Result<Predictions, PipelineError> {
        let done = self
            .model
            .forward_with(images, options, &mut NetworkSteps(watcher));
        self.passed(done, images)
    }

    /// As [`Network::predict`], with how much each frame is like the first one.
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn predict_compared(
        &self,
        images: &Tensor,
        options: &ForwardOptions,
        watcher: &mut dyn Watcher,
    ) -> Result<(Predictions, Vec<FrameSimilarity>), PipelineError> {
        let steps = &mut NetworkSteps(watcher);
        let done = self.model.forward_compared(images, options, steps);
        self.passed(done, images)
    }

    /// The result of a pass over `images`, told as this crate does.
    fn passed<T>(&self, done: vggt_model::Result<T>, images: &Tensor) -> Result<T, PipelineError> {
        // Matrices are read where they lie in the file, and zeros where it has become shorter.
        self.check_intact()?;
        done.map_err(|e| match (&e, images.dims()) {
            (vggt_model::Error::Candle(inner), &[frames, _, height, width])
                // The driver's word for it, and cuBLAS'.
                if ["OUT_OF_MEMORY", "ALLOC_FAILED"]
                    .iter()
                    .any(|word| inner.to_string().contains(word)) =>
            {
                PipelineError::OutOfMemory {
                    frames,
                    width,
                    height,
                }
            }
            _ => e.into(),
        })
    }

    /// Checks that the weights' file is still what was loaded.
    ///
    /// # Errors
    /// When the file became shorter or its disk failed: the network has to be loaded again.
    pub fn check_intact(&self) -> Result<(), PipelineError> {
        let intact = self.weights.as_ref().map_or(Ok(()), Weights::check_intact);
        intact.map_err(|e| vggt_model::Error::from(e).into())
    }

    /// Gives the memory that the device keeps for the next pass back to it: after a pass that ran out of it, and when there is
    /// no next pass for now. Waits for the device; does nothing on the CPU.
    pub fn return_device_memory(&self) {
        if let Err(e) = cuda::return_freed_memory(&self.device) {
            tracing::debug!("the device keeps its freed memory: {e}");
        }
    }

    /// How many frames of this size fit into the memory that is free now, and into what the device can count. `None` where the
    /// memory is not known.
    pub fn frames_that_fit(&self, height: usize, width: usize) -> Option<usize> {
        let available = self.memory_for_a_pass()?;
        let size = (height, width);
        let engine = Engine::of(&self.device);
        let fitting = frames_that_fit(self.config(), size, self.dtype, engine, available);
        let most = limits::max_frames(&self.device, self.config(), size, false);
        Some(fitting.min(most.unwrap_or(usize::MAX)).max(1))
    }

    /// Bytes that a pass may take beside the weights. `None` where the memory is not known.
    pub fn memory_for_a_pass(&self) -> Option<u64> {
        // Mapped weights come into memory as they are used; the system counts their pages as free until then, and after.
        let available = self.free_memory()?.saturating_sub(self.mapped_bytes());
        // A fifth stays free for the system, the files and what the estimate does not see.
        Some(available / 5 * 4)
    }

    /// Upper estimate of the bytes a pass over `s` frames takes beside the weights.
    pub fn forward_bytes(&self, s: usize, height: usize, width: usize) -> u64 {
        forward_bytes(
            self.config(),
            s,
            (height, width),
            self.dtype,
            Engine::of(&self.device),
        )
    }

    /// Bytes of the weights in memory; 0 for random ones.
    pub fn weights_bytes(&self) -> u64 {
        let entries = self.weights.iter().flat_map(|weights| weights.iter());
        let elements: usize = entries.map(|(_, entry)| entry.elem_count()).sum();
        (elements * self.dtype.size_in_bytes()) as u64
    }

    /// Bytes of the weights that the network reads where they lie in the file.
    fn mapped_bytes(&self) -> u64 {
        let Some(weights) = self.weights.as_ref().filter(|_| self.device.is_cpu()) else {
            return 0;
        };
        // Matrices of the aggregator were converted when they were loaded, and their pages given back.
        let is_converted = |name: &str, rank| {
            self.precision() == Precision::Fast && rank == 2 && name.starts_with("aggregator.")
        };
        let mapped = weights.iter().filter(|(name, entry)| {
            entry.dtype == DType::F32 && !is_converted(name, entry.shape.len())
        });
        mapped
            .map(|(_, entry)| (entry.elem_count() * DType::F32.size_in_bytes()) as u64)
            .sum()
    }

    fn free_memory(&self) -> Option<u64> {
        match &self.device {
            Device::Cpu => available_memory(),
            // Differs by driver; the frames are not limited where it is not known.
            _ => cuda::free_device_bytes(&self.device),
        }
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// What the weights are called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the weights file as 64 hex digits; `None` for random weights.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn weights_sha256(&self) -> Result<Option<String>, PipelineError> {
        if self.sha256.is_some() {
            return Ok(self.sha256.clone());
        }
        let hash = self.weights.as_ref().map(Weights::sha256).transpose();
        hash.map_err(|e| vggt_model::Error::from(e).into())
    }

    /// The device that the network computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits until the device has done all that it was given. On the CPU that is always so.
    ///
    /// # Errors
    /// When the device fails, also when it did so in a call before.
    pub fn synchronize(&self) -> Result<(), PipelineError> {
        let done = self.device.synchronize();
        done.map_err(|e| vggt_model::Error::from(e).into())
    }

    /// The device's name, as `--device` takes it.
    pub fn device_name(&self) -> &'static str {
        if self.device.is_cpu() { "cpu" } else { "cuda" }
    }

    /// How the transformer multiplies.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The type the transformer computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}
