//! Slices of tensors, and slices that several threads write.

use std::{marker::PhantomData, ops::Deref};

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};

use crate::stop;

/// Returns the elements of an operation's input, which must be contiguous F32.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        (CpuStorage::F32(_), None) => bail!("the input must be contiguous"),
        _ => bail!("the input must be F32"),
    }
}

/// The elements of a tensor on the CPU, kept from being written while this lives.
pub(crate) struct Slice<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

/// Borrows the elements of a tensor, which must be contiguous F32 on the CPU.
pub(crate) fn slice_of(tensor: &Tensor) -> Result<Slice<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(data) => contiguous(data, layout)?,
        _ => bail!("expected a parameter on the CPU"),
    };
    Ok(Slice { storage, layout })
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(data) => contiguous(data, self.layout).unwrap_or_default(),
            // `slice_of` lets no other storage through.
            _ => &[],
        }
    }
}

/// Returns a vector of the `len` elements that `write` writes. They are not set to zero before: for large outputs that takes
/// as long as some of the operations themselves. An error when the pass of this thread was stopped.
///
/// # Safety
/// When `write` succeeds and the pass of this thread was not stopped, it must have written all of them; it must not read any
/// before.
pub(crate) unsafe fn collect_into_uninit<T: Copy>(
    len: usize,
    write: impl FnOnce(Shared<'_, T>) -> Result<()>,
) -> Result<Vec<T>> {
    let mut elements = Vec::with_capacity(len);
    write(Shared {
        start: elements.as_mut_ptr(),
        len,
        slice: PhantomData,
    })?;
    // Once a pass is stopped it stays so: whatever `write` left out because of that, it is seen here.
    stop::check()?;
    // SAFETY: the capacity is large enough, and the caller promises that they are written.
    unsafe { elements.set_len(len) };
    Ok(elements)
}

/// A slice that several tasks write, each its own range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive slice; `slice` makes its caller promise that tasks do not overlap.
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

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` elements from `at`, still shared.
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

    /// Returns the address of element `at`.
    #[inline(always)]
    pub(crate) fn at(&self, at: usize) -> *mut T {
        debug_assert!(at <= self.len, "{at} of {}", self.len);
        self.start.wrapping_add(at)
    }

    /// `len` elements from `at`.
    ///
    /// # Safety
    /// The range must lie inside the slice, and no other task may hold any of it.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "tasks write disjoint ranges")]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [T] {
        debug_assert!(at + len <= self.len, "{at} + {len} of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}
