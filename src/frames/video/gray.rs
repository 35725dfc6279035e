//! A decoded frame -> a small gray image, for looking at it.

use ffmpeg_next::{
    format::Pixel,
    frame,
    software::scaling::{Context as Scaler, Flags},
};

use super::convert::{is_usable, rows_of};

/// A gray image of 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gray {
    /// Pixels.
    pub(super) width: usize,
    /// Pixels.
    pub(super) height: usize,
    /// Row by row.
    pub(super) pixels: Vec<u8>,
}

/// What swscale is asked for.
type Task = (Pixel, (u32, u32));

/// Makes frames gray and small; keeps swscale's tables from one frame to the next.
pub(super) struct GrayScaler {
    max_side: u32,
    max_pixels: u64,
    scaler: Option<(Task, Scaler)>,
}

impl GrayScaler {
    /// Images have at most `max_side` pixels on their longer side, and no more than their frame. Frames of more than `max_pixels`
    /// are refused.
    pub(super) fn new(max_side: u32, max_pixels: u64) -> Self {
        Self {
            max_side,
            max_pixels,
            scaler: None,
        }
    }

    /// The frame as it is stored: not turned, its pixels not stretched. `None` where it cannot be made RGB either.
    pub(super) fn gray(&mut self, frame: &frame::Video) -> Option<Gray> {
        if !is_usable(frame, self.max_pixels) {
            return None;
        }
        let task = (frame.format(), (frame.width(), frame.height()));
        let (width, height) = self.size_of(task.1);
        // Streams may change their format and size on the way.
        if (self.scaler.as_ref()).is_none_or(|(made_for, _)| *made_for != task) {
            let (format, (from_width, from_height)) = task;
            // Averages what becomes one pixel, so that fine noise is not taken for detail.
            let flags = Flags::AREA;
            let gray = Pixel::GRAY8;
            let scaler = Scaler::get(format, from_width, from_height, gray, width, height, flags);
            self.scaler = scaler.ok().map(|scaler| (task, scaler));
        }
        let (_, scaler) = self.scaler.as_mut()?;
        let mut small = frame::Video::empty();
        scaler.run(frame, &mut small).ok()?;
        Some(Gray {
            pixels: rows_of(&small, (width, height), 1)?,
            width: width as usize,
            height: height as usize,
        })
    }

    fn size_of(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let longer = width.max(height);
        if longer <= self.max_side {
            return (width, height);
        }
        let scaled = |side: u32| {
            let side = (u64::from(side) * u64::from(self.max_side)).div_ceil(u64::from(longer));
            u32::try_from(side).unwrap_or(self.max_side)
        };
        (scaled(width), scaled(height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_made_smaller_in_proportion_and_never_larger() {
        let size = |width, height| GrayScaler::new(512, 1 << 30).size_of((width, height));
        assert_eq!(size(1920, 1080), (512, 288));
        assert_eq!(size(1080, 1920), (288, 512));
        assert_eq!(size(64, 48), (64, 48));
        assert_eq!(size(8192, 1), (512, 1));
    }
}
