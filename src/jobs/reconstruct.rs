//! What the worker does with one job: input files in, a stored GLB out.

use std::{
    error::Error,
    fs,
    io::{self, BufWriter, Write},
    time::{Duration, Instant},
};

use super::{
    error::{DISK_FULL, JobError},
    faults::{quietly, store_passes},
    progress::{Preview, Progress, StopReason},
    progress_kept::{Follower, KeptProgress},
    quota::QuotaError,
    restore::INPUT_GONE,
    shared::Work,
    worker::Worker,
};
use crate::{
    metrics::Cause,
    pipeline::{
        FolderRule, GlbError, KeepRefinement, PipelineError, Place, PredictedFrames, Provenance,
        ReadOptions, ReconstructOptions, Reconstruction, Scene, SceneError, SkyNetwork, Source,
        Spool, SpoolError, Spooling, Stage, Thinned, Watcher, open_finished, rebuild_kept,
        reconstruct, write_glb,
    },
    store::{GlbFile, GlbOrigin, SpoolToKeep, StoreError, WriteSeek, create_private, random_hash},
};

/// Pauses before a result that is computed is stored again, before the job is put aside and computed again later. Short:
/// the predictions take memory, and no other job could be stored either.
const STORE_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

impl Worker {
    /// Runs a job and returns the hash of its GLB.
    pub(super) fn reconstruct(
        &mut self,
        work: &Work,
        deadline: Option<Instant>,
    ) -> Result<String, JobError> {
        let shared = self.shared.clone();
        if !work.folder.fetch().map_err(unreadable)? {
            return Err(JobError::Failed(Cause::Server, INPUT_GONE.to_owned()));
        }
        let source = match work.folder.is_of_rerun() {
            true => None,
            false => Some(self.source_of(work)?),
        };
        // What a scene is built from is an input.
        let fetched = source.is_some() && work.folder.go_on().map_err(unreadable)?;
        if let Some(lease) = work.lease
            && !shared.store.mark_running(lease)?
        {
            return Err(JobError::Stopped);
        }
        let (id, user) = (work.handle.id, work.handle.user_id);
        tracing::info!(job.id = %id, user, "job {id} started");
        let mut progress =
            Progress::new(&work.handle, &work.names, deadline).recorded(&shared.store, work.lease);
        progress.count(shared.settings.metrics.clone());
        progress.loading();
        if work.options.mask_sky {
            self.load_sky()?;
        }
        let kept = KeptProgress::of(&work.folder, fetched);
        let (made, kept) = match source {
            Some(source) => self.run_followed(work, &source, &mut progress, kept),
            None => (self.rebuild(work, &mut progress), None),
        };
        self.keep_warnings(work);
        let made = made?;
        if !work.folder.is_of_rerun() {
            let frames = made.predictions.count() as u64;
            shared.settings.metrics.frames.add(frames);
        }
        if !progress.step(Stage::Write, 0, 1) {
            return Err(JobError::Stopped);
        }
        self.store(work, made, kept, &progress)
    }

    /// As [`Worker::run_network`], and what is computed is put into the bucket from time to time, where the store has one.
    fn run_followed(
        &mut self,
        work: &Work,
        source: &Source,
        progress: &mut Progress<'_>,
        kept: Option<KeptProgress>,
    ) -> (Result<Reconstruction, JobError>, Option<KeptProgress>) {
        let every = self.shared.settings.save_progress_every;
        let follower = kept.and_then(|kept| kept.follow(every));
        let made = self.run_network(work, source, progress);
        let mut kept = follower.and_then(Follower::stop);
        if let (Err(_), Some(kept)) = (&made, &mut kept)
            && !matches!(work.handle.stopped(), Some(StopReason::Cancelled))
        {
            // For the worker that goes on.
            kept.send();
        }
        (made, kept)
    }

    /// Builds the scene from input files.
    fn run_network(
        &mut self,
        work: &Work,
        source: &Source,
        progress: &mut Progress<'_>,
    ) -> Result<Reconstruction, JobError> {
        let shared = self.shared.clone();
        let loaded = self.network().map(|_| ());
        loaded.map_err(|e| JobError::of_loading("its network", &e))?;
        let Some(network) = self.loaded() else {
            return Err(JobError::Failed(
                Cause::Server,
                "the network is not loaded".to_owned(),
            ));
        };
        let preview = |scene: &Scene, frames: &dyn PredictedFrames, provenance: &Provenance| {
            show_preview(work, (scene, frames, provenance));
            Ok(())
        };
        let options = ReconstructOptions {
            read: ReadOptions {
                fps: work.options.fps,
                keyframes: work.options.keyframes,
                image_limits: shared.settings.image_limits,
                video_limits: shared.settings.video_limits,
                decoding: shared.settings.decoding.clone(),
                max_time: shared.settings.max_decode_time,
                ..ReadOptions::default()
            },
            max_frames: shared.settings.max_frames,
            attention: work.options.attention.clone(),
            // The next process goes on with it; in the end it is kept with the result.
            spooling: Spooling {
                place: Place::Folder {
                    path: work.folder.own_spool(),
                    note: serde_json::Value::Null,
                    rule: FolderRule::Default,
                },
                ..Spooling::default()
            },
            // Whose status is not asked for sees none.
            preview: work.row().is_some().then_some(&preview),
            ..self.scene_options(work)
        };
        let made = reconstruct(network, source, &options, progress);
        if network.check_intact().is_err() {
            // The next job opens the file again.
            self.forget_network();
        }
        if let Some(bytes) = made.as_ref().err().and_then(PipelineError::missing_space) {
            // For the next try.
            if let Err(e) = shared.store.drop_spools(None, bytes) {
                quietly(|| tracing::warn!("cannot remove kept spools to make space: {e}"));
            }
        }
        Ok(made?)
    }

    /// Builds the scene from what was kept of another job.
    fn rebuild(
        &self,
        work: &Work,
        progress: &mut Progress<'_>,
    ) -> Result<Reconstruction, JobError> {
        let spool = open_finished(&work.folder.spool()).map_err(|e| match e {
            SpoolError::NotOurs { .. } | SpoolError::Version { .. } => {
                JobError::Failed(Cause::Server, UNREADABLE.to_owned())
            }
            e => PipelineError::from(e).into(),
        })?;
        let options = self.scene_options(work);
        Ok(rebuild_kept(spool, &self.shared.model, &options, progress)?)
    }

    /// What the scene shows.
    fn scene_options(&self, work: &Work) -> ReconstructOptions<'_> {
        ReconstructOptions {
            scene: work.options.scene.clone(),
            sky: self.sky.as_ref().filter(|_| work.options.mask_sky),
            refine: work.options.refinement(),
            keep_refinement: KeepRefinement::Keep,
            provenance: serde_json::to_value(&work.options).unwrap_or_default(),
            ..ReconstructOptions::default()
        }
    }

    /// Returns the input. Where the folder of all inputs is missing, its disk is, and comes back.
    fn source_of(&self, work: &Work) -> Result<Source, JobError> {
        match work.folder.source(work.kind) {
            Ok(Some(source)) if !work.folder.is_complete(&source) => Err(JobError::Failed(
                Cause::Server,
                "some of its input files are gone; submit it again".to_owned(),
            )),
            Ok(Some(source)) => Ok(source),
            Ok(None) if work.row().is_some() && !self.shared.store.jobs_dir().is_dir() => Err(
                JobError::Fault("the server's folder of input files is missing".to_owned()),
            ),
            Ok(None) => Err(JobError::Failed(
                Cause::Server,
                "the input files are gone".to_owned(),
            )),
            Err(e) => Err(PipelineError::from(e).into()),
        }
    }

    /// Records the warnings in the row, before it tells the end.
    fn keep_warnings(&self, work: &Work) {
        let warnings = work.handle.warnings();
        let (Some(lease), false) = (work.lease, warnings.is_empty()) else {
            return;
        };
        let json = serde_json::Value::from(warnings).to_string();
        if let Err(e) = self.shared.store.set_job_warnings(lease, &json) {
            quietly(|| tracing::warn!("cannot record the warnings of job {}: {e}", lease.job));
        }
    }

    /// Returns what the GLB of so many bytes was made of, for other formats, if the user's quota permits to keep it.
    fn spool_to_keep(
        &self,
        user: i32,
        glb: u64,
        spool: &Spool,
        kept: Option<&KeptProgress>,
    ) -> Result<Option<SpoolToKeep>, StoreError> {
        let Some(folder) = spool.folder() else {
            return Ok(None);
        };
        let bytes = spool.bytes();
        let quotas = &self.shared.settings.quotas;
        if !quotas.admit_spool(&self.shared.store, user, glb, bytes)? {
            tracing::debug!("a spool of user {user} is not kept: {bytes} bytes");
            return Ok(None);
        }
        let (packs, rest) = match kept {
            Some(kept) => {
                let (packs, rest) = kept.clone().finished()?;
                (packs, Some(rest))
            }
            None => (Vec::new(), None),
        };
        Ok(Some(SpoolToKeep {
            folder: folder.to_owned(),
            bytes,
            packs,
            rest,
        }))
    }

    fn load_sky(&mut self) -> Result<(), JobError> {
        if self.sky.is_none()
            && let Some(path) = &self.shared.settings.sky_network
        {
            let sky = SkyNetwork::open(path).map_err(PipelineError::from);
            self.sky = Some(sky.map_err(|e| JobError::of_loading("its sky network", &e))?);
        }
        Ok(())
    }

    fn store(
        &self,
        work: &Work,
        made: Reconstruction,
        kept: Option<KeptProgress>,
        progress: &Progress<'_>,
    ) -> Result<String, JobError> {
        let Reconstruction {
            scene,
            predictions,
            provenance,
            spooled,
            ..
        } = made;
        let origin = GlbOrigin {
            user_id: work.handle.user_id,
            original_name: &work.original_name,
            job: work.lease,
            input_key: Some(&work.input_key),
        };
        let save = || -> Result<GlbFile, SaveError> {
            // Why the file is not kept, where the store only knows that it was not written.
            let mut refused = None;
            let mut points = 0;
            let shared = &self.shared;
            let store = &shared.store;
            let mut keep = |glb| match &spooled {
                Some(spooled) => {
                    let (user, spool) = (work.handle.user_id, spooled.spool());
                    self.spool_to_keep(user, glb, spool, kept.as_ref())
                }
                None => Ok(None),
            };
            let mut write = |mut out: &mut dyn WriteSeek| {
                let glb = work.options.glb();
                let written = write_glb(&scene, &*predictions, &provenance, glb, &mut out);
                let written = written.map_err(|e| match e {
                    GlbError::Io(_) | GlbError::Scene(SceneError::Read { .. }) => e.into(),
                    e => {
                        refused = Some(PipelineError::from(e).into());
                        io::Error::from(io::ErrorKind::InvalidData)
                    }
                })?;
                if let Some(Thinned { of, .. }) = written.thinned {
                    tracing::info!("{} of {of} points in the GLB, evenly", written.points);
                }
                points = written.points;
                let bytes = out.stream_position()?;
                let quotas = &shared.settings.quotas;
                let checked = quotas.check_result(store, work.handle.user_id, bytes);
                checked.map_err(|e| match e {
                    // As any other failure of the database.
                    QuotaError::Store(e) => io::Error::other(e),
                    e => {
                        refused = Some(e.into());
                        io::ErrorKind::QuotaExceeded.into()
                    }
                })
            };
            let saved = store.save_result(&origin, &mut write, &mut keep);
            let saved = saved.inspect(|_| shared.settings.metrics.points.add(points as u64));
            saved.map_err(|e| match refused {
                Some(reason) => SaveError::Refused(reason),
                None => SaveError::Store(e),
            })
        };
        let mut pauses = STORE_PAUSES.iter();
        loop {
            match save() {
                Ok(row) => return Ok(row.hashed_name),
                Err(SaveError::Refused(e)) => return Err(e),
                Err(SaveError::Store(e)) => {
                    // A client that waits on its connection is told at once.
                    let pause = pauses.next().filter(|_| !work.tied);
                    match pause.filter(|_| store_passes(&e)) {
                        Some(pause) if progress.wait_to_store(*pause) => {}
                        Some(_) => return Err(JobError::Stopped),
                        None => return Err(e.into()),
                    }
                }
            }
        }
    }
}

/// Why a job fails whose files are damaged.
const UNREADABLE: &str = "what the server kept of the job cannot be read; send the images again";

/// Returns the error of a job whose files could not be fetched.
fn unreadable(e: StoreError) -> JobError {
    quietly(|| tracing::error!("cannot fetch the files of a job: {e}"));
    match store_passes(&e) {
        true if e.is_disk_full() => JobError::Fault(DISK_FULL.to_owned()),
        true => JobError::Fault("the server cannot read its files now".to_owned()),
        false => JobError::Failed(Cause::Server, UNREADABLE.to_owned()),
    }
}

/// Writes the anchors' scene for those who ask for the job's status. Without it the job goes on.
fn show_preview(
    work: &Work,
    (scene, frames, provenance): (&Scene, &dyn PredictedFrames, &Provenance),
) {
    let path = work.folder.preview();
    let write = || -> Result<Preview, Box<dyn Error>> {
        // Of the process before.
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let mut out = BufWriter::new(create_private(&path)?);
        write_glb(scene, frames, provenance, work.options.glb(), &mut out)?;
        out.flush()?;
        work.folder.send_preview()?;
        Ok(Preview {
            hash: random_hash()?,
            path: path.clone(),
        })
    };
    match write() {
        Ok(preview) => work.handle.set_preview(preview),
        Err(e) => quietly(|| tracing::warn!("job {} has no preview: {e}", work.handle.id)),
    }
}

/// Why a GLB was not stored.
enum SaveError {
    /// It would be too large, or more than the user may hold.
    Refused(JobError),
    Store(StoreError),
}
