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

mod exact;
mod int16;
mod softmax;

use std::marker::PhantomData;

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    Kernel, Shared, Vector,
    layer_norm::Norm,
    math,
    simd::{Eight, prefetch},
    tile::flash::{tile_queries, tile_rows},
};
use crate::stop::StopFlag;
pub(crate) use int16::MAX_DEPTH;
pub(crate) use softmax::Softmax;

/// Keys of a block. Their scores for one tile take 24 KiB with AVX-512 and 12 with AVX2, half of the first-level cache of processors
/// with these instructions; the packed keys and the values of a block, 32 KiB each with 64 channels, are read from the
/// second-level cache. Fewer keys would update the running softmax and the sums more often; with 256, whose scores fill the
/// first-level cache, attention in f32 takes 7 % longer.
pub(crate) const KEYS: usize = 128;

/// How attention multiplies: in f32, or in 16-bit integers.
pub(crate) trait Products: Send + Sync {
    /// Elements of memory that a packed row of queries or keys of `depth` channels takes.
    fn packed_row(depth: usize) -> usize;

    /// Elements of memory that the packed values of `keys` keys take, of as many channels as fill whole tiles. Blocks but the last
    /// have [`KEYS`] keys.
    fn packed_values(keys: usize, channels: usize) -> usize;

    /// Packs one row of queries or keys into every `step`th element from `out`.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; as many elements as [`Products::packed_row`] says must be writable,
    /// `step` apart.
    unsafe fn pack_row<V: Vector>(row: &[f32], out: *mut f32, step: usize);

    /// Packs the values of a block, `[keys, channels]`, of as many channels as fill whole tiles.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`; as many elements as [`Products::packed_values`] says must be writable.
    unsafe fn pack_values<V: Vector>(values: &[f32], channels: usize, out: *mut f32);

    /// Adds what one block of keys gives to a tile of queries: the scores, their softmax, and the sums of values.
    ///
    /// # Safety
    /// The processor must have the instruction set of `V`, whose tiles have R rows; all pointers must be to what their fields
    /// say.
    unsafe fn attend<V: Vector, const R: usize>(
        block: Block,
        softmax: &mut Softmax<V>,
        scores: &mut [f32],
        out: &mut [f32],
    );
}

/// Keys of a block and the queries that attend to them, packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// How many keys.
    len: usize,
    /// Channels of a head.
    depth: usize,
    /// Of all channels with those that fill the last tile.
    channels: usize,
    /// [groups of tile rows, packed row, tile rows]
    keys: *const f32,
    /// As [`Products::pack_values`] leaves them.
    values: *const f32,
    /// [packed row, queries of a tile]
    queries: *const f32,
}

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
        let start = self.at(batch, head, row);
        match self.data {
            Elements::F32(data) => {
                let ahead = self.at(batch, head, row + AHEAD);
                prefetch(data.as_ptr().wrapping_add(ahead), spare.len());
                &data[start..][..spare.len()]
            }
            Elements::F16(data) => {
                data[start..][..spare.len()].convert_to_f32_slice(spare);
                spare
            }
        }
    }

    /// Where a row begins.
    #[inline(always)]
    fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        let [b, h, r] = self.strides;
        self.start + batch * b + head * h + row * r
    }
}

/// How many rows ahead memory is asked for: those of one head lie far apart.
const AHEAD: usize = 8;

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
    /// Elements of the packed keys of a head: groups of tile rows, each [packed row, tile rows].
    pub(crate) fn packed_keys<P: Products>(self, lanes: usize) -> usize {
        self.n.next_multiple_of(tile_rows(lanes)) * P::packed_row(self.depth)
    }

    /// Elements of the packed values of a head, block after block.
    pub(crate) fn packed_values<P: Products>(self, lanes: usize) -> usize {
        P::packed_values(self.n, self.channels(lanes))
    }

    /// Channels of a head with those that fill the last tile.
    fn channels(self, lanes: usize) -> usize {
        self.depth.next_multiple_of(tile_rows(lanes))
    }

    /// Elements of scratch memory that packing a block needs: two rows, and the values.
    pub(crate) fn packing_scratch(self, lanes: usize) -> usize {
        2 * self.depth + KEYS * self.channels(lanes)
    }
}

/// Packs one block of keys and values of one head.
pub(crate) struct Pack<'a, P> {
    pub(crate) products: PhantomData<P>,
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
    /// Memory of [`Keys::packing_scratch`] elements.
    pub(crate) scratch: &'a mut [f32],
}

impl<P: Products> Kernel for Pack<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Keys { n, depth } = self.keys;
        let rows = tile_rows(V::LANES);
        let count = KEYS.min(n - self.first);
        let channels = self.keys.channels(V::LANES);
        let packed_row = P::packed_row(depth);
        // SAFETY: keys of a block fill whole groups but for the last one, which is filled up with zeros; all ranges are
        // inside what `Keys` says and no other block has them.
        unsafe {
            let packed_k = self.packed_k.slice(
                self.at.0 + self.first * packed_row,
                count.next_multiple_of(rows) * packed_row,
            );
            let packed_v = self.packed_v.slice(
                self.at.1 + P::packed_values(self.first, channels),
                P::packed_values(count, channels),
            );
            let (row, rest) = self.scratch.split_at_mut(depth);
            let (spare, values) = rest.split_at_mut(depth);
            for i in 0..count.next_multiple_of(rows) {
                if i < count {
                    let index = self.first + i;
                    let k = self.k.row(self.batch, self.head, index, spare);
                    self.prepare.apply::<V>(k, index, 1.0, row);
                } else {
                    row.fill(0.0);
                }
                let at = i / rows * rows * packed_row + i % rows;
                P::pack_row::<V>(row, packed_k[at..].as_mut_ptr(), rows);
            }
            for (i, out) in values.chunks_exact_mut(channels).enumerate().take(count) {
                let v = self.v.row(self.batch, self.head, self.first + i, spare);
                out[..depth].copy_from_slice(v);
                out[depth..].fill(0.0);
            }
            P::pack_values::<V>(&values[..count * channels], channels, packed_v.as_mut_ptr());
        }
    }
}

/// The attention of some queries of one head to all its keys.
pub(crate) struct Attend<'a, P> {
    pub(crate) products: PhantomData<P>,
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

impl<P: Products> Attend<'_, P> {
    /// Returns the elements of scratch memory that a task needs.
    pub(crate) fn scratch_len(lanes: usize, depth: usize) -> usize {
        let channels = depth.next_multiple_of(tile_rows(lanes));
        tile_queries(lanes) * (P::packed_row(depth) + channels + KEYS + 1) + 2 * depth
    }
}

impl<P: Products> Kernel for Attend<'_, P> {
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

impl<P: Products> Attend<'_, P> {
    #[inline(always)]
    unsafe fn tiles<V: Vector, const R: usize>(self) {
        let Keys { n, depth } = self.keys;
        let wide = tile_queries(V::LANES);
        let channels = self.keys.channels(V::LANES);
        let packed_row = P::packed_row(depth);
        let (q_tile, rest) = self.scratch.split_at_mut(packed_row * wide);
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
                    P::pack_row::<V>(row, q_tile[i..].as_mut_ptr(), wide);
                }
            }
            out_tile.fill(0.0);
            // SAFETY: the tiles have the sizes above, the packed keys and values those that `Keys` says.
            unsafe {
                let mut softmax = Softmax::<V>::new();
                for first in (0..n).step_by(KEYS) {
                    let block = Block {
                        len: KEYS.min(n - first),
                        depth,
                        channels,
                        keys: self.packed_k[first * packed_row..].as_ptr(),
                        values: self.packed_v[P::packed_values(first, channels)..].as_ptr(),
                        queries: q_tile.as_ptr(),
                    };
                    P::attend::<V, R>(block, &mut softmax, scores, out_tile);
                }
                for (j, sum) in softmax.sum.into_iter().enumerate() {
                    (V::splat(1.0) / sum).store(inverse.as_mut_ptr().add(j * V::LANES));
                }
                // The queries of a task are its own.
                let rows = |i: usize| {
                    let at = self.out_at.0 + (first + i) * self.out_at.1;
                    self.out.slice(at, depth).as_mut_ptr()
                };
                write_rows::<V>(out_tile, inverse, (count, depth), rows);
            }
        }
    }
}

/// Writes `count` queries of a tile, `[channels, queries]`, each as a row of `depth` channels, times its `factors`.
///
/// # Safety
/// The processor must have the instruction set of `V`; `rows` must give `depth` elements that can be written.
#[inline(always)]
unsafe fn write_rows<V: Vector>(
    tile: &[f32],
    factors: &[f32],
    (count, depth): (usize, usize),
    rows: impl Fn(usize) -> *mut f32,
) {
    const EIGHT: usize = 8;
    let wide = tile_queries(V::LANES);
    for i in (0..count).step_by(EIGHT) {
        let queries = EIGHT.min(count - i);
        // SAFETY: a tile has a multiple of eight queries, and as many factors; the channels lie inside the tile.
        unsafe {
            let factor = V::Eight::load(factors[i..i + EIGHT].as_ptr());
            for d in (0..depth).step_by(EIGHT) {
                let channels = EIGHT.min(depth - d);
                let mut block = [V::Eight::zero(); EIGHT];
                for (c, x) in block.iter_mut().enumerate().take(channels) {
                    let at = (d + c) * wide + i;
                    *x = V::Eight::load(tile[at..at + EIGHT].as_ptr()) * factor;
                }
                let block = V::Eight::transpose(block);
                for (q, row) in block.into_iter().enumerate().take(queries) {
                    row.store_first(rows(i + q).add(d), channels);
                }
            }
        }
    }
}
