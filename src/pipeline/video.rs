//! Reading the frames of a video: those of a rate, or the sharpest and most different ones.

use std::path::Path;

use super::{
    PipelineError, Stage, Warning,
    source::{Reader, Selected, fitted_for},
};
use crate::{
    decoder::Read,
    frames::{DecodedImage, Fitted, FramesError, Keyframes, VideoProgress},
};

impl Reader<'_> {
    /// Reads the frames that are chosen, at most as many as the limit allows.
    pub(super) fn video(&mut self, path: &Path) -> Result<Selected, PipelineError> {
        let max = match self.limit.fitting {
            None => self.limit.max.unwrap_or(usize::MAX).max(1),
            Some(_) => {
                let go_on = &mut || self.watcher.step(Stage::Decode, 0, 0);
                let size = self.decoder.video_size(path, go_on)?;
                let Fitted { width, height, .. } = self.fitted("", size)?;
                self.limit.frames(height as usize, width as usize)
            }
        };
        let shape = self.shape();
        let (mut taken, mut seconds) = (Vec::new(), Vec::new());
        // What stopped the decoding, where it was not the decoder.
        let mut failed = None;
        let Self {
            options,
            config,
            watcher,
            decoder,
            incoming,
            ..
        } = self;
        let mut on_progress = |p: VideoProgress| {
            let total = p.frames_total.unwrap_or(0) as usize;
            watcher.step(Stage::Decode, p.frames_read as usize, total)
        };
        let mut sink = |image: DecodedImage| {
            let placement = fitted_for(options, config, &image.name, image.source_size)?.placement;
            match incoming.put(image.name, placement, &image.rgb) {
                Ok(one) => {
                    seconds.extend(image.seconds);
                    taken.push(one);
                    Ok(())
                }
                Err(e) => {
                    failed = Some(e);
                    Err(FramesError::Cancelled)
                }
            }
        };
        let choice = (&options.video_choice(), Some(max));
        let read = decoder.video(path, choice, shape, &mut on_progress, &mut sink);
        if let Some(e) = failed {
            return Err(e.into());
        }
        let Read {
            thinned_from,
            keyframes,
            warnings,
        } = read?;
        for warning in warnings {
            self.watcher.warn(&Warning::Video(warning));
        }
        let mut available = taken.len();
        if let Some(from) = thinned_from {
            available = from as usize;
            self.report_thinned(available, taken.len());
        }
        if let Some(all) = keyframes {
            available = all.frames as usize;
            self.report_keyframes(&all, max);
        }
        Ok(Selected {
            taken,
            available,
            keyframes,
            seconds,
        })
    }

    /// Tells what became of the frames, of which at most `max` could be taken.
    fn report_keyframes(&mut self, all: &Keyframes, max: usize) {
        tracing::info!("{all}");
        let numbers = [
            self.options.keyframes,
            self.limit.max,
            Some(all.frames as usize),
        ];
        let asked_for = numbers.into_iter().flatten().min().unwrap_or(max);
        if max < asked_for {
            self.watcher.warn(&Warning::FramesThinned {
                used: all.chosen as usize,
                available: asked_for,
                evenly: false,
            });
        }
    }
}
