//! Decoding one file after the other, in this process or in one of its own, within the limits of one job.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{PipelineError, ReadOptions, available_memory};
use crate::{
    decoder::{Allowance, Decoding, Read, Session, Shape, Video, Worker},
    frames::{
        DecodedImage, FramesError, ImageLimits, VideoChoice, VideoFile, VideoLimits, VideoProgress,
        read_image, read_video_file, video_file_size,
    },
};

/// Decodes the files of one job.
pub(super) struct FrameDecoder<'a> {
    decoding: &'a Decoding,
    images: ImageLimits,
    videos: VideoLimits,
    memory: u64,
    time: Duration,
    start: Instant,
    /// Started when it is first needed.
    session: Option<Session>,
}

/// Asked now and then; `false` ends the work.
type GoOn<'a> = dyn FnMut() -> bool + 'a;

impl<'a> FrameDecoder<'a> {
    /// The time that decoding may take begins now, and its memory is measured.
    pub(super) fn new(options: &'a ReadOptions) -> Self {
        let memory = match &options.decoding {
            Decoding::Isolated(worker) => worker.max_memory,
            Decoding::Here => u64::MAX,
        };
        let memory = memory.min(available_memory().map_or(u64::MAX, most_of));
        let (images, videos) = (options.image_limits, options.video_limits);
        Self {
            decoding: &options.decoding,
            images: ImageLimits {
                max_memory: images.max_memory.min(memory),
                ..images
            },
            videos: VideoLimits {
                max_memory: videos.max_memory.min(memory),
                max_wall_time: videos.max_wall_time.min(options.max_time),
                ..videos
            },
            memory,
            time: options.max_time,
            start: Instant::now(),
            session: None,
        }
    }

    /// Decodes an image file; `name` names the image.
    pub(super) fn image(
        &mut self,
        path: &Path,
        name: &str,
        shape: Shape,
        go_on: &mut GoOn<'_>,
    ) -> Result<DecodedImage, PipelineError> {
        let limits = self.images;
        match self.decoding {
            Decoding::Here => {
                self.check_time(name)?;
                let image = read_image(path, &limits)?;
                Ok(shape.apply(DecodedImage {
                    name: name.to_owned(),
                    ..image
                })?)
            }
            Decoding::Isolated(worker) => {
                let session = self.session(worker)?;
                Ok(session.image(path, name, &limits, shape, go_on)?)
            }
        }
    }

    /// Returns width and height of a video's frames as they are shown, in pixels, by its header.
    pub(super) fn video_size(
        &mut self,
        path: &Path,
        go_on: &mut GoOn<'_>,
    ) -> Result<(u32, u32), PipelineError> {
        let limits = self.videos;
        match self.decoding {
            Decoding::Here => Ok(video_file_size(&VideoFile::open(path)?, &limits)?),
            Decoding::Isolated(worker) => {
                Ok(self.session(worker)?.video_size(path, &limits, go_on)?)
            }
        }
    }

    /// Hands the frames of a video that are chosen, and at most so many, to `sink`.
    pub(super) fn video(
        &mut self,
        path: &Path,
        (choice, max_frames): (&VideoChoice, Option<usize>),
        shape: Shape,
        on: &mut dyn FnMut(VideoProgress) -> bool,
        sink: &mut dyn FnMut(DecodedImage) -> Result<(), FramesError>,
    ) -> Result<Read, PipelineError> {
        let limits = self.videos;
        match self.decoding {
            Decoding::Here => {
                let file = VideoFile::open(path)?;
                let sink = &mut |image| sink(shape.apply(image)?);
                let summary = read_video_file(&file, choice, &limits, max_frames, on, sink)?;
                Ok(Read {
                    thinned_from: summary.thinned_from,
                    keyframes: summary.keyframes,
                    warnings: summary.warnings,
                })
            }
            Decoding::Isolated(worker) => {
                let video = Video {
                    limits: &limits,
                    shape,
                    choice,
                    max_frames,
                };
                Ok(self.session(worker)?.video(path, &video, on, sink)?)
            }
        }
    }

    fn session(&mut self, worker: &Worker) -> Result<&mut Session, PipelineError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let allowance = Allowance {
                    memory: self.memory,
                    time: self.time,
                };
                Session::start(worker, &allowance)?
            }
        };
        Ok(self.session.insert(session))
    }

    /// Another process is ended when its time is over; here it is looked at between two images.
    fn check_time(&self, name: &str) -> Result<(), FramesError> {
        if self.start.elapsed() <= self.time {
            return Ok(());
        }
        Err(FramesError::TooSlow {
            name: name.to_owned(),
            max_seconds: self.time.as_secs_f64(),
        })
    }
}

/// A fifth stays free for the system and the frames.
fn most_of(available: u64) -> u64 {
    available / 5 * 4
}
