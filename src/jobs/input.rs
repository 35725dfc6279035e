//! The folder of a job's input files, removed when the job ends.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::JobsError,
    quota::{InputHold, Quotas, Upload},
};
use crate::{
    pipeline::{Source, take_over},
    store::{JobKind, JobSize, Store, StoreError, is_stale, process_name, remove_folder},
    system::{self, sync_folder},
};

/// Number of jobs of a user whose input files are kept after their end, as many as may wait by default.
const KEPT_PER_USER: usize = 4;

/// How the names of the folders of uploads and of jobs begin; then comes the name of the process.
const UPLOAD: &str = "upload-";
const JOB: &str = "job-";

/// Names in the folder that are not of input files: what is computed of them so far, and the anchors' scene.
const SPOOL: &str = "spool";
const PREVIEW: &str = "preview.glb";

/// A folder of input files. Removed when dropped, unless the job has a row: then it stays until the job has ended.
#[derive(Debug)]
pub struct InputFolder {
    path: PathBuf,
    durable: bool,
    /// Number of the attempt at a job that several workers may work on at the same time without knowing: each has its own spool.
    attempt: Option<i64>,
    /// Counts its bytes; shared with the draft that the files belong to until the job is queued.
    hold: Option<Arc<InputHold>>,
}

impl InputFolder {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(store: &Store) -> io::Result<Self> {
        // Not in a folder that is another one for a moment, as when its disk is not mounted.
        store.create_input_folders().map_err(io::Error::other)?;
        let mut builder = tempfile::Builder::new();
        system::temporary_for_owner_alone(&mut builder);
        // Named after the process: another one finds out whose it was.
        let prefix = format!("{UPLOAD}{}-", process_name());
        let folder = builder.prefix(&prefix).tempdir_in(store.uploads_dir())?;
        Ok(Self {
            path: folder.keep(),
            durable: false,
            attempt: None,
            hold: None,
        })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of image `index`.
    pub fn image(&self, index: u32) -> PathBuf {
        self.path.join(format!("image_{index:05}"))
    }

    /// Returns the path of the video.
    pub fn video(&self) -> PathBuf {
        self.path.join("video")
    }

    /// Returns the path of the spool that the folder was made with, of a job that is to be built from it.
    pub(super) fn spool(&self) -> PathBuf {
        self.path.join(SPOOL)
    }

    /// Returns the path of the spool that is computed here.
    pub(super) fn own_spool(&self) -> PathBuf {
        match self.attempt {
            Some(number) => self.path.join(format!("{SPOOL}-{number}")),
            None => self.spool(),
        }
    }

    /// Gives this attempt a spool of its own, which goes on where the last one ended: a worker that wakes up late changes nothing in it.
    pub(super) fn begin_attempt(&mut self, number: i64) {
        self.attempt = Some(number);
        let of = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix(SPOOL)?.strip_prefix('-')?.parse().ok()
        };
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let attempts = files.filter_map(|file| Some((of(&file.path())?, file.path())));
        let before = attempts.filter(|(of, _): &(i64, _)| *of < number).max();
        if let Some((_, before)) = before
            && let Err(e) = take_over(&before, &self.own_spool())
        {
            tracing::info!("a job is begun again, not gone on with: {e}");
            remove_folder(&self.own_spool());
        }
    }

    /// Returns true when the folder has no input files but a spool, from which a scene is to be built.
    pub(super) fn is_of_rerun(&self) -> bool {
        self.spool().is_dir() && matches!(self.source(JobKind::Images), Ok(None))
    }

    /// Makes the files last that were linked into it.
    pub(super) fn flush(&self) -> io::Result<()> {
        sync_folder(&self.spool())
    }

    /// Returns the path of the preview.
    pub(super) fn preview(&self) -> PathBuf {
        self.path.join(PREVIEW)
    }

    /// Counts the bytes of the upload that filled it until it is dropped.
    pub fn count(&mut self, upload: Upload) {
        self.hold = upload.received().map(Arc::new);
    }

    /// Counts the bytes together with a draft.
    pub(super) fn count_with(&mut self, hold: Arc<InputHold>) {
        self.hold = Some(hold);
    }

    /// Stops counting: the result counts from now on, and a client that has it may send the next upload before the files are
    /// removed.
    pub(super) fn uncount(&mut self) {
        self.hold = None;
    }

    /// Counts the bytes of an upload to an earlier process.
    pub(super) fn resume(&mut self, quotas: &Arc<Quotas>, user: i32) {
        self.hold = Some(Arc::new(quotas.resume(user, self.bytes())));
    }

    /// Returns the size of the input files in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        sizes.sum()
    }

    /// Returns how much memory a job of these files may need.
    pub(super) fn size(&self, kind: JobKind) -> JobSize {
        match (kind, self.source(kind)) {
            (JobKind::Images, Ok(Some(Source::Images(paths)))) => JobSize::of_images(paths.len()),
            // Only a scene is built.
            (JobKind::Images, _) => JobSize::Small,
            (JobKind::Video, _) => JobSize::Large,
        }
    }

    /// Moves the folder to those of the jobs that have rows, and returns its name there. Once this returns it is on the
    /// disk. Its files must have been flushed.
    pub(super) fn keep(&mut self, store: &Store) -> io::Result<String> {
        let parent = store.jobs_dir();
        let name = self
            .path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidFilename)?
            .replacen(UPLOAD, JOB, 1);
        let kept = parent.join(&name);
        sync_folder(&self.path)?;
        fs::rename(&self.path, &kept)?;
        self.path = kept;
        sync_folder(&parent)?;
        sync_folder(store.out_root())?;
        Ok(name)
    }

    /// Leaves the removal of the folder to the job's row.
    pub(super) fn has_row(&mut self) {
        self.durable = true;
    }

    /// Returns the folder of a job's row.
    pub(super) fn of_row(path: PathBuf) -> Self {
        Self {
            path,
            durable: true,
            attempt: None,
            hold: None,
        }
    }

    /// Removes the folder of a job that has ended.
    pub(super) fn remove(mut self) {
        self.durable = false;
    }

    /// Returns the source for the pipeline; `None` when the files are missing.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn source(&self, kind: JobKind) -> io::Result<Option<Source>> {
        let found = || -> io::Result<Option<Source>> {
            match kind {
                JobKind::Video => {
                    let path = self.video();
                    let is_file = fs::metadata(&path)?.is_file();
                    Ok(is_file.then_some(Source::Video(path)))
                }
                JobKind::Images => {
                    let mut paths = fs::read_dir(&self.path)?
                        .map(|entry| Ok(entry?.path()))
                        .collect::<io::Result<Vec<PathBuf>>>()?;
                    let is_input = |path: &PathBuf| {
                        let name = path.file_name().and_then(|name| name.to_str());
                        !name.is_some_and(|name| name == PREVIEW || name.starts_with(SPOOL))
                    };
                    paths.retain(is_input);
                    paths.sort();
                    Ok((!paths.is_empty()).then_some(Source::Images(paths)))
                }
            }
        };
        match found() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found,
        }
    }
}

impl Drop for InputFolder {
    fn drop(&mut self) {
        if !self.durable {
            remove_folder(&self.path);
        }
    }
}

/// Removes leftovers of uploads and finished jobs of earlier processes. `wanted` are the folders of jobs that have not
/// ended. Where other processes work with the folder too, those that may be theirs stay.
pub(super) fn sweep(store: &Store, wanted: &[PathBuf]) -> Result<usize, JobsError> {
    store.create_input_folders()?;
    let mut found = Vec::new();
    for parent in [store.uploads_dir(), store.jobs_dir()] {
        let Ok(entries) = fs::read_dir(&parent) else {
            continue;
        };
        for entry in entries {
            found.push(entry.map_err(JobsError::Folder)?.path());
        }
    }
    found.retain(|path| !wanted.contains(path));
    if !store.is_alone()? {
        let of_process = |path: &PathBuf| process_of(path).map(str::to_owned);
        let processes: Vec<String> = found.iter().filter_map(of_process).collect();
        let ended = store.ended_here(&processes)?;
        let dirs: Vec<String> = found
            .iter()
            .filter_map(|path| name_of(path))
            .map(str::to_owned)
            .collect();
        let over = store.dirs_of_ended(&dirs)?;
        found.retain(|path| {
            is_stale(path)
                || process_of(path).is_some_and(|process| ended.contains(process))
                || name_of(path).is_some_and(|name| over.contains(name))
        });
    }
    for path in &found {
        remove_folder(path);
    }
    Ok(found.len())
}

/// Removes the folders of jobs that have ended, of workers that did not come to it.
pub(super) fn remove_ended(store: &Store) -> Result<(), StoreError> {
    let entries = fs::read_dir(store.jobs_dir()).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    for name in store.dirs_of_ended(&names)? {
        remove_folder(&store.job_dir(&name));
    }
    Ok(())
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Returns the process that made a folder.
fn process_of(path: &Path) -> Option<&str> {
    let name = name_of(path)?;
    let rest = name
        .strip_prefix(UPLOAD)
        .or_else(|| name.strip_prefix(JOB))
        .or_else(|| name.strip_prefix("artifact-"))?;
    rest.rsplit_once('-').map(|(process, _)| process)
}

/// Removes the kept input files of jobs that ended a day ago, and of all but the newest few of each user.
pub(super) fn remove_kept(store: &Store) -> Result<(), StoreError> {
    let mut of_user: HashMap<i32, usize> = HashMap::new();
    for kept in store.kept_inputs()? {
        let number = of_user.entry(kept.user_id).or_default();
        *number += usize::from(!kept.expired);
        if kept.expired || *number > KEPT_PER_USER {
            remove_folder(&store.job_dir(&kept.dir));
            store.forget_input(kept.id)?;
        }
    }
    Ok(())
}
