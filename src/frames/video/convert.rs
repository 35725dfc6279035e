//! A decoded frame -> upright 8-bit RGB.

use ::image::{RgbImage, imageops};
use ffmpeg_next::{
    Rational,
    format::Pixel,
    frame,
    software::scaling::{Context as Scaler, Flags},
};

use super::color::{self, Coding, ColorTags, Wide};
use crate::frames::hdr::ToSrgb;

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

/// A pixel's aspect within this of 1 is square: coded sizes that are rounded to blocks make up such differences.
const SQUARE: f64 = 0.005;

/// Pixels that are stretched more than this are taken for damage; anamorphic films have 2, and DVDs less.
const MAX_STRETCH: f64 = 8.0;

/// Converts frames; keeps swscale's and the color map's tables from one frame to the next.
pub(super) struct Converter {
    turn: Turn,
    /// Width of a pixel by its height, where the container has it; it rules over the frames'.
    pixel_aspect: Option<Rational>,
    max_pixels: u64,
    scaler: Option<(Task, Scaler)>,
    color_map: Option<(Wide, ToSrgb)>,
}

/// What swscale is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Task {
    format: Pixel,
    from: (u32, u32),
    to: (u32, u32),
    coding: Coding,
    full_range: bool,
}

impl Converter {
    /// `display_matrix`: the bytes of the stream's side data, when there is one. `pixel_aspect`: the container's.
    pub(super) fn new(
        display_matrix: Option<&[u8]>,
        pixel_aspect: Option<Rational>,
        max_pixels: u64,
    ) -> Self {
        Self {
            turn: display_matrix.map_or_else(Turn::default, Turn::from_display_matrix),
            pixel_aspect,
            max_pixels,
            scaler: None,
            color_map: None,
        }
    }

    /// Width and height of a frame as it is shown: with square pixels, and turned.
    pub(super) fn shown(&self, size: (u32, u32), aspect_of_frame: Rational) -> (u32, u32) {
        let (width, height) = self.stretched(size, aspect_of_frame);
        if self.turn.quarter {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Enlarges one side so that pixels are square. Sizes beyond the limit stay as they are.
    fn stretched(&self, (width, height): (u32, u32), aspect_of_frame: Rational) -> (u32, u32) {
        let Rational(num, den) = self.pixel_aspect.unwrap_or(aspect_of_frame);
        // Zero where it is unknown.
        let aspect = f64::from(num) / f64::from(den);
        let stretch = aspect.max(1.0 / aspect);
        let usable = num > 0 && den > 0 && stretch - 1.0 > SQUARE && stretch <= MAX_STRETCH;
        if !usable {
            return (width, height);
        }
        let enlarged = |side: u32| (f64::from(side) * stretch).round() as u32;
        let (wide, high) = if aspect > 1.0 {
            (enlarged(width), height)
        } else {
            (width, enlarged(height))
        };
        if u64::from(wide) * u64::from(high) > self.max_pixels {
            return (width, height);
        }
        (wide, high)
    }

    /// `None` when the frame is damaged, empty, too large or of a format that cannot be converted.
    pub(super) fn convert(&mut self, frame: &frame::Video) -> Option<RgbImage> {
        let (format, width, height) = (frame.format(), frame.width(), frame.height());
        if !is_usable(frame, self.max_pixels) {
            return None;
        }
        let tags = ColorTags::of(frame);
        let task = Task {
            format,
            from: (width, height),
            to: self.stretched((width, height), frame.aspect_ratio()),
            coding: tags.coding(),
            full_range: tags.is_full_range(),
        };
        // Streams may change their format and size on the way.
        if self
            .scaler
            .as_ref()
            .is_none_or(|(made_for, _)| *made_for != task)
        {
            self.scaler = scaler(&task).map(|scaler| (task, scaler));
        }
        let (_, scaler) = self.scaler.as_mut()?;
        let mut converted = frame::Video::empty();
        scaler.run(frame, &mut converted).ok()?;
        let rgb = match task.coding {
            Coding::Standard if color::has_alpha(format) => {
                over_white(&rows_of(&converted, task.to, 4)?)
            }
            Coding::Standard => rows_of(&converted, task.to, 3)?,
            Coding::Wide(wide) => {
                let white = color::white(task.format, task.full_range);
                self.map_colors(wide, white, &rows_of(&converted, task.to, 6)?)
            }
        };
        Some(
            self.turn
                .apply(RgbImage::from_raw(task.to.0, task.to.1, rgb)?),
        )
    }

    /// RGB of 16 bits in the machine's byte order, up to `white` -> 8 bits.
    fn map_colors(&mut self, wide: Wide, white: u16, bytes: &[u8]) -> Vec<u8> {
        let (white, most) = (u32::from(white), u32::from(u16::MAX));
        let signal: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|two| {
                let value = u32::from(u16::from_ne_bytes([two[0], two[1]]));
                ((value * most + white / 2) / white).min(most) as u16
            })
            .collect();
        let mut codes = vec![0; signal.len()];
        if self
            .color_map
            .as_ref()
            .is_none_or(|(made_for, _)| *made_for != wide)
        {
            self.color_map = Some((wide, ToSrgb::new(wide.transfer, wide.primaries)));
        }
        if let Some((_, map)) = &self.color_map {
            map.map(&signal, &mut codes);
        }
        codes
    }
}

/// Whether a frame is whole, and swscale may see it: without a pixel format it aborts the process.
pub(super) fn is_usable(frame: &frame::Video, max_pixels: u64) -> bool {
    let (width, height) = (frame.width(), frame.height());
    frame.format() != Pixel::None
        && width > 0
        && height > 0
        && u64::from(width) * u64::from(height) <= max_pixels
        && !frame.is_corrupt()
}

/// RGBA -> RGB, laid over white, as photos are.
fn over_white(rgba: &[u8]) -> Vec<u8> {
    let pixels = rgba.chunks_exact(4);
    let over = |value: u8, alpha: u8| {
        let (value, alpha) = (u16::from(value), u16::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    pixels
        .flat_map(|p| [over(p[0], p[3]), over(p[1], p[3]), over(p[2], p[3])])
        .collect()
}

/// The rows of a frame of one plane without the padding behind them.
pub(super) fn rows_of(
    frame: &frame::Video,
    (width, height): (u32, u32),
    bytes: usize,
) -> Option<Vec<u8>> {
    let row_bytes = width as usize * bytes;
    let stride = frame.stride(0).max(row_bytes);
    let mut rows = Vec::with_capacity(row_bytes * height as usize);
    for row in frame.data(0).chunks(stride).take(height as usize) {
        rows.extend_from_slice(row.get(..row_bytes)?);
    }
    Some(rows)
}

fn scaler(task: &Task) -> Option<Scaler> {
    let (output, flags) = match task.coding {
        Coding::Standard if color::has_alpha(task.format) => (Pixel::RGBA, Flags::BICUBIC),
        // OpenCV: sws_getCachedContext(..., AV_PIX_FMT_BGR24, SWS_BICUBIC), default color tables.
        Coding::Standard => (Pixel::RGB24, Flags::BICUBIC),
        Coding::Wide(_) => (
            if cfg!(target_endian = "big") {
                Pixel::RGB48BE
            } else {
                Pixel::RGB48LE
            },
            Flags::BICUBIC | Flags::ACCURATE_RND | Flags::FULL_CHR_H_INT,
        ),
    };
    let ((width, height), (to_width, to_height)) = (task.from, task.to);
    let mut scaler = Scaler::get(
        task.format,
        width,
        height,
        output,
        to_width,
        to_height,
        flags,
    )
    .ok()?;
    color::set_matrix(&mut scaler, task.coding, task.full_range);
    Some(scaler)
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

    #[test]
    fn transparency_is_laid_over_white() {
        let rgba = [10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128];
        let expected = [10, 20, 30, 255, 255, 255, 127, 127, 127];
        assert_eq!(over_white(&rgba), expected);
    }

    #[test]
    fn pixels_that_are_not_square_are_stretched() {
        let shown = |container: Option<(i32, i32)>, frame: (i32, i32)| {
            let aspect = container.map(|(num, den)| Rational(num, den));
            Converter::new(None, aspect, 1 << 20).shown((160, 120), Rational(frame.0, frame.1))
        };
        assert_eq!(shown(None, (4, 3)), (213, 120));
        assert_eq!(shown(None, (3, 4)), (160, 160));
        assert_eq!(shown(Some((2, 1)), (4, 3)), (320, 120), "the container's");
        for unknown in [(0, 1), (1, 0), (-4, 3), (1, 1), (1000, 1), (1088, 1087)] {
            assert_eq!(shown(None, unknown), (160, 120), "{unknown:?}");
        }
        let small = Converter::new(None, None, 160 * 120);
        assert_eq!(small.shown((160, 120), Rational(4, 3)), (160, 120));
    }

    #[test]
    fn stretching_comes_before_turning() {
        let matrix = [0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30];
        let bytes: Vec<u8> = matrix.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let converter = Converter::new(Some(&bytes), None, 1 << 20);
        assert_eq!(converter.shown((160, 120), Rational(2, 1)), (120, 320));
    }
}
