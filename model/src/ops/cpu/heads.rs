//! Queries or keys of every head, prepared and each head together.

use candle_core::Result;
use rayon::prelude::*;

use super::{Isa, Kernel, Shared, Vector, collect_into_uninit, flash::Prepare};

/// Tokens of a task: with 1024 channels 256 KiB.
const TOKENS: usize = 64;

/// x [batch, n, heads, depth] -> [batch, heads, n, depth], prepared.
///
/// # Panics
/// When `x` does not hold whole sequences of `n` tokens.
pub(crate) fn prepare_heads(
    isa: Isa,
    x: &[f32],
    (n, heads, depth): (usize, usize, usize),
    prepare: Prepare<'_>,
) -> Result<Vec<f32>> {
    let c = heads * depth;
    assert!(n > 0 && c > 0 && x.len().is_multiple_of(n * c));
    let write = |out: Shared<'_, f32>| {
        x.par_chunks(TOKENS * c)
            .enumerate()
            .for_each(|(task, tokens)| {
                isa.run(Tokens {
                    tokens,
                    first: task * TOKENS,
                    sizes: (n, heads, depth),
                    prepare,
                    out,
                });
            });
        Ok(())
    };
    // SAFETY: every row of every token is written.
    unsafe { collect_into_uninit(x.len(), write) }
}

/// Some tokens that follow each other.
struct Tokens<'a> {
    /// [tokens, heads, depth]
    tokens: &'a [f32],
    /// Index of the first among those of all batches.
    first: usize,
    /// Tokens of a sequence, heads, and channels of a head.
    sizes: (usize, usize, usize),
    prepare: Prepare<'a>,
    out: Shared<'a, f32>,
}

impl Kernel for Tokens<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (n, heads, depth) = self.sizes;
        for (i, token) in self.tokens.chunks_exact(heads * depth).enumerate() {
            let (batch, index) = ((self.first + i) / n, (self.first + i) % n);
            for (head, row) in token.chunks_exact(depth).enumerate() {
                // SAFETY: the caller's promise; each row of the output belongs to one row of one token.
                unsafe {
                    let at = ((batch * heads + head) * n + index) * depth;
                    let out = self.out.slice(at, depth);
                    self.prepare.apply::<V>(row, index, 1.0, out);
                }
            }
        }
    }
}
