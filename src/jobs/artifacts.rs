//! Files that are made of a result when they are asked for: from what is kept beside its GLB, without the network.
//!
//! A file that was made stays for a while, so that the parts of a download belong together; the same result gives the same
//! bytes again. One file is made at a time, since each takes a core and the disk.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    Jobs,
    error::{DISK_FULL, JobError},
    names::JobNames,
    options::JobOptions,
    shared::Shared,
};
pub use crate::pipeline::Artifact;
use crate::{
    pipeline::{
        ArtifactAbout, KeepRefinement, PipelineError, PredictedFrames, ReconstructOptions,
        SkyNetwork, Spool, SpoolError, Stage, Warning, Watcher, artifact_space, depth_still,
        kept_depth_factor, make_artifact, open_finished, rebuild_kept, still, thumbnail,
    },
    store::{GlbFile, StoreError, StoredFile, process_name},
    system,
};

/// Time for which a file stays that nobody asks for: a download that was interrupted is taken up again within it.
const MADE_FOR: Duration = Duration::from_secs(60 * 60);

/// Bytes of all files that are made, beyond which those go that were not asked for longest.
const MADE_BYTES: u64 = 4 << 30;

/// Time for which a kept reconstruction stays open: its checksums are looked at once for all pictures of a page.
const OPEN_FOR: Duration = Duration::from_secs(60);

/// Kept reconstructions that are open at the same time, some file descriptors each.
const OPEN_MAX: usize = 4;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// What the result was made of is not kept.
    #[error("the server does not keep the frames of this result any more; send the images again")]
    NotKept,
    /// There is no such frame.
    #[error("there is no frame {index}: the scene has {count}, counted from 0")]
    NoFrame {
        /// The frame that was asked for.
        index: usize,
        /// Number of frames.
        count: usize,
    },
    /// There is no space for the file.
    #[error("the server's disk is full")]
    DiskFull,
    /// It may work the next time.
    #[error("{0}")]
    Passing(String),
    /// The file cannot be made.
    #[error("{0}")]
    Failed(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PipelineError> for ArtifactError {
    fn from(e: PipelineError) -> Self {
        if matches!(e, PipelineError::RefinementLost) {
            return Self::NotKept;
        }
        match JobError::from(e) {
            JobError::Fault(reason) if reason == DISK_FULL => Self::DiskFull,
            JobError::Fault(reason) => Self::Passing(reason),
            JobError::Failed(_, reason) => Self::Failed(reason),
            JobError::Stopped => Self::Passing("the server is shutting down".to_owned()),
        }
    }
}

impl From<io::Error> for ArtifactError {
    fn from(e: io::Error) -> Self {
        PipelineError::from(e).into()
    }
}

/// A result of which files are made, and the options of its scene.
#[derive(Debug, Clone)]
pub struct MadeOf {
    /// The result.
    pub glb: GlbFile,
    /// As in the row of its job.
    pub options_json: String,
    /// How many meters a unit of the result is, where its user has said so.
    pub meters_per_unit: Option<f64>,
}

impl MadeOf {
    fn options(&self) -> Result<JobOptions, ArtifactError> {
        let unreadable = |e| ArtifactError::Failed(format!("cannot read the job's options: {e}"));
        JobOptions::from_row(&self.options_json).map_err(unreadable)
    }
}

/// A file that was made, open at its beginning.
#[derive(Debug)]
pub struct MadeFile {
    /// The file.
    pub file: StoredFile,
    /// Differs where the bytes may differ.
    pub tag: String,
}

/// A picture of one frame at the size at which the network saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Still {
    /// The photo, as a JPEG.
    Photo,
    /// The photo, at most 160 pixels wide and high, as a JPEG.
    Thumbnail,
    /// The depth in 16-bit gray, as a PNG.
    Depth,
    /// The depth in colors, as a PNG.
    DepthColors,
}

/// What a picture holds.
#[derive(Debug)]
pub struct StillFile {
    /// The encoded picture.
    pub bytes: Vec<u8>,
    /// Scene units for each gray value, of [`Still::Depth`].
    pub units_per_value: Option<f32>,
}

/// Which file: the result's hash, what is made of it, and its title and scale, as far as these are in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    hash: String,
    artifact: Artifact,
    title: String,
    /// The bits of meters per unit.
    scale: Option<u64>,
}

impl Key {
    fn new(of: &MadeOf, artifact: Artifact) -> Self {
        Self {
            hash: of.glb.hashed_name.clone(),
            artifact,
            title: match artifact {
                Artifact::Html => title_of(&of.glb).to_owned(),
                _ => String::new(),
            },
            scale: match artifact {
                Artifact::Points(_) | Artifact::Picture => None,
                _ => of.meters_per_unit.map(f64::to_bits),
            },
        }
    }

    fn tag(&self) -> String {
        let text = format!("{} {self:?}", env!("CARGO_PKG_VERSION"));
        let digest = Sha256::digest(text);
        digest[..16].iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn title_of(glb: &GlbFile) -> &str {
    let name = glb.original_name.as_str();
    name.strip_suffix(".glb").unwrap_or(name)
}

/// The files that were made, and what is open.
#[derive(Debug, Default)]
pub(super) struct Artifacts {
    state: Mutex<State>,
    /// Held while a file is made.
    making: Mutex<()>,
    /// Held while a kept reconstruction is opened: the pictures of a page are asked for together.
    opening: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    made: HashMap<Key, Made>,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Made {
    /// Removed with it.
    _folder: TempDir,
    path: PathBuf,
    len: u64,
    used: Instant,
}

#[derive(Debug)]
struct Open {
    hash: String,
    spool: Arc<Spool>,
    used: Instant,
}

impl Artifacts {
    /// Forgets what nobody has asked for in a while.
    pub(super) fn tidy(&self) {
        let mut state = self.lock();
        state.made.retain(|_, made| made.used.elapsed() < MADE_FOR);
        state.open.retain(|open| open.used.elapsed() < OPEN_FOR);
    }

    /// Removes the files that were made.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.made.clear();
        state.open.clear();
    }

    fn find(&self, key: &Key) -> Option<MadeFile> {
        let mut state = self.lock();
        let made = state.made.get_mut(key)?;
        made.used = Instant::now();
        // Somebody may have emptied the folder.
        let file = File::open(&made.path).and_then(StoredFile::on_disk).ok()?;
        (file.len() == made.len).then(|| MadeFile {
            file,
            tag: key.tag(),
        })
    }

    fn add(&self, key: Key, made: Made) {
        let mut state = self.lock();
        let mut bytes = state.made.values().map(|made| made.len).sum::<u64>();
        while bytes.saturating_add(made.len) > MADE_BYTES {
            let oldest = state.made.iter().min_by_key(|(_, made)| made.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            bytes -= state.made.remove(&oldest).map_or(0, |made| made.len);
        }
        state.made.insert(key, made);
    }

    fn opened(&self, hash: &str) -> Option<Arc<Spool>> {
        let mut state = self.lock();
        let open = state.open.iter_mut().find(|open| open.hash == hash)?;
        open.used = Instant::now();
        Some(open.spool.clone())
    }

    fn keep_open(&self, hash: &str, spool: &Arc<Spool>) {
        let mut state = self.lock();
        state.open.retain(|open| open.hash != hash);
        if state.open.len() >= OPEN_MAX {
            state.open.sort_by_key(|open| open.used);
            state.open.remove(0);
        }
        state.open.push(Open {
            hash: hash.to_owned(),
            spool: spool.clone(),
            used: Instant::now(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after a panic elsewhere.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The job has told its warnings.
struct Quiet;

impl Watcher for Quiet {
    fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
        true
    }

    fn warn(&mut self, _: &Warning) {}
}

impl Jobs {
    /// Returns a file that was made before and is still there. Blocks on the disk.
    pub fn made_artifact(&self, of: &MadeOf, artifact: Artifact) -> Option<MadeFile> {
        self.shared.artifacts.find(&Key::new(of, artifact))
    }

    /// Returns the tag that a file of a result has, made or not.
    pub fn artifact_tag(&self, of: &MadeOf, artifact: Artifact) -> String {
        Key::new(of, artifact).tag()
    }

    /// Makes a file of a result. Takes seconds to minutes, in which other calls wait. Blocks.
    ///
    /// # Errors
    /// When what the result was made of is not kept, or the file cannot be made.
    pub fn make_artifact(
        &self,
        of: &MadeOf,
        artifact: Artifact,
    ) -> Result<MadeFile, ArtifactError> {
        let shared = &self.shared;
        let making = shared.artifacts.making.lock();
        let _making = making.unwrap_or_else(|e| e.into_inner());
        // By the call that this one waited for.
        if let Some(made) = self.made_artifact(of, artifact) {
            return Ok(made);
        }
        let key = Key::new(of, artifact);
        let made = shared.make(of, artifact)?;
        shared.artifacts.add(key.clone(), made);
        let gone = || ArtifactError::Passing("the file is gone already; try again".to_owned());
        shared.artifacts.find(&key).ok_or_else(gone)
    }

    /// Returns a picture of a frame. Blocks.
    ///
    /// # Errors
    /// When what the result was made of is not kept, there is no such frame, or it cannot be read.
    pub fn still(
        &self,
        of: &MadeOf,
        kind: Still,
        index: usize,
    ) -> Result<StillFile, ArtifactError> {
        let spool = self.shared.spool(&of.glb)?;
        let count = spool.count();
        if index >= count {
            return Err(ArtifactError::NoFrame { index, count });
        }
        let plain = |bytes| StillFile {
            bytes,
            units_per_value: None,
        };
        Ok(match kind {
            Still::Photo => plain(still(&spool, index)?),
            Still::Thumbnail => plain(thumbnail(&spool, index)?),
            Still::Depth => {
                let depth = depth_still(&spool, index)?;
                let factor = match of.options()?.refinement() {
                    Some(refinement) => kept_depth_factor(&spool, &refinement, index)?,
                    None => 1.0,
                };
                StillFile {
                    bytes: depth.gray,
                    units_per_value: Some((f64::from(depth.units_per_value) * factor) as f32),
                }
            }
            Still::DepthColors => plain(depth_still(&spool, index)?.color),
        })
    }

    /// Returns the number of frames of a result, and their height and width in pixels. Blocks.
    ///
    /// # Errors
    /// When what the result was made of is not kept.
    pub fn frames_of(&self, glb: &GlbFile) -> Result<(usize, (usize, usize)), ArtifactError> {
        let spool = self.shared.spool(glb)?;
        Ok((PredictedFrames::count(&spool), spool.size()))
    }
}

impl Shared {
    fn spool(&self, glb: &GlbFile) -> Result<Arc<Spool>, ArtifactError> {
        let hash = &glb.hashed_name;
        if let Some(spool) = self.artifacts.opened(hash) {
            return Ok(spool);
        }
        let opening = self.artifacts.opening.lock();
        let _opening = opening.unwrap_or_else(|e| e.into_inner());
        if let Some(spool) = self.artifacts.opened(hash) {
            return Ok(spool);
        }
        let folder = self.store.spool_of(glb)?.ok_or(ArtifactError::NotKept)?;
        let spool = open_finished(&folder).map_err(|e| match e {
            SpoolError::NotOurs { .. } | SpoolError::Version { .. } => ArtifactError::NotKept,
            // Removed a moment ago.
            _ if !folder.exists() => ArtifactError::NotKept,
            e => PipelineError::from(e).into(),
        })?;
        let spool = Arc::new(spool);
        self.artifacts.keep_open(hash, &spool);
        Ok(spool)
    }

    fn make(&self, of: &MadeOf, artifact: Artifact) -> Result<Made, ArtifactError> {
        let options = of.options()?;
        let spool = self.spool(&of.glb)?;
        let space = artifact_space(artifact, spool.count(), spool.size());
        if !self.settings.quotas.has_space_for(&self.store, space) {
            return Err(ArtifactError::DiskFull);
        }
        let sky = self.sky_of(&options)?;
        let scene = ReconstructOptions {
            scene: options.scene.clone(),
            sky: sky.as_ref(),
            refine: options.refinement(),
            keep_refinement: KeepRefinement::OnlyKept,
            meters_per_unit: of.meters_per_unit.filter(|_| artifact.has_scale()),
            provenance: serde_json::to_value(&options).unwrap_or_default(),
            ..ReconstructOptions::default()
        };
        let mut made = rebuild_kept(spool, &self.model, &scene, &mut Quiet)?;
        let names = JobNames::from_row(&of.options_json);
        let stored = made.frames.names.iter_mut().chain(&mut made.scene.names);
        stored.for_each(|name| *name = names.in_text(name));
        self.store.create_input_folders()?;
        let mut builder = tempfile::Builder::new();
        system::temporary_for_owner_alone(&mut builder);
        let folder = builder
            .prefix(&format!("artifact-{}-", process_name()))
            .tempdir_in(self.store.uploads_dir())?;
        let path = folder.path().join("artifact");
        let about = ArtifactAbout {
            title: title_of(&of.glb),
            glb: options.glb(),
            meters_per_unit: of.meters_per_unit,
        };
        make_artifact(&made, artifact, &path, about)?;
        Ok(Made {
            len: path.metadata()?.len(),
            path,
            _folder: folder,
            used: Instant::now(),
        })
    }

    fn sky_of(&self, options: &JobOptions) -> Result<Option<SkyNetwork>, ArtifactError> {
        if !options.mask_sky {
            return Ok(None);
        }
        let path = self.settings.sky_network.as_ref().ok_or_else(|| {
            ArtifactError::Failed("this server has no sky network any more".to_owned())
        })?;
        let sky = SkyNetwork::open(path).map_err(PipelineError::from)?;
        Ok(Some(sky))
    }
}
