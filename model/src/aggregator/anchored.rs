//! Attention across a few frames only: one pass over the anchors, which keeps their keys and values, and passes over any
//! other frames, which attend to these.
//!
//! The definition is [`Aggregator::forward`]: with every frame an anchor and [`AnchorSchedule::whole`] all tokens have the same
//! bits, where keys and values are kept in F32. A frame has the same bits alone and beside others. Both hold for the CPU's vector
//! operations; the plain ones and a device's products add in an order that depends on the number of rows.

use std::{borrow::Cow, fs::File};

use candle_core::{DType, Tensor};

use super::{AggregatedTokens, Aggregator, KeptTokens};
use crate::{
    anchors::{AnchorSchedule, FirstFrame, FrameSimilarity, Grid, QUERY_STRIDE, mean_direction},
    error::{Error, Result},
    layers::Block,
    ops::{KeysValues, PackedKeys, RopeTable},
    progress::{Observer, Stage},
};

/// Keys and values of the anchors in every global block that attends to them.
#[derive(Debug)]
pub struct AnchorCache {
    schedule: AnchorSchedule,
    grid: Grid,
    frames: usize,
    dtype: DType,
    /// By global block; `None` where a block runs within each frame.
    layers: Vec<Option<KeysValues>>,
    first: Option<FirstFrame>,
}

impl AnchorCache {
    /// Returns the number of anchors.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Returns what the global blocks attend to.
    #[must_use]
    pub fn schedule(&self) -> AnchorSchedule {
        self.schedule
    }

    /// Returns the type that keys and values are kept in.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the bytes that keys and values take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().flatten().map(KeysValues::bytes).sum()
    }
}

/// The first frame, or what is compared with it.
enum Comparison<'a> {
    /// The anchors' pass, whose first frame is kept for the others.
    WithFirst(&'a mut Option<FirstFrame>),
    /// Frames that are compared with it.
    To(Option<&'a FirstFrame>),
}

/// Where a pass has its keys and values from.
enum Keys<'a> {
    /// From its own frames, the anchors, which are kept.
    Own {
        layers: &'a mut Vec<Option<KeysValues>>,
        dtype: DType,
    },
    /// From the pass over the anchors.
    Kept(&'a [Option<KeysValues>]),
}

/// What all blocks of a pass have in common.
struct Pass<'a> {
    schedule: AnchorSchedule,
    grid: Grid,
    rope: &'a RopeTable,
}

impl Aggregator {
    /// Runs the anchors, images in [0, 1], [K, 3, H, W], F32, the scene's first frame first: they attend to each other. Returns
    /// their keys and values in `dtype`, and the tokens that the heads read: in `scratch`, an empty file, where one is given.
    ///
    /// # Errors
    /// When the device fails, the file cannot be written, or the observer stops the pass.
    pub fn anchors(
        &self,
        images: &Tensor,
        (schedule, dtype): (AnchorSchedule, DType),
        scratch: Option<File>,
        observer: &mut dyn Observer,
    ) -> Result<(AnchorCache, KeptTokens, Vec<FrameSimilarity>)> {
        let grid = self.grid(images)?;
        let rope = self.rope(grid, 1, images.device())?;
        let pass = Pass {
            schedule,
            grid,
            rope: &rope,
        };
        let frames = images.dim(0)?;
        let tokens = self.embed(images, true, observer)?;
        let mut kept = KeptTokens::new((frames, grid.special), images.device(), scratch);
        let (mut layers, mut first) = (Vec::new(), None);
        let keys = Keys::Own {
            layers: &mut layers,
            dtype,
        };
        let keep =
            &mut |layer, of_frame: &Tensor, global: &Tensor| kept.put(layer, of_frame, global);
        let comparison = Comparison::WithFirst(&mut first);
        let similar = self.blocks(tokens, &pass, keys, comparison, keep, observer)?;
        let cache = AnchorCache {
            schedule,
            grid,
            frames,
            dtype,
            layers,
            first,
        };
        Ok((cache, kept, similar))
    }

    /// Runs any frames that are not anchors, images in [0, 1], [B, 3, H, W], F32, on the anchors' keys and values.
    ///
    /// # Errors
    /// When the images are not of the anchors' size, the device fails, or the observer stops the pass.
    pub fn frames(
        &self,
        images: &Tensor,
        cache: &AnchorCache,
        observer: &mut dyn Observer,
    ) -> Result<(AggregatedTokens, Vec<FrameSimilarity>)> {
        let grid = self.grid(images)?;
        if grid != cache.grid {
            return Err(Error::Input(format!(
                "the anchors have {} x {} patches, these frames {} x {}",
                cache.grid.rows, cache.grid.columns, grid.rows, grid.columns
            )));
        }
        let rope = self.rope(grid, 1, images.device())?;
        let pass = Pass {
            schedule: cache.schedule,
            grid,
            rope: &rope,
        };
        let tokens = self.embed(images, false, observer)?;
        let mut layers = Vec::new();
        let keep = &mut |layer, of_frame: &Tensor, global: &Tensor| {
            let both = Tensor::cat(&[of_frame, global], candle_core::D::Minus1)?;
            layers.push((layer, both.to_dtype(DType::F32)?));
            Ok(())
        };
        let keys = Keys::Kept(&cache.layers);
        let comparison = Comparison::To(cache.first.as_ref());
        let similar = self.blocks(tokens, &pass, keys, comparison, keep, observer)?;
        Ok((AggregatedTokens::from_layers(layers, grid.special), similar))
    }

    /// Compares the frames of a whole pass with the first: input and output of the last global block, [S, P, C].
    pub(super) fn compared(
        &self,
        last: (&Tensor, &Tensor),
        grid: Grid,
        rope: &RopeTable,
    ) -> Result<Vec<FrameSimilarity>> {
        let pass = Pass {
            schedule: AnchorSchedule::whole(),
            grid,
            rope,
        };
        match self.global_blocks.last() {
            Some(block) => compare(block, last, &pass, Comparison::WithFirst(&mut None)),
            None => Ok(Vec::new()),
        }
    }

    /// Runs all blocks on tokens [B, P, C]; `keep` gets the outputs of both blocks of the layers that the heads read.
    fn blocks(
        &self,
        mut tokens: Tensor,
        pass: &Pass<'_>,
        mut keys: Keys<'_>,
        comparison: Comparison<'_>,
        keep: &mut dyn FnMut(usize, &Tensor, &Tensor) -> Result<()>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<FrameSimilarity>> {
        let depth = self.frame_blocks.len();
        let mut last = None;
        for (i, frame) in self.frame_blocks.iter().enumerate() {
            let of_frame = frame.forward(&tokens, Some(pass.rope))?;
            observer.report(Stage::FrameBlocks, i + 1, depth)?;
            // Before the block, which takes most memory.
            drop(tokens);
            tokens = self.global_block(i, &of_frame, pass, &mut keys)?;
            observer.report(Stage::GlobalBlocks, i + 1, depth)?;
            if self.kept_layers.contains(&i) {
                keep(i, &of_frame, &tokens)?;
            }
            last = Some(of_frame);
        }
        match (last, self.global_blocks.last()) {
            (Some(of_frame), Some(block)) => compare(block, (&of_frame, &tokens), pass, comparison),
            _ => Ok(Vec::new()),
        }
    }

    /// One global block on the output of its frame block, [B, P, C].
    fn global_block(
        &self,
        layer: usize,
        of_frame: &Tensor,
        pass: &Pass<'_>,
        keys: &mut Keys<'_>,
    ) -> Result<Tensor> {
        let block = &self.global_blocks[layer];
        let packed = match (keys, pass.schedule.stride_of(layer)) {
            (Keys::Own { layers, .. }, None) => {
                layers.push(None);
                None
            }
            (Keys::Own { layers, dtype }, Some(stride)) => {
                let own = self
                    .keys_of(block, of_frame, stride, pass)?
                    .to_dtype(*dtype)?;
                let packed = pack(block, &own, of_frame)?;
                layers.push(Some(own));
                Some(packed)
            }
            (Keys::Kept(layers), _) => match layers.get(layer).and_then(Option::as_ref) {
                Some(kept) => Some(pack(block, kept, of_frame)?),
                None => None,
            },
        };
        let Some(packed) = packed else {
            return block.forward(of_frame, Some(pass.rope));
        };
        let (b, p, c) = of_frame.dims3()?;
        // Queries do not influence each other: all frames are one sequence.
        let all = of_frame.reshape((1, b * p, c))?;
        let out = block.forward_to(&all, Some(pass.rope), &packed)?;
        Ok(out.reshape((b, p, c))?)
    }

    /// Keys and values of every `stride`th token of all frames [K, P, C].
    fn keys_of(
        &self,
        block: &Block,
        of_frame: &Tensor,
        stride: usize,
        pass: &Pass<'_>,
    ) -> Result<KeysValues> {
        let (k, _, c) = of_frame.dims3()?;
        let (tokens, rope) = if stride == 1 {
            (of_frame.clone(), Cow::Borrowed(pass.rope))
        } else {
            let indices = Tensor::new(pass.grid.indices(stride), of_frame.device())?;
            let rope = self.rope(pass.grid, stride, of_frame.device())?;
            (of_frame.index_select(&indices, 1)?, Cow::Owned(rope))
        };
        let n = tokens.dim(1)?;
        block.keys_values(&tokens.reshape((1, k * n, c))?, Some(&rope))
    }
}

fn pack(block: &Block, keys: &KeysValues, like: &Tensor) -> Result<PackedKeys> {
    Ok(keys.pack(like.dtype(), block.precision())?)
}

/// Compares every frame with the first one: input and output of the last global block, [B, P, C].
fn compare(
    block: &Block,
    (of_frame, global): (&Tensor, &Tensor),
    pass: &Pass<'_>,
    comparison: Comparison<'_>,
) -> Result<Vec<FrameSimilarity>> {
    let (frames, p, _) = of_frame.dims3()?;
    let special = pass.grid.special;
    let patches =
        |t: &Tensor, frame| Ok::<_, Error>(t.get(frame)?.narrow(0, special, p - special)?);
    let keys = |frame| -> Result<Tensor> {
        let keys = block.keys(&of_frame.narrow(0, frame, 1)?, Some(pass.rope))?;
        Ok(keys.squeeze(0)?.narrow(1, special, p - special)?)
    };
    let first = match comparison {
        Comparison::WithFirst(first) => {
            let queries = block.queries(&of_frame.narrow(0, 0, 1)?, Some(pass.rope))?;
            let chosen = Tensor::new(pass.grid.patch_indices(QUERY_STRIDE), of_frame.device())?;
            let queries = queries.squeeze(0)?.index_select(&chosen, 1)?;
            let scale = 1.0 / (queries.dim(2)? as f64).sqrt();
            &*first.insert(FirstFrame {
                queries: (queries.to_dtype(DType::F32)? * scale)?,
                feature: mean_direction(&patches(global, 0)?)?,
            })
        }
        Comparison::To(Some(first)) => first,
        Comparison::To(None) => return Ok(Vec::new()),
    };
    (0..frames)
        .map(|frame| {
            let keys = keys(frame)?.to_dtype(DType::F32)?;
            first.compare(&keys, &patches(global, frame)?)
        })
        .collect()
}
