//! One scene: frames or saved predictions -> the files that were asked for.

use std::{path::PathBuf, time::Instant};

use super::{
    Args, Input,
    outputs::Plan,
    preview, spool,
    summary::Summary,
    write::{Writer, WrittenScene, tell_thinned},
};
use crate::{
    cli::{UsageError, output_error, save_to_db::Destination, terminal::StageBars, view},
    frames::SkyNetwork,
    glb::{self, GlbOptions},
    pipeline::{
        Decoded, Format, Network, PipelineError, PlacingError, ReconstructOptions, Reconstruction,
        ShowPreview, Spooling, rebuild, reconstruct,
    },
    ply::PlyKind,
    scene::{PredictedFrames, Provenance, Scene, SceneOptions},
    store::GlbFile,
};

/// What stays loaded between the scenes of one call.
pub(super) struct Resident {
    network: Network,
    sky: Option<SkyNetwork>,
}

impl Resident {
    /// Loads what the arguments name.
    pub(super) fn load(args: &Args) -> anyhow::Result<Self> {
        args.model.set_threads()?;
        let sky = args.scene.sky_network(&args.model)?;
        let network = args.load_network()?;
        Ok(Self { network, sky })
    }
}

/// Exports one scene, with the networks of `resident` or its own; `name` is what the summary calls it among several.
pub(super) fn export(
    args: &Args,
    resident: Option<&Resident>,
    name: Option<&str>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    if resident.is_none() {
        args.model.set_threads()?;
    }
    let input = args.input()?;
    let options = args.scene.options(args.model.demo || input.is_of_demo())?;
    let masks = args.masks(&input)?;
    let known = args.place.read(&input)?;
    // Fails on what cannot be read or written before the long computation.
    let plan = Plan::new(
        &args.output,
        &options,
        args.scene.mask_sky,
        (
            &args.input_files(&input, masks.as_ref()),
            args.many.preview.as_deref(),
        ),
    )?;
    let destination = args.destination(&input, &plan)?;
    let own_sky = match resident {
        Some(_) => None,
        None => args.scene.sky_network(&args.model)?,
    };
    let sky = resident.map_or(own_sky.as_ref(), |resident| resident.sky.as_ref());
    warn_of_outputs(&options, &plan);

    let mut bars = StageBars::default();
    let source = match &input {
        Input::Frames(source) => Some(source.clone()),
        Input::Saved(..) => None,
    };
    let check_frames = |frames: &Decoded| {
        known.check_frames(frames)?;
        let size = (frames.height, frames.width);
        Ok(plan.check_frames(source.as_ref(), &frames.names, size)?)
    };
    let cache = args.spool.cache();
    let spooling = match &source {
        Some(source) => Spooling {
            place: args.spool.place(&plan, source),
            // Who asks to go on gets what is there.
            cache: cache.as_ref().filter(|_| args.spool.resume.is_none()),
            claimed: Some(&spool::claimed),
        },
        None => Spooling::default(),
    };
    let show = |scene: &Scene, frames: &dyn PredictedFrames, provenance: &Provenance| {
        preview::write(
            &plan,
            (scene, frames, provenance),
            args.output.glb_options(),
        )
    };
    let reconstruct_options = ReconstructOptions {
        preview: plan.preview.as_ref().map(|_| &show as &ShowPreview<'_>),
        before_network: Some(&check_frames),
        spooling,
        ..args.reconstruct_options(options, &plan, (sky, masks.as_ref(), &known))?
    };
    let mut own_network = None;
    let (network, made) = match input {
        Input::Saved(predictions, frames) => {
            plan.check_frames(None, &frames.names, predictions.size())?;
            let made = rebuild(predictions, frames, &reconstruct_options, &mut bars);
            (None, made.map_err(usage_error)?)
        }
        Input::Frames(source) => {
            let network = match resident {
                Some(resident) => &resident.network,
                None => own_network.insert(args.load_network()?),
            };
            if args.output.save_depth.is_some() {
                network.check_depth_head("--save-depth")?;
            }
            let made = reconstruct(network, &source, &reconstruct_options, &mut bars);
            (Some(network), made.map_err(usage_error)?)
        }
    };
    if made.scene.nothing_kept {
        tracing::warn!("no point passed the filters: the scene holds one white point");
    }
    let (stored, points) = match &destination {
        Some(to) => {
            let (row, path, points) = store(to, &made, args.output.glb_options())?;
            (Some((row, path)), points)
        }
        None => (None, 0),
    };
    let writer = Writer {
        plan: &plan,
        made: &made,
        source: source.as_ref(),
        read: &reconstruct_options.read,
        glb: args.output.glb_options(),
        max_points: args.scene.max_points(),
    };
    // With --save-to-db, --out asks for a second file.
    let skip_scenes = stored.is_some() && args.output.out.is_empty();
    let mut outputs = writer.write(skip_scenes, &mut bars)?;
    if let (true, Some((row, path))) = (skip_scenes, &stored) {
        outputs.push(WrittenScene {
            path: path.clone(),
            format: Format::Glb,
            bytes: row.file_size,
            points,
        });
    }
    spool::finished(made.spooled.as_ref(), cache.as_ref());
    bars.finish();
    let summary = Summary {
        outputs: &outputs,
        stored: stored.as_ref(),
        made: &made,
        network,
        scene: name,
        skipped: bars.skipped(),
        seconds: start.elapsed(),
    };
    summary.print(args.output.json, plan.uses_standard_output())?;
    if args.output.open {
        let first = outputs.first().map(|output| output.path.file_stem());
        let title = first.flatten().unwrap_or_default().to_string_lossy();
        view::show_made(&made, &title, &args.output.browser)?;
    }
    Ok(())
}

/// Warns of flags that have no effect on any output.
fn warn_of_outputs(options: &SceneOptions, plan: &Plan) {
    let holds_none = plan.scenes.iter().find(|scene| !scene.format.holds_glb());
    if let Some(scene) = holds_none.filter(|_| options.show_cam) {
        tracing::warn!(
            "--show-cam is for GLB and HTML: {} holds no shapes of cameras",
            scene.format.name()
        );
    }
    if plan.ply != PlyKind::Points && !plan.chooses_by_confidence() {
        tracing::warn!("--ply splats is for PLY and datasets, none of which is written");
    }
}

/// Marks errors that a change of the arguments fixes.
fn usage_error(e: PipelineError) -> anyhow::Error {
    match e {
        PipelineError::QueryPoint { .. } | PipelineError::Attention(_) => {
            UsageError(e.to_string()).into()
        }
        PipelineError::Placing(
            PlacingError::Frame { .. }
            | PlacingError::Outside { .. }
            | PlacingError::NoLength { .. },
        ) => UsageError(e.to_string()).into(),
        PipelineError::Output(e) => output_error(e),
        e => e.into(),
    }
}

/// Stores the GLB where the service would; also returns the number of points in it.
fn store(
    to: &Destination,
    made: &Reconstruction,
    options: GlbOptions,
) -> anyhow::Result<(GlbFile, PathBuf, usize)> {
    let mut written = None;
    let (row, path) = to.store(|mut out| {
        let (scene, frames) = (&made.scene, &*made.predictions);
        written = Some(glb::write(
            scene,
            frames,
            &made.provenance,
            options,
            &mut out,
        )?);
        Ok(())
    })?;
    let points = written.map_or(0, |written| written.points);
    if let Some(thinned) = written.and_then(|written| written.thinned) {
        tell_thinned(&path, points, thinned);
    }
    Ok((row, path, points))
}
