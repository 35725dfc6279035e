//! The device's own thread: jobs in, GLB files out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Instant, UNIX_EPOCH},
};

use vggt_model::demo;

use super::{
    JobId, JobState, JobsError, Shared, Work,
    progress::{Progress, Stop},
};
use crate::{
    pipeline::{
        GlbError, Network, NetworkSource, PipelineError, ReadOptions, ReconstructOptions,
        Reconstruction, SkyNetwork, Stage, Watcher, reconstruct, return_freed_memory, write_glb,
    },
    store::{GlbOrigin, StoreError},
};

/// What ended a job without a GLB.
enum Ended {
    /// [`PipelineError::Cancelled`], or the row was over.
    Stopped,
    /// Told the user as it is.
    Failed(String),
}

impl From<PipelineError> for Ended {
    fn from(e: PipelineError) -> Self {
        match e {
            PipelineError::Cancelled => Self::Stopped,
            e => Self::Failed(with_causes(&e)),
        }
    }
}

impl From<StoreError> for Ended {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::JobOver(_) => Self::Stopped,
            e => {
                tracing::error!("cannot store a result: {e}");
                Self::Failed(if e.is_disk_full() {
                    "the server's disk is full".to_owned()
                } else {
                    "the server could not store the result".to_owned()
                })
            }
        }
    }
}

/// Starts the thread; returns once the network is loaded when it is to be preloaded, else at once.
pub(super) fn start(shared: Arc<Shared>, source: NetworkSource) -> Result<(), JobsError> {
    let (ready, loaded) = mpsc::sync_channel(1);
    let preload = shared.settings.preload;
    thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let mut worker = Worker {
                shared,
                source,
                network: None,
                sky: None,
            };
            if preload {
                let failed = worker.network().err();
                let stop = failed.is_some();
                // Whoever asked is gone: then nobody needs the worker either.
                if ready.send(failed).is_err() || stop {
                    return;
                }
            }
            worker.run();
        })
        .map_err(JobsError::Thread)?;
    if preload && let Ok(Some(e)) = loaded.recv() {
        return Err(e.into());
    }
    Ok(())
}

/// What the weights are called before they are loaded.
pub(super) fn model_name(source: &NetworkSource) -> String {
    match source {
        NetworkSource::Demo => demo::WEIGHTS_NAME.to_owned(),
        NetworkSource::Random(_) => "random".to_owned(),
        NetworkSource::File {
            name: Some(name), ..
        } => name.clone(),
        NetworkSource::File { weights, .. } => weights
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Stands for the weights: other weights have another one. Length and time instead of a hash, which would take seconds
/// of every start; at worst a result is computed again.
pub(super) fn weights_key(source: &NetworkSource) -> String {
    let stamp = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        let time = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(format!("{} {} {time:?}", path.display(), meta.len()))
    };
    match source {
        NetworkSource::Demo => "demo".to_owned(),
        NetworkSource::Random(config) => format!("random {config:?}"),
        NetworkSource::File {
            weights, config, ..
        } => format!(
            "{:?} {:?}",
            stamp(weights),
            config.as_deref().and_then(stamp)
        ),
    }
}

struct Worker {
    shared: Arc<Shared>,
    source: NetworkSource,
    network: Option<Network>,
    sky: Option<SkyNetwork>,
}

impl Worker {
    fn run(&mut self) {
        let shared = self.shared.clone();
        while let Some(work) = shared.next() {
            let start = Instant::now();
            let state = self.run_one(&work);
            let (id, duration_ms) = (work.handle.id, start.elapsed().as_millis());
            let user = work.handle.user_id;
            match &state {
                Ok(JobState::Done { hash }) => tracing::info!(
                    job.id = %id, user, duration_ms, "job {id} is done in {duration_ms} ms: {hash}"
                ),
                Ok(JobState::Failed { reason }) => tracing::warn!(
                    job.id = %id, user, duration_ms, "job {id} failed after {duration_ms} ms: {reason}"
                ),
                Ok(_) => tracing::info!(
                    job.id = %id, user, duration_ms, "job {id} was cancelled after {duration_ms} ms"
                ),
                Err(_) => tracing::info!(
                    job.id = %id, user, duration_ms, "job {id} stops for the shutdown"
                ),
            }
            shared.finish(work, state);
            return_freed_memory();
        }
    }

    fn run_one(&mut self, work: &Work) -> Result<JobState, Stop> {
        let done = catch_unwind(AssertUnwindSafe(|| self.reconstruct(work)));
        let reason = match done {
            Ok(Ok(hash)) => return Ok(JobState::Done { hash }),
            Ok(Err(Ended::Stopped)) => {
                return match work.handle.stopped() {
                    Stop::Shutdown => Err(Stop::Shutdown),
                    _ => Ok(JobState::Cancelled),
                };
            }
            Ok(Err(Ended::Failed(reason))) => reason,
            Err(_) => {
                // What it was doing may have left the network half-way: the next job loads it again.
                self.network = None;
                "the server failed; this is a fault of the program".to_owned()
            }
        };
        // Where the server keeps its files is nobody's business.
        let folder = format!("{}/", work.folder.path().display());
        Ok(JobState::Failed {
            reason: reason.replace(&folder, ""),
        })
    }

    fn network(&mut self) -> Result<&Network, PipelineError> {
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let device = self.shared.device.open()?;
                {
                    let settings = &self.shared.settings;
                    Network::load(&self.source, device, settings.dtype, settings.precision)?
                }
            }
        };
        Ok(self.network.insert(network))
    }

    fn reconstruct(&mut self, work: &Work) -> Result<String, Ended> {
        let shared = self.shared.clone();
        let row = match work.handle.id {
            JobId::Row(id) => Some(id),
            JobId::Connection(_) => None,
        };
        if let Some(id) = row
            && !shared.store.mark_running(id)?
        {
            return Err(Ended::Stopped);
        }
        let options = &work.options;
        let mut progress = Progress::new(&work.handle);
        progress.loading();
        if options.mask_sky
            && self.sky.is_none()
            && let Some(path) = &shared.settings.sky_network
        {
            self.sky = Some(SkyNetwork::open(path).map_err(PipelineError::from)?);
        }
        self.network()?;
        let Some(network) = &self.network else {
            return Err(Ended::Failed("the network is not loaded".to_owned()));
        };
        let Some(source) = work.folder.source(work.kind) else {
            return Err(Ended::Failed("the input files are gone".to_owned()));
        };
        let reconstruct_options = ReconstructOptions {
            read: ReadOptions {
                fps: options.fps,
                video_limits: shared.settings.video_limits,
                ..ReadOptions::default()
            },
            max_frames: shared.settings.max_frames,
            scene: options.scene.clone(),
            sky: self.sky.as_ref().filter(|_| options.mask_sky),
            provenance: serde_json::to_value(options).unwrap_or_default(),
            ..ReconstructOptions::default()
        };
        // Only the scene is kept: the predictions take far more memory.
        let Reconstruction {
            scene, provenance, ..
        } = reconstruct(network, &source, &reconstruct_options, &mut progress)?;
        if !progress.step(Stage::Write, 0, 1) {
            return Err(Ended::Stopped);
        }
        let origin = GlbOrigin {
            user_id: work.handle.user_id,
            original_name: &work.original_name,
            job: row,
            input_key: Some(&work.input_key),
        };
        let mut too_large = None;
        let saved = shared.store.save_result(&origin, &mut |mut out| {
            write_glb(&scene, &provenance, options.glb(), &mut out)
                .map(|_| ())
                .map_err(|e| {
                    if let GlbError::TooLarge { .. } = e {
                        too_large = Some(e.to_string());
                    }
                    e.into()
                })
        });
        match (saved, too_large) {
            (Ok(row), _) => Ok(row.hashed_name),
            (Err(_), Some(told)) => Err(Ended::Failed(told)),
            (Err(e), None) => Err(e.into()),
        }
    }
}

fn with_causes(e: &dyn std::error::Error) -> String {
    let mut told = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let text = e.to_string();
        // Some messages hold their cause already.
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = e.source();
    }
    told
}
