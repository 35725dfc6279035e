//! The left side in panels of as many rows as the register tile has, prepared on the way.

use super::{
    super::{
        Kernel, Shared, Vector,
        arithmetic::{Arithmetic, WriteRow},
        epilogue::Epilogue,
        simd::load,
        tile::gemm::tile_rows,
    },
    Operands, Prepare, Product, Right, Rows,
};

/// Packs one panel of rows, all of its depth. Packed: for each block of k all panels.
pub(super) struct PackLeft<'a, W, R, E> {
    pub(super) product: &'a Product<'a, W, R, E>,
    pub(super) packed: Shared<'a, f32>,
    /// How many there are.
    pub(super) panels: usize,
    /// Which one this is.
    pub(super) panel: usize,
}

impl<W: Right, R: Rows, E: Epilogue> Kernel for PackLeft<'_, W, R, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let product = self.product;
        let rows = tile_rows(V::LANES);
        let start = self.panel * rows;
        let panel_len = <W::Arithmetic as Arithmetic>::panel(rows);
        for (i, block) in product.blocks().enumerate() {
            let at = (i * self.panels + self.panel) * panel_len;
            // SAFETY: each panel has a range of its own in `packed`; the processor has the instruction set.
            unsafe {
                let panel = self.packed.slice(at, panel_len).as_mut_ptr();
                for row in 0..rows {
                    let line = Line {
                        operands: product.operands,
                        row: (start + row < product.len).then_some(product.first + start + row),
                        k: block.start,
                    };
                    <W::Arithmetic as Arithmetic>::pack_row::<V>(
                        panel,
                        (row, rows),
                        block.len(),
                        line,
                    );
                }
            }
        }
    }
}

/// The elements of a row from `k`, prepared; zeros for a row that only fills the last panel.
struct Line<'a, W, R, E> {
    operands: &'a Operands<'a, W, R, E>,
    row: Option<usize>,
    k: usize,
}

impl<W, R: Rows, E> WriteRow for Line<'_, W, R, E> {
    #[inline(always)]
    unsafe fn write<V: Vector>(self, line: &mut [f32]) {
        match self.row {
            // SAFETY: the caller's promise; a block is not longer than the rows.
            Some(row) => unsafe { self.operands.prepare::<V>(row, self.k, line) },
            None => line.fill(0.0),
        }
    }
}

impl<W, R: Rows, E> Operands<'_, W, R, E> {
    /// Writes the elements of row `row` from `k`, prepared, to `line`, as many as it has.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; the row must have as many elements.
    #[inline(always)]
    pub(super) unsafe fn prepare<V: Vector>(&self, row: usize, k: usize, line: &mut [f32]) {
        let mut done = 0;
        while done < line.len() {
            let len = self.rows.run(k + done).min(line.len() - done);
            let from = self.rows.slice(row, k + done, len);
            let to = &mut line[done..done + len];
            // SAFETY: the caller's promise.
            unsafe { self.prepare.apply::<V>(row, k + done, from, to) };
            done += len;
        }
    }
}

impl Prepare<'_> {
    /// Writes `from`, elements of row `row` from `k`, to `to`, as long.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn apply<V: Vector>(self, row: usize, k: usize, from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len(), to.len());
        match self {
            Prepare::Plain => to.copy_from_slice(from),
            Prepare::Relu => {
                for i in (0..to.len()).step_by(V::LANES) {
                    let n = V::LANES.min(to.len() - i);
                    // SAFETY: both slices have `n` elements from `i`.
                    unsafe {
                        // In this order, NaN is propagated.
                        let y = V::zero().max(load::<V>(from, i, n));
                        y.store_first(to.as_mut_ptr().add(i), n);
                    }
                }
            }
            Prepare::Norm {
                moments,
                weight,
                bias,
            } => {
                let (mean, rstd) = moments[row];
                let (weight, bias) = (&weight[k..][..to.len()], &bias[k..][..to.len()]);
                for i in (0..to.len()).step_by(V::LANES) {
                    let n = V::LANES.min(to.len() - i);
                    // SAFETY: all four slices have `n` elements from `i`.
                    unsafe {
                        let x = (load::<V>(from, i, n) - V::splat(mean)) * V::splat(rstd);
                        let y = x.mul_add(load(weight, i, n), load(bias, i, n));
                        y.store_first(to.as_mut_ptr().add(i), n);
                    }
                }
            }
        }
    }
}
