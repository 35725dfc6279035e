//! Predictions that are computed when they are read: as many frames as a test wants, without a file.

use std::{
    borrow::Cow,
    collections::HashMap,
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use candle_core::{Device, Tensor};
use vggt::scene::{Field, PhotoArea, PredictedFrames, SceneError};

/// What happens to frames after a number of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk fails.
    Disk,
    /// Half of the confidences become zero.
    Values,
}

/// Frames of a surface with waves, each a little further along.
pub(crate) struct Synthetic {
    frames: usize,
    size: (usize, usize),
    /// A fault, and the number of reads before it.
    fault: Option<(Fault, usize)>,
    reads: AtomicUsize,
    /// One frame that all frames are, where computing them would take most of a test's time.
    repeated: HashMap<Field, Tensor>,
}

impl Synthetic {
    pub(crate) fn new(frames: usize, height: usize, width: usize) -> Self {
        Self {
            frames,
            size: (height, width),
            fault: None,
            reads: AtomicUsize::new(0),
            repeated: HashMap::new(),
        }
    }

    /// Frames that fail after a number of reads.
    pub(crate) fn broken(self, fault: Fault, reads: usize) -> Self {
        Self {
            fault: Some((fault, reads)),
            ..self
        }
    }

    /// The same frame again and again.
    pub(crate) fn repeated(frames: usize, height: usize, width: usize) -> Self {
        let one = Self::new(1, height, width);
        let read = |field: Field| (field, one.read(0, field).unwrap());
        Self {
            repeated: Field::ALL.into_iter().map(read).collect(),
            ..Self::new(frames, height, width)
        }
    }

    /// A number in [0, 1) that looks random.
    fn noise(index: usize, pixel: usize) -> f32 {
        let seed = (index as u32).wrapping_mul(0x9E37_79B9) ^ pixel as u32;
        let mixed = (seed ^ seed >> 15).wrapping_mul(0x2C1B_3C6D);
        ((mixed ^ mixed >> 13) >> 8) as f32 / (1 << 24) as f32
    }

    fn value(&self, index: usize, field: Field, element: usize) -> f32 {
        let (height, width) = self.size;
        let plane = height * width;
        let along = |pixel: usize| index as f32 / 8.0 + (pixel % width) as f32 / width as f32;
        let down = |pixel: usize| (pixel / width) as f32 / height as f32;
        match field {
            Field::Image => Self::noise(index, element),
            Field::PoseEnc => (index + element) as f32,
            Field::Extrinsic => f32::from(u8::from(element % 4 == element / 4)),
            Field::Intrinsic => f32::from(u8::from(element % 3 == element / 3)) * width as f32,
            Field::Depth => 1.0 + Self::noise(index, element),
            Field::DepthConf | Field::WorldPointsConf => 1.0 + Self::noise(index, element + plane),
            Field::WorldPointsFromDepth | Field::WorldPoints => match element % 3 {
                0 => along(element / 3),
                1 => down(element / 3),
                _ => 2.0 + (along(element / 3) * 6.0).sin() * 0.2,
            },
        }
    }
}

impl PredictedFrames for Synthetic {
    fn count(&self) -> usize {
        self.frames
    }

    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn has(&self, _: Field) -> bool {
        true
    }

    fn read(&self, index: usize, field: Field) -> Result<Tensor, SceneError> {
        let name = field.name();
        let before = self.reads.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.filter(|(_, reads)| before >= *reads);
        if let Some((Fault::Disk, _)) = fault {
            return Err(SceneError::Read {
                name,
                frame: index,
                source: io::Error::other("the disk is gone"),
            });
        }
        if let Some(tensor) = self.repeated.get(&field) {
            return Ok(tensor.clone());
        }
        let shape = field.shape(self.size.0, self.size.1);
        let count: usize = shape.iter().product();
        let lost = |i: usize| match field {
            Field::DepthConf | Field::WorldPointsConf => fault.is_some() && i.is_multiple_of(2),
            _ => false,
        };
        let value = |i: usize| {
            if lost(i) {
                0.0
            } else {
                self.value(index, field, i)
            }
        };
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
            .map_err(|source| SceneError::Tensor { name, source })
    }

    fn keep(&self, _: usize) -> Result<Option<Cow<'_, [bool]>>, SceneError> {
        Ok(None)
    }

    fn photo_area(&self, _: usize) -> PhotoArea {
        PhotoArea::whole(self.size.0, self.size.1)
    }
}
