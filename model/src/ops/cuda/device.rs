//! Calls on a device: modules, addresses, launches.
// Addresses are taken and kernels launched here and nowhere else.
#![allow(
    unsafe_code,
    reason = "the only place that takes addresses and launches kernels"
)]

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
    ComputeCapability,
    call::{Address, Arg, Call, Module},
    code::code,
    target::BUILT,
};

/// The modules of one device.
///
/// A launch of a kernel that was launched before takes no lock and asks the driver for nothing: it walks the devices, nearly
/// always one, and takes the function by its position in [`Module::kernels`].
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
        let mut slot = &FIRST;
        loop {
            let loaded = slot.get_or_init(|| {
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
            slot = &loaded.next;
        }
    }

    /// The function that `call` calls.
    fn function(&self, device: &CudaDevice, call: &Call) -> Result<&CudaFunction> {
        let module = &self.modules[call.module as usize];
        let kernels = call.module.kernels();
        let Some(index) = kernels.iter().position(|name| *name == call.function) else {
            bail!("{}.cu has no kernel {}", call.module.name(), call.function)
        };
        let slot = &module.functions[index];
        if let Some(function) = slot.get() {
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
        Ok(slot.get_or_init(|| function))
    }
}

/// A device and the stream of this thread on it.
pub(super) struct Queue {
    device: CudaDevice,
    stream: Arc<CudaStream>,
}

/// A tensor that a kernel reads, or nothing in its place.
#[derive(Clone, Copy)]
pub(super) struct Parameter<'a> {
    tensor: Option<&'a Tensor>,
    count: usize,
    dtype: DType,
}

impl<'a> Parameter<'a> {
    /// The parameter that is not there; its address is null.
    pub(super) const NONE: Self = Self {
        tensor: None,
        count: 0,
        dtype: DType::F32,
    };

    /// A contiguous tensor with `count` elements of `dtype`. [`Queue::launch`] refuses any other.
    pub(super) fn new(tensor: &'a Tensor, count: usize, dtype: DType) -> Self {
        Self {
            tensor: Some(tensor),
            count,
            dtype,
        }
    }
}

/// The input of an operation, which a kernel reads: contiguous, of `dtype`. [`Queue::launch`] refuses any other.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) storage: &'a CudaStorage,
    pub(super) layout: &'a Layout,
    pub(super) dtype: DType,
}

/// Everything that a kernel reads and writes.
pub(super) struct Operands<'a, const P: usize, const I: usize, const O: usize> {
    pub(super) parameters: [Parameter<'a>; P],
    pub(super) inputs: [Input<'a>; I],
    /// Written, or read and written.
    pub(super) outputs: [&'a mut CudaStorage; O],
}

/// Where the operands are.
pub(super) struct Addresses<const P: usize, const I: usize, const O: usize> {
    pub(super) parameters: [Address; P],
    pub(super) inputs: [Address; I],
    pub(super) outputs: [Address; O],
}

/// Memory that a call may use as long as this lives; what other streams have to wait for is settled with it.
struct Operand<'a> {
    address: Address,
    _sync: Option<SyncOnDrop<'a>>,
}

impl Operand<'_> {
    /// Stands for a parameter that is not there.
    const NONE: Self = Self {
        address: Address::NULL,
        _sync: None,
    };
}

/// A tensor's memory, kept from being written while this lives.
struct Held<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
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
    /// Returns the queue of the device that `storage` is on.
    pub(super) fn of(storage: &CudaStorage) -> Self {
        let device = storage.device().clone();
        let stream = device.cuda_stream();
        Self { device, stream }
    }

    /// The compute capability of the code that this card runs of our kernels.
    pub(super) fn code(&self) -> Result<ComputeCapability> {
        let card = capability(&self.device)?;
        let Some(code) = BUILT.on(card) else {
            bail!("the kernels were not compiled for a card of compute capability {card}")
        };
        Ok(code)
    }

    /// Returns memory for `shape`, with anything in it.
    pub(super) fn uninit(&self, shape: &Shape, dtype: DType) -> Result<CudaStorage> {
        // SAFETY: every caller's kernels write all of it, and any bits are a float.
        unsafe { self.device.alloc_uninit(shape, dtype) }
    }

    /// Keeps the operands in place, computes the call from their addresses, and sends it to the device.
    ///
    /// `call` is one of the functions of `ops::cuda` that return a [`Call`]. They compute from sizes what a kernel reads and
    /// writes; the caller gives them the sizes that the operands have. That is what makes the launch sound, and why this
    /// module is private to `ops::cuda`: parameters are compared with their sizes here, inputs and outputs are allocated for
    /// the shapes that the sizes come from.
    pub(super) fn launch<const P: usize, const I: usize, const O: usize>(
        &self,
        operands: Operands<'_, P, I, O>,
        call: impl FnOnce(Addresses<P, I, O>) -> Result<Call>,
    ) -> Result<()> {
        let Operands {
            parameters,
            inputs,
            outputs,
        } = operands;
        let held = parameters.map(|parameter| {
            let held = parameter.tensor.map(|tensor| {
                let (storage, layout) = tensor.storage_and_layout();
                Held { storage, layout }
            });
            (parameter, held)
        });
        let mut failed = None;
        let mut or_none = |operand: Result<_>| match operand {
            Ok(operand) => operand,
            Err(e) => {
                failed.get_or_insert(e);
                Operand::NONE
            }
        };
        let parameters = held.each_ref().map(|(parameter, held)| {
            or_none(match held {
                Some(held) => self.parameter(held, *parameter),
                None => Ok(Operand::NONE),
            })
        });
        let inputs = inputs.map(|input| or_none(self.input(input)));
        let outputs = outputs.map(|output| or_none(self.output(output)));
        if let Some(e) = failed {
            return Err(e);
        }
        let call = call(Addresses {
            parameters: parameters.each_ref().map(|operand| operand.address),
            inputs: inputs.each_ref().map(|operand| operand.address),
            outputs: outputs.each_ref().map(|operand| operand.address),
        })?;
        // SAFETY: the operands are alive until the end of this function and in place on the stream; the call's sizes are
        // theirs, as said above.
        unsafe { self.submit(&call) }
    }

    /// Returns the address of a contiguous tensor to read.
    fn input<'a>(&'a self, input: Input<'a>) -> Result<Operand<'a>> {
        let Input {
            storage,
            layout,
            dtype,
        } = input;
        if storage.dtype() != dtype {
            let (got, expected) = (storage.dtype().as_str(), dtype.as_str());
            bail!("expected a tensor of {expected}, got {got}")
        }
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got {layout:?}")
        };
        let (address, sync) = each_type!(dtype, T => {
            storage.as_cuda_slice::<T>()?.device_ptr(&self.stream)
        });
        Ok(Operand {
            address: Address(address + (start * dtype.size_in_bytes()) as u64),
            _sync: Some(sync),
        })
    }

    /// Returns the address of a parameter to read.
    fn parameter<'a>(
        &'a self,
        held: &'a Held<'_>,
        parameter: Parameter<'_>,
    ) -> Result<Operand<'a>> {
        let Storage::Cuda(storage) = &*held.storage else {
            bail!("a parameter is on another device")
        };
        let (got, expected) = (held.layout.shape().elem_count(), parameter.count);
        if got != expected {
            bail!("expected a parameter of {expected} elements, got {got}")
        }
        self.input(Input {
            storage,
            layout: held.layout,
            dtype: parameter.dtype,
        })
    }

    /// Returns the address of all of `storage`, to write or to read and write.
    fn output<'a>(&'a self, storage: &'a mut CudaStorage) -> Result<Operand<'a>> {
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
    /// The addresses in it must be those of operands that are alive, as long as the call says, and written only where the
    /// operand is an output.
    unsafe fn submit(&self, call: &Call) -> Result<()> {
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
pub(crate) fn capability(device: &CudaDevice) -> Result<ComputeCapability> {
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    Ok(ComputeCapability::new(major as usize, minor as usize))
}
