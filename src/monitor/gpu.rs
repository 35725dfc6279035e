//! GPU load and memory through NVML, NVIDIA's management library, which is loaded at run time.

use nvml_wrapper::Nvml;

/// The GPUs of this machine, or why none can be asked.
#[derive(Debug)]
pub(super) enum Gpu {
    /// The library is loaded and there is at least one GPU.
    Nvml(Box<Nvml>),
    /// Zeros are all there is to say.
    Absent(String),
}

/// Whether GPU figures are measured or zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuState {
    /// Measured, on this many GPUs.
    Present(u32),
    /// Always zero, and why.
    Absent(String),
}

/// What all GPUs did since the last reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct GpuReading {
    /// Mean load of all GPUs, 0 to 100.
    pub(super) percent: f64,
    /// Memory in use on all GPUs together.
    pub(super) used_bytes: u64,
}

impl Gpu {
    /// Loads the library; a missing driver or GPU is not an error.
    pub(super) fn open() -> Self {
        if cfg!(target_feature = "crt-static") {
            // A static program cannot load a library that was linked against another C library than its own.
            return Self::Absent("the static program cannot load NVIDIA's library".to_owned());
        }
        match Nvml::init().map(|nvml| (nvml.device_count(), nvml)) {
            Ok((Ok(0), _)) => Self::Absent("the driver knows no GPU".to_owned()),
            Ok((Ok(_), nvml)) => Self::Nvml(Box::new(nvml)),
            Ok((Err(e), _)) => Self::Absent(e.to_string()),
            // The loader's message is about search paths and does not help.
            Err(nvml_wrapper::error::NvmlError::LibloadingError(_)) => {
                Self::Absent("there is no NVIDIA driver".to_owned())
            }
            Err(e) => Self::Absent(e.to_string()),
        }
    }

    pub(super) fn state(&self) -> GpuState {
        match self {
            Self::Nvml(nvml) => GpuState::Present(nvml.device_count().unwrap_or(0)),
            Self::Absent(why) => GpuState::Absent(why.clone()),
        }
    }

    /// Load and memory now. A GPU that does not answer (it is reset, or hides its load) counts as idle and empty:
    /// the other figures go on.
    pub(super) fn read(&self) -> GpuReading {
        let Self::Nvml(nvml) = self else {
            return GpuReading::default();
        };
        let count = nvml.device_count().unwrap_or(0);
        let mut sum = GpuReading::default();
        for device in (0..count).filter_map(|i| nvml.device_by_index(i).ok()) {
            sum.percent += device
                .utilization_rates()
                .map_or(0.0, |rates| f64::from(rates.gpu));
            sum.used_bytes += device.memory_info().map_or(0, |memory| memory.used);
        }
        sum.percent /= f64::from(count.max(1));
        sum
    }
}

/// The memory of the GPUs of this machine.
#[derive(Debug)]
pub struct GpuMemory(Gpu);

impl GpuMemory {
    /// Loads the library; a missing driver or GPU is not an error.
    pub fn open() -> Self {
        Self(Gpu::open())
    }

    /// Returns the used bytes and all bytes of each GPU; of none where there is none. One that does not answer is left out.
    pub fn read(&self) -> Vec<(u64, u64)> {
        let Gpu::Nvml(nvml) = &self.0 else {
            return Vec::new();
        };
        let count = nvml.device_count().unwrap_or(0);
        let devices = (0..count).filter_map(|i| nvml.device_by_index(i).ok());
        let memory = devices.filter_map(|device| device.memory_info().ok());
        memory.map(|memory| (memory.used, memory.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_gpu_reads_zeros() {
        let gpu = Gpu::Absent("there is no NVIDIA driver".to_owned());
        assert_eq!(gpu.read(), GpuReading::default());
        assert_eq!(
            gpu.state(),
            GpuState::Absent("there is no NVIDIA driver".to_owned())
        );
    }
}
