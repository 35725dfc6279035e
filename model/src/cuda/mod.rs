//! CUDA devices: whether one can be used and why not, opening it, and its memory. The only entry point to them.
//!
//! A program with the feature `cuda`, or `cuda-kernel-tests`, links none of CUDA's libraries: see `lazy`.

#[cfg(all(
    target_arch = "x86_64",
    linux_calls,
    any(feature = "cuda-kernel-tests", test)
))]
mod lazy;
#[cfg(all(
    target_arch = "x86_64",
    linux_calls,
    any(feature = "cuda-kernel-tests", test)
))]
mod libraries;
mod memory;
#[cfg(feature = "cuda")]
mod pool;
// Elsewhere candle's own are linked, and CUDA's runtime with them.
#[cfg(all(feature = "cuda", target_arch = "x86_64", linux_calls))]
mod quantized;

use candle_core::Device;

pub use crate::ops::cuda::ComputeCapability;
pub use memory::{DeviceMemory, device_peak, free_device_bytes, reset_device_peak};

/// Why no CUDA device can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The program has no CUDA in it.
    #[error("this program was built without CUDA (cargo build --features cuda)")]
    NotBuilt,
    /// There is no driver.
    #[error("this machine has no NVIDIA driver ({0})")]
    NoDriver(String),
    /// The driver knows no card of this number.
    #[error("there is no CUDA device {ordinal}: the NVIDIA driver finds {count}")]
    NoDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The driver cannot run what this program was compiled to.
    #[error(
        "the NVIDIA driver is for CUDA {}.{}, this program needs {}.{}: a newer driver is needed",
        driver / 1000, driver % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    OldDriver {
        /// CUDA's version of the driver: 1000 times the major and 10 times the minor number.
        driver: u32,
        /// The same of the compiler this program was built with.
        needed: u32,
    },
    /// The card cannot run what this program was compiled to.
    #[error(
        "CUDA device {ordinal} has compute capability {capability}, this program needs {needed}"
    )]
    OldDevice {
        /// The number of the device.
        ordinal: usize,
        /// Its compute capability.
        capability: ComputeCapability,
        /// The least that candle's kernels were compiled for.
        needed: ComputeCapability,
    },
    /// The kernels were compiled for other cards.
    #[error(
        "this program's kernels were not compiled for CUDA device {ordinal}, whose compute capability is {capability}; \
         build it with VGGT_CUDA_ARCHS={}{}", capability.major, capability.minor
    )]
    NoCode {
        /// The number of the device.
        ordinal: usize,
        /// Its compute capability.
        capability: ComputeCapability,
    },
    /// A library of CUDA is not there.
    #[error(
        "a library of CUDA {0}.x cannot be loaded ({1}); install it, or name its folder in LD_LIBRARY_PATH"
    )]
    NoLibrary(u32, String),
    /// Something else, in the words of the driver or of candle.
    #[error("{0}")]
    Failed(String),
}

/// Whether the CUDA device `ordinal` is there with all that a network needs. Opens nothing.
///
/// # Errors
/// When it cannot be used.
pub fn usable(ordinal: usize) -> Result<(), CudaError> {
    built::usable(ordinal)
}

/// Opens the CUDA device `ordinal`.
///
/// # Errors
/// When it cannot be used.
pub fn open(ordinal: usize) -> Result<Device, CudaError> {
    built::usable(ordinal)?;
    // candle reports failures, but cudarc below it has a panic here and there.
    let opened = std::panic::catch_unwind(|| Device::new_cuda(ordinal));
    match opened {
        Ok(Ok(device)) => built::prepare(&device).map(|()| device),
        Ok(Err(e)) => Err(CudaError::Failed(e.to_string())),
        Err(_) => Err(CudaError::Failed("opening the device panicked".to_owned())),
    }
}

/// Gives what `device` keeps of its memory without using it back to it. CUDA keeps freed memory for the next tensors; other
/// processes can have it after this. Waits for the device; does nothing on the CPU.
///
/// # Errors
/// When the driver fails.
pub fn return_freed_memory(device: &Device) -> Result<(), CudaError> {
    built::return_freed_memory(device)
}

/// A card, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub capability: ComputeCapability,
    /// All of its memory.
    pub memory_bytes: u64,
}

/// What `device` is; `None` for the CPU.
///
/// # Errors
/// When the driver does not answer.
pub fn describe(device: &Device) -> Result<Option<Description>, CudaError> {
    built::describe(device)
}

#[cfg(not(feature = "cuda"))]
mod built {
    use super::{CudaError, Description, Device};

    pub(super) fn usable(_ordinal: usize) -> Result<(), CudaError> {
        Err(CudaError::NotBuilt)
    }

    pub(super) fn prepare(_device: &Device) -> Result<(), CudaError> {
        Ok(())
    }

    pub(super) fn return_freed_memory(_device: &Device) -> Result<(), CudaError> {
        Ok(())
    }

    pub(super) fn describe(_device: &Device) -> Result<Option<Description>, CudaError> {
        Ok(None)
    }
}

#[cfg(feature = "cuda")]
mod built {
    use cudarc::driver::{
        DriverError,
        result::{self, device},
        sys::{self, CUdevice_attribute},
    };

    use super::{ComputeCapability, CudaError, Description, Device, pool::Pool};
    use crate::ops;

    /// CUDA's version of the compiler that candle's kernels were compiled with, as the driver numbers its own.
    fn needed_version() -> u32 {
        env!("VGGT_CUDA_VERSION").parse().unwrap_or(0)
    }

    impl From<DriverError> for CudaError {
        fn from(e: DriverError) -> Self {
            Self::Failed(format!("the NVIDIA driver says: {e}"))
        }
    }

    pub(super) fn usable(ordinal: usize) -> Result<(), CudaError> {
        libraries_are_there(Part::Driver)?;
        // With a driver but no card this fails; the count says it more plainly.
        let count = match result::init() {
            Ok(()) => device::get_count()?,
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(e) => return Err(e.into()),
        };
        let count = usize::try_from(count).unwrap_or(0);
        let Some(number) = i32::try_from(ordinal).ok().filter(|_| ordinal < count) else {
            return Err(CudaError::NoDevice { ordinal, count });
        };
        // candle's kernels are PTX, which a driver reads up to its own version.
        let (driver, needed) = (driver_version()?, needed_version());
        if driver < needed {
            return Err(CudaError::OldDriver { driver, needed });
        }
        let capability = capability(number)?;
        if let Some(needed) = ops::cuda::of_candle().filter(|needed| capability < *needed) {
            return Err(CudaError::OldDevice {
                ordinal,
                capability,
                needed,
            });
        }
        if ops::cuda::BUILT.on(capability).is_none() {
            return Err(CudaError::NoCode {
                ordinal,
                capability,
            });
        }
        libraries_are_there(Part::Toolkit)
    }

    /// Sets what candle leaves at its default.
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    pub(super) fn prepare(device: &Device) -> Result<(), CudaError> {
        let Device::Cuda(device) = device else {
            return Ok(());
        };
        // By default cudarc creates two events with every allocation and destroys them with it, four calls of the driver, so
        // that uses of the memory in several streams can be ordered by them.
        // SAFETY: cudarc records these events and waits for them only while a context has streams of its own
        // (`CudaContext::is_managing_stream_synchronization`), that is after `CudaContext::new_stream` or `CudaStream::fork`.
        // candle calls these only in `Device::new_cuda_with_stream`, which this program does not call: all of its work is in
        // per-thread default streams. So the events are never used, and nothing is ordered differently without them.
        unsafe { device.disable_event_tracking() };
        if let Some(pool) = Pool::of(device)? {
            pool.keep_freed()?;
        }
        Ok(())
    }

    pub(super) fn return_freed_memory(device: &Device) -> Result<(), CudaError> {
        let Device::Cuda(cuda) = device else {
            return Ok(());
        };
        device
            .synchronize()
            .map_err(|e| CudaError::Failed(e.to_string()))?;
        if let Some(pool) = Pool::of(cuda)? {
            pool.trim()?;
        }
        Ok(())
    }

    pub(super) fn describe(device: &Device) -> Result<Option<Description>, CudaError> {
        let Device::Cuda(device) = device else {
            return Ok(None);
        };
        let stream = device.cuda_stream();
        let card = stream.context();
        let (_free, all) = card.mem_get_info()?;
        Ok(Some(Description {
            name: card.name()?,
            capability: ops::cuda::capability(device)
                .map_err(|e| CudaError::Failed(e.to_string()))?,
            memory_bytes: all as u64,
        }))
    }

    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    fn driver_version() -> Result<u32, CudaError> {
        let mut version = 0;
        // SAFETY: writes one number.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// The compute capability of a device: the major and the minor number.
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    fn capability(number: i32) -> Result<ComputeCapability, CudaError> {
        let device = device::get(number)?;
        // SAFETY: the device is from the driver.
        let attribute = |which| unsafe { device::get_attribute(device, which) };
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(ComputeCapability::new(major as usize, minor as usize))
    }

    /// What is loaded at run time.
    enum Part {
        Driver,
        /// What candle opens a device with.
        Toolkit,
    }

    #[cfg(all(target_arch = "x86_64", linux_calls))]
    fn libraries_are_there(part: Part) -> Result<(), CudaError> {
        use super::libraries::{BLAS, DRIVER, RAND};

        match part {
            Part::Driver => DRIVER.load().map(drop).map_err(CudaError::NoDriver),
            Part::Toolkit => {
                let loaded = BLAS.load().and_then(|_| RAND.load());
                loaded
                    .map(drop)
                    .map_err(|why| CudaError::NoLibrary(needed_version() / 1000, why))
            }
        }
    }

    // Elsewhere they are linked: the program would not have started.
    #[cfg(not(all(target_arch = "x86_64", linux_calls)))]
    fn libraries_are_there(_part: Part) -> Result<(), CudaError> {
        Ok(())
    }
}
