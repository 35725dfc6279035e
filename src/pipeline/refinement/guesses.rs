//! Points that the track head followed, as places where the refinement looks.

use vggt_model::Tracks;
use vggt_refine::{Guess, Observation};

use super::Pixels;
use crate::pipeline::PipelineError;

/// A point is searched where it is at least this likely visible. A wrong guess costs little, since the photos are compared there.
const LEAST_VISIBILITY: f32 = 0.2;

/// Returns where the points of the first frame should be in the others.
pub(super) fn guesses(tracks: &Tracks, pixels: &[Pixels]) -> Result<Vec<Guess>, PipelineError> {
    let places = tracks.track.to_vec3::<f32>()?;
    let visible = tracks.vis.to_vec2::<f32>()?;
    let starts = tracks.query_points.to_vec2::<f32>()?;
    let observation = |view: usize, place: &[f32]| {
        let &[x, y] = place else { return None };
        // The track head's pixel centers lie at whole numbers.
        let pixel = [x, y].map(|x| f64::from(x) + 0.5);
        Some(Observation {
            view,
            pixel: pixels.get(view)?.in_photo(pixel).into(),
        })
    };
    let mut guesses = Vec::new();
    for (view, (places, visible)) in places.iter().zip(&visible).enumerate().skip(1) {
        let points = starts.iter().zip(places).zip(visible);
        for ((start, place), _) in points.filter(|(_, visible)| **visible >= LEAST_VISIBILITY) {
            if let (Some(from), Some(to)) = (observation(0, start), observation(view, place)) {
                guesses.push(Guess { from, to });
            }
        }
    }
    Ok(guesses)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn places_of_the_network_become_places_of_the_photos() {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        // Two points through two frames; the second one is out of sight.
        let tracks = Tracks {
            query_points: tensor(&[9.5, 3.5, 1.0, 2.0], &[2, 2]),
            track: tensor(&[9.5, 3.5, 1.0, 2.0, 19.5, 7.5, 5.0, 5.0], &[2, 2, 2]),
            vis: tensor(&[1.0, 1.0, 0.9, 0.1], &[2, 2]),
            conf: tensor(&[1.0; 4], &[2, 2]),
        };
        let pixels = |scale: f64, offset: f64| Pixels {
            scale: [scale; 2],
            offset: [offset, 0.0],
            original_scale: 1.0,
            skew: 0.0,
        };
        let found = guesses(&tracks, &[pixels(0.5, 0.0), pixels(0.25, 2.0)]).unwrap();
        let expected = Guess {
            from: Observation {
                view: 0,
                pixel: [20.0, 8.0].into(),
            },
            to: Observation {
                view: 1,
                pixel: [72.0, 32.0].into(),
            },
        };
        assert_eq!(found, [expected]);
    }
}
