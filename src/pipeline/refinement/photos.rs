//! The photos that cameras are refined with: gray, and as large as memory permits.

use image::{GrayImage, RgbImage, imageops, imageops::FilterType};
use vggt_refine::Gray;

use super::Originals;
use crate::{
    frames::{PhotoNote, Placement},
    pipeline::{
        PipelineError, SavedFrames, Stage, Watcher, noted_focal::noted_focal,
        originals::for_each_original, photo_notes, stills,
    },
    scene::{PredictedFrames, View},
};

/// Memory for all photos together, their smaller versions included, as far as they are not below [`SHORTEST_SIDE`], bytes.
const BUDGET: f64 = 512e6;
/// The longer side of a photo is at least this long if the original is, pixels: corners of a smaller one are less exact.
const SHORTEST_SIDE: f64 = 1024.0;
/// The longer side is at most this long, pixels: cameras are at most as exact as the lens is sharp.
const LONGEST_SIDE: f64 = 2048.0;
/// A photo and its smaller versions, over the photo alone.
const PYRAMID: f64 = 4.0 / 3.0;

/// A gray photo, and where the network's image lies in it.
pub(super) struct Photo {
    pub(super) gray: Gray,
    /// What the original notes of its lens.
    pub(super) note: LensNote,
    /// Pixels of the network's image for each pixel of this photo, along x and y.
    pub(super) scale: [f64; 2],
    /// Where this photo's upper left corner lies in the network's image, pixels with centers at half numbers.
    pub(super) offset: [f64; 2],
    /// Pixels of the original for each pixel of this photo.
    pub(super) original_scale: f64,
}

/// Returns the photos of all frames: the originals, made smaller where they would take too much memory, and what the network saw
/// where the original is not at hand.
pub(super) fn photos(
    frames: &dyn PredictedFrames,
    about: &SavedFrames,
    originals: Option<Originals<'_>>,
    views: &[View],
    watcher: &mut dyn Watcher,
) -> Result<Vec<Photo>, PipelineError> {
    let count = frames.count();
    let of_photos = originals.filter(|originals| originals.trust_notes);
    let notes = of_photos.map(|originals| photo_notes(originals.source));
    let mut photos: Vec<Option<Photo>> = (0..count).map(|_| None).collect();
    if let Some(from) = originals.filter(|_| about.placements.len() == count) {
        let longest = longest_side(count, &about.placements);
        let mut goes_on = true;
        for_each_original(from.source, from.read, &about.names, &mut |index, image| {
            let place = &about.placements[index];
            photos[index] = of_original(&image, place, longest);
            let note = notes.as_ref().and_then(|all| all.get(&about.names[index]));
            if let (Some(photo), Some(note)) = (&mut photos[index], note) {
                photo.note = LensNote::new(note, place, &views[index]);
            }
            // The rounds of the refinement itself are what takes time.
            goes_on = watcher.step(Stage::Refine, 0, count);
            goes_on
        })?;
        if !goes_on {
            return Err(PipelineError::Cancelled);
        }
    }
    let own = stills::placements(frames);
    let photos = photos
        .into_iter()
        .enumerate()
        .map(|(index, photo)| match photo {
            Some(photo) => Ok(photo),
            None => {
                let image = stills::photo(frames, index)?;
                Ok(of_original(&image, &own[index], LONGEST_SIDE).unwrap_or_else(blank))
            }
        });
    photos.collect()
}

/// What a photo notes of the lens it was taken with.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct LensNote {
    /// Make and model of camera and lens, with its focal lengths; photos with the same have the same lens.
    pub(super) lens: String,
    /// Focal length in pixels of the original, where it is plausible.
    pub(super) focal: Option<f64>,
}

impl LensNote {
    fn new(note: &PhotoNote, place: &Placement, view: &View) -> Self {
        let PhotoNote {
            camera,
            focal_mm,
            focal_35mm,
            ..
        } = note;
        let found = noted_focal(note, place, &view.intrinsic);
        Self {
            lens: format!("{camera:?} {focal_mm:?} {focal_35mm:?}"),
            focal: found.and_then(|found| found.is_plausible.then_some(found.pixels)),
        }
    }
}

/// Returns the longest side with which the photos together take about the memory that there is for them.
fn longest_side(count: usize, placements: &[Placement]) -> f64 {
    let ratio = |p: &Placement| {
        let sides = [p.source_width, p.source_height].map(f64::from);
        sides[0].min(sides[1]) / sides[0].max(sides[1]).max(1.0)
    };
    let area: f64 = placements.iter().map(ratio).sum::<f64>() / count.max(1) as f64;
    let side = (BUDGET / (count as f64 * PYRAMID * area)).sqrt();
    side.clamp(SHORTEST_SIDE, LONGEST_SIDE)
}

fn of_original(image: &RgbImage, placement: &Placement, longest: f64) -> Option<Photo> {
    let (width, height) = image.dimensions();
    let shrink = (longest / f64::from(width.max(height).max(1))).min(1.0);
    let [columns, rows] =
        [width, height].map(|side| ((f64::from(side) * shrink).round() as u32).max(1));
    let gray: GrayImage = imageops::grayscale(image);
    let gray = match (columns, rows) == (width, height) {
        true => gray,
        // Each pixel is the weighted mean of those that it covers.
        false => imageops::resize(&gray, columns, rows, FilterType::Triangle),
    };
    let source = [placement.source_width, placement.source_height].map(f64::from);
    let of_original = [source[0] / f64::from(columns), source[1] / f64::from(rows)];
    Some(Photo {
        gray: Gray::new(columns as usize, rows as usize, gray.into_raw())?,
        note: LensNote::default(),
        scale: [
            placement.scale_x * of_original[0],
            placement.scale_y * of_original[1],
        ],
        offset: [placement.offset_x, placement.offset_y],
        original_scale: of_original[0],
    })
}

/// What stands for a photo of which a damaged placement leaves no pixel.
fn blank() -> Photo {
    Photo {
        gray: Gray::single(0),
        note: LensNote::default(),
        scale: [1.0; 2],
        offset: [0.0; 2],
        original_scale: 1.0,
    }
}
