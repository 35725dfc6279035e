//! What the fast CPU versions share: the instruction sets and how code is compiled for each, vectors, and the product of
//! matrices.
//!
//! One binary serves every machine. [`Isa::best`] says what the processor at hand can do, an operation cuts its work
//! into tiles, and each tile goes through [`Isa::run`], which holds the code of that tile once for each instruction
//! set. Where no set fits, `best` says `None` and the operation's plain candle version runs.
// This is the one place for raw pointers and intrinsics: every unsafe function says what it asks for, the operations
// above call it from small marked blocks.
#![allow(unsafe_code)]

pub(crate) mod arithmetic;
pub(crate) mod flash;
pub(crate) mod gemm;
pub(crate) mod math;
mod pack;
pub(crate) mod peak;
pub(crate) mod scores;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod winograd;

use std::{marker::PhantomData, sync::OnceLock};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

pub(crate) use simd::Vector;

/// An instruction set with code of its own. A value of this type is proof that the processor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Registers of 16 numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Registers of 8 numbers, fused multiply-add and the conversion of halves.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// Lowers what is used: `avx512`, `avx2` or `plain`, to compare versions or to step around a fault.
const VARIABLE: &str = "VGGT_CPU";

impl Isa {
    /// The fastest set of this machine that the environment variable `VGGT_CPU` allows; `None` where the plain versions
    /// run.
    pub fn best() -> Option<Self> {
        static BEST: OnceLock<Option<Isa>> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var(VARIABLE).unwrap_or_default();
            Self::all().into_iter().find(|isa| match wanted.as_str() {
                "plain" => false,
                "avx2" => isa.name() == "avx2",
                _ => true,
            })
        })
    }

    /// Every set this machine has, the fastest first.
    pub fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            // What Intel's processors have had since 2019 and AMD's since 2022.
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            let sets = [(avx512, Set::Avx512), (avx2, Set::Avx2)];
            sets.into_iter()
                .filter_map(|(has, set)| has.then_some(Self(set)))
                .collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        Vec::new()
    }

    /// Numbers in a register.
    pub(crate) fn lanes(self) -> usize {
        self.run(Lanes)
    }

    /// As `VGGT_CPU` spells it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
        }
    }

    /// Runs the version of `kernel` that was compiled for this set.
    ///
    /// Call it inside the closures given to rayon, not around them: a closure is compiled for what surrounds it where
    /// it is written, and the pool calls it from code without these instructions. The same holds for every closure that
    /// a function which is not inlined calls, such as [`scratch::with`].
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = kernel;
        match self.0 {
            // SAFETY: an `Isa` is only made after the processor was asked for these features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { on_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { on_avx2(kernel) },
        }
    }
}

/// Numbers in a register.
struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> usize {
        V::LANES
    }
}

/// Work on one tile, written once for every instruction set.
pub(crate) trait Kernel {
    /// What comes of it.
    type Output;

    /// Does the work with registers `V`. It and all it calls must be `#[inline(always)]`, so that all of it is compiled
    /// with the instructions of the caller.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`. [`Isa::run`] sees to it.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn on_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's features are the vector's.
    unsafe { kernel.run::<simd::F32x16>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn on_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's features are the vector's.
    unsafe { kernel.run::<simd::F32x8>() }
}

/// The numbers of an operation's input, which must be contiguous F32.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        (CpuStorage::F32(_), None) => bail!("the input must be contiguous"),
        _ => bail!("the input must be F32"),
    }
}

/// Calls `f` with the numbers of a tensor, which must be contiguous F32 on the CPU.
pub(crate) fn with_numbers<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(contiguous(storage, layout)?),
        _ => bail!("the parameter must be on the CPU"),
    }
}

/// A vector of the `len` numbers that `write` writes. They are not set to zero before, which for the larger ones would take
/// as long as some of the operations themselves.
///
/// # Safety
/// When `write` succeeds it must have written all of them, and it must not read any before.
pub(crate) unsafe fn written<T: Copy>(
    len: usize,
    write: impl FnOnce(Shared<'_, T>) -> Result<()>,
) -> Result<Vec<T>> {
    let mut numbers = Vec::with_capacity(len);
    write(Shared {
        start: numbers.as_mut_ptr(),
        len,
        slice: PhantomData,
    })?;
    // SAFETY: there is room for them, and the caller promises that they are written.
    unsafe { numbers.set_len(len) };
    Ok(numbers)
}

/// A slice that several tasks write, each its own places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is an exclusive slice by another name; who writes through it promises not to meet another task.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` numbers from `at`, still shared.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn part(&self, at: usize, len: usize) -> Self {
        assert!(at + len <= self.len, "{at} + {len} of {}", self.len);
        Self {
            start: self.at(at),
            len,
            slice: PhantomData,
        }
    }

    /// Where number `at` lies.
    #[inline(always)]
    pub(crate) fn at(&self, at: usize) -> *mut T {
        debug_assert!(at <= self.len, "{at} of {}", self.len);
        self.start.wrapping_add(at)
    }

    /// `len` numbers from `at`.
    ///
    /// # Safety
    /// The places must lie inside the slice, and no other task may hold any of them.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [T] {
        debug_assert!(at + len <= self.len, "{at} + {len} of {}", self.len);
        // SAFETY: asked of the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}
