//! Attention of many heads: keys and values are packed once, then each task attends with some queries of one head.

use std::marker::PhantomData;

use candle_core::Result;
use rayon::prelude::*;

use super::{
    Isa, Shared,
    arithmetic::{Exact, Int16},
    collect_into_uninit,
    flash::{Attend, HeadRows, KEYS, Keys, Pack, Prepare},
    scores::Scores,
    scratch,
    tile::flash::tile_queries,
};
use crate::{precision::Precision, stop::StopFlag};

/// Every head of every batch: queries, keys and values somewhere in memory.
pub(crate) struct Problem<'a> {
    pub(crate) q: HeadRows<'a>,
    /// What happens to the queries before they are used.
    pub(crate) prepare_q: Prepare<'a>,
    pub(crate) k: HeadRows<'a>,
    /// What happens to the keys before they are used.
    pub(crate) prepare_k: Prepare<'a>,
    pub(crate) v: HeadRows<'a>,
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: Keys,
}

/// Tiles of queries of a task: 192 queries with AVX-512. Every task reads all packed keys and values of its head, which more
/// tiles share; fewer make more tasks: with 16 heads and the 1374 tokens of a frame these are 128.
const TILES: usize = 4;

impl Problem<'_> {
    /// Returns [batch, queries, heads depth].
    pub(crate) fn solve(&self, isa: Isa, precision: Precision) -> Result<Vec<f32>> {
        match precision {
            Precision::Exact => self.with_scores::<Exact>(isa),
            Precision::Fast => self.with_scores::<Int16>(isa),
        }
    }

    fn with_scores<S: Scores>(&self, isa: Isa) -> Result<Vec<f32>> {
        let lanes = isa.lanes();
        let Keys { n, depth } = self.keys;
        let heads = self.batch * self.heads;
        let of_head = (
            self.keys.packed_keys::<S>(lanes),
            self.keys.packed_values(lanes),
        );
        let len = heads * (of_head.0 + of_head.1);
        // SAFETY: packing writes the keys of all heads, then their values; the tiles write every query of every head, unless
        // the pass is stopped.
        unsafe {
            let packed = collect_into_uninit(len, |packed| {
                let packed_k = packed.part(0, heads * of_head.0);
                let packed_v = packed.part(heads * of_head.0, heads * of_head.1);
                self.pack::<S>(isa, n.div_ceil(KEYS), of_head, (packed_k, packed_v));
                Ok(())
            })?;
            let packed = packed.split_at(heads * of_head.0);
            collect_into_uninit(heads * self.queries * depth, |out| {
                self.attend::<S>(isa, of_head, packed, out);
                Ok(())
            })
        }
    }

    /// Packs keys and values, each block of each head a task.
    fn pack<S: Scores>(
        &self,
        isa: Isa,
        blocks: usize,
        of_head: (usize, usize),
        (packed_k, packed_v): (Shared<'_, f32>, Shared<'_, f32>),
    ) {
        let heads = self.batch * self.heads;
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (index, block) = (task / blocks, task % blocks);
            scratch::with(self.keys.depth, |row| {
                isa.run(Pack::<S> {
                    scores: PhantomData,
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
                    row,
                });
            });
        });
    }

    /// Attends, some tiles of queries of a head a task.
    fn attend<S: Scores>(
        &self,
        isa: Isa,
        of_head: (usize, usize),
        (packed_k, packed_v): (&[f32], &[f32]),
        out: Shared<'_, f32>,
    ) {
        let lanes = isa.lanes();
        let depth = self.keys.depth;
        let heads = self.batch * self.heads;
        let queries = TILES * tile_queries(lanes);
        let tasks = self.queries.div_ceil(queries);
        let stop = &StopFlag::current();
        let run = |task: usize, scratch: &mut [f32]| {
            let (index, first) = (task / tasks, task % tasks * queries);
            let (batch, head) = (index / self.heads, index % self.heads);
            isa.run(Attend::<S> {
                scores: PhantomData,
                keys: self.keys,
                q: self.q,
                prepare: self.prepare_q,
                packed_k: &packed_k[index * of_head.0..][..of_head.0],
                packed_v: &packed_v[index * of_head.1..][..of_head.1],
                batch,
                head,
                queries: first..(first + queries).min(self.queries),
                out,
                out_at: (
                    (batch * self.queries * self.heads + head) * depth,
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
                scratch::with(Attend::<S>::scratch_len(lanes, depth), |scratch| {
                    run(task, scratch)
                })
            });
    }
}
