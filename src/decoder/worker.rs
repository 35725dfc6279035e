//! The other side: a process that decodes what it is handed, and can do nothing else.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    Shape,
    failure::Failure,
    log,
    note::Note,
    protocol::{Reply, Request, Settings, Task},
    sandbox, wire,
};
use crate::{
    allocator,
    frames::{
        DecodedImage, FramesError, VideoFile, VideoProgress, decode_file, read_video_file,
        video_file_size,
    },
    system::{self, Channel},
};

/// Time between two messages about the progress of a video.
const PROGRESS: Duration = Duration::from_millis(20);

/// Serves the process at the other end of standard input until that end is closed.
pub fn work() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody may listen.
            let _ = writeln!(io::stderr(), "{e}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    if !system::standard_input_is_a_channel() {
        let why = "this command is for vggt itself, which hands it a socket as standard input";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    sandbox::leave_parent()?;
    let mut stream = system::channel_of_standard_input()?;
    let Some(settings) = wire::read::<Settings>(&mut stream)? else {
        return Ok(());
    };
    log::start();
    allocator::keep_freed_memory();
    let missing = sandbox::lock_in(&settings);
    // As many as the other process has, which may not be as many as there are cores.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.threads);
    pool.build_global().map_err(io::Error::other)?;
    let mut answers = Answers { stream };
    answers.send(&Reply::Hello {
        version: env!("VGGT_VERSION").to_owned(),
        missing,
    })?;
    while let Some((request, file)) = wire::receive::<Request>(&mut answers.stream)? {
        let file = file.ok_or(io::ErrorKind::InvalidInput)?;
        let last = answers.answer(request, file)?;
        for line in log::take() {
            answers.send(&Reply::Log(line))?;
        }
        answers.send(&last)?;
    }
    Ok(())
}

/// The stream to the process that asks.
struct Answers {
    stream: Channel,
}

impl Answers {
    fn send(&mut self, reply: &Reply) -> io::Result<()> {
        wire::write(&mut self.stream, reply)
    }

    /// Sends the frames that are asked for; returns the last reply.
    ///
    /// # Errors
    /// When the other process is gone.
    fn answer(&mut self, request: Request, file: File) -> io::Result<Reply> {
        let Request { name, task } = request;
        let mut lost = None;
        let done = match task {
            Task::Image { limits, shape } => decode_file(&name, file, &limits.into())
                .map_err(FramesError::from)
                .and_then(|image| self.frame(0, image, shape.into(), &mut lost))
                .map(|()| Reply::Done {
                    thinned_from: None,
                    keyframes: None,
                    warnings: Vec::new(),
                }),
            Task::VideoSize(limits) => {
                let file = VideoFile::new(PathBuf::from(name), file);
                video_file_size(&file, &limits.into())
                    .map(|(width, height)| Reply::Size { width, height })
            }
            Task::Video {
                limits,
                shape,
                choice,
                max_frames,
            } => {
                let file = VideoFile::new(PathBuf::from(name), file);
                let mut told = Instant::now();
                let (mut progress, mut frames) = (self.again()?, self.again()?);
                let mut on = |p: VideoProgress| {
                    if told.elapsed() < PROGRESS {
                        return true;
                    }
                    told = Instant::now();
                    let (done, total) = (p.frames_read, p.frames_total.unwrap_or(0));
                    progress.send(&Reply::Progress { done, total }).is_ok()
                };
                let number = |image: &DecodedImage| {
                    let digits = image.name.chars().filter(char::is_ascii_digit);
                    digits.collect::<String>().parse().unwrap_or(0)
                };
                read_video_file(
                    &file,
                    &choice.into(),
                    &limits.into(),
                    max_frames,
                    &mut on,
                    &mut |image| {
                        let number = number(&image);
                        frames.frame(number, image, shape.into(), &mut lost)
                    },
                )
                .map(Reply::from)
            }
        };
        match lost {
            Some(e) => Err(e),
            None => Ok(done.unwrap_or_else(|e| Reply::Failed(Failure::from(&e)))),
        }
    }

    fn again(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
        })
    }

    /// Sends a frame in the shape that is asked for. An error of the stream goes to `lost`.
    fn frame(
        &mut self,
        number: u64,
        image: DecodedImage,
        shape: Shape,
        lost: &mut Option<io::Error>,
    ) -> Result<(), FramesError> {
        let image = shape.apply(image)?;
        let (source_width, source_height) = image.source_size;
        let rgb = &image.rgb;
        let reply = Reply::Frame {
            number,
            width: rgb.width(),
            height: rgb.height(),
            source_width,
            source_height,
            notes: image.notes.iter().filter_map(Note::of).collect(),
            seconds: image.seconds.map(Into::into),
        };
        let sent = self
            .send(&reply)
            .and_then(|()| self.stream.write_all(rgb.as_raw()));
        sent.map_err(|e| {
            *lost = Some(e);
            FramesError::Cancelled
        })
    }
}
