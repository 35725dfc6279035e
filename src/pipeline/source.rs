//! Images, a folder or a video -> the network's input, read one frame at a time into a spool.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use vggt_model::{Config, demo};

use super::{
    PipelineError, Stage, Warning, Watcher,
    dataset::distinct_names,
    decode::FrameDecoder,
    noting::Noting,
    spool::{Incoming, Spool, Taken},
};
use crate::{
    decoder::{Decoding, Shape},
    frames::{
        DecodedImage, Fitted, Frames, ImageLimits, Keyframes, PreprocessError, PreprocessMode,
        VideoChoice, VideoLimits, decode_image, fitted, list_folder,
    },
};

/// Where the frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bundled images.
    Demo,
    /// Image files, in this order. One that cannot be used is an error.
    Images(Vec<PathBuf>),
    /// All images of a folder, in natural order of their names. Files that cannot be used are skipped with a warning.
    Folder(PathBuf),
    /// A video file.
    Video(PathBuf),
}

impl Source {
    /// Returns the files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Demo => Vec::new(),
            Self::Images(paths) => paths.clone(),
            // An error shows when the folder is read.
            Self::Folder(dir) => list_folder(dir).unwrap_or_default().images,
            Self::Video(path) => vec![path.clone()],
        }
    }

    /// Returns the image files with the names of their frames.
    pub(super) fn named_files(&self) -> Vec<(String, PathBuf)> {
        let files = self.files();
        distinct_names(&files).into_iter().zip(files).collect()
    }
}

/// Maximum number of frames to take.
#[derive(Clone, Copy, Default)]
pub struct FrameLimit<'a> {
    /// Maximum that the user asked for.
    pub max: Option<usize>,
    /// Returns the number of frames of a height and width in pixels that fit into memory; `None` does not check.
    pub fitting: Option<&'a dyn Fn(usize, usize) -> usize>,
}

/// How frames are read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How images are resized for the network.
    pub mode: PreprocessMode,
    /// Frames to take from each second of a video.
    pub fps: f64,
    /// Takes so many of the sharpest and most different frames of a video instead; at least 1.
    pub keyframes: Option<usize>,
    /// Limits of a single image.
    pub image_limits: ImageLimits,
    /// Limits of a video.
    pub video_limits: VideoLimits,
    /// Where files are decoded.
    pub decoding: Decoding,
    /// Time that decoding may take in all.
    pub max_time: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            mode: PreprocessMode::default(),
            fps: 1.0,
            keyframes: None,
            image_limits: ImageLimits::default(),
            video_limits: VideoLimits::default(),
            decoding: Decoding::default(),
            max_time: VideoLimits::default().max_wall_time,
        }
    }
}

impl ReadOptions {
    /// Returns which frames of a video are taken.
    pub(super) fn video_choice(&self) -> VideoChoice {
        match self.keyframes {
            Some(n) => VideoChoice::Keyframes(n),
            None => VideoChoice::Fps(self.fps),
        }
    }
}

/// Reads frames for a network of these dimensions, at most as many as `limit` allows, chosen evenly when there are more;
/// [`Frames::available`] is the number of frames of the source.
///
/// # Errors
/// When something cannot be read or decoded, or the watcher stopped it.
pub fn read_frames(
    source: &Source,
    options: &ReadOptions,
    config: &Config,
    limit: &FrameLimit<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Frames, PipelineError> {
    let incoming = Incoming::in_memory()?;
    let spool = spool_frames(source, options, config, limit, incoming, watcher)?;
    all_frames(&spool)
}

/// Returns all frames of a spool.
pub(super) fn all_frames(spool: &Spool) -> Result<Frames, PipelineError> {
    let decoded = spool.decoded();
    Ok(Frames {
        images: spool.images(0..spool.count())?,
        names: decoded.names.clone(),
        placements: decoded.placements.clone(),
        available: decoded.available,
    })
}

/// Reads frames as [`read_frames`] does, one at a time into a spool.
///
/// # Errors
/// As [`read_frames`], and when the spool cannot be written.
pub(super) fn spool_frames(
    source: &Source,
    options: &ReadOptions,
    config: &Config,
    limit: &FrameLimit<'_>,
    incoming: Incoming,
    watcher: &mut dyn Watcher,
) -> Result<Spool, PipelineError> {
    let mut noting = Noting::new(watcher);
    let mut reader = Reader {
        options,
        config,
        limit,
        watcher: &mut noting,
        decoder: FrameDecoder::new(options),
        incoming,
    };
    let selected = match source {
        Source::Demo => {
            let bundled = demo::FRAMES.iter();
            let items: Vec<Item<'_>> = bundled.map(|(name, b)| Item::Bundled(name, b)).collect();
            reader.images(&items)?
        }
        Source::Images(paths) => {
            let named = distinct_names(paths).into_iter().zip(paths);
            let items: Vec<Item<'_>> = named.map(|(name, path)| Item::File(name, path)).collect();
            reader.images(&items)?
        }
        Source::Folder(dir) => reader.folder(dir, list_folder(dir)?)?,
        Source::Video(path) => reader.video(path)?,
    };
    reader.report_cropped(&selected.taken);
    let incoming = reader.incoming;
    incoming.finish(selected, &noting.warnings)
}

/// The frames that were taken.
pub(super) struct Selected {
    pub(super) taken: Vec<Taken>,
    /// Number of frames of the source.
    pub(super) available: usize,
    /// What became of the frames of a video, where the sharpest and most different ones were asked for.
    pub(super) keyframes: Option<Keyframes>,
    /// When each frame of a video is shown, in seconds; none for photos.
    pub(super) seconds: Vec<f64>,
}

/// One image that is to be read.
pub(super) enum Item<'a> {
    /// A bundled file, with its name.
    Bundled(&'a str, &'a [u8]),
    /// A file, and the name of its image.
    File(String, &'a Path),
}

pub(super) struct Reader<'a> {
    pub(super) options: &'a ReadOptions,
    pub(super) config: &'a Config,
    pub(super) limit: &'a FrameLimit<'a>,
    pub(super) watcher: &'a mut dyn Watcher,
    pub(super) decoder: FrameDecoder<'a>,
    pub(super) incoming: Incoming,
}

impl Reader<'_> {
    /// Reads one image; `done` of `total` were read before.
    pub(super) fn read(
        &mut self,
        item: &Item<'_>,
        (done, total): (usize, usize),
    ) -> Result<DecodedImage, PipelineError> {
        let shape = self.shape();
        match item {
            // Nothing of a stranger's.
            Item::Bundled(name, bytes) => {
                let image = decode_image(name, bytes, &self.options.image_limits)?;
                Ok(shape.apply(image)?)
            }
            Item::File(name, path) => {
                let go_on = &mut || self.watcher.step(Stage::Decode, done, total);
                self.decoder.image(path, name, shape, go_on)
            }
        }
    }

    /// Puts an image of the network's size into the spool, with where it lies in its original.
    pub(super) fn put(&mut self, image: DecodedImage) -> Result<Taken, PipelineError> {
        let placement = self.fitted(&image.name, image.source_size)?.placement;
        Ok(self.incoming.put(image.name, placement, &image.rgb)?)
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::Network {
            mode: self.options.mode,
            img_size: self.config.img_size,
            patch_size: self.config.patch_size,
        }
    }

    pub(super) fn fitted(
        &self,
        name: &str,
        source_size: (u32, u32),
    ) -> Result<Fitted, PreprocessError> {
        fitted_for(self.options, self.config, name, source_size)
    }

    pub(super) fn report_thinned(&mut self, available: usize, used: usize) {
        let asked_for = self.limit.max.is_some_and(|max| used >= max.min(available));
        if asked_for {
            tracing::info!("taking {used} of {available} frames, evenly");
        } else {
            let warning = Warning::FramesThinned {
                used,
                available,
                evenly: true,
            };
            self.watcher.warn(&warning);
        }
    }

    /// Tells once what cropping takes away.
    fn report_cropped(&mut self, taken: &[Taken]) {
        let lost = |one: &Taken| {
            let height = f64::from(one.placement.source_height) * one.placement.scale_y;
            // Rounded down, so that rounding to whole patches is not a loss.
            ((1.0 - f64::from(one.height) / height) * 100.0).max(0.0) as u8
        };
        let cropped = taken.iter().filter(|one| one.placement.offset_y < 0.0);
        let frames = cropped.clone().count();
        if let Some(one) = cropped.rev().max_by_key(|one| lost(one)) {
            self.watcher.warn(&Warning::Cropped {
                name: one.name.clone(),
                percent: lost(one),
                frames,
            });
        }
    }
}

pub(super) fn fitted_for(
    options: &ReadOptions,
    config: &Config,
    name: &str,
    source_size: (u32, u32),
) -> Result<Fitted, PreprocessError> {
    let (img_size, patch_size) = (config.img_size, config.patch_size);
    fitted(name, source_size, options.mode, img_size, patch_size)
}

impl FrameLimit<'_> {
    /// Returns the maximum for frames of this size, at least 1.
    pub(super) fn frames(&self, height: usize, width: usize) -> usize {
        let fitting = self.fitting.map_or(usize::MAX, |f| f(height, width));
        fitting.min(self.max.unwrap_or(usize::MAX)).max(1)
    }
}

/// Returns `count` of the integers below `n`, spaced evenly, the first and the last among them.
pub(super) fn evenly(n: usize, count: usize) -> impl Iterator<Item = usize> {
    let last = n.saturating_sub(1) as f64;
    let steps = count.saturating_sub(1).max(1) as f64;
    (0..count).map(move |i| (i as f64 * last / steps).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Silent;

    fn read_demo(
        limit: &FrameLimit<'_>,
        watcher: &mut dyn Watcher,
    ) -> Result<Frames, PipelineError> {
        let config = demo::config()?;
        read_frames(
            &Source::Demo,
            &ReadOptions::default(),
            &config,
            limit,
            watcher,
        )
    }

    #[test]
    fn frames_are_thinned_evenly_from_first_to_last() {
        assert_eq!(evenly(10, 4).collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert_eq!(evenly(10, 1).collect::<Vec<_>>(), [0]);
        assert_eq!(evenly(3, 3).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_fitting_limit_sees_the_size_of_the_frames() {
        let ask = |h: usize, w: usize| if (h, w) == (84, 112) { 3 } else { 1 };
        let limit = FrameLimit {
            fitting: Some(&ask),
            ..FrameLimit::default()
        };
        let frames = read_demo(&limit, &mut Silent).unwrap();
        assert_eq!(frames.images.dims(), [3, 3, 84, 112]);
        let expected = ["frame_00.png", "frame_04.png", "frame_07.png"];
        assert_eq!(frames.names, expected);
        assert_eq!(frames.available, 8);
    }

    #[test]
    fn the_smaller_of_both_limits_counts() {
        let ask = |_: usize, _: usize| 3;
        for (max, expected) in [(Some(2), 2), (Some(5), 3), (None, 3)] {
            let limit = FrameLimit {
                max,
                fitting: Some(&ask),
            };
            let frames = read_demo(&limit, &mut Silent).unwrap();
            assert_eq!(frames.names.len(), expected, "{max:?}");
        }
    }

    #[test]
    fn a_watcher_stops_the_reading() {
        struct Stop;
        impl Watcher for Stop {
            fn step(&mut self, _: Stage, done: usize, _: usize) -> bool {
                done < 2
            }
        }
        let e = read_demo(&FrameLimit::default(), &mut Stop).unwrap_err();
        assert!(matches!(e, PipelineError::Cancelled));
    }
}
