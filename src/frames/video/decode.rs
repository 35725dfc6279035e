//! The loop that decodes a clip.

use std::ops::ControlFlow;

use ::image::RgbImage;
use ffmpeg_next::{Error, Packet, frame};

use super::{
    clip::{Clip, MAX_FAILURES_IN_A_ROW},
    convert::Converter,
    gray::{Gray, GrayScaler},
};
use crate::frames::FramesError;

/// What [`Clip::decode`] met.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decoded {
    /// Frames that came out of the decoder.
    pub(super) frames: u64,
    /// Packets and frames that did not.
    pub(super) failures: u64,
}

/// A frame as it comes out of the decoder, not yet converted.
pub(super) struct DecodedFrame<'a> {
    /// Its number, counting from 1.
    pub(super) number: u64,
    /// When it is shown, in ticks of the stream.
    pub(super) time: Option<i64>,
    frame: &'a frame::Video,
    converter: &'a mut Converter,
}

impl DecodedFrame<'_> {
    /// The frame as upright 8-bit RGB; `None` when it is damaged or of no usable format.
    pub(super) fn convert(&mut self) -> Option<RgbImage> {
        self.converter.convert(self.frame)
    }

    /// The frame as a small gray image; `None` as [`DecodedFrame::convert`].
    pub(super) fn gray(&self, scaler: &mut GrayScaler) -> Option<Gray> {
        scaler.gray(self.frame)
    }
}

impl Clip {
    /// Decodes to the end, or until `visit` breaks, showing it every frame.
    ///
    /// Damage is stepped over and counted.
    pub(super) fn decode(
        mut self,
        visit: &mut dyn FnMut(&mut DecodedFrame<'_>) -> Result<ControlFlow<()>, FramesError>,
    ) -> Result<Decoded, FramesError> {
        let mut decoded = Decoded::default();
        let mut failures_in_a_row = 0;
        while failures_in_a_row < MAX_FAILURES_IN_A_ROW {
            self.watch.check(&self.path)?;
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.stream => continue,
                // Cut off in the middle: the decoder would fill the rest of the frame with guesses.
                Ok(()) if packet.is_corrupt() => {
                    failures_in_a_row += 1;
                    decoded.failures += 1;
                    continue;
                }
                Ok(()) => {}
                Err(Error::Eof) => break,
                Err(Error::InvalidData) => {
                    failures_in_a_row += 1;
                    decoded.failures += 1;
                    continue;
                }
                Err(e) => {
                    self.watch.check(&self.path)?;
                    self.check_memory(e)?;
                    decoded.failures += 1;
                    break;
                }
            }
            if let Err(e) = self.decoder.send_packet(&packet) {
                self.check_memory(e)?;
                failures_in_a_row += 1;
                decoded.failures += 1;
                continue;
            }
            failures_in_a_row = 0;
            if self.receive(&mut decoded, visit)?.is_break() {
                return Ok(decoded);
            }
        }
        // Frames that the decoder still holds back.
        if self.decoder.send_eof().is_ok() {
            let _ = self.receive(&mut decoded, visit)?;
        }
        Ok(decoded)
    }

    /// Memory that is not there is not the file's damage.
    fn check_memory(&self, e: Error) -> Result<(), FramesError> {
        const NO_MEMORY: Error = Error::Other {
            errno: ffmpeg_next::error::ENOMEM,
        };
        if e == NO_MEMORY {
            return Err(FramesError::VideoOutOfMemory {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    /// Takes from the decoder what it has ready.
    fn receive(
        &mut self,
        decoded: &mut Decoded,
        visit: &mut dyn FnMut(&mut DecodedFrame<'_>) -> Result<ControlFlow<()>, FramesError>,
    ) -> Result<ControlFlow<()>, FramesError> {
        let mut failures_in_a_row = 0;
        let mut frame = frame::Video::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {}
                // Wants another packet, or has given its last frame.
                Err(Error::Eof) => return Ok(ControlFlow::Continue(())),
                Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => {
                    return Ok(ControlFlow::Continue(()));
                }
                Err(e) => {
                    self.check_memory(e)?;
                    decoded.failures += 1;
                    failures_in_a_row += 1;
                    if failures_in_a_row == MAX_FAILURES_IN_A_ROW {
                        return Ok(ControlFlow::Continue(()));
                    }
                    continue;
                }
            }
            self.watch.check(&self.path)?;
            failures_in_a_row = 0;
            decoded.frames += 1;
            let flow = visit(&mut DecodedFrame {
                number: decoded.frames,
                time: frame.pts().or(frame.timestamp()),
                frame: &frame,
                converter: &mut self.converter,
            })?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }
}
