//! How much of a CUDA device's memory is free, and how much tensors took of it.

use candle_core::Device;

#[cfg(feature = "cuda")]
use super::pool::Pool;

/// Memory that tensors take of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes of tensors.
    pub used_bytes: u64,
    /// Bytes that the driver took from the device for them. It keeps some more than it uses.
    pub reserved_bytes: u64,
}

impl DeviceMemory {
    /// Returns the bytes that the next tensors can have without more of the device's memory.
    #[cfg(any(feature = "cuda", test))]
    fn unused_bytes(self) -> u64 {
        self.reserved_bytes.saturating_sub(self.used_bytes)
    }
}

/// Returns the peak of the memory that tensors took of a CUDA device since [`reset_device_peak`], or since the start of the
/// program. `None` on the CPU and where the driver does not count.
///
/// The driver's own memory, which holds kernels and cuBLAS' workspace, is not in it.
pub fn device_peak(device: &Device) -> Option<DeviceMemory> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => Pool::of(cuda).ok()??.peak().ok(),
        _ => None,
    }
}

/// Starts the measurement of [`device_peak`] again, from what is in use now. Does nothing on the CPU.
pub fn reset_device_peak(device: &Device) {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            // Where it fails, `device_peak` has the peak of a longer time, or says that there is none.
            if let Ok(Some(pool)) = Pool::of(cuda) {
                let _unchanged = pool.reset_peak();
            }
        }
        _ => {}
    }
}

/// Returns the bytes that a CUDA device has for this program: those that are free, and those that the driver's memory pool has reserved
/// and does not use. Waits for the device. `None` on the CPU and where the driver does not say.
pub fn free_device_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            // Memory that was freed counts as used until the device has executed the free.
            device.synchronize().ok()?;
            let (free, _total) = cuda.cuda_stream().context().mem_get_info().ok()?;
            let pool = Pool::of(cuda).ok()?.map(|pool| pool.current()).transpose();
            let unused = pool.ok()?.map_or(0, DeviceMemory::unused_bytes);
            Some(free as u64 + unused)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_no_device_memory() {
        reset_device_peak(&Device::Cpu);
        assert_eq!(device_peak(&Device::Cpu), None);
        assert_eq!(free_device_bytes(&Device::Cpu), None);
    }

    #[test]
    fn what_a_pool_keeps_beyond_its_use_is_free_for_the_next_tensors() {
        let unused = |used_bytes, reserved_bytes| {
            let memory = DeviceMemory {
                used_bytes,
                reserved_bytes,
            };
            memory.unused_bytes()
        };
        assert_eq!(unused(3, 10), 7);
        // The two are read one after the other, and another thread may allocate between them.
        assert_eq!(unused(11, 10), 0);
    }
}
