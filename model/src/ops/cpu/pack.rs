//! Rows laid side by side, the order in which the product of matrices reads them.

use super::{Vector, simd::Eight};

/// Rows of elements, eight at a time.
pub(crate) trait Source<V: Vector> {
    /// The `n` elements of row `row` from `k`, then zeros; `n` is at most 8.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`, and the row must have these elements.
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight;
}

/// Writes element k of row i to `out[k * W + i]` for all k below `len` and i below `W`, an even number.
///
/// # Safety
/// As [`Source::load`] for all of these, and `len * W` elements must be writable.
#[inline(always)]
pub(crate) unsafe fn side_by_side<V: Vector, const W: usize>(
    source: &impl Source<V>,
    len: usize,
    out: *mut f32,
) {
    const EIGHT: usize = 8;
    for first in (0..W).step_by(EIGHT) {
        let wide = (W - first).min(EIGHT);
        for k in (0..len).step_by(EIGHT) {
            let n = (len - k).min(EIGHT);
            // SAFETY: rows below W and elements below len are the caller's promise, as are the elements written.
            unsafe {
                let mut rows = [V::Eight::zero(); EIGHT];
                for (i, row) in rows.iter_mut().enumerate().take(wide) {
                    *row = source.load(first + i, k, n);
                }
                let columns = V::Eight::transpose(rows);
                for (j, column) in columns.into_iter().enumerate() {
                    if j < n {
                        let p = out.add((k + j) * W + first);
                        match wide {
                            8 => column.store_even::<8>(p),
                            6 => column.store_even::<6>(p),
                            _ => column.store_even::<4>(p),
                        }
                    }
                }
            }
        }
    }
}
