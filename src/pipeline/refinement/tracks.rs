//! Tracks in the world of a scene.

use std::collections::BTreeMap;

use vggt_refine::{Lens, Observation, bundle::Cameras, triangulate};

use super::{Refined, pose};
use crate::{
    colmap::Track,
    pipeline::PipelineError,
    scene::{Field, Flat, PredictedFrames, Scene},
};

/// Returns the tracks as points of the scene's world with the colors of its frames. They lie where the scene's cameras see them, so
/// that they follow whatever was done to the world since; those that these cameras do not see in one place are left out.
pub(in crate::pipeline) fn world_tracks(
    scene: &Scene,
    frames: &dyn PredictedFrames,
    refined: &Refined,
) -> Result<Vec<Track>, PipelineError> {
    let cameras = Cameras {
        poses: scene
            .views
            .iter()
            .map(|view| pose(&view.camera_from_world))
            .collect(),
        lenses: scene
            .views
            .iter()
            .map(|view| {
                let k = &view.intrinsic;
                Lens {
                    focal: [k[0][0], k[1][1]],
                    // The network's pixel centers lie at whole numbers.
                    principal: [k[0][2] + 0.5, k[1][2] + 0.5],
                    k1: refined.k1.get(view.frame).copied().unwrap_or(0.0),
                }
            })
            .collect(),
        lens_of: (0..scene.views.len()).collect(),
    };
    let mut places = vec![None; scene.frames];
    for (place, view) in scene.views.iter().enumerate() {
        places[view.frame] = Some(place);
    }
    let mut tracks: Vec<Track> = Vec::with_capacity(refined.tracks.len());
    for track in &refined.tracks {
        let shown = track
            .observations
            .iter()
            .filter(|(frame, _)| places[*frame].is_some());
        let observations: Vec<(usize, [f64; 2])> = shown.copied().collect();
        let seen: Vec<Observation> = observations
            .iter()
            .filter_map(|(frame, pixel)| {
                let (view, pixel) = (places[*frame]?, (*pixel).into());
                Some(Observation { view, pixel })
            })
            .collect();
        if seen.len() < 2 {
            continue;
        }
        if let Some(point) = triangulate(&cameras, &seen) {
            tracks.push(Track {
                position: point.into(),
                color: [0; 3],
                observations,
            });
        }
    }
    paint(&mut tracks, frames)?;
    Ok(tracks)
}

/// Gives each track the color of its first observation, reading each frame once.
fn paint(tracks: &mut [Track], frames: &dyn PredictedFrames) -> Result<(), PipelineError> {
    let mut of_frames: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, track) in tracks.iter().enumerate() {
        of_frames
            .entry(track.observations[0].0)
            .or_default()
            .push(number);
    }
    let (height, width) = frames.size();
    let plane = height * width;
    for (frame, numbers) in of_frames {
        let image = Flat::read_from(frames, frame, Field::Image)?;
        let image = image.read();
        let values = image.values()?;
        for track in numbers {
            let [x, y] = tracks[track].observations[0].1;
            // Casts saturate.
            let (column, row) = ((x as usize).min(width - 1), (y as usize).min(height - 1));
            let value = |c: usize| (values[c * plane + row * width + column] * 255.0) as u8;
            tracks[track].color = [value(0), value(1), value(2)];
        }
    }
    Ok(())
}
