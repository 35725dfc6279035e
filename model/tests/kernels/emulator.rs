//! Runs kernels on the CPU: their sources as C++, through `model/kernels/cuda_cpu.h`.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};
use libloading::Library;
use vggt_model::ops::cuda::{Address, Arg, Call, Module};

/// The order in which the threads of a block take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The first first; asynchronous copies happen when they are waited for.
    Forward,
    /// The last first; asynchronous copies happen at once.
    Backward,
    /// Anyhow; asynchronous copies happen when they are waited for.
    Shuffled,
}

impl Order {
    pub(crate) const ALL: [Self; 3] = [Self::Forward, Self::Backward, Self::Shuffled];

    fn number(self) -> u32 {
        match self {
            Self::Forward => 0,
            Self::Backward => 1,
            Self::Shuffled => 20,
        }
    }
}

/// A `.cu` file, compiled as C++ and loaded.
pub(crate) struct Emulator {
    library: Library,
}

/// As `Buffer` of `cuda_cpu.h`.
#[repr(C)]
struct Buffer {
    start: *mut u8,
    bytes: usize,
    writable: u32,
}

/// As `Launch` of `cuda_cpu.h`.
#[repr(C)]
struct Launch {
    grid: [u32; 3],
    block: u32,
    shared_bytes: u32,
    order: u32,
    buffers: *const Buffer,
    buffer_count: usize,
    argument_sizes: *const u32,
    argument_count: usize,
}

type Entry = unsafe extern "C" fn(*const Launch, *const *const c_void, *mut c_char, usize) -> c_int;

impl Emulator {
    /// That of a file of `model/kernels`, compiled once for all tests.
    pub(crate) fn of(module: Module) -> &'static Self {
        static LOADED: [OnceLock<Emulator>; Module::ALL.len()] =
            [const { OnceLock::new() }; Module::ALL.len()];
        let index = Module::ALL.iter().position(|m| *m == module).unwrap();
        LOADED[index].get_or_init(|| Self::compile(&source(module)))
    }

    /// Compiles `source` and loads it.
    pub(crate) fn compile(source: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("kernels.so");
        Self::build(source, &library);
        // SAFETY: a library of ours, which does nothing when it is loaded. Its file may go once it is.
        #[allow(unsafe_code, reason = "loads a library and calls it")]
        let library = unsafe { Library::new(library) }.unwrap();
        Self { library }
    }

    /// Makes the shared library `library` of `source`, with the system's C++ compiler or the one that `CXX` names.
    pub(crate) fn build(source: &Path, library: &Path) {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let done = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra"])
            .args(["-Werror", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE"])
            .arg("-I")
            .arg(kernels())
            .args(["-x", "c++"])
            .arg(source)
            .arg("-o")
            .arg(library)
            .output()
            .unwrap_or_else(|e| panic!("cannot run {compiler} (tools/setup --tests): {e}"));
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success(),
            "{} does not compile:\n{errors}",
            source.display()
        );
    }

    /// Whether it has a kernel of this name.
    pub(crate) fn has(&self, function: &str) -> bool {
        let name = format!("{function}_on_cpu");
        // SAFETY: as in `run`; it is not called.
        #[allow(unsafe_code, reason = "loads a library and calls it")]
        unsafe { self.library.get::<Entry>(name.as_bytes()) }.is_ok()
    }

    /// Runs a call over the memory that it may touch. Gives what the kernel did wrong.
    pub(crate) fn run(
        &self,
        call: &Call,
        order: Order,
        inputs: &[&Memory],
        outputs: &mut [&mut Memory],
    ) -> Result<(), String> {
        if call.grid == 0 {
            return Ok(());
        }
        let buffer = |memory: &Memory, writable: bool| Buffer {
            start: memory.address().0 as *mut u8,
            bytes: memory.bytes,
            writable: writable.into(),
        };
        let mut buffers: Vec<Buffer> = inputs.iter().map(|m| buffer(m, false)).collect();
        buffers.extend(outputs.iter().map(|m| buffer(m, true)));
        let (sizes, pointers): (Vec<u32>, Vec<*const c_void>) =
            call.args.iter().map(of_arg).unzip();
        let launch = Launch {
            grid: [call.grid, 1, 1],
            block: call.block,
            shared_bytes: call.shared_bytes,
            order: order.number(),
            buffers: buffers.as_ptr(),
            buffer_count: buffers.len(),
            argument_sizes: sizes.as_ptr(),
            argument_count: sizes.len(),
        };
        let mut message = [0 as c_char; 512];
        let name = format!("{}_on_cpu", call.function);
        // SAFETY: the entry point has this signature by KERNEL_ENTRY; all it is given outlives the call, and it touches the
        // buffers alone, which belong to us: that is what it checks.
        #[allow(unsafe_code, reason = "loads a library and calls it")]
        let (failed, message) = unsafe {
            let entry = self.library.get::<Entry>(name.as_bytes()).unwrap();
            let failed = entry(
                &launch,
                pointers.as_ptr(),
                message.as_mut_ptr(),
                message.len(),
            );
            (failed != 0, CStr::from_ptr(message.as_ptr()))
        };
        if failed {
            return Err(message.to_string_lossy().into_owned());
        }
        let all = inputs.iter().copied().chain(outputs.iter().map(|m| &**m));
        match all.into_iter().all(Memory::guards_hold) {
            true => Ok(()),
            false => Err("memory was written around a buffer".to_owned()),
        }
    }
}

/// The file of a module.
pub(crate) fn source(module: Module) -> PathBuf {
    kernels().join(module.name()).with_extension("cu")
}

fn kernels() -> PathBuf {
    crate::crate_dir().join("kernels")
}

/// Size of an argument, and where it is.
fn of_arg(arg: &Arg) -> (u32, *const c_void) {
    fn at<T>(x: &T) -> (u32, *const c_void) {
        (size_of::<T>() as u32, std::ptr::from_ref(x).cast())
    }
    match arg {
        Arg::Address(Address(x)) => at(x),
        Arg::I32(x) => at(x),
        Arg::I64(x) => at(x),
        Arg::F32(x) => at(x),
    }
}

/// What stands for a tensor in the memory of the device, between two guard zones.
pub(crate) struct Memory {
    /// Of 16 bytes each, so that the start is as aligned as CUDA's is.
    blocks: Vec<u128>,
    /// Bytes before the first element.
    start: usize,
    bytes: usize,
    dtype: DType,
}

const GUARD_BYTES: usize = 256;
const GUARD: u8 = 0x5a;

impl Memory {
    /// Holds `values` as `dtype`, `offset` values beyond a multiple of 16 bytes.
    pub(crate) fn at_offset(values: &[f32], dtype: DType, offset: usize) -> Self {
        let mut memory = Self::unwritten(values.len(), dtype, offset);
        let bytes = memory.contents_mut();
        match dtype {
            DType::F32 => fill(bytes, values.iter().map(|x| x.to_ne_bytes())),
            DType::F16 => fill(
                bytes,
                values.iter().map(|x| f16::from_f32(*x).to_ne_bytes()),
            ),
            DType::BF16 => fill(
                bytes,
                values.iter().map(|x| bf16::from_f32(*x).to_ne_bytes()),
            ),
            other => panic!("kernels compute in {other:?}?"),
        }
        memory
    }

    pub(crate) fn new(values: &[f32], dtype: DType) -> Self {
        Self::at_offset(values, dtype, 0)
    }

    /// Holds NaN.
    pub(crate) fn unwritten(count: usize, dtype: DType, offset: usize) -> Self {
        let start = GUARD_BYTES + offset * dtype.size_in_bytes();
        let bytes = count * dtype.size_in_bytes();
        let blocks = (start + bytes + GUARD_BYTES).div_ceil(16);
        let mut memory = Self {
            blocks: vec![u128::from_ne_bytes([GUARD; 16]); blocks],
            start,
            bytes,
            dtype,
        };
        memory.contents_mut().fill(0xff);
        memory
    }

    pub(crate) fn address(&self) -> Address {
        Address(self.blocks.as_ptr() as u64 + self.start as u64)
    }

    pub(crate) fn contents(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[self.start..][..self.bytes]
    }

    pub(crate) fn contents_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[self.start..][..self.bytes]
    }

    fn guards_hold(&self) -> bool {
        let all: &[u8] = bytemuck::cast_slice(&self.blocks);
        let after = &all[self.start + self.bytes..];
        all[..self.start].iter().chain(after).all(|b| *b == GUARD)
    }

    /// What it holds, as F64.
    pub(crate) fn tensor(&self, shape: impl Into<Shape>) -> Tensor {
        let bytes = self.contents();
        let values: Vec<f64> = match self.dtype {
            DType::F32 => each(bytes, |b| f32::from_ne_bytes(b).into()),
            DType::F16 => each(bytes, |b| f16::from_ne_bytes(b).to_f64()),
            _ => each(bytes, |b| bf16::from_ne_bytes(b).to_f64()),
        };
        Tensor::from_vec(values, shape.into(), &Device::Cpu).unwrap()
    }
}

fn fill<const N: usize>(to: &mut [u8], from: impl Iterator<Item = [u8; N]>) {
    for (to, from) in to.chunks_exact_mut(N).zip(from) {
        to.copy_from_slice(&from);
    }
}

fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let exact = bytes.chunks_exact(N);
    exact.map(|b| number(b.try_into().unwrap())).collect()
}
