//! Where a spool is begun, and going on with one that was interrupted.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Fields, Incoming, MadeOf, Spool,
    column::Column,
    data::Data,
    error::{SpoolError, failed},
    header::Header,
    home::{self, Folder, Home, IMAGES, JOURNAL, copy_files, is_barely_begun},
    journal::{Journal, Record},
};

/// Where a spool lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a folder, where another process can go on with it.
    Folder {
        /// The folder. One that exists must be empty or a spool of ours.
        path: PathBuf,
        /// What that other process has to know, as JSON.
        note: Value,
        /// What to do with what is there, and when the folder cannot be had.
        rule: FolderRule,
    },
    /// On the disk of this folder, or in memory while it is small, without a name: it goes with the process.
    Nameless(PathBuf),
    /// In memory, for few frames.
    Memory,
}

/// What to do with a folder that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderRule {
    /// The folder's name was chosen by the program: what was made of something else is replaced, and while another process
    /// has it, the spool has no name.
    Default,
    /// The user named the folder: as above, but another process in it is an error.
    Named,
    /// It must hold a spool that was made of the same.
    Resume,
}

/// A spool that was opened.
#[derive(Debug)]
pub(in super::super) enum Opened {
    /// Frames are missing.
    Incoming(Box<Incoming>),
    /// All frames are there.
    Spool(Box<Spool>),
}

impl Opened {
    fn incoming(incoming: Incoming) -> Self {
        Self::Incoming(Box::new(incoming))
    }

    /// The folder, if it has one.
    pub(in super::super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Incoming(incoming) => incoming.folder(),
            Self::Spool(spool) => spool.folder(),
        }
    }
}

impl Place {
    /// Begins a spool, or goes on with one that is there and was made of the same.
    ///
    /// # Errors
    /// [`SpoolError::NotOurs`] and [`SpoolError::Version`] for a folder that is not a spool of this version,
    /// [`SpoolError::InUse`] when another process has it, [`SpoolError::Changed`] when it has to be of the same and is not.
    pub(in super::super) fn open(
        &self,
        made_of: MadeOf,
        fields: Fields,
    ) -> Result<Opened, SpoolError> {
        let header = |note: &Value| Header::new(made_of.clone(), fields, note.clone());
        match self {
            Self::Folder { path, note, rule } => match in_folder(path, header(note), *rule) {
                Err(SpoolError::InUse { .. }) if *rule == FolderRule::Default => {
                    let above = path.parent().unwrap_or(Path::new("."));
                    let home = Home::Nameless(above.to_owned());
                    Incoming::begin(home, header(note)).map(Opened::incoming)
                }
                opened => opened,
            },
            Self::Nameless(dir) => {
                let home = Home::Nameless(dir.clone());
                Incoming::begin(home, header(&Value::Null)).map(Opened::incoming)
            }
            Self::Memory => {
                Incoming::begin(Home::Memory, header(&Value::Null)).map(Opened::incoming)
            }
        }
    }
}

fn in_folder(path: &Path, header: Header, rule: FolderRule) -> Result<Opened, SpoolError> {
    let is_new = match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        // Anything else shows when it is opened.
        _ => is_barely_begun(path),
    };
    if is_new && rule != FolderRule::Resume {
        let home = Home::Folder(Folder::create(path)?);
        return Incoming::begin(home, header).map(Opened::incoming);
    }
    let home = Home::Folder(Folder::open(path, false)?);
    let found = Header::read(&home)?;
    let difference = found.made_of.difference(&header.made_of).or_else(|| {
        let lacks = header.fields.points && !found.fields.points
            || header.fields.camera_tokens != found.fields.camera_tokens
            || header.fields.compared != found.fields.compared;
        lacks.then(|| "it does not keep all that is needed".to_owned())
    });
    match difference {
        Some(what) if rule == FolderRule::Resume => Err(SpoolError::Changed {
            path: path.to_owned(),
            what,
        }),
        Some(what) => {
            tracing::info!("\"{}\" is begun again: {what}", path.display());
            Incoming::begin(home, header).map(Opened::incoming)
        }
        None => {
            let header = Header::new(found.made_of, found.fields, header.note);
            header.write(&home)?;
            reopened(home, header)
        }
    }
}

/// Makes another folder of a spool that a process has left, or works on without knowing that it should not: that one can change it no
/// more, and its results are as they were. The folder is moved if it is free, else copied.
///
/// # Errors
/// When it is not a spool, or cannot be moved or copied.
pub fn take_over(from: &Path, to: &Path) -> Result<(), SpoolError> {
    let moved = match Folder::open(from, false) {
        // Locked while it is moved.
        Ok(_locked) => std::fs::rename(from, to),
        Err(SpoolError::InUse { .. }) => copy_files(from, to),
        Err(e) => return Err(e),
    };
    moved.map_err(failed("take over", from))
}

/// Goes on as far as the journal says and the data is what it was.
pub(super) fn reopened(home: Home, header: Header) -> Result<Opened, SpoolError> {
    let writable = !home.folder().is_some_and(Folder::is_shared);
    let path = home.path().join(JOURNAL);
    let journal = home.open(JOURNAL)?;
    let journal = journal
        .map(|file| Journal::open(file, writable))
        .transpose();
    let journal = journal.map_err(failed("read", &path))?;
    let images = home.open(IMAGES)?;
    if let (Some((journal, mut records)), Some(images)) = (journal, images) {
        let is_decoded = |record: &Record| matches!(record, Record::Decoded(_));
        let last = records.iter().rposition(is_decoded);
        let rest = records.split_off(last.map_or(records.len(), |last| last + 1));
        if let Some(Record::Decoded(decoded)) = records.pop() {
            let stride = 3 * decoded.width * decoded.height;
            let images = Column::new(IMAGES, Data::File(images), stride);
            let intact = |(i, sum): (usize, &u32)| {
                images
                    .read(i)
                    .is_ok_and(|bytes| crc32fast::hash(&bytes) == *sum)
            };
            if stride > 0 && decoded.sums.iter().enumerate().all(intact) {
                let spool = Spool::reopened(home, header, *decoded, images, journal, &rest)?;
                return Ok(Opened::Spool(Box::new(spool)));
            }
            tracing::debug!("the frames of a spool are damaged: they are decoded again");
        }
    }
    match writable {
        true => Incoming::begin(home, header).map(Opened::incoming),
        false => Err(SpoolError::NotOurs {
            path: home.path().to_owned(),
            why: "it is damaged".to_owned(),
        }),
    }
}

impl Spool {
    fn reopened(
        home: Home,
        header: Header,
        decoded: super::Decoded,
        images: Column,
        journal: Journal,
        records: &[Record],
    ) -> Result<Self, SpoolError> {
        let mut spool = Self::without_results((home, header), decoded, images, journal);
        spool.results = spool.columns(|home, name| match home.open(name)? {
            Some(file) => Ok(Data::File(file)),
            // Lost, or not begun: its frames have no valid checksum.
            None => home.create(name),
        })?;
        spool.take_over(records)?;
        Ok(spool)
    }
}

/// Returns what the process that was interrupted left for the one that goes on.
///
/// # Errors
/// When the folder is not a spool of this version, or a process is at work on it.
pub fn note_of(path: &Path) -> Result<Value, SpoolError> {
    let home = Home::Folder(Folder::open(path, true)?);
    Ok(Header::read(&home)?.note)
}

/// Returns whether the spool in a folder has all its frames, so that it is worth to go on with it.
pub fn has_frames(path: &Path) -> bool {
    std::fs::metadata(path.join(JOURNAL)).is_ok_and(|meta| meta.len() > 0)
}

/// Returns how many frames of the spool in a folder have their results.
pub fn finished_frames(path: &Path) -> usize {
    let read = File::open(path.join(JOURNAL)).and_then(|file| Journal::open(file, false));
    let records = read.map_or_else(|_| Vec::new(), |(_, records)| records);
    let is_frame = |record: &&Record| matches!(record, Record::Frame { .. });
    records
        .iter()
        .rev()
        .take_while(|record| !matches!(record, Record::Decoded(_)))
        .filter(is_frame)
        .count()
}

/// Removes a spool of this process, and its folder if nothing else is in it.
pub fn discard(path: &Path) {
    home::remove(path);
}
