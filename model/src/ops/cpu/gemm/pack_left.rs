//! The left side in panels of as many rows as the register tile has, prepared on the way.

use super::{
    super::{
        Kernel, Shared, Vector, arithmetic::Arithmetic, epilogue::Epilogue, pack, simd::load,
        tile::gemm::tile_rows,
    },
    Prepare, Product, Rows,
};

/// Packs one panel of rows, all of its depth. Packed: for each block of k all panels, each [block, tile rows].
pub(super) struct PackLeft<'a, A, R, E> {
    pub(super) product: &'a Product<'a, A, R, E>,
    pub(super) packed: Shared<'a, f32>,
    /// How many there are.
    pub(super) panels: usize,
    /// Which one this is.
    pub(super) panel: usize,
}

impl<A: Arithmetic, R: Rows, E: Epilogue> Kernel for PackLeft<'_, A, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if V::LANES == 16 {
                self.pack::<V, { tile_rows(16) }>();
            } else {
                self.pack::<V, { tile_rows(8) }>();
            }
        }
    }
}

impl<A: Arithmetic, R: Rows, E: Epilogue> PackLeft<'_, A, R, E> {
    #[inline(always)]
    unsafe fn pack<V: Vector, const W: usize>(self) {
        let Product {
            operands,
            first,
            len,
            ref depth,
            ..
        } = *self.product;
        let rows = operands.rows;
        let start = self.panel * W;
        let count = W.min(len - start);
        let row = first + start;
        let mut k = depth.start;
        while k < depth.end {
            let block = rows.run(k);
            let mut starts = [std::ptr::null(); W];
            for (i, p) in starts.iter_mut().enumerate().take(count) {
                *p = rows.slice(row + i, k, block).as_ptr();
            }
            let at = (k - depth.start) * self.panels * W + self.panel * block * W;
            // SAFETY: every start has `block` elements; each panel has a range of its own in `packed`; moments, weight and
            // bias were measured when the product began.
            unsafe {
                let out = self.packed.slice(at, block * W).as_mut_ptr();
                let left = Left { starts, count };
                match operands.prepare {
                    Prepare::Plain => A::pack::<V, W>(&left, block, out),
                    Prepare::Relu => A::pack::<V, W>(&Relu(left), block, out),
                    Prepare::Norm {
                        moments,
                        weight,
                        bias,
                    } => {
                        let norm = Norm {
                            left,
                            moments: &moments[row..row + count],
                            weight: &weight[k..k + block],
                            bias: &bias[k..k + block],
                        };
                        A::pack::<V, W>(&norm, block, out);
                    }
                }
            }
            k += block;
        }
    }
}

/// `count` rows of the left side; rows behind them are zeros.
struct Left<const W: usize> {
    starts: [*const f32; W],
    count: usize,
}

impl<V: Vector, const W: usize> pack::Source<V> for Left<W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: the caller's promise.
        unsafe {
            match self.starts.get(row) {
                Some(start) if row < self.count && n == 8 => V::Eight::load(start.add(k)),
                Some(start) if row < self.count => V::Eight::load_first(start.add(k), n),
                _ => V::Eight::zero(),
            }
        }
    }
}

/// max(x, 0)
struct Relu<const W: usize>(Left<W>);

impl<V: Vector, const W: usize> pack::Source<V> for Relu<W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: the caller's promise.
        unsafe { V::Eight::zero().max(pack::Source::<V>::load(&self.0, row, k, n)) }
    }
}

/// Normalized rows.
struct Norm<'a, const W: usize> {
    left: Left<W>,
    moments: &'a [(f32, f32)],
    weight: &'a [f32],
    bias: &'a [f32],
}

impl<V: Vector, const W: usize> pack::Source<V> for Norm<'_, W> {
    #[inline(always)]
    unsafe fn load(&self, row: usize, k: usize, n: usize) -> V::Eight {
        // SAFETY: the caller's promise.
        unsafe {
            let Some((mean, rstd)) = self.moments.get(row) else {
                return V::Eight::zero();
            };
            let x: V::Eight = pack::Source::<V>::load(&self.left, row, k, n);
            let weight = load::<V::Eight>(self.weight, k, n);
            let bias = load::<V::Eight>(self.bias, k, n);
            ((x - V::Eight::splat(*mean)) * V::Eight::splat(*rstd)).mul_add(weight, bias)
        }
    }
}
