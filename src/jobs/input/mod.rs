//! The folder of a job's input files, removed when the job ends.

mod sweep;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) use self::sweep::{remove_ended, remove_kept, sweep};
use super::quota::{InputHold, Quotas, Upload};
use crate::{
    pipeline::{Source, take_over},
    store::{
        GlbFile, JobKind, JobObjects, JobSize, Store, StoreError, StoredFile, process_name,
        remove_folder,
    },
    system::{self, sync_folder},
};

/// How the names of the folders of uploads and of jobs begin; then comes the name of the process.
const UPLOAD: &str = "upload-";
const JOB: &str = "job-";

/// Names in the folder that are not of input files: what is computed of them so far, and the anchors' scene.
const SPOOL: &str = "spool";
const PREVIEW: &str = "preview.glb";

/// A folder of input files. Removed when dropped, unless the job has a row: then it stays until the job has ended.
#[derive(Debug)]
pub struct InputFolder {
    place: InputPlace,
    durable: bool,
    /// Number of the attempt at a job that several workers may work on at the same time without knowing: each has its own spool.
    attempt: Option<i64>,
    /// How many bytes its input files had when the job was queued, where that is known.
    expected: u64,
    /// The result whose spool is in it.
    kept_of: Option<GlbFile>,
    /// Counts its bytes; shared with the draft that the files belong to until the job is queued.
    hold: Option<Arc<InputHold>>,
}

/// Where the files of a job are.
#[derive(Debug, Clone)]
pub(super) struct InputPlace {
    path: PathBuf,
    /// Those of a job with a row, where the store has its files in a bucket: the folder holds copies then.
    objects: Option<JobObjects>,
}

impl InputPlace {
    /// Returns that of the job of a row.
    pub(super) fn of_row(store: &Store, dir: &str) -> Self {
        Self {
            path: store.job_dir(dir),
            objects: store.job_objects(dir),
        }
    }
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
            place: InputPlace {
                path: folder.keep(),
                objects: None,
            },
            durable: false,
            attempt: None,
            expected: 0,
            kept_of: None,
            hold: None,
        })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Returns where it is.
    pub(super) fn place(&self) -> InputPlace {
        self.place.clone()
    }

    /// Returns the objects in the bucket, where the store has one.
    pub(super) fn objects(&self) -> Option<&JobObjects> {
        self.place.objects.as_ref()
    }

    /// Returns the path of image `index`.
    pub fn image(&self, index: u32) -> PathBuf {
        self.path().join(format!("image_{index:05}"))
    }

    /// Returns the path of the video.
    pub fn video(&self) -> PathBuf {
        self.path().join("video")
    }

    /// Returns the path of the spool that the folder was made with, of a job that is to be built from it.
    pub(super) fn spool(&self) -> PathBuf {
        self.path().join(SPOOL)
    }

    /// Returns the path of the spool that is computed here.
    pub(super) fn own_spool(&self) -> PathBuf {
        match self.attempt {
            Some(_) => self.path().join(self.own_spool_name()),
            None => self.spool(),
        }
    }

    /// Returns the name of the spool that is computed here.
    pub(super) fn own_spool_name(&self) -> String {
        match self.attempt {
            Some(number) => format!("{SPOOL}-{number}"),
            None => SPOOL.to_owned(),
        }
    }

    /// Removes the spool that is computed here.
    pub(super) fn drop_own_spool(&self) {
        remove_folder(&self.own_spool());
        if let Some(objects) = self.objects()
            && let Err(e) = objects.remove_spool(&self.own_spool_name())
        {
            tracing::warn!("cannot remove what was computed of a job: {e}");
        }
    }

    /// Gives this attempt a spool of its own: a worker that wakes up late changes nothing in it.
    pub(super) fn begin_attempt(&mut self, number: i64) {
        self.attempt = Some(number);
    }

    /// Takes note of how many bytes its input files should have.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.expected = bytes;
    }

    /// Returns true unless some of the input files are missing.
    pub(super) fn is_complete(&self, source: &Source) -> bool {
        let files = source.files();
        let lengths = files
            .iter()
            .map(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
        lengths.sum::<u64>() >= self.expected
    }

    /// Has the spool of this attempt go on where that of the last one ended. Returns true when it was fetched from a bucket, whose packs it
    /// then is. Blocks on the disk, or on the bucket.
    pub(super) fn go_on(&self) -> Result<bool, StoreError> {
        if let Some(objects) = self.objects() {
            return self.go_on_from(objects);
        }
        let Some(number) = self.attempt else {
            return Ok(false);
        };
        let files = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        if let Some(before) = attempt_before(number, names)
            && let Err(e) = take_over(&self.path().join(before), &self.own_spool())
        {
            tracing::info!("a job is begun again, not gone on with: {e}");
            remove_folder(&self.own_spool());
        }
        Ok(false)
    }

    /// Fetches the spool of the last attempt.
    fn go_on_from(&self, objects: &JobObjects) -> Result<bool, StoreError> {
        let spools = objects.spools()?;
        let (own, path) = (self.own_spool_name(), self.own_spool());
        let before = match self.attempt {
            Some(number) => attempt_before(number, spools.iter().cloned()),
            None => spools.get(&own).cloned(),
        };
        let Some(before) = before else {
            return Ok(false);
        };
        if path.exists() {
            // This process has more of it than the bucket.
            objects.remove_spool(&own)?;
            return Ok(false);
        }
        if before != own {
            objects.copy_packs(&objects.packs(&before)?, &own)?;
        }
        match objects.fetch_spool(&own, &path) {
            Ok(()) => Ok(true),
            Err(e) if e.is_passing() => Err(e),
            Err(e) => {
                tracing::info!("a job is begun again, not gone on with: {e}");
                objects.remove_spool(&own)?;
                Ok(false)
            }
        }
    }

    /// Fetches the input files, where they are in a bucket. Returns false when they are gone.
    pub(super) fn fetch(&self) -> Result<bool, StoreError> {
        let Some(objects) = self.objects() else {
            return Ok(true);
        };
        if !objects.fetch(self.path(), |name| name != PREVIEW)? {
            return Ok(false);
        }
        let spool = self.spool();
        if self.is_without_input() && !has_files(&spool) {
            if !objects.spools()?.contains(SPOOL) {
                return Ok(false);
            }
            remove_folder(&spool);
            objects.fetch_spool(SPOOL, &spool)?;
        }
        Ok(true)
    }

    fn is_without_input(&self) -> bool {
        matches!(self.source(JobKind::Images), Ok(None))
    }

    /// Puts the preview into the bucket, where the store has one.
    pub(super) fn send_preview(&self) -> Result<(), StoreError> {
        match self.objects() {
            Some(objects) => objects.send(PREVIEW, &self.preview()),
            None => Ok(()),
        }
    }

    /// Opens the preview; `None` when there is none.
    pub(super) fn open_preview(&self) -> Result<Option<StoredFile>, StoreError> {
        match fs::File::open(self.preview()).and_then(StoredFile::on_disk) {
            Ok(file) => return Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let (what, path) = ("read", self.preview());
                return Err(StoreError::Files { what, path, source });
            }
        }
        match self.objects() {
            Some(objects) => objects.open(PREVIEW),
            None => Ok(None),
        }
    }

    /// Returns true when the folder has no input files but a spool, from which a scene is to be built.
    pub(super) fn is_of_rerun(&self) -> bool {
        self.spool().is_dir() && self.is_without_input()
    }

    /// Makes the files last that were linked into it.
    pub(super) fn flush(&self) -> io::Result<()> {
        sync_folder(&self.spool())
    }

    /// Returns the path of the preview.
    pub(super) fn preview(&self) -> PathBuf {
        self.path().join(PREVIEW)
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
        let files = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        match self.objects() {
            // Not fetched yet. What cannot be found out does not count.
            Some(objects) if !self.path().exists() => objects.bytes().unwrap_or(0),
            _ => sizes.sum(),
        }
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
    /// disk, and its files are in the bucket, where the store has one. Its files must have been flushed.
    pub(super) fn keep(&mut self, store: &Store) -> io::Result<String> {
        let parent = store.jobs_dir();
        let name = self
            .path()
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidFilename)?
            .replacen(UPLOAD, JOB, 1);
        let kept = InputPlace::of_row(store, &name);
        sync_folder(self.path())?;
        if let Some(objects) = &kept.objects
            && let Err(e) = self.send(objects)
        {
            objects.remove();
            return Err(io::Error::other(e));
        }
        fs::rename(self.path(), &kept.path)?;
        self.place = kept;
        sync_folder(&parent)?;
        sync_folder(store.out_root())?;
        Ok(name)
    }

    /// Puts its files into a bucket.
    fn send(&self, objects: &JobObjects) -> Result<(), StoreError> {
        objects.send_all(self.path())?;
        match &self.kept_of {
            Some(glb) => objects.copy_kept(glb, SPOOL),
            None => Ok(()),
        }
    }

    /// Leaves the removal of the folder to the job's row.
    pub(super) fn has_row(&mut self) {
        self.durable = true;
    }

    /// Removes the copies of what is in a bucket: another process works on it, or this one will fetch it.
    pub(super) fn leave(&self) {
        if self.objects().is_some() {
            remove_folder(self.path());
        }
    }

    /// Says of which result the spool in it is, so that it need not be put into a bucket again.
    pub(super) fn is_kept_of(&mut self, glb: GlbFile) {
        self.kept_of = Some(glb);
    }

    /// Returns the folder of a job's row.
    pub(super) fn of_row(store: &Store, dir: &str) -> Self {
        Self::at(InputPlace::of_row(store, dir))
    }

    /// Returns the folder of a job that has one.
    pub(super) fn at(place: InputPlace) -> Self {
        Self {
            place,
            durable: true,
            attempt: None,
            expected: 0,
            kept_of: None,
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
                    let mut paths = fs::read_dir(self.path())?
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
            remove_folder(self.path());
            if let Some(objects) = self.objects() {
                objects.remove();
            }
        }
    }
}

/// Returns the name of the spool of the last attempt before this one.
fn attempt_before(number: i64, names: impl Iterator<Item = String>) -> Option<String> {
    let of = |name: &str| name.strip_prefix(SPOOL)?.strip_prefix('-')?.parse().ok();
    let attempts = names.filter_map(|name| Some((of(&name)?, name)));
    let before = attempts.filter(|(of, _): &(i64, _)| *of < number).max();
    before.map(|(_, name)| name)
}

fn has_files(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}
