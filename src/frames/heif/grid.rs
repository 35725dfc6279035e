//! An image that consists of tiles.

use std::sync::{Mutex, PoisonError};

use ::image::RgbImage;
use rayon::prelude::*;

use super::{
    boxes::Reader,
    error::HeifError,
    primary::{Coded, Content, Decoding, Source},
    properties::{CodePoints, extent},
};

/// Most tiles of an image. Phones have 48 to 192 of 512x512 pixels; 4096 of them are a gigapixel.
const MAX_TILES: u32 = 4096;

/// Bytes of the description of a grid, when its numbers are wide.
const MAX_GRID_BYTES: usize = 12;

/// The description of a grid: the data of an item of type `grid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    rows: u32,
    columns: u32,
    width: u32,
    height: u32,
}

impl Grid {
    fn parse(bytes: &[u8]) -> Result<Self, HeifError> {
        let mut reader = Reader::new(*b"grid", bytes);
        let version = reader.u8()?;
        if version != 0 {
            return Err(HeifError::damaged(
                *b"grid",
                format!("version {version} is unknown"),
            ));
        }
        let wide = reader.u8()? & 1 != 0;
        let rows = u32::from(reader.u8()?) + 1;
        let columns = u32::from(reader.u8()?) + 1;
        // As wide as the numbers of items in other boxes.
        let (width, height) = (reader.item_id(wide)?, reader.item_id(wide)?);
        if rows * columns > MAX_TILES || width == 0 || height == 0 {
            return Err(HeifError::damaged(
                *b"grid",
                format!(
                    "{columns}x{rows} tiles for {width}x{height} pixels; {MAX_TILES} tiles are the limit"
                ),
            ));
        }
        Ok(Self {
            rows,
            columns,
            width,
            height,
        })
    }

    /// The upper left corner of a tile; `None` when it lies outside of the image.
    fn corner(&self, number: u32, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        let x = (number % self.columns).checked_mul(width)?;
        let y = (number / self.columns).checked_mul(height)?;
        (x < self.width && y < self.height).then_some((x, y))
    }
}

/// The image as far as its tiles are there, and the colors of the first.
struct Canvas {
    rgb: RgbImage,
    points: Option<CodePoints>,
}

/// Decodes the tiles of grid `id` on all threads, each thread with a decoder of its own.
///
/// # Errors
/// When the grid and its tiles do not fit each other, it exceeds the limits, or a tile cannot be decoded.
pub(super) fn decode<S: Source>(
    decoding: &Decoding<'_, S>,
    id: u32,
    content: Content,
) -> Result<(RgbImage, CodePoints), HeifError> {
    let meta = decoding.meta;
    let item = meta.item(id)?;
    let grid = Grid::parse(&decoding.data(item, MAX_GRID_BYTES)?)?;
    decoding.check_size(grid.width, grid.height)?;
    let ids = meta.references_of(b"dimg", id);
    if ids.len() as u32 != grid.rows * grid.columns {
        return Err(HeifError::damaged(
            *b"grid",
            format!(
                "{} tiles are there, {}x{} are described",
                ids.len(),
                grid.columns,
                grid.rows
            ),
        ));
    }
    let size = tile_size(decoding, &grid, ids)?;
    let tiles: Vec<_> = (0..)
        .zip(ids)
        .filter_map(|(number, id)| Some((number, *id, grid.corner(number, size)?)))
        .collect();
    let canvas = Mutex::new(Canvas {
        rgb: RgbImage::new(grid.width, grid.height),
        points: None,
    });
    // Two portions for each thread: few decoders are opened, and the last ones do not wait long.
    let portion = tiles.len().div_ceil(2 * rayon::current_num_threads());
    tiles.par_chunks(portion.max(1)).try_for_each(|tiles| {
        let mut decoder = None;
        for (number, id, corner) in tiles {
            let tile = meta.item(*id)?;
            let coded = Coded {
                item: tile,
                colors_of: item,
                threads: 1,
                content,
            };
            let (rgb, points) = decoding.coded(&coded, &mut decoder)?;
            let mut canvas = canvas.lock().unwrap_or_else(PoisonError::into_inner);
            if *number == 0 {
                canvas.points = Some(points);
            }
            paste(&mut canvas.rgb, &rgb, *corner);
        }
        Ok::<_, HeifError>(())
    })?;
    let canvas = canvas.into_inner().unwrap_or_else(PoisonError::into_inner);
    let points = canvas
        .points
        .ok_or_else(|| HeifError::Broken("its grid has no tiles".to_owned()))?;
    Ok((canvas.rgb, points))
}

/// The size of all tiles, checked.
fn tile_size<S: Source>(
    decoding: &Decoding<'_, S>,
    grid: &Grid,
    ids: &[u32],
) -> Result<(u32, u32), HeifError> {
    let mut size = None;
    for id in ids {
        let of_tile = extent(decoding.meta.item(*id)?)?
            .ok_or_else(|| HeifError::Broken("a tile has no size".to_owned()))?;
        if of_tile != *size.get_or_insert(of_tile) {
            return Err(HeifError::Broken("its tiles have several sizes".to_owned()));
        }
    }
    let (width, height) = size.unwrap_or_default();
    let covers = u64::from(width) * u64::from(grid.columns) >= u64::from(grid.width)
        && u64::from(height) * u64::from(grid.rows) >= u64::from(grid.height);
    if !covers {
        return Err(HeifError::damaged(
            *b"grid",
            format!(
                "{}x{} tiles of {width}x{height} pixels do not cover {}x{}",
                grid.columns, grid.rows, grid.width, grid.height
            ),
        ));
    }
    decoding.check_size(width, height)?;
    Ok((width, height))
}

/// Copies a tile into the image, as far as it lies inside.
fn paste(canvas: &mut RgbImage, tile: &RgbImage, (x, y): (u32, u32)) {
    let stride = 3 * canvas.width() as usize;
    let columns = tile.width().min(canvas.width().saturating_sub(x)) as usize;
    let tile_stride = 3 * tile.width() as usize;
    let rows = canvas.chunks_exact_mut(stride).skip(y as usize);
    for (to, from) in rows.zip(tile.chunks_exact(tile_stride)) {
        let left = 3 * x as usize;
        to[left..left + 3 * columns].copy_from_slice(&from[..3 * columns]);
    }
}

#[cfg(test)]
mod tests {
    use ::image::Rgb;

    use super::*;

    #[test]
    fn a_grid_has_narrow_or_wide_sizes() {
        let expected = Grid {
            rows: 2,
            columns: 3,
            width: 300,
            height: 200,
        };
        let narrow = Grid::parse(&[0, 0, 1, 2, 1, 44, 0, 200]).unwrap();
        assert_eq!(narrow, expected);
        let wide = Grid::parse(&[0, 1, 1, 2, 0, 0, 1, 44, 0, 0, 0, 200]).unwrap();
        assert_eq!(wide, expected);
        for bad in [
            &[1, 0, 1, 2, 1, 44, 0, 200][..],
            &[0, 0, 1, 2, 0, 0, 0, 200],
            &[0, 0, 255, 255, 1, 44, 0, 200],
            &[0, 0, 1, 2, 1, 44, 0],
        ] {
            assert!(Grid::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tiles_outside_of_the_image_are_left_out() {
        let grid = Grid {
            rows: 2,
            columns: 3,
            width: 300,
            height: 100,
        };
        assert_eq!(grid.corner(2, (128, 128)), Some((256, 0)));
        assert_eq!(grid.corner(3, (128, 128)), None);
        assert_eq!(grid.corner(2, (u32::MAX, 1)), None);
    }

    #[test]
    fn a_tile_at_the_edge_is_cut() {
        let mut canvas = RgbImage::new(3, 2);
        let tile = RgbImage::from_fn(2, 2, |x, y| Rgb([(1 + x + 2 * y) as u8; 3]));
        paste(&mut canvas, &tile, (2, 1));
        let values: Vec<_> = canvas.pixels().map(|p| p.0[0]).collect();
        assert_eq!(values, [0, 0, 0, 0, 0, 1]);
    }
}
