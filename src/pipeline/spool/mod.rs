//! The spool: one reconstruction in progress or finished, one frame at a time, and the kept form of its result.
//!
//! `Place::open` takes a folder, or files without names. Frames are decoded into it ([`Incoming`]), which makes a
//! [`Spool`] of it; the network's results follow with [`Spool::put`], in any order, and the cameras of all frames last, with
//! [`Spool::finish`]. A finished one is read as [`PredictedFrames`](crate::scene::PredictedFrames). [`Place::open`] goes on
//! with the folder of a process that was interrupted: at the first frame that is not in the journal.
//!
//! | file | content |
//! |---|---|
//! | `spool.json` | version, what the results are made of, which fields are kept |
//! | `journal` | what is finished, with checksums; see `journal` |
//! | `images` | pixels at the network's size, RGB, 8 bits a channel, from which its input is computed. 3 H W bytes a frame |
//! | `depth`, `depth_conf` | F32 in little endian, as everything below. H W values a frame each |
//! | `world_points`, `world_points_conf` | only where the point head ran. 3 H W and H W values a frame |
//! | `similarity` | only where frames are compared with the first. Some values a frame |
//! | `camera_tokens` | only where the cameras are computed at the end |
//! | `refinement` | JSON, only where cameras were refined and are kept: see `refinement::kept` |
//! | `cameras` | pose_enc, extrinsic, intrinsic. 9 + 12 + 9 values a frame |
//! | `decoded` | frames while they are decoded, in their own sizes |
//! | `lock` | locked by the process that writes; by all that read, together |
//!
//! Originals and their metadata are never part of it: only pixels at the network's size, and names without folders. Files and
//! folder are for their owner alone. What a folder holds beside these files is left alone.

mod cache;
mod column;
mod data;
mod decoded;
mod error;
mod frames;
mod header;
mod home;
mod journal;
mod made_of;
mod news;
mod place;
mod results;
#[cfg(test)]
mod tests;
mod told;

pub use cache::{Cache, open_finished};
pub use decoded::Decoded;
pub(super) use decoded::{Incoming, Taken};
pub use error::SpoolError;
pub(super) use header::Compared;
pub use header::Fields;
pub use made_of::{MadeOf, Stamps};
pub use news::{PassedOn, SpoolPart, news, passed_on};
pub(super) use place::Opened;
pub use place::{FolderRule, Place, discard, finished_frames, has_frames, note_of, take_over};
pub use results::FrameOutputs;

use std::{io::ErrorKind, path::Path};

use candle_core::{Device, Tensor};
use image::imageops::{self, FilterType};

use self::{
    column::Column,
    error::failed,
    header::{Header, read_all},
    home::{Home, REFINEMENT},
    journal::{Journal, Record},
    told::Told,
};
use super::{Warning, attention::Chosen};

/// Longest refinement that is read back: the tracks of some thousand photos.
const MAX_REFINEMENT: u64 = 1 << 30;

/// Frames, and the network's results as far as they are there.
#[derive(Debug)]
pub struct Spool {
    home: Home,
    header: Header,
    decoded: Decoded,
    images: Column,
    /// The kept results in the order of their checksum.
    results: Vec<Column>,
    done: Vec<bool>,
    /// The anchors, once they are chosen; `None` where every frame attends to all.
    chosen: Option<Chosen>,
    cameras: Option<Cameras>,
    journal: Journal,
}

/// The cameras of all frames, in memory: 120 bytes a frame.
#[derive(Debug, Clone)]
struct Cameras {
    /// [S, 9]
    pose_enc: Tensor,
    /// [S, 3, 4]
    extrinsic: Tensor,
    /// [S, 3, 3]
    intrinsic: Tensor,
}

impl Spool {
    /// Wraps frames that were decoded; there are no results yet.
    fn new(
        home: Home,
        header: Header,
        decoded: Decoded,
        images: Column,
        journal: Journal,
    ) -> Result<Self, SpoolError> {
        let mut spool = Self::without_results((home, header), decoded, images, journal);
        spool.results = spool.columns(|home, name| home.create(name))?;
        Ok(spool)
    }

    /// Wraps frames whose columns of results are not opened.
    fn without_results(
        (home, header): (Home, Header),
        decoded: Decoded,
        images: Column,
        journal: Journal,
    ) -> Self {
        Self {
            results: Vec::new(),
            done: vec![false; decoded.names.len()],
            chosen: None,
            cameras: None,
            home,
            header,
            decoded,
            images,
            journal,
        }
    }

    /// Number of frames.
    pub fn count(&self) -> usize {
        self.decoded.names.len()
    }

    /// Names, placements and sizes.
    pub fn decoded(&self) -> &Decoded {
        &self.decoded
    }

    /// What is kept of each frame.
    pub fn fields(&self) -> Fields {
        self.header.fields
    }

    /// SHA-256 of the weights, where it is known.
    pub fn weights_sha256(&self) -> Option<&str> {
        Some(self.header.made_of.weights.0.as_str()).filter(|sum| !sum.is_empty())
    }

    /// The folder, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        self.home.folder().map(home::Folder::path)
    }

    /// Returns the pixels of these frames as the network takes them. [N, 3, H, W] in [0, 1]
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn images(&self, frames: impl IntoIterator<Item = usize>) -> Result<Tensor, SpoolError> {
        let images = frames.into_iter().map(|frame| {
            let bytes = self.images.read(frame);
            bytes.map_err(failed("read", &self.path_of(&self.images)))
        });
        let size = (self.decoded.height, self.decoded.width);
        let mut values = Values::new(size);
        images.into_iter().try_for_each(|bytes| {
            values.push(&bytes?);
            Ok::<(), SpoolError>(())
        })?;
        values.tensor()
    }

    /// Returns the frames whose results are not there yet, in order.
    pub fn missing(&self) -> Vec<usize> {
        (0..self.count()).filter(|i| !self.done[*i]).collect()
    }

    /// Returns whether the results of all frames and the cameras are there.
    pub fn is_finished(&self) -> bool {
        self.cameras.is_some() && self.done.iter().all(|done| *done)
    }

    /// The warnings that came with the frames.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        self.decoded.told.iter().cloned().map(Warning::from)
    }

    /// The number of frames that were taken because more did not fit into memory; `None` when memory did not limit it.
    pub fn limited_by_memory(&self) -> Option<usize> {
        let thinned = |told: &Told| matches!(told, Told::Thinned { .. });
        let limited = self.decoded.told.iter().any(thinned);
        limited.then(|| self.count())
    }

    /// Returns the anchors, if they are chosen.
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// Keeps the choice of anchors for all that is computed from now on.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) fn choose(&mut self, chosen: Chosen) -> Result<(), SpoolError> {
        self.record(&Record::Chosen(Box::new(chosen.clone())))?;
        self.decoded.by_memory |= chosen.by_memory;
        self.chosen = Some(chosen);
        Ok(())
    }

    /// Returns the pixels of these frames, made smaller: [N, 3, h, w] in [0, 1].
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn small_images(
        &self,
        frames: impl IntoIterator<Item = usize>,
        (h, w): (usize, usize),
    ) -> Result<Tensor, SpoolError> {
        let images = frames.into_iter().map(|frame| {
            let bytes = self.images.read(frame);
            let bytes = bytes.map_err(failed("read", &self.path_of(&self.images)))?;
            let size = [self.decoded.width, self.decoded.height].map(|n| n as u32);
            let Some(rgb) = image::RgbImage::from_raw(size[0], size[1], bytes) else {
                return Err(failed("read", &self.path_of(&self.images))(
                    ErrorKind::InvalidData.into(),
                ));
            };
            let small = match (self.decoded.height, self.decoded.width) == (h, w) {
                true => rgb,
                // As PIL's BILINEAR: the filter grows with the factor.
                false => imageops::resize(&rgb, w as u32, h as u32, FilterType::Triangle),
            };
            Ok(small.into_raw())
        });
        let mut values = Values::new((h, w));
        images.into_iter().try_for_each(|bytes| {
            values.push(&bytes?);
            Ok::<(), SpoolError>(())
        })?;
        values.tensor()
    }

    /// Keeps a warning with the frames.
    pub(super) fn tell(&mut self, warning: &Warning) {
        self.decoded.told.push(Told::from(warning));
    }

    /// Takes only these frames, in ascending order, and forgets all results.
    ///
    /// # Errors
    /// When the pixels cannot be moved.
    pub fn select(&mut self, frames: &[usize]) -> Result<(), SpoolError> {
        let path = self.path_of(&self.images);
        for (to, &from) in frames.iter().enumerate().filter(|(to, from)| to != *from) {
            let moved = self.images.read(from);
            let moved = moved.and_then(|bytes| self.images.write(to, &bytes));
            moved.map_err(failed("write", &path))?;
        }
        let old = &self.decoded;
        self.decoded = Decoded {
            names: frames.iter().map(|i| old.names[*i].clone()).collect(),
            placements: frames.iter().map(|i| old.placements[*i]).collect(),
            sums: frames.iter().map(|i| old.sums[*i]).collect(),
            seconds: (frames.iter())
                .filter_map(|i| old.seconds.get(*i).copied())
                .collect(),
            told: old.told.clone(),
            // It ran out of memory.
            by_memory: true,
            ..*old
        };
        self.forget_results()
    }

    /// Forgets all results, as when one is needed that is not kept.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn forget_results(&mut self) -> Result<(), SpoolError> {
        self.done = vec![false; self.count()];
        self.chosen = None;
        self.cameras = None;
        // The latest such record voids what came before.
        let decoded = Box::new(self.decoded.clone());
        self.record(&Record::Decoded(decoded))
    }

    /// Returns the bytes of all its files, about.
    pub fn bytes(&self) -> u64 {
        let size = (self.decoded.height, self.decoded.width);
        self.count() as u64 * self.header.fields.bytes(size)
    }

    /// Returns the bytes that are still to be written, about.
    pub(super) fn bytes_to_come(&self) -> u64 {
        self.bytes() / self.count().max(1) as u64 * self.missing().len() as u64
    }

    /// Keeps what came of a refinement, in the place of an earlier one. Nothing where the spool has no folder.
    pub(super) fn keep_refinement(&self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.home.write(REFINEMENT, bytes)
    }

    /// Returns what is kept of a refinement.
    pub(super) fn kept_refinement(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        let Some(file) = self.home.open(REFINEMENT)? else {
            return Ok(None);
        };
        let bytes = read_all(file, MAX_REFINEMENT);
        let bytes = bytes.map_err(failed("read", &self.home.path().join(REFINEMENT)))?;
        Ok(Some(bytes))
    }

    fn record(&mut self, record: &Record) -> Result<(), SpoolError> {
        let appended = self.journal.append(record);
        appended.map_err(failed("write", &self.home.path().join(home::JOURNAL)))
    }

    fn path_of(&self, column: &Column) -> std::path::PathBuf {
        self.home.path().join(column.name)
    }
}

/// Pixels on their way to the network's input.
struct Values {
    /// (H, W)
    size: (usize, usize),
    values: Vec<f32>,
    count: usize,
}

impl Values {
    fn new(size: (usize, usize)) -> Self {
        Self {
            size,
            values: Vec::new(),
            count: 0,
        }
    }

    /// Adds an image, RGB with 8 bits a channel.
    fn push(&mut self, bytes: &[u8]) {
        self.values.reserve_exact(bytes.len());
        for channel in 0..3 {
            // PyTorch: transforms.ToTensor() divides by 255 in float32.
            let pixels = bytes.as_chunks::<3>().0.iter();
            self.values
                .extend(pixels.map(|p| f32::from(p[channel]) / 255.0));
        }
        self.count += 1;
    }

    /// [N, 3, H, W]
    fn tensor(self) -> Result<Tensor, SpoolError> {
        let shape = (self.count, 3, self.size.0, self.size.1);
        Ok(Tensor::from_vec(self.values, shape, &Device::Cpu)?)
    }
}
