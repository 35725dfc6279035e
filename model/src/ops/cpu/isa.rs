//! Instruction sets: which of them the processor has, and code that is compiled once for each.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::simd;
use super::simd::Vector;
use crate::precision::Precision;

/// An instruction set with code of its own. A value of this type is proof that the processor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Registers of 16 elements.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Registers of 8 elements, fused multiply-add and the conversion of f16.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// Limits the instruction set to `avx512`, `avx2` or `plain` (none), to compare implementations or to avoid a broken one.
const VARIABLE: &str = "VGGT_CPU";

impl Isa {
    /// Returns the fastest set of this machine that the environment variable `VGGT_CPU` allows; `None` where the reference
    /// implementations run.
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

    /// Returns every set that this machine has, the fastest first.
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

    /// Elements in a register.
    pub(crate) fn lanes(self) -> usize {
        self.run(Lanes)
    }

    /// Returns its name, as `VGGT_CPU` spells it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
        }
    }

    /// Returns the instruction that products of this precision spend their time in.
    pub fn instruction(self, precision: Precision) -> &'static str {
        match (self.0, precision) {
            #[cfg(target_arch = "x86_64")]
            (_, Precision::Exact) => "vfmadd231ps",
            #[cfg(target_arch = "x86_64")]
            (Set::Avx512, Precision::Fast) => "vpdpwssd",
            #[cfg(target_arch = "x86_64")]
            (Set::Avx2, Precision::Fast) => "vpmaddwd",
        }
    }

    /// Runs `kernel`, compiled for this set.
    ///
    /// Call it inside the closures given to rayon, not around them: a closure is compiled for what surrounds it where
    /// it is written, and the pool calls it from code without these instructions. The same holds for every closure that
    /// a function which is not inlined calls, such as [`super::scratch::with`].
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

/// Elements in a register.
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
    /// The result.
    type Output;

    /// Does the work with registers `V`. It and all it calls must be `#[inline(always)]`, so that all of it is compiled
    /// with the instructions of the caller.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`. [`Isa::run`] ensures it.
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
