//! Symmetric positive definite systems that are mostly empty, in tiles.
//!
//! Cameras that share no point have no entry in the reduced camera system: for a video only a band is filled. Tiles that stay empty
//! cost neither time nor memory; full ones are products of small dense matrices.

use nalgebra::{DMatrix, DVector, SMatrix};

/// Rows and columns of a tile. Large enough for fast products, small enough to leave out what is empty.
const TILE: usize = 48;
/// An empty tile.
const NONE: u32 = u32::MAX;

/// Places of blocks along the diagonal, none of which crosses the border of a tile.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    end: usize,
}

impl Places {
    /// Returns the first row of a new block of `rows`. Rows that are left out in between belong to nothing.
    pub(crate) fn next(&mut self, rows: usize) -> usize {
        if self.end % TILE + rows > TILE {
            self.end = self.end.next_multiple_of(TILE);
        }
        let start = self.end;
        self.end += rows;
        start
    }

    /// Returns the number of rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.end
    }
}

/// The lower triangle of a symmetric matrix.
#[derive(Debug, Clone)]
pub(crate) struct Tiled {
    size: usize,
    /// For each row of tiles, and in it for each column up to the diagonal, the place in `tiles`.
    places: Vec<Vec<u32>>,
    tiles: Vec<DMatrix<f64>>,
}

impl Tiled {
    /// Returns the zero matrix with `size` rows.
    pub(crate) fn zeros(size: usize) -> Self {
        let rows = size.div_ceil(TILE);
        Self {
            size,
            places: (0..rows).map(|row| vec![NONE; row + 1]).collect(),
            tiles: Vec::new(),
        }
    }

    /// Returns the tile, which is made if it is not there.
    fn tile(&mut self, row: usize, column: usize) -> &mut DMatrix<f64> {
        let place = &mut self.places[row][column];
        if *place == NONE {
            *place = self.tiles.len() as u32;
            self.tiles.push(DMatrix::zeros(TILE, TILE));
        }
        &mut self.tiles[*place as usize]
    }

    fn get(&self, row: usize, column: usize) -> Option<&DMatrix<f64>> {
        let place = self.places[row][column];
        self.tiles.get(place as usize)
    }

    /// Adds `block` at these rows and columns and, by symmetry, its transpose. It lies in one tile: see [`Places`]. Of a block on
    /// the diagonal the lower triangle counts.
    pub(crate) fn add<const R: usize, const C: usize>(
        &mut self,
        (row, column): (usize, usize),
        block: &SMatrix<f64, R, C>,
    ) {
        if row < column {
            self.add_below((column, row), &block.transpose());
        } else {
            self.add_below((row, column), block);
        }
    }

    fn add_below<const R: usize, const C: usize>(
        &mut self,
        (row, column): (usize, usize),
        block: &SMatrix<f64, R, C>,
    ) {
        let (top, left) = (row % TILE, column % TILE);
        let tile = self.tile(row / TILE, column / TILE).as_mut_slice();
        for c in 0..C {
            let start = (left + c) * TILE + top;
            let values = tile[start..start + R].iter_mut();
            values
                .zip(block.column(c).iter())
                .for_each(|(to, from)| *to += from);
        }
    }

    /// Adds all of another matrix of the same size.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (row, places) in other.places.iter().enumerate() {
            for column in 0..places.len() {
                if let Some(tile) = other.get(row, column) {
                    *self.tile(row, column) += tile;
                }
            }
        }
    }

    /// Calls `change` with each element of the diagonal.
    pub(crate) fn on_diagonal(&mut self, mut change: impl FnMut(&mut f64)) {
        for i in 0..self.size {
            change(&mut self.tile(i / TILE, i / TILE)[(i % TILE, i % TILE)]);
        }
    }

    /// Returns x of A x = b; `None` where A is not positive definite.
    pub(crate) fn solve(mut self, b: &DVector<f64>) -> Option<DVector<f64>> {
        let rows = self.places.len();
        // What pads the last tile is the identity.
        for i in self.size..rows * TILE {
            self.tile(i / TILE, i / TILE)[(i % TILE, i % TILE)] = 1.0;
        }
        let mut x = DVector::zeros(rows * TILE);
        x.rows_mut(0, self.size).copy_from(b);
        for k in 0..rows {
            let pivot = self.get(k, k)?.clone().cholesky()?.unpack();
            // L_ik = A_ik L_kk^-T, transposed.
            let below: Vec<usize> = (k + 1..rows)
                .filter(|i| self.get(*i, k).is_some())
                .collect();
            for &i in &below {
                let transposed = pivot.solve_lower_triangular(&self.tile(i, k).transpose())?;
                *self.tile(i, k) = transposed.transpose();
            }
            for (n, &i) in below.iter().enumerate() {
                let left = self.get(i, k)?.clone();
                for &j in &below[..=n] {
                    let right = self.get(j, k)?.transpose();
                    self.tile(i, j).gemm(-1.0, &left, &right, 1.0);
                }
            }
            *self.tile(k, k) = pivot;
        }
        for k in 0..rows {
            let mut at = x.rows(k * TILE, TILE).into_owned();
            for j in 0..k {
                if let Some(tile) = self.get(k, j) {
                    at.gemv(-1.0, tile, &x.rows(j * TILE, TILE), 1.0);
                }
            }
            let solved = self.get(k, k)?.solve_lower_triangular(&at)?;
            x.rows_mut(k * TILE, TILE).copy_from(&solved);
        }
        for k in (0..rows).rev() {
            let mut at = x.rows(k * TILE, TILE).into_owned();
            for i in k + 1..rows {
                if let Some(tile) = self.get(i, k) {
                    at.gemv_tr(-1.0, tile, &x.rows(i * TILE, TILE), 1.0);
                }
            }
            let solved = self.get(k, k)?.tr_solve_lower_triangular(&at)?;
            x.rows_mut(k * TILE, TILE).copy_from(&solved);
        }
        let x = x.rows(0, self.size).into_owned();
        x.iter().all(|value| value.is_finite()).then_some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A band of blocks of 6, a last row that meets all, and a diagonal that outweighs them.
    fn example(blocks: usize) -> (Tiled, DMatrix<f64>) {
        let mut places = Places::default();
        let starts: Vec<usize> = (0..blocks).map(|_| places.next(6)).collect();
        let border = places.next(2);
        let size = places.rows();
        let (mut tiled, mut dense) = (Tiled::zeros(size), DMatrix::zeros(size, size));
        let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 / 23.0 - 0.5;
        for (a, &row) in starts.iter().enumerate() {
            for &column in &starts[a.saturating_sub(2)..a] {
                let block = SMatrix::<f64, 6, 6>::from_fn(|r, c| value(row + r, column + c));
                tiled.add((row, column), &block);
                dense.view_mut((row, column), (6, 6)).copy_from(&block);
            }
            // Given as the transpose.
            let block = SMatrix::<f64, 6, 2>::from_fn(|r, c| value(row + r, c));
            tiled.add((row, border), &block);
            dense
                .view_mut((border, row), (2, 6))
                .copy_from(&block.transpose());
        }
        tiled.on_diagonal(|x| *x += 100.0);
        dense.fill_diagonal(100.0);
        dense.fill_upper_triangle_with_lower_triangle();
        (tiled, dense)
    }

    #[test]
    fn tiles_solve_what_a_dense_matrix_solves() {
        for blocks in [1, 8, 40] {
            let (tiled, dense) = example(blocks);
            let b = DVector::from_fn(dense.nrows(), |i, _| (i % 7) as f64 - 3.0);
            let x = tiled.solve(&b).unwrap();
            let left = (&dense * x - &b).amax();
            assert!(left < 1e-12, "{blocks} blocks: {left}");
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_solution() {
        let (mut tiled, _) = example(3);
        tiled.on_diagonal(|x| *x -= 100.0);
        let b = DVector::zeros(tiled.size);
        assert!(tiled.solve(&b).is_none());
    }
}
