//! Pictures, a folder or a video -> the network's input, one frame at a time.

use std::path::PathBuf;

use vggt_model::demo;

use super::{PipelineError, Stage, Watcher};
use crate::frames::{
    DecodedImage, Frames, ImageLimits, Prepared, PreprocessError, PreprocessMode, VideoLimits,
    decode_image, list_folder, preprocess, read_image, read_video, stack, video_size,
};

/// Where the frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bundled pictures.
    Demo,
    /// Picture files, in this order.
    Pictures(Vec<PathBuf>),
    /// All pictures of a folder, by name.
    Folder(PathBuf),
    /// A video file.
    Video(PathBuf),
}

/// How many frames are taken at most.
pub enum FrameLimit<'a> {
    /// A given number.
    Given(usize),
    /// As many as fit: asked with the height and width of the frames in pixels.
    Fitting(&'a dyn Fn(usize, usize) -> usize),
}

/// How frames are read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How pictures are brought to the network's size.
    pub mode: PreprocessMode,
    /// The network's input width in pixels.
    pub img_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames to take from each second of a video.
    pub fps: f64,
    /// Limits of a single picture.
    pub image_limits: ImageLimits,
    /// Limits of a video.
    pub video_limits: VideoLimits,
}

/// Reads at most as many frames as `limit` says, evenly chosen when there are more; [`Frames::given`] tells how many there
/// were.
///
/// # Errors
/// When something cannot be read or decoded, or the watcher stopped it.
pub fn read_frames(
    source: &Source,
    options: &ReadOptions,
    limit: &FrameLimit<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Frames, PipelineError> {
    let (prepared, given) = match source {
        Source::Demo => read_pictures(&demo::FRAMES, options, limit, watcher, |(name, bytes)| {
            decode_image(name, bytes, &options.image_limits)
        })?,
        Source::Pictures(paths) => read_pictures(paths, options, limit, watcher, |path| {
            read_image(path, &options.image_limits)
        })?,
        Source::Folder(dir) => {
            read_pictures(&list_folder(dir)?, options, limit, watcher, |path| {
                read_image(path, &options.image_limits)
            })?
        }
        Source::Video(path) => read_clip(path, options, limit, watcher)?,
    };
    Ok(Frames {
        given,
        ..stack(prepared)?
    })
}

/// What was taken, and of how many.
type Taken = (Vec<Prepared>, usize);

fn read_pictures<T>(
    items: &[T],
    options: &ReadOptions,
    limit: &FrameLimit<'_>,
    watcher: &mut dyn Watcher,
    read: impl Fn(&T) -> Result<DecodedImage, PreprocessError>,
) -> Result<Taken, PipelineError> {
    let (mut height, mut width) = (0, 0);
    let mut prepared: Vec<Prepared> = Vec::new();
    let mut chosen: Vec<usize> = (0..items.len()).collect();
    let mut next = 0;
    while next < chosen.len() {
        let one = prepare(read(&items[chosen[next]])?, options)?;
        let (h, w) = (one.rgb.height() as usize, one.rgb.width() as usize);
        prepared.push(one);
        next += 1;
        if h > height || w > width {
            // The set is padded to its largest member, so each larger one may leave room for fewer.
            (height, width) = (height.max(h), width.max(w));
            let most = limit.frames(height, width).max(1);
            if chosen.len() > most {
                tell_thinned(items.len(), most, limit);
                chosen = evenly(items.len(), most).collect();
                // What was read so far belongs to the wider choice: start again with the narrower one.
                prepared.clear();
                next = 0;
            }
        }
        if !watcher.step(Stage::Decode, next, chosen.len()) {
            return Err(PipelineError::Cancelled);
        }
    }
    Ok((prepared, items.len()))
}

fn read_clip(
    path: &std::path::Path,
    options: &ReadOptions,
    limit: &FrameLimit<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Taken, PipelineError> {
    let most = match limit {
        FrameLimit::Given(most) => *most,
        FrameLimit::Fitting(_) => {
            let (width, height) = video_size(path, &options.video_limits)?;
            // A picture of one colour has the same way to the network's size as any other.
            let blank = DecodedImage {
                name: String::new(),
                rgb: image::RgbImage::new(width, height),
            };
            let rgb = prepare(blank, options)?.rgb;
            limit.frames(rgb.height() as usize, rgb.width() as usize)
        }
    };
    let mut prepared = Vec::new();
    let mut on = |p: crate::frames::VideoProgress| {
        let total = p.frames_total.unwrap_or(0) as usize;
        watcher.step(Stage::Decode, p.frames_read as usize, total)
    };
    let summary = read_video(
        path,
        options.fps,
        &options.video_limits,
        Some(most.max(1)),
        &mut on,
        &mut |picture| {
            let one = preprocess(picture, options.mode, options.img_size, options.patch_size)?;
            prepared.push(one);
            Ok(())
        },
    )?;
    for warning in &summary.warnings {
        tracing::warn!("{warning}");
    }
    let mut given = prepared.len();
    if let Some(from) = summary.thinned_from {
        given = from as usize;
        tell_thinned(given, prepared.len(), limit);
    }
    Ok((prepared, given))
}

fn prepare(picture: DecodedImage, options: &ReadOptions) -> Result<Prepared, PipelineError> {
    Ok(preprocess(
        picture,
        options.mode,
        options.img_size,
        options.patch_size,
    )?)
}

fn tell_thinned(from: usize, to: usize, limit: &FrameLimit<'_>) {
    match limit {
        FrameLimit::Given(_) => tracing::info!("taking {to} of {from} frames, evenly"),
        FrameLimit::Fitting(_) => tracing::warn!(
            "taking {to} of {from} frames, evenly: more do not fit into memory (--max_frames {from} tries all the same)"
        ),
    }
}

impl FrameLimit<'_> {
    fn frames(&self, height: usize, width: usize) -> usize {
        match self {
            Self::Given(most) => *most,
            Self::Fitting(ask) => ask(height, width),
        }
    }
}

/// `most` of the numbers below `n`, evenly, the first and the last among them.
pub(super) fn evenly(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let last = (n - 1) as f64;
    let steps = most.saturating_sub(1).max(1) as f64;
    (0..most).map(move |i| (i as f64 * last / steps).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Silent;

    fn demo_options() -> ReadOptions {
        ReadOptions {
            img_size: 112,
            patch_size: 14,
            fps: 1.0,
            ..ReadOptions::default()
        }
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
        let frames = read_frames(
            &Source::Demo,
            &demo_options(),
            &FrameLimit::Fitting(&ask),
            &mut Silent,
        )
        .unwrap();
        assert_eq!(frames.images.dims(), [3, 3, 84, 112]);
        let expected = ["frame_00.png", "frame_04.png", "frame_07.png"];
        assert_eq!(frames.names, expected);
    }

    #[test]
    fn a_watcher_stops_the_reading() {
        struct Stop;
        impl Watcher for Stop {
            fn step(&mut self, _: Stage, done: usize, _: usize) -> bool {
                done < 2
            }
        }
        let limit = FrameLimit::Given(8);
        let e = read_frames(&Source::Demo, &demo_options(), &limit, &mut Stop).unwrap_err();
        assert!(matches!(e, PipelineError::Cancelled));
    }
}
