//! Devices, as users name them.

use std::{fmt, str::FromStr};

use candle_core::Device;
use vggt_model::cuda::{self, CudaError};

use crate::pipeline::PipelineError;

/// Which device, as a user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => s
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("invalid device {s:?}: expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// A device that was opened.
#[derive(Debug, Clone)]
pub struct OpenedDevice {
    /// The device.
    pub device: Device,
    /// Why it is the CPU, where `Auto` would have taken a CUDA device.
    pub fallback: Option<CudaError>,
}

impl DeviceChoice {
    /// What `Auto` stands for on this machine.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto if cuda::usable(0).is_ok() => Self::Cuda(0),
            Self::Auto => Self::Cpu,
            given => given,
        }
    }

    /// Opens the device. With `Auto` that is the CPU where CUDA cannot be used; a program that has CUDA says so.
    ///
    /// # Errors
    /// When a CUDA device was asked for and cannot be used, or this build has no CUDA.
    pub fn open(self) -> Result<Device, PipelineError> {
        let opened = self.open_or_fall_back()?;
        if let Some(why) = opened.fallback.filter(|why| *why != CudaError::NotBuilt) {
            tracing::warn!("{why}: using the CPU");
        }
        Ok(opened.device)
    }

    /// Opens the device, and says why it is the CPU where it is that only because CUDA cannot be used. Logs nothing.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`].
    pub fn open_or_fall_back(self) -> Result<OpenedDevice, PipelineError> {
        let opened = |device| OpenedDevice {
            device,
            fallback: None,
        };
        match self {
            Self::Cpu => Ok(opened(Device::Cpu)),
            Self::Auto => Ok(cuda::open(0).map_or_else(
                |why| OpenedDevice {
                    device: Device::Cpu,
                    fallback: Some(why),
                },
                opened,
            )),
            Self::Cuda(n) => match cuda::open(n) {
                Ok(device) => Ok(opened(device)),
                Err(why) => Err(PipelineError::Device {
                    wanted: self.to_string(),
                    why: why.to_string(),
                }),
            },
        }
    }
}
