//! The most multiplications and additions a processor does, measured.

use std::{hint::black_box, time::Instant};

use super::{Isa, Kernel, Vector};
use crate::precision::Precision;

/// Registers that are added to in turn: more than an addition takes to finish, times those that start at once.
const CHAINS: usize = 12;

/// Turns of one measurement, a few milliseconds.
const TURNS: usize = 1 << 20;

/// Measurements, of which the best counts.
const ROUNDS: usize = 10;

/// Operations a second of all threads of the pool together, a multiplication and an addition being two, with the instruction that
/// products of this precision use: what registers alone can do, without any memory.
pub fn measured_peak(isa: Isa, precision: Precision) -> f64 {
    let work = || match precision {
        Precision::Exact => isa.run(Chains),
        Precision::Fast => isa.run(ChainsOfPairs),
    };
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            // Every thread its own part: one that wakes late must not find its part done by another.
            let work: usize = rayon::broadcast(|_| work()).into_iter().sum();
            work as f64 / start.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

/// Chains of multiply-adds.
struct Chains;

impl Kernel for Chains {
    /// Operations done.
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let mut chains = [V::splat(1.0); CHAINS];
            let (a, b) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
            for _ in 0..TURNS {
                for chain in &mut chains {
                    *chain = chain.mul_add(a, b);
                }
            }
            let sum: f32 = chains.iter().map(|chain| chain.sum()).sum();
            black_box(sum);
        }
        2 * TURNS * CHAINS * V::LANES
    }
}

/// Chains of sums of products of 16-bit integers.
struct ChainsOfPairs;

impl Kernel for ChainsOfPairs {
    /// Operations done.
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let mut chains = [V::int_zero(); CHAINS];
            for _ in 0..TURNS {
                // Not known to the compiler, which would take the product out of the loop.
                let pair = V::int_splat(black_box(0x0001_0002));
                for chain in &mut chains {
                    *chain = V::dot_pairs(*chain, pair, pair);
                }
            }
            let sums = chains.map(|chain| V::from_int(chain).sum());
            black_box(sums.iter().sum::<f32>());
        }
        4 * TURNS * CHAINS * V::LANES
    }
}
