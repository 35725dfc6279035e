//! The driver's memory pool of a device.
//!
//! candle allocates with `cuMemAllocAsync`, which takes memory from the device's default pool. Memory that is freed goes back
//! to that pool, and the pool keeps it reserved for the next allocation. `cuMemGetInfo` counts what is reserved as used.

use std::{ffi::c_void, sync::Arc};

use candle_core::CudaDevice;
use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{CUmemPool_attribute as Attribute, CUmemoryPool},
};

use super::DeviceMemory;

/// The default memory pool of a device.
pub(crate) struct Pool {
    context: Arc<CudaContext>,
    /// Belongs to the driver, which never destroys a default pool.
    pool: CUmemoryPool,
}

impl Pool {
    /// The default pool of `device`; `None` for a device without memory pools, where cudarc allocates with `cuMemAlloc`.
    ///
    /// # Errors
    /// When the driver fails.
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    pub(crate) fn of(device: &CudaDevice) -> Result<Option<Self>, DriverError> {
        let context = device.cuda_stream().context().clone();
        if !context.has_async_alloc() {
            return Ok(None);
        }
        context.bind_to_thread()?;
        // SAFETY: the device is the one that the driver made this context for.
        let pool = unsafe { result::device::get_default_mem_pool(context.cu_device()) }?;
        Ok(Some(Self { context, pool }))
    }

    /// Keeps freed memory reserved until [`Pool::trim`].
    ///
    /// The default threshold is 0: each time that the host waits for the device, the driver unmaps what is unused, and the
    /// next pass maps the same gigabytes again.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn keep_freed(&self) -> Result<(), DriverError> {
        self.set(Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)
    }

    /// Gives all memory that is not in use back to the device, for other processes.
    ///
    /// Only memory whose free has been executed counts as not in use: synchronize the device first.
    ///
    /// # Errors
    /// When the driver fails.
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    pub(crate) fn trim(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        // SAFETY: the pool is a device's default pool, which exists as long as the driver.
        unsafe { result::mem_pool::trim_to(self.pool, 0) }
    }

    /// What is in use and what is reserved now.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn current(&self) -> Result<DeviceMemory, DriverError> {
        Ok(DeviceMemory {
            used_bytes: self.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
            reserved_bytes: self.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        })
    }

    /// The most that was in use and that was reserved since [`Pool::reset_peak`], each at its own time.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn peak(&self) -> Result<DeviceMemory, DriverError> {
        Ok(DeviceMemory {
            used_bytes: self.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
            reserved_bytes: self.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
        })
    }

    /// Starts the measurement of [`Pool::peak`] again.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn reset_peak(&self) -> Result<(), DriverError> {
        // The driver takes no other number than 0 for these, and goes on from what is current.
        self.set(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
        self.set(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, 0)
    }

    /// An attribute whose value is a `cuuint64_t`, as that of every one named in this module is (`cuda.h`).
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    fn get(&self, attribute: Attribute) -> Result<u64, DriverError> {
        self.context.bind_to_thread()?;
        let mut value = 0u64;
        let place: *mut c_void = (&raw mut value).cast();
        // SAFETY: the pool as in `trim`; the value has the type of the attribute.
        unsafe { result::mem_pool::get_attribute(self.pool, attribute, place) }?;
        Ok(value)
    }

    /// Sets an attribute of the same kind.
    #[allow(unsafe_code, reason = "calls CUDA's driver")]
    fn set(&self, attribute: Attribute, mut value: u64) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        let place: *mut c_void = (&raw mut value).cast();
        // SAFETY: as in `get`; the driver only reads the value.
        unsafe { result::mem_pool::set_attribute(self.pool, attribute, place) }
    }
}
