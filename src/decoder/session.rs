//! The side of this process: frames are asked for, and what comes back is checked.

use std::{fs::File, io, path::Path, time::Duration};

use super::{
    DecoderError, Shape, Worker, WorkerError,
    failure::{Asked, Failure, tidy},
    link::Link,
    note::told_notes,
    protocol::{Reply, Task},
    waiting::GoOn,
    wire,
};
use crate::frames::{
    DecodedImage, FramesError, ImageLimits, Keyframes, PreprocessError, VideoChoice, VideoLimits,
    VideoProgress, fitted, open_regular,
};

/// What one job's decoding may take.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Bytes of memory.
    pub memory: u64,
    /// Time from the start of the session.
    pub time: Duration,
}

impl Default for Allowance {
    /// As a limit of a clip is by default.
    fn default() -> Self {
        let limits = VideoLimits::default();
        Self {
            memory: limits.max_memory,
            time: limits.max_wall_time,
        }
    }
}

/// A decoded image in the shape that was asked for: for [`Shape::Network`] at the network's size.
pub type Decoded = DecodedImage;

/// What is wanted of a video.
#[derive(Debug, Clone, Copy)]
pub struct Video<'a> {
    /// Limits of the clip.
    pub limits: &'a VideoLimits,
    /// What becomes of its frames.
    pub shape: Shape,
    /// Which frames are taken.
    pub choice: &'a VideoChoice,
    /// Most frames to take.
    pub max_frames: Option<usize>,
}

/// What there is to know of a video that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// How many frames the rate alone would have chosen, if they were thinned out.
    pub thinned_from: Option<u64>,
    /// What became of all frames, where the sharpest and most different ones were asked for.
    pub keyframes: Option<Keyframes>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// A process that decodes the files of one job. Ends with it.
#[derive(Debug)]
pub struct Session {
    link: Link,
}

impl Session {
    /// Starts the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(worker: &Worker, allowance: &Allowance) -> Result<Self, WorkerError> {
        let link = Link::start(worker, allowance)?;
        Ok(Self { link })
    }

    /// Waits until the process has locked itself in.
    ///
    /// # Errors
    /// When the process fails before.
    pub(super) fn greeted(mut self) -> Result<(), WorkerError> {
        let greeted = self
            .link
            .greeting(&asked(Path::new("no file")), &mut || true);
        greeted.map_err(|e| match e {
            DecoderError::Worker(e) => e,
            DecoderError::Frames(e) => WorkerError::Start(io::Error::other(e)),
        })
    }

    /// Decodes an image file. `name` names the image.
    ///
    /// # Errors
    /// When the image cannot be decoded, the process fails, time is over, or `go_on` says so.
    pub fn image(
        &mut self,
        path: &Path,
        name: &str,
        limits: &ImageLimits,
        shape: Shape,
        go_on: &mut GoOn<'_>,
    ) -> Result<Decoded, DecoderError> {
        let file = open_regular(path).map_err(|source| PreprocessError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let asked = Asked {
            images: *limits,
            ..asked(path)
        };
        let task = Task::Image {
            limits: (*limits).into(),
            shape: shape.into(),
        };
        self.link.ask(path, task, &file, &asked, go_on)?;
        let mut decoded = None;
        loop {
            match self.link.reply(&asked, go_on)? {
                frame @ Reply::Frame { .. } if decoded.is_none() => {
                    let (_, image) =
                        self.frame(frame, name, shape, limits.max_pixels, &asked, go_on)?;
                    decoded = Some(image);
                }
                Reply::Done { .. } => {
                    return decoded.ok_or_else(|| self.link.wrong(&asked, "no image"));
                }
                Reply::Failed(Failure::Image(_, failure)) => {
                    return Err(failure.told(name, &asked).into());
                }
                Reply::Failed(failure) => return Err(failure.told(&asked).into()),
                _ => return Err(self.link.wrong(&asked, "not of an image")),
            }
        }
    }

    /// Returns width and height of a video's frames as they are shown, in pixels, by its header.
    ///
    /// # Errors
    /// As [`Session::image`].
    pub fn video_size(
        &mut self,
        path: &Path,
        limits: &VideoLimits,
        go_on: &mut GoOn<'_>,
    ) -> Result<(u32, u32), DecoderError> {
        let (file, limits) = self.open_video(path, limits)?;
        let asked = Asked {
            videos: limits,
            ..asked(path)
        };
        self.link
            .ask(path, Task::VideoSize(limits.into()), &file, &asked, go_on)?;
        match self.link.reply(&asked, go_on)? {
            Reply::Size { width, height }
                if width > 0
                    && height > 0
                    && u64::from(width) * u64::from(height) <= limits.max_pixels =>
            {
                Ok((width, height))
            }
            Reply::Failed(failure) => Err(self.link.failed(failure, &asked)),
            _ => Err(self.link.wrong(&asked, "no size")),
        }
    }

    /// Hands the chosen frames of a video to `sink`, in order.
    ///
    /// # Errors
    /// As [`Session::image`], and when `sink` fails.
    pub fn video(
        &mut self,
        path: &Path,
        video: &Video<'_>,
        on: &mut dyn FnMut(VideoProgress) -> bool,
        sink: &mut dyn FnMut(Decoded) -> Result<(), FramesError>,
    ) -> Result<Read, DecoderError> {
        let (file, limits) = self.open_video(path, video.limits)?;
        let asked = Asked {
            videos: limits,
            ..asked(path)
        };
        let task = Task::Video {
            limits: limits.into(),
            shape: video.shape.into(),
            choice: video.choice.into(),
            max_frames: video.max_frames,
        };
        let asked_for = match video.choice {
            VideoChoice::Fps(_) => usize::MAX,
            VideoChoice::Keyframes(n) => *n,
            VideoChoice::Numbers(numbers) => numbers.len(),
        };
        let most = video.max_frames.unwrap_or(usize::MAX).min(asked_for);
        let mut progress = VideoProgress {
            frames_read: 0,
            frames_total: None,
            frames_chosen: 0,
        };
        self.link
            .ask(path, task, &file, &asked, &mut || on(progress))?;
        loop {
            match self.link.reply(&asked, &mut || on(progress))? {
                Reply::Progress { done, total } => {
                    progress.frames_read = done;
                    progress.frames_total = (total > 0).then_some(total);
                    if !on(progress) {
                        return Err(FramesError::Cancelled.into());
                    }
                }
                frame @ Reply::Frame { .. } if progress.frames_chosen < most => {
                    let shape = video.shape;
                    let go_on = &mut || on(progress);
                    let (number, mut image) =
                        self.frame(frame, "", shape, limits.max_pixels, &asked, go_on)?;
                    image.name = format!("frame_{number:06}.png");
                    progress.frames_chosen += 1;
                    sink(image)?;
                }
                Reply::Done {
                    thinned_from,
                    keyframes,
                    warnings,
                } if progress.frames_chosen > 0 => {
                    if !adds_up(video.choice, keyframes.as_ref(), progress.frames_chosen) {
                        return Err(self.link.wrong(&asked, "numbers that do not add up"));
                    }
                    return Ok(Read {
                        thinned_from,
                        keyframes,
                        warnings: warnings.iter().map(|w| tidy(w)).collect(),
                    });
                }
                Reply::Failed(failure) => return Err(self.link.failed(failure, &asked)),
                _ => return Err(self.link.wrong(&asked, "not of a video")),
            }
        }
    }

    /// Opens a video, and gives it no more time than is left.
    fn open_video(
        &self,
        path: &Path,
        limits: &VideoLimits,
    ) -> Result<(File, VideoLimits), FramesError> {
        let file = open_regular(path).map_err(|source| FramesError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let limits = VideoLimits {
            max_wall_time: limits.max_wall_time.min(self.link.time),
            ..*limits
        };
        Ok((file, limits))
    }

    /// Checks a frame against what was asked for, and reads its pixels.
    fn frame(
        &mut self,
        reply: Reply,
        name: &str,
        shape: Shape,
        max_pixels: u64,
        asked: &Asked<'_>,
        go_on: &mut GoOn<'_>,
    ) -> Result<(u64, Decoded), DecoderError> {
        let Reply::Frame {
            number,
            width,
            height,
            source_width,
            source_height,
            notes,
            seconds,
        } = reply
        else {
            return Err(self.link.wrong(asked, "no frame"));
        };
        let source_size = (source_width, source_height);
        let allowed = match shape {
            Shape::Network {
                mode,
                img_size,
                patch_size,
            } => {
                let fitted = fitted(name, source_size, mode, img_size, patch_size)
                    .map_err(FramesError::from)?;
                (width, height) == (fitted.width, fitted.height)
            }
            Shape::Whole => {
                width > 0 && height > 0 && u64::from(width) * u64::from(height) <= max_pixels
            }
        };
        let Some(notes) = told_notes(notes).filter(|_| allowed) else {
            return Err(self.link.wrong(asked, "a frame of another size"));
        };
        let length = width as usize * height as usize * 3;
        let pixels = self
            .link
            .reading(asked, go_on, |from| wire::read_pixels(from, length))?;
        let Some(rgb) = image::RgbImage::from_raw(width, height, pixels) else {
            return Err(self.link.wrong(asked, "too few pixels"));
        };
        let image = DecodedImage {
            name: name.to_owned(),
            rgb,
            source_size,
            notes,
            seconds: seconds.map(f64::from).filter(|s| s.is_finite()),
        };
        Ok((number, image))
    }
}

/// Whether what became of the frames is told where it was asked for, and can be true.
fn adds_up(choice: &VideoChoice, told: Option<&Keyframes>, chosen: usize) -> bool {
    let Some(told) = told else {
        return !matches!(choice, VideoChoice::Keyframes(_));
    };
    let parts = [told.chosen, told.less_sharp, told.plain, told.similar];
    let sum = (parts.into_iter()).try_fold(0_u64, |sum, part| sum.checked_add(part));
    matches!(choice, VideoChoice::Keyframes(_))
        && told.chosen == chosen as u64
        && sum == Some(told.frames)
}

/// A request for this file, with the usual limits.
fn asked(path: &Path) -> Asked<'_> {
    Asked {
        path,
        images: ImageLimits::default(),
        videos: VideoLimits::default(),
    }
}

#[cfg(test)]
mod tests;
