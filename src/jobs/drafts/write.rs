//! A file of a draft that goes on being written.
//!
//! How far it got is in its row, and only after the bytes were flushed: the length of the file says nothing after a loss of power, nor
//! about a part whose checksum was not compared yet. What the file has beyond its row is cut off when the next part comes.
//!
//! Where the files are in a bucket, each part is an object of its own, and any server may take the next one: the row says which count.

use std::{
    fs::{File, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{DraftError, FileLock, path_of};
use crate::{
    jobs::{Jobs, quota::Arrival, shared::Shared},
    store::{Draft, DraftFile, DraftPart, JobObjects, Store, open_private, random_hash},
    system::sync_folder,
};

/// How much of a part is written, and for how long, before its row says so: what is sent again when the process is killed. A disk
/// flushes as much in the time that a link of 1 Gbit/s takes to send it.
const UNCOMMITTED_BYTES: u64 = 64 << 20;
const UNCOMMITTED_TIME: Duration = Duration::from_secs(5);

/// A file of a draft to which a part is written. Nobody else writes it until this is dropped, or what is written second does not count.
/// Everything here blocks on the disk, or on the bucket.
#[derive(Debug)]
pub struct DraftWriter {
    store: Store,
    target: Target,
    length: u64,
    /// What the row says.
    received: u64,
    written: u64,
    committed_at: Instant,
    expires_at: Option<Timestamp>,
    /// The part is kept as a whole or not at all.
    as_whole: bool,
    lock: FileLock,
    _arrival: Arrival,
}

/// Where the bytes go.
#[derive(Debug)]
enum Target {
    /// The file itself.
    File(File),
    /// A file without a name for those that are not in the bucket yet, and the draft's objects.
    Objects(File, JobObjects),
}

impl Jobs {
    /// Opens a file of a draft for the part that begins at `offset`. With `as_whole` nothing of it is kept before
    /// [`DraftWriter::commit`].
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When there is no such file, another part is being written, `offset` is not where the file ends, too many uploads of the
    /// user arrive, or it cannot be opened.
    pub fn write_draft(
        &self,
        user_id: i32,
        id: i64,
        number: i32,
        offset: u64,
        as_whole: bool,
    ) -> Result<DraftWriter, DraftError> {
        let Shared {
            settings,
            store,
            quotas,
            drafts,
            ..
        } = &*self.shared;
        self.shared.adopt(user_id, id)?;
        let lock = drafts.lock_file(user_id, id, number)?;
        let draft = store.draft_of(user_id, id)?.ok_or(DraftError::NoDraft)?;
        if draft.files.iter().all(|file| file.number != number) {
            return Err(DraftError::NoFile);
        }
        let arrival = quotas.arrive(&settings.quotas, user_id)?;
        let target = Target::open(store, &draft, number)?;
        // Behind the locks: nobody else changes the row.
        let draft = store.draft_of(user_id, id)?.ok_or(DraftError::NoDraft)?;
        let found = draft.files.iter().find(|file| file.number == number);
        let found = found.ok_or(DraftError::NoFile)?;
        let received = match &target {
            Target::File(file) => received_on_disk(store, &draft, found, file)?,
            Target::Objects(..) => found.received,
        };
        if offset != received {
            return Err(DraftError::Offset {
                given: offset,
                received,
            });
        }
        let mut writer = DraftWriter {
            store: store.clone(),
            target,
            length: found.length,
            received,
            written: received,
            committed_at: Instant::now(),
            expires_at: draft.expires_at,
            as_whole,
            lock,
            _arrival: arrival,
        };
        writer.cut()?;
        Ok(writer)
    }
}

/// Returns how much of a file is on the disk for certain.
fn received_on_disk(
    store: &Store,
    draft: &Draft,
    found: &DraftFile,
    file: &File,
) -> Result<u64, DraftError> {
    let len = file.metadata()?.len();
    if len == 0 {
        sync_folder(&store.job_dir(&draft.dir))?;
    }
    let received = found.received.min(len);
    if received < found.received {
        // A disk lost it, or a copy of the database is newer than that of the files.
        store.note_received(draft.id, found.number, received)?;
    }
    Ok(received)
}

impl Target {
    fn open(store: &Store, draft: &Draft, number: i32) -> Result<Self, DraftError> {
        if let Some(objects) = store.job_objects(&draft.dir) {
            store.create_input_folders()?;
            let file = tempfile::tempfile_in(store.uploads_dir())?;
            return Ok(Self::Objects(file, objects));
        }
        let file = open_private(&path_of(store, draft, number))?;
        match file.try_lock() {
            // By another process that takes requests.
            Err(TryLockError::WouldBlock) => Err(DraftError::Locked),
            _ => Ok(Self::File(file)),
        }
    }
}

impl DraftWriter {
    /// Returns how many bytes of the file are on the disk for certain.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the announced length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns when the draft is removed unless bytes arrive.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// When they go beyond the length of the file, of which none is written then, the disk is full, or the draft is gone.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), DraftError> {
        let end = self.written.saturating_add(bytes.len() as u64);
        if end > self.length {
            return Err(DraftError::Beyond {
                length: self.length,
            });
        }
        match &mut self.target {
            Target::File(file) | Target::Objects(file, _) => file.write_all(bytes)?,
        }
        self.written = end;
        let is_due = self.written - self.received >= UNCOMMITTED_BYTES
            || self.committed_at.elapsed() >= UNCOMMITTED_TIME;
        match is_due && !self.as_whole {
            true => self.commit(),
            false => Ok(()),
        }
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// When it cannot be flushed, or the draft is gone.
    pub fn commit(&mut self) -> Result<(), DraftError> {
        if self.written > self.received {
            self.expires_at = Some(match &self.target {
                Target::File(file) => {
                    file.sync_data()?;
                    let FileLock { id, number, .. } = self.lock;
                    let noted = self.store.note_received(id, number, self.written)?;
                    noted.ok_or(DraftError::NoDraft)?
                }
                Target::Objects(file, objects) => self.send(file, objects)?,
            });
            self.lock.hold.arrived(self.written - self.received);
            self.received = self.written;
            if let Target::Objects(..) = self.target {
                self.cut()?;
            }
        }
        self.committed_at = Instant::now();
        Ok(())
    }

    /// Puts what was written into the bucket, and then into the row.
    fn send(&self, file: &File, objects: &JobObjects) -> Result<Timestamp, DraftError> {
        let FileLock { id, number, .. } = self.lock;
        let random: String = random_hash()?.chars().take(12).collect();
        // Of two that begin at the same byte, one counts.
        let length = self.written - self.received;
        let part = DraftPart::new(number, self.received, length, &random);
        objects.send_from(&part.name, part.length, || {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok(file)
        })?;
        match self.store.note_part(id, number, &part)? {
            Some(expires_at) => Ok(expires_at),
            None => {
                // Its draft is gone, or another server was quicker.
                objects.remove_file(&part.name)?;
                let is_there = self.store.has_draft_file(id, number)?;
                Err(match is_there {
                    true => DraftError::Locked,
                    false => DraftError::NoDraft,
                })
            }
        }
    }

    /// Throws away what was written and does not last yet.
    pub fn undo(&mut self) {
        // If this fails, the next part does it.
        let _ = self.cut();
        self.written = self.received;
    }

    /// Has the file end with what lasts, and the next bytes follow there.
    fn cut(&mut self) -> io::Result<()> {
        let (file, end) = match &mut self.target {
            Target::File(file) => (file, self.received),
            Target::Objects(file, _) => (file, 0),
        };
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(())
    }
}
