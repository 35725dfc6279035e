//! Calls on a device: modules, addresses, launches.
// Raw addresses are read and kernels launched here and nowhere else; the operations call this from marked blocks.
#![allow(unsafe_code)]

use std::sync::{Arc, OnceLock};

use candle_core::{
    CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, StorageRef, Tensor,
    backend::{BackendDevice, BackendStorage},
    bail,
    cuda_backend::{
        DeviceId, WrapErr,
        cudarc::{
            driver::{
                CudaFunction, CudaModule, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig,
                PushKernelArg, SyncOnDrop,
            },
            nvrtc::Ptx,
        },
    },
};
use half::{bf16, f16};

use super::{
    call::{Address, Arg, Call, Module},
    code::code,
    target::BUILT,
};

/// The modules of one device.
///
/// A launch of a kernel that was launched before takes no lock and asks the driver for nothing: it walks the devices, nearly
/// always one, and takes the function by its place in [`Module::kernels`].
struct Loaded {
    device: DeviceId,
    modules: [LoadedModule; Module::ALL.len()],
    /// The device that launched its first kernel after this one.
    next: Next,
}

type Next = OnceLock<Box<Loaded>>;

/// A module, loaded when the first of its kernels is launched.
struct LoadedModule {
    module: OnceLock<Arc<CudaModule>>,
    /// In the order of [`Module::kernels`].
    functions: Box<[OnceLock<CudaFunction>]>,
}

impl Loaded {
    /// The modules of `device`. They stay until the program ends, as a program opens few devices.
    fn on(device: DeviceId) -> &'static Self {
        static FIRST: Next = OnceLock::new();
        let mut place = &FIRST;
        loop {
            let loaded = place.get_or_init(|| {
                Box::new(Self {
                    device,
                    modules: Module::ALL.map(|module| LoadedModule {
                        module: OnceLock::new(),
                        functions: module.kernels().iter().map(|_| OnceLock::new()).collect(),
                    }),
                    next: OnceLock::new(),
                })
            });
            if loaded.device == device {
                return loaded;
            }
            place = &loaded.next;
        }
    }

    /// The function that `call` calls.
    fn function(&self, device: &CudaDevice, call: &Call) -> Result<&CudaFunction> {
        let module = &self.modules[call.module as usize];
        let kernels = call.module.kernels();
        let Some(number) = kernels.iter().position(|name| *name == call.function) else {
            bail!("{}.cu has no kernel {}", call.module.name(), call.function)
        };
        let place = &module.functions[number];
        if let Some(function) = place.get() {
            return Ok(function);
        }
        // When several threads come here at once, each loads what it needs and the first one's stays.
        if module.module.get().is_none() {
            let code = Ptx::from_binary(code(call.module).to_vec());
            let loaded = device.cuda_stream().context().load_module(code).w()?;
            drop(module.module.set(loaded));
        }
        let Some(loaded) = module.module.get() else {
            bail!("{}.cu was not loaded", call.module.name())
        };
        let function = loaded.load_function(call.function).w()?;
        Ok(place.get_or_init(|| function))
    }
}

/// A device and the stream of this thread on it.
pub(in crate::ops) struct Queue {
    device: CudaDevice,
    stream: Arc<CudaStream>,
}

/// Memory that calls may touch as long as this lives; what other streams have to wait for is settled with it.
pub(in crate::ops) struct Operand<'a> {
    pub(in crate::ops) address: Address,
    _sync: Option<SyncOnDrop<'a>>,
}

impl Operand<'_> {
    /// What stands for a parameter that is not there.
    pub(in crate::ops) fn none() -> Self {
        Self {
            address: Address::NULL,
            _sync: None,
        }
    }
}

/// A tensor's memory, kept from being written while this lives.
pub(in crate::ops) struct Held<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

/// Keeps a tensor's memory for an [`Operand`].
pub(in crate::ops) fn hold(tensor: &Tensor) -> Held<'_> {
    let (storage, layout) = tensor.storage_and_layout();
    Held { storage, layout }
}

/// Runs `$body` with `$slice`, a macro because the slices of different types are different types.
macro_rules! each_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F16 => {
                type $T = f16;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            other => bail!("no kernel computes in {}", other.as_str()),
        }
    };
}

impl Queue {
    pub(in crate::ops) fn of(storage: &CudaStorage) -> Self {
        let device = storage.device().clone();
        let stream = device.cuda_stream();
        Self { device, stream }
    }

    /// The compute capability that the code was compiled for which this card runs of our kernels.
    pub(in crate::ops) fn code(&self) -> Result<(usize, usize)> {
        let card = capability(&self.device)?;
        let Some(code) = BUILT.on(card) else {
            bail!("the kernels were not compiled for a card of compute capability {card:?}")
        };
        Ok(code)
    }

    /// Memory for `shape`, with anything in it.
    pub(in crate::ops) fn unwritten(&self, shape: &Shape, dtype: DType) -> Result<CudaStorage> {
        // SAFETY: every caller's kernels write all of it; numbers of any bits are numbers.
        unsafe { self.device.alloc_uninit(shape, dtype) }
    }

    /// A contiguous tensor of `dtype` to read.
    pub(in crate::ops) fn input<'a>(
        &'a self,
        storage: &'a CudaStorage,
        layout: &Layout,
        dtype: DType,
    ) -> Result<Operand<'a>> {
        if storage.dtype() != dtype {
            let other = storage.dtype();
            bail!("{} among {}", other.as_str(), dtype.as_str())
        }
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("kernels take contiguous tensors, not {layout:?}")
        };
        let (address, sync) = each_type!(dtype, T => {
            storage.as_cuda_slice::<T>()?.device_ptr(&self.stream)
        });
        Ok(Operand {
            address: Address(address + (start * dtype.size_in_bytes()) as u64),
            _sync: Some(sync),
        })
    }

    /// A parameter of `count` numbers of `dtype` to read.
    pub(in crate::ops) fn parameter<'a>(
        &'a self,
        held: &'a Held<'_>,
        count: usize,
        dtype: DType,
    ) -> Result<Operand<'a>> {
        let Storage::Cuda(storage) = &*held.storage else {
            bail!("a parameter is on another device")
        };
        let there = held.layout.shape().elem_count();
        if there != count {
            bail!("a parameter of {there} numbers where {count} are needed")
        }
        self.input(storage, held.layout, dtype)
    }

    /// All of `storage` to write, or to read and write.
    pub(in crate::ops) fn output<'a>(
        &'a self,
        storage: &'a mut CudaStorage,
    ) -> Result<Operand<'a>> {
        let dtype = storage.dtype();
        let (address, sync) = each_type!(dtype, T => {
            storage.as_cuda_slice_mut::<T>()?.device_ptr_mut(&self.stream)
        });
        Ok(Operand {
            address: Address(address),
            _sync: Some(sync),
        })
    }

    /// Sends a call to the device.
    ///
    /// # Safety
    /// The addresses in it must be those of operands that are alive, as long as the call says, and written only through
    /// [`Queue::output`].
    pub(in crate::ops) unsafe fn launch(&self, call: &Call) -> Result<()> {
        if call.grid == 0 {
            return Ok(());
        }
        let function = Loaded::on(self.device.id()).function(&self.device, call)?;
        let mut builder = self.stream.launch_builder(function);
        for arg in &call.args {
            match arg {
                Arg::Address(Address(x)) => builder.arg(x),
                Arg::I32(x) => builder.arg(x),
                Arg::I64(x) => builder.arg(x),
                Arg::F32(x) => builder.arg(x),
            };
        }
        let config = LaunchConfig {
            grid_dim: (call.grid, 1, 1),
            block_dim: (call.block, 1, 1),
            shared_mem_bytes: call.shared_bytes,
        };
        // SAFETY: the arguments have the sizes and the order of the kernel's parameters, which the tests check for every
        // kernel; the rest is the caller's promise.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// The compute capability of a card.
pub(crate) fn capability(device: &CudaDevice) -> Result<(usize, usize)> {
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    Ok((major as usize, minor as usize))
}
