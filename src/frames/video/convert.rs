//! A decoded frame -> upright 8-bit RGB.

use ::image::{RgbImage, imageops};
use ffmpeg_next::{
    format::Pixel,
    frame,
    software::scaling::{Context as Scaler, Flags},
};

/// How the image has to be turned for display, read from the container's display matrix.
///
/// The matrix takes a source position to a display position: x' = a·x + c·y, y' = b·x + d·y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    /// Sides are swapped, by a quarter turn clockwise, before anything is mirrored.
    quarter: bool,
    mirror_x: bool,
    mirror_y: bool,
}

impl Turn {
    /// From nine 16.16 numbers in the machine's byte order: a b u, c d v, x y w.
    ///
    /// Oblique matrices are taken for the nearest right angle.
    fn from_display_matrix(bytes: &[u8]) -> Self {
        let number = |i: usize| {
            let four = bytes.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok());
            i64::from(four.map_or(0, i32::from_ne_bytes))
        };
        let (a, b, c, d) = (number(0), number(1), number(3), number(4));
        if b.abs() + c.abs() > a.abs() + d.abs() {
            // A quarter turn clockwise alone is x' = -y, y' = x.
            Self {
                quarter: true,
                mirror_x: c > 0,
                mirror_y: b < 0,
            }
        } else {
            Self {
                quarter: false,
                mirror_x: a < 0,
                mirror_y: d < 0,
            }
        }
    }

    fn apply(self, rgb: RgbImage) -> RgbImage {
        let mut rgb = if self.quarter {
            imageops::rotate90(&rgb)
        } else {
            rgb
        };
        if self.mirror_x {
            imageops::flip_horizontal_in_place(&mut rgb);
        }
        if self.mirror_y {
            imageops::flip_vertical_in_place(&mut rgb);
        }
        rgb
    }
}

/// Converts frames; keeps swscale's tables from one frame to the next.
pub(super) struct Converter {
    turn: Turn,
    max_pixels: u64,
    scaler: Option<Scaler>,
}

impl Converter {
    /// Width and height after turning.
    pub(super) fn turned(&self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.turn.quarter {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// `display_matrix`: the bytes of the stream's side data, when there is one.
    pub(super) fn new(display_matrix: Option<&[u8]>, max_pixels: u64) -> Self {
        Self {
            turn: display_matrix.map_or_else(Turn::default, Turn::from_display_matrix),
            max_pixels,
            scaler: None,
        }
    }

    /// `None` when the frame is damaged, empty, too large or of a format that cannot be converted.
    pub(super) fn convert(&mut self, frame: &frame::Video) -> Option<RgbImage> {
        let (format, width, height) = (frame.format(), frame.width(), frame.height());
        // Without a pixel format swscale aborts the process.
        let usable = format != Pixel::None
            && width > 0
            && height > 0
            && u64::from(width) * u64::from(height) <= self.max_pixels
            && !frame.is_corrupt();
        if !usable {
            return None;
        }
        // Streams may change their format and size on the way.
        let fits = self.scaler.as_ref().is_some_and(|scaler| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (format, width, height)
        });
        if !fits {
            // OpenCV: sws_getCachedContext(..., AV_PIX_FMT_BGR24, SWS_BICUBIC), default color tables.
            let scaler = Scaler::get(
                format,
                width,
                height,
                Pixel::RGB24,
                width,
                height,
                Flags::BICUBIC,
            );
            self.scaler = scaler.ok();
        }
        let mut converted = frame::Video::empty();
        self.scaler.as_mut()?.run(frame, &mut converted).ok()?;

        let row_bytes = width as usize * 3;
        let stride = converted.stride(0).max(row_bytes);
        let mut rgb = RgbImage::new(width, height);
        let rows = converted.data(0).chunks(stride);
        for (to, from) in rgb.chunks_exact_mut(row_bytes).zip(rows) {
            to.copy_from_slice(from.get(..row_bytes)?);
        }
        Some(self.turn.apply(rgb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    const ONE: i32 = 1 << 16;

    fn turned(a: i32, b: i32, c: i32, d: i32) -> Vec<u8> {
        let matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30];
        let bytes: Vec<u8> = matrix.iter().flat_map(|n| n.to_ne_bytes()).collect();
        // 1 2
        // 3 4
        let picture = RgbImage::from_fn(2, 2, |x, y| Rgb([(1 + x + 2 * y) as u8; 3]));
        let upright = Turn::from_display_matrix(&bytes).apply(picture);
        upright.pixels().map(|p| p.0[0]).collect()
    }

    #[test]
    fn display_matrices_turn_and_mirror() {
        assert_eq!(turned(ONE, 0, 0, ONE), [1, 2, 3, 4]);
        assert_eq!(turned(0, ONE, -ONE, 0), [3, 1, 4, 2], "a quarter clockwise");
        assert_eq!(turned(-ONE, 0, 0, -ONE), [4, 3, 2, 1], "a half");
        assert_eq!(turned(0, -ONE, ONE, 0), [2, 4, 1, 3], "a quarter back");
        assert_eq!(turned(-ONE, 0, 0, ONE), [2, 1, 4, 3], "mirrored sideways");
        assert_eq!(
            turned(0, ONE, ONE, 0),
            [1, 3, 2, 4],
            "mirrored along the diagonal"
        );
    }

    #[test]
    fn a_matrix_that_is_cut_off_turns_nothing() {
        assert_eq!(Turn::from_display_matrix(&[1, 2]), Turn::default());
    }
}
