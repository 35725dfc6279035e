//! Attention one tile of queries at a time, so that no matrix of all scores ever exists.
//!
//! All operands are transposed: the queries of a tile lie along the vector lanes, keys and channels along the rows. What is
//! computed is Sᵀ = K Qᵀ and Oᵀ = Vᵀ Pᵀ, for three reasons:
//!
//! - The softmax of a query runs over the keys, that is over the rows: its maximum and its sum are taken lane by lane, for as
//!   many queries at once as a register has lanes. With queries along the rows each would take a reduction across the lanes.
//! - Pᵀ [keys, queries] comes out of the first product in the order in which the second one reads its right side. Nothing is
//!   transposed or packed in between, and both products use one register tile.
//! - Scaling a query's sum down is a product with a register that is loaded once for all channels.
//!
//! The price is paid once per tile, where Oᵀ is written to the result query by query.
//!
//! The softmax is the running one: when a block of keys brings a larger score, what was summed before is scaled down.

use std::marker::PhantomData;

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    Kernel, Shared, Vector,
    layer_norm::Norm,
    math,
    scores::Scores,
    tile::flash::{WIDE, product, read, tile_queries, tile_rows, write},
};
use crate::stop::StopFlag;

/// Keys of a block. Their scores for one tile take 48 KiB with AVX-512 and 24 KiB with AVX2, about the size of the first-level
/// cache of processors with these instructions; the packed keys and the values of a block, 64 KiB each with 64 channels, are
/// read from the second-level cache. Fewer keys would update the running softmax and scale the sums more often.
pub(crate) const KEYS: usize = 256;

/// Elements in memory, of a type that is read as f32.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// Rows of `depth` channels somewhere in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    /// All elements.
    pub(crate) data: Elements<'a>,
    /// Where batch 0, head 0, row 0 begins.
    pub(crate) start: usize,
    /// From one batch to the next, one head to the next, one row to the next.
    pub(crate) strides: [usize; 3],
}

impl<'a> HeadRows<'a> {
    /// Returns the rows of a tensor [batch, heads, rows, depth].
    pub(crate) fn contiguous(data: Elements<'a>, heads: usize, rows: usize, depth: usize) -> Self {
        Self {
            data,
            start: 0,
            strides: [heads * rows * depth, rows * depth, depth],
        }
    }

    /// The channels of one row, where they lie or converted into `spare`, which has as many.
    #[inline(always)]
    fn row<'b>(&self, batch: usize, head: usize, row: usize, spare: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let [b, h, r] = self.strides;
        let start = self.start + batch * b + head * h + row * r;
        match self.data {
            Elements::F32(data) => &data[start..][..spare.len()],
            Elements::F16(data) => {
                data[start..][..spare.len()].convert_to_f32_slice(spare);
                spare
            }
        }
    }
}

/// What happens to a row of q or k before it is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepare<'a> {
    /// Normalizes each row.
    pub(crate) norm: Option<Norm<'a>>,
    /// The rotation by the row's position.
    pub(crate) rope: Option<Rotation<'a>>,
}

/// Cosines and signed sines, [positions, depth]; row i has position i modulo their number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation<'a> {
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
}

impl Prepare<'_> {
    /// Writes the prepared `row`, the `index`th, to `out`, times `scale`.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn apply<V: Vector>(
        &self,
        row: &[f32],
        index: usize,
        scale: f32,
        out: &mut [f32],
    ) {
        let depth = row.len();
        match self.norm {
            Some(Norm { weight, bias, eps }) => {
                // SAFETY: the caller's promise.
                let (mean, rstd) = unsafe { math::moments::<V>(row, eps) };
                let affine = weight.iter().zip(bias);
                for ((y, x), (w, b)) in out.iter_mut().zip(row).zip(affine) {
                    *y = ((x - mean) * rstd).mul_add(*w, *b);
                }
            }
            None => out.copy_from_slice(row),
        }
        if let Some(Rotation { cos, sin }) = self.rope {
            let at = (index * depth) % cos.len();
            let (cos, sin) = (&cos[at..at + depth], &sin[at..at + depth]);
            let quarter = depth / 4;
            // Channel i of each half goes with channel i + quarter.
            for first in [0, 2 * quarter] {
                let (a, b) = out[first..first + 2 * quarter].split_at_mut(quarter);
                let (cos, sin) = (&cos[first..], &sin[first..]);
                for i in 0..quarter {
                    let (x, y) = (a[i], b[i]);
                    a[i] = x * cos[i] + y * sin[i];
                    b[i] = y * cos[quarter + i] + x * sin[quarter + i];
                }
            }
        }
        for y in out {
            *y *= scale;
        }
    }
}

/// Sizes of the keys of one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    /// Element of keys.
    pub(crate) n: usize,
    /// Channels of a head.
    pub(crate) depth: usize,
}

impl Keys {
    /// Elements of the packed keys of a head: groups of tile rows, each [packed depth, tile rows].
    pub(crate) fn packed_keys<S: Scores>(self, lanes: usize) -> usize {
        self.n.next_multiple_of(tile_rows(lanes)) * S::packed(self.depth)
    }

    /// Elements of the packed values of a head: blocks of keys, each [groups of channels, block, tile rows].
    pub(crate) fn packed_values(self, lanes: usize) -> usize {
        self.n * self.depth.next_multiple_of(tile_rows(lanes))
    }
}

/// Packs one block of keys and values of one head.
pub(crate) struct Pack<'a, S> {
    pub(crate) scores: PhantomData<S>,
    pub(crate) keys: Keys,
    pub(crate) k: HeadRows<'a>,
    pub(crate) prepare: Prepare<'a>,
    pub(crate) v: HeadRows<'a>,
    pub(crate) batch: usize,
    pub(crate) head: usize,
    /// First key of the block.
    pub(crate) first: usize,
    /// The head's packed keys; the block's range belongs to this task alone.
    pub(crate) packed_k: Shared<'a, f32>,
    /// The head's packed values, likewise.
    pub(crate) packed_v: Shared<'a, f32>,
    /// Where the head begins in both.
    pub(crate) at: (usize, usize),
    /// Scratch memory for two rows.
    pub(crate) rows: &'a mut [f32],
}

impl<S: Scores> Kernel for Pack<'_, S> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Keys { n, depth } = self.keys;
        let rows = tile_rows(V::LANES);
        let count = KEYS.min(n - self.first);
        let groups = depth.div_ceil(rows);
        let packed_depth = S::packed(depth);
        // SAFETY: keys of a block fill whole groups but for the last one, which is filled up with zeros; all ranges are
        // inside what `Keys` says and no other block has them.
        unsafe {
            let k_len = count.next_multiple_of(rows) * packed_depth;
            let packed_k = self
                .packed_k
                .slice(self.at.0 + self.first * packed_depth, k_len);
            let v_len = count * groups * rows;
            let packed_v = self
                .packed_v
                .slice(self.at.1 + self.first * groups * rows, v_len);
            let (row, spare) = self.rows.split_at_mut(depth);
            for i in 0..count.next_multiple_of(rows) {
                if i < count {
                    let index = self.first + i;
                    let k = self.k.row(self.batch, self.head, index, spare);
                    self.prepare.apply::<V>(k, index, 1.0, row);
                } else {
                    row.fill(0.0);
                }
                let at = i / rows * rows * packed_depth + i % rows;
                S::pack(row, packed_k[at..].as_mut_ptr(), rows);
            }
            for i in 0..count {
                let v = self.v.row(self.batch, self.head, self.first + i, spare);
                for (group, v) in v.chunks(rows).enumerate() {
                    let out = &mut packed_v[(group * count + i) * rows..][..rows];
                    out[..v.len()].copy_from_slice(v);
                    out[v.len()..].fill(0.0);
                }
            }
        }
    }
}

/// The attention of some queries of one head to all its keys.
pub(crate) struct Attend<'a, S> {
    pub(crate) scores: PhantomData<S>,
    pub(crate) keys: Keys,
    pub(crate) q: HeadRows<'a>,
    pub(crate) prepare: Prepare<'a>,
    /// The packed keys and values of the head.
    pub(crate) packed_k: &'a [f32],
    pub(crate) packed_v: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) queries: std::ops::Range<usize>,
    pub(crate) out: Shared<'a, f32>,
    /// Where the head's first query begins in `out`, and from one query to the next.
    pub(crate) out_at: (usize, usize),
    /// Memory of [`Attend::scratch_len`] elements.
    pub(crate) scratch: &'a mut [f32],
    /// Ends the task before all queries are written.
    pub(crate) stop: &'a StopFlag,
}

impl<S: Scores> Attend<'_, S> {
    /// Returns the elements of scratch memory that a task needs.
    pub(crate) fn scratch_len(lanes: usize, depth: usize) -> usize {
        let channels = depth.next_multiple_of(tile_rows(lanes));
        tile_queries(lanes) * (S::packed(depth) + channels + KEYS + 1) + 2 * depth
    }
}

impl<S: Scores> Kernel for Attend<'_, S> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if V::LANES == 16 {
                self.tiles::<V, { tile_rows(16) }>();
            } else {
                self.tiles::<V, { tile_rows(8) }>();
            }
        }
    }
}

impl<S: Scores> Attend<'_, S> {
    #[inline(always)]
    unsafe fn tiles<V: Vector, const R: usize>(self) {
        let Keys { n, depth } = self.keys;
        let wide = tile_queries(V::LANES);
        let channels = depth.next_multiple_of(R);
        let packed_depth = S::packed(depth);
        let (q_tile, rest) = self.scratch.split_at_mut(packed_depth * wide);
        let (out_tile, rest) = rest.split_at_mut(channels * wide);
        let (scores, rest) = rest.split_at_mut(KEYS * wide);
        let (inverse, rest) = rest.split_at_mut(wide);
        let (row, spare) = rest.split_at_mut(depth);
        // Scores in powers of two: one multiplication less for each exponential.
        let scale = std::f32::consts::LOG2_E / (depth as f32).sqrt();
        for first in self.queries.clone().step_by(wide) {
            // A tile takes 0.1 s with a million keys.
            if self.stop.is_stopped() {
                return;
            }
            let count = wide.min(self.queries.end - first);
            q_tile.fill(0.0);
            for i in 0..count {
                let q = self.q.row(self.batch, self.head, first + i, spare);
                // SAFETY: the caller's promise; the tile has as many packed queries.
                unsafe {
                    self.prepare.apply::<V>(q, first + i, scale, row);
                    S::pack(row, q_tile[i..].as_mut_ptr(), wide);
                }
            }
            out_tile.fill(0.0);
            // SAFETY: the tiles have the sizes above, the packed keys and values those that `Keys` says.
            unsafe {
                let mut softmax = Softmax::<V>::new();
                for block in (0..n).step_by(KEYS) {
                    let len = KEYS.min(n - block);
                    for group in 0..len.div_ceil(R) {
                        let keys = (block + group * R) * packed_depth;
                        let keys = self.packed_k.as_ptr().add(keys);
                        let sums = S::multiply::<V, R>(depth, keys, q_tile.as_ptr());
                        write::<V, R>(sums, scores.as_mut_ptr().add(group * R * wide));
                    }
                    softmax.block(&mut scores[..len * wide], out_tile);
                    for group in 0..channels / R {
                        let values = self.packed_v.as_ptr();
                        let values = values.add(block * channels + group * len * R);
                        let sums_at = out_tile.as_mut_ptr().add(group * R * wide);
                        let sums = read::<V, R>(sums_at);
                        write(product::<V, R>(len, values, scores.as_ptr(), sums), sums_at);
                    }
                }
                for (j, sum) in softmax.sum.into_iter().enumerate() {
                    (V::splat(1.0) / sum).store(inverse.as_mut_ptr().add(j * V::LANES));
                }
                for i in 0..count {
                    let at = self.out_at.0 + (first + i) * self.out_at.1;
                    // The queries of a task are its own.
                    let out = self.out.slice(at, depth);
                    for (d, y) in out.iter_mut().enumerate() {
                        *y = out_tile[d * wide + i] * inverse[i];
                    }
                }
            }
        }
    }
}

/// The running softmax of a tile of queries.
struct Softmax<V> {
    max: [V; WIDE],
    sum: [V; WIDE],
}

/// Below every score: a block's first maximum.
const LOWEST: f32 = -1e30;

impl<V: Vector> Softmax<V> {
    /// # Safety
    /// The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                max: [V::splat(LOWEST); WIDE],
                sum: [V::zero(); WIDE],
            }
        }
    }

    /// Turns the scores [keys, queries] of one block into their powers, and scales `out` [channels, queries], what the
    /// blocks before have summed, to the new maximum.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; both lengths must be multiples of the tile's queries.
    #[inline(always)]
    unsafe fn block(&mut self, scores: &mut [f32], out: &mut [f32]) {
        let wide = tile_queries(V::LANES);
        // SAFETY: the caller's promise.
        unsafe {
            let mut max = self.max;
            for row in scores.chunks_exact(wide) {
                for (j, max) in max.iter_mut().enumerate() {
                    *max = max.max(V::load(row.as_ptr().add(j * V::LANES)));
                }
            }
            let grown = |j: usize| max[j].any_gt(self.max[j]);
            if grown(0) || grown(1) || grown(2) {
                let mut factor = [V::zero(); WIDE];
                for (j, factor) in factor.iter_mut().enumerate() {
                    *factor = math::exp2(self.max[j] - max[j]);
                    self.sum[j] = self.sum[j] * *factor;
                }
                for row in out.chunks_exact_mut(wide) {
                    for (j, factor) in factor.iter().enumerate() {
                        let p = row.as_mut_ptr().add(j * V::LANES);
                        (V::load(p) * *factor).store(p);
                    }
                }
            }
            self.max = max;
            for row in scores.chunks_exact_mut(wide) {
                for (j, (max, sum)) in max.iter().zip(&mut self.sum).enumerate() {
                    let p = row.as_mut_ptr().add(j * V::LANES);
                    let power = math::exp2(V::load(p) - *max);
                    *sum = *sum + power;
                    power.store(p);
                }
            }
        }
    }
}
