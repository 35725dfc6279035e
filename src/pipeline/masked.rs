//! Frames with a mask of their own.

use std::{borrow::Cow, sync::Arc};

use candle_core::Tensor;

use super::{Masks, PipelineError, Stage, Warning, Watcher, sky::frame_mask};
use crate::{
    frames::{Placement, SkyNetwork},
    scene::{Field, PhotoArea, PredictedFrames, SceneError, Unit, World},
};

/// Frames, and the masks that remove their sky, or what a user wants removed.
pub struct MaskedFrames {
    frames: Box<dyn PredictedFrames + Send>,
    /// A frame without one is kept whole.
    masks: Arc<[Option<PackedMask>]>,
}

impl MaskedFrames {
    /// Runs the sky network on every frame.
    ///
    /// # Errors
    /// When a frame cannot be read, the sky network fails or the watcher stopped it.
    pub fn without_sky(
        frames: Box<dyn PredictedFrames + Send>,
        network: &SkyNetwork,
        watcher: &mut dyn Watcher,
    ) -> Result<Self, PipelineError> {
        let count = frames.count();
        let mut masks = Vec::with_capacity(count);
        for index in 0..count {
            let image = frames.read(index, Field::Image)?;
            masks.push(Some(PackedMask::of(&frame_mask(network, &image)?)));
            if !watcher.step(Stage::Sky, index + 1, count) {
                return Err(PipelineError::Cancelled);
            }
        }
        Ok(Self {
            frames,
            masks: masks.into(),
        })
    }

    /// Masks frames as a user wants them, and warns of those without a mask.
    ///
    /// # Errors
    /// When no frame has a mask, or one cannot be used.
    pub fn with_masks(
        frames: Box<dyn PredictedFrames + Send>,
        masks: &Masks,
        (names, placements): (&[String], &[Placement]),
        watcher: &mut dyn Watcher,
    ) -> Result<Self, PipelineError> {
        let read = masks.read(names, placements, frames.size())?;
        let without = read.without();
        if !without.is_empty() {
            watcher.warn(&Warning::WithoutMask {
                frames: names.len(),
                names: without,
            });
        }
        Ok(Self {
            frames,
            masks: read.masks.clone(),
        })
    }
}

impl PredictedFrames for MaskedFrames {
    fn count(&self) -> usize {
        self.frames.count()
    }

    fn size(&self) -> (usize, usize) {
        self.frames.size()
    }

    fn has(&self, field: Field) -> bool {
        self.frames.has(field)
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        self.frames.read(index, field)
    }

    fn keep(&self, index: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        let inner = self.frames.keep(index)?;
        let Some(Some(mask)) = self.masks.get(index) else {
            return Ok(inner);
        };
        let mut keep = mask.flags();
        if let Some(inner) = inner {
            keep.iter_mut().zip(&*inner).for_each(|(a, b)| *a &= *b);
        }
        Ok(Some(Cow::Owned(keep)))
    }

    fn photo_area(&self, index: usize) -> PhotoArea {
        self.frames.photo_area(index)
    }

    fn unit(&self) -> Unit {
        self.frames.unit()
    }

    fn world(&self) -> World {
        self.frames.world()
    }
}

/// A mask in the shorter of two forms. Skies are large areas, which take some hundred bytes a frame as lengths of runs; a mask that
/// is noise takes a bit for each pixel.
#[derive(Debug)]
pub(super) enum PackedMask {
    /// Lengths of runs of equal flags, the first of which is of `true`.
    Runs(Vec<u32>),
    /// Eight flags to a byte, and the number of flags.
    Bits(Vec<u8>, usize),
}

impl PackedMask {
    pub(super) fn of(flags: &[bool]) -> Self {
        let bits = flags.len().div_ceil(8);
        let mut runs = Vec::new();
        let (mut flag, mut length) = (true, 0_u32);
        for next in flags {
            // A run that a number cannot count goes on after an empty one of the other flag.
            if *next != flag || length == u32::MAX {
                runs.push(length);
                if *next == flag {
                    runs.push(0);
                }
                (flag, length) = (*next, 0);
                if size_of::<u32>() * runs.len() > bits {
                    return Self::bits(flags);
                }
            }
            length += 1;
        }
        runs.push(length);
        runs.shrink_to_fit();
        Self::Runs(runs)
    }

    fn bits(flags: &[bool]) -> Self {
        let byte = |flags: &[bool]| {
            let bits = flags.iter().enumerate();
            bits.fold(0, |byte, (i, flag)| byte | u8::from(*flag) << i)
        };
        Self::Bits(flags.chunks(8).map(byte).collect(), flags.len())
    }

    fn flags(&self) -> Vec<bool> {
        match self {
            Self::Runs(runs) => {
                let runs = runs.iter().enumerate();
                runs.flat_map(|(i, n)| std::iter::repeat_n(i % 2 == 0, *n as usize))
                    .collect()
            }
            Self::Bits(bytes, count) => {
                let flags = bytes
                    .iter()
                    .flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
                flags.take(*count).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_comes_back_and_never_takes_more_than_a_bit_for_each_pixel() {
        let patterns: [fn(usize) -> bool; 6] = [
            |_| true,
            |_| false,
            |i| i < 5000,
            |i| i >= 70,
            |i| i % 2 == 0,
            |i| i * i % 7 < 3,
        ];
        for pattern in patterns {
            for length in [1, 7, 8, 9, 10_003] {
                let flags: Vec<bool> = (0..length).map(pattern).collect();
                let packed = PackedMask::of(&flags);
                assert_eq!(packed.flags(), flags);
                let bytes = match &packed {
                    PackedMask::Runs(runs) => 4 * runs.len(),
                    PackedMask::Bits(bytes, _) => bytes.len(),
                };
                assert!(bytes <= length.div_ceil(8) + 4, "{length}: {bytes}");
            }
        }
    }
}
