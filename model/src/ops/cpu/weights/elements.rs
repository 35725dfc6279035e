//! The right side of a product, and the types in which it is kept.

use half::{bf16, f16};

use super::super::Vector;

/// The right side, row-major [n, k], in the type in which it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Read as they are.
    F32(&'a [f32]),
    /// Exact in f32.
    F16(&'a [f16]),
    /// Exact in f32.
    Bf16(&'a [bf16]),
}

impl Weights<'_> {
    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(w) => w.len(),
            Self::F16(w) => w.len(),
            Self::Bf16(w) => w.len(),
        }
    }
}

/// A type in which weights are kept.
pub(super) trait Element: Copy {
    /// Eight elements.
    ///
    /// # Safety
    /// The processor must have the instruction set; the elements must be readable.
    unsafe fn load<V: Vector>(p: *const Self) -> V;

    /// Returns the same value.
    fn to_f32(self) -> f32;
}

macro_rules! element {
    ($($element:ty, $load:ident, |$x:ident| $to_f32:expr;)*) => {$(
        impl Element for $element {
            #[inline(always)]
            unsafe fn load<V: Vector>(p: *const Self) -> V {
                // SAFETY: the caller's promise.
                unsafe { V::$load(p) }
            }

            #[inline(always)]
            fn to_f32(self) -> f32 {
                let $x = self;
                $to_f32
            }
        }
    )*};
}

element! {
    f32, load, |x| x;
    f16, load_f16, |x| x.to_f32();
    bf16, load_bf16, |x| x.to_f32();
}
