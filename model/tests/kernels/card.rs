//! Runs kernels on a card: the code that nvcc made of them, through CUDA's driver and nothing else.
#![allow(unsafe_code, reason = "calls CUDA's driver")]

use std::{
    ffi::{CString, c_void},
    ops::Range,
    ptr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{CUdeviceptr, CUmodule, CUresult},
};
use vggt_model::ops::cuda::{Address, Arg, Call, code};

use super::emulator::Memory;

/// What the tests' calls take for granted: they call the kernels for tensor cores.
const NEEDED_CAPABILITY: (i32, i32) = (8, 0);

/// What lies on both sides of a buffer on the card.
const GUARD_BYTES: usize = 4096;

/// The byte number `i` of a guard zone: in turn a vector of NaN, in every type, which shows in the result of a kernel that reads
/// it, and one of values near 0.01 or 1, to which nothing can be added unseen.
fn guard(i: usize) -> u8 {
    match i / VECTOR_BYTES % 2 {
        0 => 0xff,
        _ => 0x3c,
    }
}

/// Vectors that kernels move at once: a buffer begins as far beyond a multiple of it on the card as in the host's memory.
const VECTOR_BYTES: usize = 16;

/// The first card of this machine.
pub(crate) struct Card {
    context: Arc<CudaContext>,
    /// What made the card unusable for this process. Locked while a kernel runs: the driver reports a fault of a kernel to
    /// every thread, and it has to be the one that caused it.
    fault: Mutex<Option<String>>,
}

impl Card {
    /// The card that CUDA counts first.
    ///
    /// # Errors
    /// When there is none that can run the kernels.
    pub(crate) fn first() -> Result<&'static Self, String> {
        static FIRST: OnceLock<Result<Card, String>> = OnceLock::new();
        FIRST.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, String> {
        let context = CudaContext::new(0).map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_NO_DEVICE => "there is no NVIDIA driver or no card".to_owned(),
            _ => said(e),
        })?;
        let capability = context.compute_capability().map_err(said)?;
        if capability < NEEDED_CAPABILITY {
            return Err(format!(
                "the card has compute capability {capability:?}, the tests need {NEEDED_CAPABILITY:?}"
            ));
        }
        Ok(Self {
            context,
            fault: Mutex::new(None),
        })
    }

    /// Runs a call on copies of the memory that it may touch, and copies the outputs back. Returns what the kernel did wrong.
    pub(crate) fn run(
        &self,
        call: &Call,
        inputs: &[&Memory],
        outputs: &mut [&mut Memory],
    ) -> Result<(), String> {
        if call.grid == 0 {
            return Ok(());
        }
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = &*fault {
            return Err(format!(
                "the card is unusable since an earlier call: {earlier}"
            ));
        }
        let done = self.run_alone(call, inputs, outputs);
        // A fault of a kernel stays with its context: from then on every function of the driver fails with it.
        if let Err(e) = &done
            && self.context.synchronize().is_err()
        {
            *fault = Some(e.clone());
        }
        done
    }

    fn run_alone(
        &self,
        call: &Call,
        inputs: &[&Memory],
        outputs: &mut [&mut Memory],
    ) -> Result<(), String> {
        self.context.bind_to_thread().map_err(said)?;
        let upload = |memory: &Memory| Buffer::upload(memory).map_err(said);
        let (inputs, outputs_there) = (
            inputs
                .iter()
                .map(|m| upload(m))
                .collect::<Result<Vec<_>, _>>()?,
            outputs
                .iter()
                .map(|m| upload(m))
                .collect::<Result<Vec<_>, _>>()?,
        );
        let mappings: Vec<Mapping> = inputs
            .iter()
            .chain(&outputs_there)
            .map(|b| b.mapping())
            .collect();
        let args = call.args.iter().map(|arg| match arg {
            Arg::Address(address) => on_card(*address, &mappings).map(Arg::Address),
            number => Ok(*number),
        });
        let args = args.collect::<Result<Vec<_>, _>>()?;
        launch(call, &args).map_err(said)?;

        for (i, buffer) in inputs.iter().enumerate() {
            let now = buffer.download().map_err(said)?;
            if buffer.contents(&now) != buffer.contents(&buffer.image) {
                return Err(format!("writes the input in buffer {i}"));
            }
            buffer.check_guards(&now, i)?;
        }
        for (i, (buffer, output)) in outputs_there.iter().zip(outputs).enumerate() {
            let now = buffer.download().map_err(said)?;
            buffer.check_guards(&now, inputs.len() + i)?;
            output.contents_mut().copy_from_slice(buffer.contents(&now));
        }
        Ok(())
    }
}

/// The driver's words.
fn said(e: DriverError) -> String {
    format!("the NVIDIA driver says: {e}")
}

/// The host's memory and the card's copy of it.
#[derive(Debug)]
struct Mapping {
    host: Range<u64>,
    card: u64,
}

/// Where on the card the copy of `address` is.
fn on_card(address: Address, mappings: &[Mapping]) -> Result<Address, String> {
    if address == Address::NULL {
        return Ok(address);
    }
    let inside = mappings.iter().find(|p| p.host.contains(&address.0));
    // An address behind the last element refers to nothing, as that of an empty buffer is.
    let mapping = inside.or_else(|| mappings.iter().find(|p| p.host.end == address.0));
    let Some(mapping) = mapping else {
        return Err(format!(
            "the address {:#x} is outside of every buffer",
            address.0
        ));
    };
    Ok(Address(mapping.card + (address.0 - mapping.host.start)))
}

/// A copy of a [`Memory`] on the card, between guard zones.
struct Buffer {
    host: u64,
    /// What was copied, guards included.
    image: Vec<u8>,
    /// Where the contents are in it.
    range: Range<usize>,
    card: CUdeviceptr,
}

impl Buffer {
    fn upload(memory: &Memory) -> Result<Self, DriverError> {
        let (host, contents) = (memory.address().0, memory.contents());
        let start = GUARD_BYTES + host as usize % VECTOR_BYTES;
        let range = start..start + contents.len();
        let mut image: Vec<u8> = (0..range.end + GUARD_BYTES).map(guard).collect();
        image[range.clone()].copy_from_slice(contents);
        // SAFETY: the context is this thread's. The memory is written before anything reads it.
        let card = unsafe { result::malloc_sync(image.len()) }?;
        // Freed by `Drop` from here on.
        let buffer = Self {
            host,
            image,
            range,
            card,
        };
        assert!((card as usize).is_multiple_of(VECTOR_BYTES), "{card:#x}");
        // SAFETY: there are as many bytes on the card as in the image.
        unsafe { result::memcpy_htod_sync(card, &buffer.image) }?;
        Ok(buffer)
    }

    fn mapping(&self) -> Mapping {
        Mapping {
            host: self.host..self.host + self.range.len() as u64,
            card: self.card + self.range.start as u64,
        }
    }

    /// What is on the card now, guards included.
    fn download(&self) -> Result<Vec<u8>, DriverError> {
        let mut now = vec![0; self.image.len()];
        // SAFETY: as many bytes on both sides.
        unsafe { result::memcpy_dtoh_sync(&mut now, self.card) }?;
        Ok(now)
    }

    fn contents<'a>(&self, image: &'a [u8]) -> &'a [u8] {
        &image[self.range.clone()]
    }

    fn check_guards(&self, now: &[u8], number: usize) -> Result<(), String> {
        let is_guard = |i: usize| !self.range.contains(&i);
        let mut bytes = now.iter().enumerate();
        match bytes.all(|(i, byte)| !is_guard(i) || *byte == guard(i)) {
            true => Ok(()),
            false => Err(format!("writes outside of buffer {number}")),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: from `malloc_sync`, freed nowhere else; no kernel is running, since `launch` waits for it. After a fault
        // this fails, and the memory is gone with the context.
        let _freed = unsafe { result::free_sync(self.card) };
    }
}

/// A module of the driver.
struct Module(CUmodule);

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: from `load_data`, unloaded nowhere else, and none of its functions runs or is called again.
        let _unloaded = unsafe { result::module::unload(self.0) };
    }
}

/// Runs `call` with `args` and waits until it is done.
fn launch(call: &Call, args: &[Arg]) -> Result<(), DriverError> {
    // A copy, since that in the program may begin anywhere.
    let image = code(call.module).to_vec();
    // SAFETY: nvcc made it.
    let module = Module(unsafe { result::module::load_data(image.as_ptr().cast()) }?);
    let name = CString::new(call.function).unwrap();
    // SAFETY: the module was loaded above.
    let function = unsafe { result::module::get_function(module.0, name) }?;
    let mut pointers: Vec<*mut c_void> = args.iter().map(pointer).collect();
    // SAFETY: the function is of a loaded module. The arguments have the sizes and the order of its parameters, which the
    // emulator checks; those that are addresses are of buffers on the card with guards around them. What a faulty kernel does
    // beyond these happens to the card's memory of this process alone.
    unsafe {
        result::launch_kernel(
            function,
            (call.grid, 1, 1),
            (call.block, 1, 1),
            call.shared_bytes,
            ptr::null_mut(),
            &mut pointers,
        )
    }?;
    result::ctx::synchronize()
}

fn pointer(arg: &Arg) -> *mut c_void {
    fn at<T>(x: &T) -> *mut c_void {
        ptr::from_ref(x).cast_mut().cast()
    }
    match arg {
        Arg::Address(Address(x)) => at(x),
        Arg::I32(x) => at(x),
        Arg::I64(x) => at(x),
        Arg::F32(x) => at(x),
    }
}

#[test]
fn addresses_keep_their_place_in_their_buffer() {
    let mapping = |host: Range<u64>, card| Mapping { host, card };
    // The second begins where the first ends; the third is empty.
    let mappings = [
        mapping(1000..1100, 7000),
        mapping(1100..1200, 9000),
        mapping(5000..5000, 3000),
    ];
    let there = |address| on_card(Address(address), &mappings).map(|a| a.0);
    assert_eq!(there(1000), Ok(7000));
    assert_eq!(there(1099), Ok(7099));
    assert_eq!(there(1100), Ok(9000));
    assert_eq!(there(1200), Ok(9100));
    assert_eq!(there(5000), Ok(3000));
    assert_eq!(there(0), Ok(0));
    for outside in [999, 1201, 4999, 5001] {
        assert!(there(outside).unwrap_err().contains("outside"), "{outside}");
    }
}
