//! Buffers that a thread keeps from tile to tile: a fresh one costs more in page faults than the work done on it.

use std::cell::RefCell;

/// Elements a buffer starts at a multiple of: a cache line, which is also the widest register.
const ALIGNED: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of whatever content, aligned to a cache line. Calls may nest; each gets a buffer of its
/// own.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE
        .with(|free| {
            let mut free = free.borrow_mut();
            // The smallest that is long enough, else the last one, which then grows.
            let fits = (0..free.len())
                .filter(|i| free[*i].len() >= len + ALIGNED)
                .min_by_key(|i| free[*i].len());
            fits.map(|i| free.swap_remove(i)).or_else(|| free.pop())
        })
        .unwrap_or_default();
    if buffer.len() < len + ALIGNED {
        // Not `resize`: the old content is of no use.
        buffer = vec![0.0; len + ALIGNED];
    }
    let start = buffer.as_ptr().align_offset(ALIGNED * size_of::<f32>());
    let result = f(&mut buffer[start..start + len]);
    FREE.with(|free| free.borrow_mut().push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_buffers_are_aligned_and_do_not_overlap() {
        with(100, |a| {
            a.fill(1.0);
            with(1000, |b| {
                b.fill(2.0);
                assert_eq!(b.as_ptr() as usize % 64, 0);
                assert_eq!(b.len(), 1000);
            });
            assert!(a.iter().all(|x| *x == 1.0));
        });
        with(50, |a| assert_eq!(a.as_ptr() as usize % 64, 0));
    }
}
