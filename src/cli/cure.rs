//! Advice for the errors and warnings of other modules, in terms of the command line.
//!
//! Other modules state the cause and its values: a client of the service has no flags. Only this file knows that an error
//! can be fixed with one.

use std::{error::Error, io};

use vggt_model::weights::WeightsError;

use crate::{
    client::ClientError,
    frames::{FramesError, PreprocessError},
    glb::{GlbError, Reason, Thinned},
    hub::HubError,
    jobs::JobsError,
    output::OutputError,
    pipeline::{PipelineError, PlacingError, SpoolError, Warning, WorkerEnd, WorkerError},
    store::StoreError,
};

const REPLACE: &str = "name another, or replace it with --overwrite";

/// Returns what to do about an error, if it is known: a clause that follows the message.
pub(super) fn cure(e: &anyhow::Error) -> Option<String> {
    e.chain().find_map(of_error)
}

/// Returns what to do about a warning, if it is known.
pub(super) fn of_warning(warning: &Warning) -> Option<String> {
    match warning {
        Warning::FramesThinned { available, .. } => {
            Some(format!("--max-frames {available} tries all of them"))
        }
        Warning::Cropped { .. } => Some("--preprocess pad keeps frames whole".to_owned()),
        _ => None,
    }
}

fn of_error(e: &(dyn Error + 'static)) -> Option<String> {
    if let Some(e) = e.downcast_ref::<PipelineError>() {
        return of_pipeline(e);
    }
    if let Some(e) = e.downcast_ref::<JobsError>() {
        return match e {
            JobsError::Network(e) => of_pipeline(e),
            JobsError::Store(e) => of_store(e),
            _ => None,
        };
    }
    if let Some(e) = e.downcast_ref::<vggt_model::Error>() {
        return of_network(e);
    }
    if let Some(e) = e.downcast_ref::<WeightsError>() {
        return of_weights(e);
    }
    if let Some(e) = e.downcast_ref::<FramesError>() {
        return of_frames(e);
    }
    if let Some(e) = e.downcast_ref::<SpoolError>() {
        return of_spool(e);
    }
    if let Some(e) = e.downcast_ref::<WorkerError>() {
        return of_decoder(e);
    }
    if let Some(e) = e.downcast_ref::<GlbError>() {
        return of_glb(e);
    }
    if let Some(e) = e.downcast_ref::<StoreError>() {
        return of_store(e);
    }
    if let Some(e) = e.downcast_ref::<HubError>() {
        return of_hub(e);
    }
    if let Some(OutputError::NotOurs { .. }) = e.downcast_ref() {
        return Some(REPLACE.to_owned());
    }
    if let Some(ClientError::Connect { .. }) = e.downcast_ref() {
        return Some("is `vggt serve` running there?".to_owned());
    }
    None
}

fn of_pipeline(e: &PipelineError) -> Option<String> {
    match e {
        PipelineError::OutOfMemory { .. } => Some("use fewer with --max-frames".to_owned()),
        PipelineError::Device { .. } => Some("--device cpu works".to_owned()),
        PipelineError::Dtype { .. } => Some("leave --dtype out".to_owned()),
        PipelineError::Precision => Some("leave --precision out".to_owned()),
        PipelineError::Frames(e) => of_frames(e),
        PipelineError::Decoder(e) => of_decoder(e),
        PipelineError::Network(e) => of_network(e),
        PipelineError::Glb(e) => of_glb(e),
        PipelineError::Output(OutputError::NotOurs { .. }) => Some(REPLACE.to_owned()),
        PipelineError::Spool(e) => of_spool(e),
        PipelineError::Placing(e) => of_placing(e),
        _ => None,
    }
}

fn of_placing(e: &PlacingError) -> Option<String> {
    match e {
        PlacingError::Cropped { .. } => Some("--preprocess pad keeps photos whole".to_owned()),
        PlacingError::NoDepth { .. } => Some("choose a point beside it".to_owned()),
        PlacingError::Inaccurate { .. } => {
            Some("--scale with a measured length and --level work without positions".to_owned())
        }
        PlacingError::NoFocal { .. } => Some("leave --exif-focal out".to_owned()),
        _ => None,
    }
}

fn of_spool(e: &SpoolError) -> Option<String> {
    match e {
        SpoolError::NotOurs { .. } => Some("name another with --spool".to_owned()),
        SpoolError::Version { .. } => {
            Some("go on with the program that wrote it, or remove it".to_owned())
        }
        SpoolError::InUse { .. } => Some("wait for it, or name another with --spool".to_owned()),
        SpoolError::Changed { .. } => Some("without --resume it begins again".to_owned()),
        SpoolError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            Some("--spool names a folder on another disk".to_owned())
        }
        _ => None,
    }
}

fn of_network(e: &vggt_model::Error) -> Option<String> {
    match e {
        vggt_model::Error::Weights(e) => of_weights(e),
        vggt_model::Error::NoHead { head: "point", .. } => {
            Some("--prediction-mode \"Depthmap and Camera\" works without".to_owned())
        }
        vggt_model::Error::NoHead { head: "depth", .. } => {
            Some("--prediction-mode \"Predicted Pointmap\" works without".to_owned())
        }
        vggt_model::Error::NoHead { head: "track", .. } => Some(
            "--query-points and --refine-tracks need weights such as facebook/VGGT-1B; facebook/VGGT-1B-Commercial and --demo have no \
             track head"
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_weights(e: &WeightsError) -> Option<String> {
    match e {
        WeightsError::NotFound { .. }
        | WeightsError::WebPage { .. }
        | WeightsError::LfsPointer { .. } => {
            Some("`vggt fetch` downloads VGGT's weights".to_owned())
        }
        _ => None,
    }
}

fn of_frames(e: &FramesError) -> Option<String> {
    match e {
        FramesError::SkyNetwork { .. } => {
            Some("--mask-sky needs skyseg.onnx of JianyuanWang/skyseg".to_owned())
        }
        FramesError::Image(e) => of_image(e),
        FramesError::VideoNeedsMemory { .. } => {
            Some("--max-decode-memory raises it, as far as memory is free".to_owned())
        }
        FramesError::TooSlow { .. } => Some("--max-decode-seconds raises it".to_owned()),
        _ => None,
    }
}

fn of_decoder(e: &WorkerError) -> Option<String> {
    let flag = match e {
        WorkerError::Ended { end, .. } => match end {
            WorkerEnd::Memory { .. } => "--max-decode-memory raises it, as far as memory is free",
            WorkerEnd::CpuTime { .. } => "--max-decode-seconds raises it",
            _ => return None,
        },
        WorkerError::NoProgram | WorkerError::Start(_) | WorkerError::NotAgain { .. } => {
            "`vggt serve --no-isolate` decodes in its own process"
        }
        WorkerError::NotHere => {
            "`vggt export` without --isolate and `vggt serve --no-isolate` decode in their own process"
        }
        _ => return None,
    };
    Some(flag.to_owned())
}

fn of_image(e: &PreprocessError) -> Option<String> {
    let flags = match e {
        PreprocessError::ImageTooLarge { .. } => "--max-image-pixels and --max-image-side raise it",
        PreprocessError::FileTooLarge { .. } => "--max-image-bytes raises it",
        PreprocessError::NeedsMemory { .. } => {
            "--max-image-memory raises it, as far as memory is free"
        }
        _ => return None,
    };
    Some(flags.to_owned())
}

fn of_glb(e: &GlbError) -> Option<String> {
    match e {
        GlbError::TooLarge { .. } => Some("use fewer frames with --max-frames".to_owned()),
        _ => None,
    }
}

/// Returns what to do about a GLB that has fewer points than its scene.
pub(super) fn of_thinned(thinned: &Thinned) -> &'static str {
    match thinned.reason {
        Reason::Default => "--max-points sets another number",
        Reason::Format => {
            "a GLB ends at 4 GiB; PLY has no limit, and --glb quantized takes fewer bytes for a point"
        }
    }
}

fn of_store(e: &StoreError) -> Option<String> {
    match e {
        StoreError::NotOurs { .. } => Some("name another with --db".to_owned()),
        StoreError::InUse { .. } => Some("give this one its own --db and --out-root".to_owned()),
        StoreError::NoFolder { .. } => Some(
            "name the right one with --out-root, or mount its disk".to_owned(),
        ),
        StoreError::OtherFolder { .. } | StoreError::FilesMissing { .. } => Some(
            "name the right pair with --db and --out-root; after a restore, `vggt check --adopt` makes them one".to_owned(),
        ),
        StoreError::MostMissing { .. } => Some(
            "is its disk mounted, and is --out-root the right folder? --accept-loss removes the rows all the same".to_owned(),
        ),
        StoreError::UnknownUser(_) | StoreError::UnknownUserId(_) => {
            Some("`vggt user list` shows all".to_owned())
        }
        _ => None,
    }
}

fn of_hub(e: &HubError) -> Option<String> {
    match e {
        HubError::Offline { repo, file, .. } => {
            let file = file.as_ref().map(|file| format!(" --file {file}"));
            let file = file.unwrap_or_default();
            Some(format!(
                "fetch it once with `vggt fetch --repo {repo}{file}`, without --offline"
            ))
        }
        HubError::NoWeights { .. } => Some("download it and name it with --checkpoint".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cure_is_found_under_context_and_transparent_errors() {
        let weights = WeightsError::WebPage {
            file: "model.pt".to_owned(),
        };
        let error = PipelineError::Network(weights.into());
        let e = Err::<(), _>(error).context("cannot load").unwrap_err();
        assert!(cure(&e).is_some_and(|cure| cure.contains("vggt fetch")));
        let e = anyhow::Error::from(StoreError::UnknownUserId(7)).context("no user");
        assert!(cure(&e).is_some_and(|cure| cure.contains("vggt user list")));
        assert_eq!(cure(&anyhow::anyhow!("other")), None);
    }

    #[test]
    fn what_is_missing_offline_is_fetched_by_name() {
        let offline = |file: Option<&str>| {
            let e = HubError::Offline {
                repo: "org/net".to_owned(),
                file: file.map(str::to_owned),
                cache: "cache".into(),
            };
            cure(&e.into()).unwrap()
        };
        assert!(offline(None).contains("`vggt fetch --repo org/net`"));
        let sky = offline(Some("sky.onnx"));
        assert!(
            sky.contains("`vggt fetch --repo org/net --file sky.onnx`"),
            "{sky}"
        );
    }
}
