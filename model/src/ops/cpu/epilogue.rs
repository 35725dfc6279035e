//! What happens to a product on its way from registers to memory.

use super::{Vector, math, simd::load};

/// What happens to each element of a product before it is written.
pub(crate) trait Epilogue: Sync {
    /// Returns the result for `x`, the first `n` lanes of which stand for row `row` from column `column`.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; row and columns must lie inside the product.
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V;
}

/// The product as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity;

impl Epilogue for Identity {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, _: usize, _: usize, _: usize) -> V {
        x
    }
}

/// y + b
pub(crate) struct Bias<'a>(pub(crate) &'a [f32]);

impl Epilogue for Bias<'_> {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, _: usize, column: usize, n: usize) -> V {
        // SAFETY: the caller's promise; the bias has an element for each column of the product.
        x + unsafe { load::<V>(self.0, column, n) }
    }
}

/// gelu(y + b)
pub(crate) struct BiasGelu<'a>(pub(crate) &'a [f32]);

impl Epilogue for BiasGelu<'_> {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, _: usize, column: usize, n: usize) -> V {
        // SAFETY: the caller's promise; the bias has an element for each column of the product.
        unsafe { math::gelu(x + load::<V>(self.0, column, n)) }
    }
}

/// residual + gamma (y + b)
pub(crate) struct BiasResidual<'a> {
    /// `[columns]`
    pub(crate) bias: &'a [f32],
    /// `[columns]`
    pub(crate) gamma: &'a [f32],
    /// [rows, columns]
    pub(crate) residual: &'a [f32],
}

impl Epilogue for BiasResidual<'_> {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
        let at = row * self.bias.len() + column;
        // SAFETY: the caller's promise; bias and gamma are as wide as the product, the residual is as large.
        unsafe {
            let y = x + load::<V>(self.bias, column, n);
            let residual = load::<V>(self.residual, at, n);
            y.mul_add(load::<V>(self.gamma, column, n), residual)
        }
    }
}

/// y + b + max(skip_relu, 0) + skip, and max(that, 0) if `relu`.
#[derive(Clone, Copy)]
pub(crate) struct BiasSkips<'a> {
    /// `[columns]`
    pub(crate) bias: &'a [f32],
    /// [rows, columns]
    pub(crate) skip_relu: Option<&'a [f32]>,
    /// [rows, columns]
    pub(crate) skip: Option<&'a [f32]>,
    /// Whether the result is cut at 0.
    pub(crate) relu: bool,
    /// Row of the skips that belongs to row 0 of the product.
    pub(crate) first: usize,
}

impl Epilogue for BiasSkips<'_> {
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, x: V, row: usize, column: usize, n: usize) -> V {
        let at = (self.first + row) * self.bias.len() + column;
        // SAFETY: the caller's promise; bias and skips have the sizes of the result, which holds this product from row
        // `first`.
        unsafe {
            let mut y = x + load::<V>(self.bias, column, n);
            if let Some(skip) = self.skip_relu {
                y = y + V::zero().max(load::<V>(skip, at, n));
            }
            if let Some(skip) = self.skip {
                y = y + load::<V>(skip, at, n);
            }
            if self.relu { V::zero().max(y) } else { y }
        }
    }
}
