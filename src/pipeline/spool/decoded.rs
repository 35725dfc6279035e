//! Frames on their way into a spool: decoded one at a time, padded to one size when all are known.

use std::{path::Path, sync::Arc};

use image::{Rgb, RgbImage, imageops};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{PipelineError, Warning, source::Selected};
use super::{
    Fields, MadeOf, Spool,
    column::Column,
    data::Data,
    error::{SpoolError, failed},
    header::Header,
    home::{DECODED, Folder, Home, IMAGES, JOURNAL},
    journal::{Journal, Record},
    told::{Told, depends_on_memory},
};
use crate::frames::{Keyframes, Placement, PreprocessError};

/// Padding between frames of different sizes, as [`crate::frames::stack`] has it.
const WHITE: Rgb<u8> = Rgb([255; 3]);

/// What is known of the frames once all of them are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decoded {
    /// Name of each frame.
    pub names: Vec<String>,
    /// Where each frame lies in its original image.
    pub placements: Vec<Placement>,
    /// Number of frames of the source.
    pub available: usize,
    /// What became of the frames of a video, where the sharpest and most different ones were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyframes: Option<Keyframes>,
    /// When each frame is shown in its video, in seconds from the first; empty for photos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
    /// Height of all frames in pixels.
    pub height: usize,
    /// Width of all frames in pixels.
    pub width: usize,
    /// True when the memory that was free decided which frames these are, or how they were decoded.
    pub(super) by_memory: bool,
    /// Warnings of the decoding.
    pub(super) told: Vec<Told>,
    /// Checksum of the pixels of each frame.
    pub(super) sums: Vec<u32>,
}

/// A frame that was decoded, and where its pixels lie.
#[derive(Debug, Clone)]
pub(in super::super) struct Taken {
    pub(in super::super) name: String,
    pub(in super::super) placement: Placement,
    pub(in super::super) width: u32,
    pub(in super::super) height: u32,
    at: u64,
}

/// A spool that receives frames.
#[derive(Debug)]
pub(in super::super) struct Incoming {
    home: Home,
    header: Header,
    data: Arc<Data>,
    end: u64,
}

impl Incoming {
    /// Begins a spool in a place that is ours. What is in it is void.
    pub(super) fn begin(home: Home, header: Header) -> Result<Self, SpoolError> {
        home.clear();
        header.write(&home)?;
        Ok(Self {
            data: Arc::new(home.create(DECODED)?),
            header,
            home,
            end: 0,
        })
    }

    /// A spool in memory, of which nothing is kept but its pixels.
    pub(in super::super) fn in_memory() -> Result<Self, SpoolError> {
        let header = Header::new(MadeOf::default(), Fields::default(), Value::Null);
        Self::begin(Home::Memory, header)
    }

    /// The folder, if it has one.
    pub(in super::super) fn folder(&self) -> Option<&Path> {
        self.home.folder().map(Folder::path)
    }

    /// Writes the pixels of a frame.
    pub(in super::super) fn put(
        &mut self,
        name: String,
        placement: Placement,
        rgb: &RgbImage,
    ) -> Result<Taken, SpoolError> {
        let at = self.end;
        let written = self.data.write_at(rgb.as_raw(), at);
        written.map_err(failed("write", &self.home.path().join(DECODED)))?;
        self.end += rgb.as_raw().len() as u64;
        Ok(Taken {
            name,
            placement,
            width: rgb.width(),
            height: rgb.height(),
            at,
        })
    }

    /// Ends the decoding with the frames that are used, in order: where their sizes differ, each is centered on white of the
    /// largest height and width, and its placement is adjusted, as [`crate::frames::stack`] does.
    ///
    /// # Errors
    /// When there is no frame, or the pixels cannot be written.
    pub(in super::super) fn finish(
        self,
        selected: Selected,
        warnings: &[Warning],
    ) -> Result<Spool, PipelineError> {
        let frames = selected.taken;
        let width = frames.iter().map(|one| one.width).max();
        let height = frames.iter().map(|one| one.height).max();
        let (Some(width), Some(height)) = (width, height) else {
            return Err(PreprocessError::Empty.into());
        };
        let stride = 3 * width as usize * height as usize;
        let in_place = frames.iter().enumerate().all(|(i, one)| {
            (one.width, one.height) == (width, height) && one.at == (i * stride) as u64
        });
        let data = match in_place {
            true => {
                self.home.rename(DECODED, IMAGES)?;
                self.data.clone()
            }
            false => Arc::new(self.home.create(IMAGES)?),
        };
        let path = self.home.path().join(IMAGES);
        let images = Column::new(IMAGES, data, stride);
        let mut decoded = Decoded {
            names: Vec::with_capacity(frames.len()),
            placements: Vec::with_capacity(frames.len()),
            available: selected.available,
            keyframes: selected.keyframes,
            seconds: match selected.seconds.len() == frames.len() {
                true => selected.seconds,
                false => Vec::new(),
            },
            height: height as usize,
            width: width as usize,
            by_memory: warnings.iter().any(depends_on_memory),
            told: warnings.iter().map(Told::from).collect(),
            sums: Vec::with_capacity(frames.len()),
        };
        for (i, mut one) in frames.into_iter().enumerate() {
            let rgb = self.pixels(&one)?;
            let left = (width - one.width) / 2;
            let top = (height - one.height) / 2;
            // PyTorch: pad_left = padding // 2
            one.placement.offset_x += f64::from(left);
            one.placement.offset_y += f64::from(top);
            let rgb = match (one.width, one.height) == (width, height) {
                true => rgb,
                false => {
                    let mut padded = RgbImage::from_pixel(width, height, WHITE);
                    imageops::replace(&mut padded, &rgb, i64::from(left), i64::from(top));
                    padded
                }
            };
            if !in_place {
                let written = images.write(i, rgb.as_raw());
                written.map_err(failed("write", &path))?;
            }
            decoded.sums.push(crc32fast::hash(rgb.as_raw()));
            decoded.names.push(one.name);
            decoded.placements.push(one.placement);
        }
        self.home.remove(DECODED);
        let mut journal = Journal::begin(&self.home)?;
        let appended = journal.append(&Record::Decoded(Box::new(decoded.clone())));
        appended.map_err(failed("write", &self.home.path().join(JOURNAL)))?;
        Ok(Spool::new(
            self.home,
            self.header,
            decoded,
            images,
            journal,
        )?)
    }

    fn pixels(&self, frame: &Taken) -> Result<RgbImage, SpoolError> {
        let path = self.home.path().join(DECODED);
        let mut bytes = vec![0; 3 * frame.width as usize * frame.height as usize];
        let read = self.data.read_at(&mut bytes, frame.at);
        read.map_err(failed("read", &path))?;
        let rgb = RgbImage::from_raw(frame.width, frame.height, bytes);
        rgb.ok_or_else(|| failed("read", &path)(std::io::ErrorKind::InvalidData.into()))
    }
}
