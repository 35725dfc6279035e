//! Attention of many heads: keys and values are packed once, then each task attends with some queries of one head.

use std::marker::PhantomData;

use candle_core::Result;
use rayon::prelude::*;

use super::{
    Isa, Shared,
    arithmetic::{Exact, Int16},
    collect_into_uninit,
    flash::{Attend, HeadRows, KEYS, Keys, MAX_DEPTH, Pack, Prepare, Products},
    scratch,
    tile::flash::tile_queries,
};
use crate::{precision::Precision, stop::StopFlag};

/// Keys and values of every head of every batch, somewhere in memory.
pub(crate) struct KeysValues<'a> {
    pub(crate) k: HeadRows<'a>,
    /// What happens to the keys before they are used.
    pub(crate) prepare_k: Prepare<'a>,
    pub(crate) v: HeadRows<'a>,
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) keys: Keys,
}

/// Queries of every head of every batch, somewhere in memory.
pub(crate) struct Queries<'a> {
    pub(crate) q: HeadRows<'a>,
    /// What happens to the queries before they are used.
    pub(crate) prepare_q: Prepare<'a>,
    /// Queries of a head.
    pub(crate) count: usize,
}

/// Keys and values as the tiles of queries read them: of one attention, or of many that attend to the same ones.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The keys of all heads, then their values.
    elements: Vec<f32>,
    /// Elements of the keys of a head, and of its values.
    of_head: (usize, usize),
    batch: usize,
    heads: usize,
    keys: Keys,
    isa: Isa,
    precision: Precision,
}

/// Tiles of queries of a task: 192 queries with AVX-512. Every task reads all packed keys and values of its head, which more
/// tiles share; fewer make more tasks: with 16 heads and the 1374 tokens of a frame these are 128.
const TILES: usize = 4;

impl KeysValues<'_> {
    /// Packs them for an attention on `isa` of this precision.
    pub(crate) fn pack(&self, isa: Isa, precision: Precision) -> Result<Packed> {
        // Sums of more products than that do not fit their integers.
        match precision {
            Precision::Fast if self.keys.depth <= MAX_DEPTH => {
                self.pack_for::<Int16>(isa, precision)
            }
            _ => self.pack_for::<Exact>(isa, Precision::Exact),
        }
    }

    fn pack_for<P: Products>(&self, isa: Isa, precision: Precision) -> Result<Packed> {
        let lanes = isa.lanes();
        let heads = self.batch * self.heads;
        let of_head = (
            self.keys.packed_keys::<P>(lanes),
            self.keys.packed_values::<P>(lanes),
        );
        // SAFETY: packing writes the keys of all heads, then their values.
        let elements = unsafe {
            collect_into_uninit(heads * (of_head.0 + of_head.1), |packed| {
                let packed_k = packed.part(0, heads * of_head.0);
                let packed_v = packed.part(heads * of_head.0, heads * of_head.1);
                self.pack_blocks::<P>(isa, of_head, (packed_k, packed_v));
                Ok(())
            })?
        };
        Ok(Packed {
            elements,
            of_head,
            batch: self.batch,
            heads: self.heads,
            keys: self.keys,
            isa,
            precision,
        })
    }

    /// Packs keys and values, each block of each head a task.
    fn pack_blocks<P: Products>(
        &self,
        isa: Isa,
        of_head: (usize, usize),
        (packed_k, packed_v): (Shared<'_, f32>, Shared<'_, f32>),
    ) {
        let heads = self.batch * self.heads;
        let blocks = self.keys.n.div_ceil(KEYS);
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (index, block) = (task / blocks, task % blocks);
            scratch::with(self.keys.packing_scratch(isa.lanes()), |scratch| {
                isa.run(Pack::<P> {
                    products: PhantomData,
                    keys: self.keys,
                    k: self.k,
                    prepare: self.prepare_k,
                    v: self.v,
                    batch: index / self.heads,
                    head: index % self.heads,
                    first: block * KEYS,
                    packed_k,
                    packed_v,
                    at: (index * of_head.0, index * of_head.1),
                    scratch,
                });
            });
        });
    }
}

impl Packed {
    /// Returns the attention of `queries`, of as many batches and heads as the keys have. [batch, queries, heads depth]
    pub(crate) fn attend(&self, queries: &Queries<'_>) -> Result<Vec<f32>> {
        match self.precision {
            Precision::Exact => self.attend_with::<Exact>(queries),
            Precision::Fast => self.attend_with::<Int16>(queries),
        }
    }

    fn attend_with<P: Products>(&self, queries: &Queries<'_>) -> Result<Vec<f32>> {
        let heads = self.batch * self.heads;
        // SAFETY: the tiles write every query of every head, unless the pass is stopped.
        unsafe {
            collect_into_uninit(heads * queries.count * self.keys.depth, |out| {
                self.tiles::<P>(queries, out);
                Ok(())
            })
        }
    }

    /// Some tiles of queries of a head are a task.
    fn tiles<P: Products>(&self, queries: &Queries<'_>, out: Shared<'_, f32>) {
        let (lanes, depth) = (self.isa.lanes(), self.keys.depth);
        let heads = self.batch * self.heads;
        let (packed_k, packed_v) = self.elements.split_at(heads * self.of_head.0);
        let of_task = TILES * tile_queries(lanes);
        let tasks = queries.count.div_ceil(of_task);
        let stop = &StopFlag::current();
        let run = |task: usize, scratch: &mut [f32]| {
            let (index, first) = (task / tasks, task % tasks * of_task);
            let (batch, head) = (index / self.heads, index % self.heads);
            self.isa.run(Attend::<P> {
                products: PhantomData,
                keys: self.keys,
                q: queries.q,
                prepare: queries.prepare_q,
                packed_k: &packed_k[index * self.of_head.0..][..self.of_head.0],
                packed_v: &packed_v[index * self.of_head.1..][..self.of_head.1],
                batch,
                head,
                queries: first..(first + of_task).min(queries.count),
                out,
                out_at: (
                    (batch * queries.count * self.heads + head) * depth,
                    self.heads * depth,
                ),
                scratch,
                stop,
            });
        };
        (0..heads * tasks)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                scratch::with(Attend::<P>::scratch_len(lanes, depth), |scratch| {
                    run(task, scratch)
                })
            });
    }

    /// Returns the batches, heads and channels of a head.
    pub(crate) fn shape(&self) -> (usize, usize, usize) {
        (self.batch, self.heads, self.keys.depth)
    }
}
