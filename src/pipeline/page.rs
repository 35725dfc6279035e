//! A scene as a page for browsers: its GLB, and beside it what the viewer shows more of: the confidence of the points, and each
//! frame's camera, photo and depth.

use std::io::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    PipelineError, Reconstruction,
    cameras::cameras_of_scene,
    depth_images::depth_colors,
    stills::{photo, placements, small_jpeg},
};
use crate::{
    glb::{self, GlbOptions, Orientation},
    html::{self, Page},
    points,
    scene::{Field, PredictedFrames, Provenance, Scene},
};

/// Longest sides of the photos in a page, in pixels, and up to how many frames: some 5 MB in all, less than the points of so many.
/// Beyond the last there are none, only cameras.
const PHOTOS: [(usize, u32); 3] = [(100, 320), (400, 160), (1600, 80)];

/// Writes a page of what was made to `out`.
///
/// # Errors
/// When the frames cannot be read or have changed, or `out` fails.
pub fn write_view(
    page: Page<'_>,
    made: &Reconstruction,
    out: &mut impl Write,
) -> Result<(), PipelineError> {
    let (scene, frames) = (&made.scene, &*made.predictions);
    write_page(
        page,
        (scene, frames),
        &made.provenance,
        GlbOptions::default(),
        out,
    )?;
    Ok(())
}

/// Writes a page of `scene`, which was built from `frames`, to `out`.
///
/// # Errors
/// When the frames cannot be read or have changed, or `out` fails.
pub(super) fn write_page(
    page: Page<'_>,
    (scene, frames): (&Scene, &dyn PredictedFrames),
    provenance: &Provenance,
    options: GlbOptions,
    out: &mut impl Write,
) -> Result<glb::Written, PipelineError> {
    let options = GlbOptions {
        // The page finds the first camera itself.
        orientation: Orientation::Script,
        ..options
    };
    let mut written = None;
    html::write(page, out, |contents| {
        let glb = contents.glb(|out| glb::write(scene, frames, provenance, options, out))?;
        written = Some(glb);
        let thinned = glb.thinned.map(|_| scene.thinned(glb.points));
        let scene = thinned.as_ref().unwrap_or(scene);
        if !scene.nothing_kept {
            contents.confidence(|out| points::write_confidence(scene, frames, out))?;
        }
        Ok::<(), PipelineError>(contents.about(&about(scene, frames)?)?)
    })?;
    // Set, since it did not fail.
    written.ok_or(PipelineError::Cancelled)
}

/// Returns what is known of the frames.
fn about(scene: &Scene, frames: &dyn PredictedFrames) -> Result<Value, PipelineError> {
    let mut counts = vec![0; scene.frames];
    if !scene.nothing_kept {
        let points = scene.points.over(frames);
        let shown = scene.views.iter().zip(points.counts());
        shown.for_each(|(view, count)| counts[view.frame] = count);
    }
    let cameras = cameras_of_scene(scene, &placements(frames))?;
    let mut about = json!({
        "frames": counts,
        "cameras": cameras["cameras"],
        "total": scene.points.kept().max(1),
        "unit": frames.unit(),
    });
    let longest = PHOTOS.iter().find(|(most, _)| scene.frames <= *most);
    if let Some((_, longest)) = longest {
        let all = |of_frame: &dyn Fn(usize) -> Result<Vec<u8>, PipelineError>| {
            let encoded = (0..scene.frames).map(|i| Ok(BASE64_STANDARD.encode(of_frame(i)?)));
            encoded.collect::<Result<Vec<String>, PipelineError>>()
        };
        about["photos"] = json!(all(&|i| small_jpeg(&photo(frames, i)?, i, *longest))?);
        if frames.has(Field::Depth) {
            about["depths"] = json!(all(&|i| small_jpeg(
                &depth_colors(frames, i)?,
                i,
                *longest
            ))?);
        }
    }
    Ok(about)
}
