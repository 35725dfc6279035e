//! The thread of the device: jobs in, GLB files out.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use super::{
    error::{JobError, JobsError, without_paths},
    job::{JobId, JobState},
    progress::{Progress, StopReason},
    shared::{Shared, Work},
};
use crate::{
    pipeline::{
        GlbError, Network, NetworkSource, PipelineError, ReadOptions, ReconstructOptions,
        Reconstruction, SkyNetwork, Stage, Watcher, reconstruct, return_freed_memory, write_glb,
    },
    store::GlbOrigin,
};

/// Starts the thread; with [`super::JobSettings::preload`] returns once the network is loaded, else at once.
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
                // The caller is gone, so the worker is not needed.
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
            // A waiting job takes the device's memory as it is; otherwise other processes may need it.
            if let Some(network) = &self.network
                && shared.is_queue_empty()
            {
                network.return_device_memory();
            }
        }
    }

    fn run_one(&mut self, work: &Work) -> Result<JobState, StopReason> {
        let done = catch_unwind(AssertUnwindSafe(|| self.reconstruct(work)));
        let reason = match done {
            Ok(Ok(hash)) => return Ok(JobState::Done { hash }),
            Ok(Err(JobError::Stopped)) => {
                return match work.handle.stopped() {
                    Some(StopReason::Shutdown) => Err(StopReason::Shutdown),
                    _ => Ok(JobState::Cancelled),
                };
            }
            Ok(Err(JobError::Failed(reason))) => reason,
            Err(_) => {
                // The network may be in an inconsistent state: the next job loads it again.
                self.network = None;
                "the server failed; this is a bug".to_owned()
            }
        };
        // Clients should not see the paths of the server.
        let folder = format!("{}/", work.folder.path().display());
        Ok(JobState::Failed {
            reason: without_paths(&reason.replace(&folder, "")),
        })
    }

    fn network(&mut self) -> Result<&Network, PipelineError> {
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let device = self.shared.device.open()?;
                let settings = &self.shared.settings;
                Network::load(&self.source, device, settings.dtype, settings.precision)?
            }
        };
        Ok(self.network.insert(network))
    }

    fn reconstruct(&mut self, work: &Work) -> Result<String, JobError> {
        let shared = self.shared.clone();
        let row = match work.handle.id {
            JobId::Row(id) => Some(id),
            JobId::Connection(_) => None,
        };
        if let Some(id) = row
            && !shared.store.mark_running(id)?
        {
            return Err(JobError::Stopped);
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
            return Err(JobError::Failed("the network is not loaded".to_owned()));
        };
        let Some(source) = work.folder.source(work.kind) else {
            return Err(JobError::Failed("the input files are gone".to_owned()));
        };
        let reconstruct_options = ReconstructOptions {
            read: ReadOptions {
                fps: options.fps,
                image_limits: shared.settings.image_limits,
                video_limits: shared.settings.video_limits,
                decoding: shared.settings.decoding.clone(),
                max_time: shared.settings.max_decode_time,
                ..ReadOptions::default()
            },
            max_frames: shared.settings.max_frames,
            scene: options.scene.clone(),
            sky: self.sky.as_ref().filter(|_| options.mask_sky),
            provenance: serde_json::to_value(options).unwrap_or_default(),
            ..ReconstructOptions::default()
        };
        // Only the scene is kept: the predictions take far more memory.
        let done = reconstruct(network, &source, &reconstruct_options, &mut progress);
        if network.check_intact().is_err() {
            // The next job opens the file again.
            self.network = None;
        }
        let Reconstruction {
            scene, provenance, ..
        } = done?;
        if !progress.step(Stage::Write, 0, 1) {
            return Err(JobError::Stopped);
        }
        let origin = GlbOrigin {
            user_id: work.handle.user_id,
            original_name: &work.original_name,
            job: row,
            input_key: Some(&work.input_key),
        };
        // Why the file is not kept, where the store only knows that it was not written.
        let mut refused = None;
        let saved = shared.store.save_result(&origin, &mut |mut out| {
            if let Err(e) = write_glb(&scene, &provenance, options.glb(), &mut out) {
                if let GlbError::TooLarge { bytes } = e {
                    refused = Some(PipelineError::from(GlbError::TooLarge { bytes }).into());
                }
                return Err(e.into());
            }
            let bytes = out.stream_position()?;
            let quotas = &shared.settings.quotas;
            let checked = quotas.check_result(&shared.store, work.handle.user_id, bytes);
            checked.map_err(|e| {
                refused = Some(e.into());
                io::ErrorKind::QuotaExceeded.into()
            })
        });
        match (saved, refused) {
            (Ok(row), _) => Ok(row.hashed_name),
            (Err(_), Some(refused)) => Err(refused),
            (Err(e), None) => Err(e.into()),
        }
    }
}
