//! Which processes have ended, and when what they were about to do with files is left.
//!
//! That the database has no connection of a process does not mean that it has ended: after a break of the database, or of the
//! network to it, all others are without one for a while. So nothing of another process is taken for left that might still be used.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use jiff::{SignedDuration, Timestamp};

use super::{Store, StoreError, files::changed_at, time::now};

/// How long a process of another machine may be away from the database before what it was about to store is taken for left. It finds
/// out then, and stores it again.
const AWAY: SignedDuration = SignedDuration::from_hours(1);

/// Age of what is taken for left in any case: nothing takes this long.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// Processes that have ended, or seem to.
#[derive(Debug)]
pub struct Gone(HashMap<String, SignedDuration>);

impl Store {
    /// Returns those of these processes that have ended on this machine, and those of others that the database has no connection of.
    ///
    /// To be called before the rows are read: a process that has ended by then writes no more of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn gone(&self, processes: &[String]) -> Result<Gone, StoreError> {
        let here = self.ended_here(processes)?;
        let away = self.absent(processes)?;
        let away = away.into_iter().map(|name| (name, AWAY));
        let here = here.into_iter().map(|name| (name, SignedDuration::ZERO));
        Ok(Gone(away.chain(here).collect()))
    }

    /// Returns the folders of jobs that have not ended, of those whose files are kept, and of drafts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn wanted_dirs(&self) -> Result<HashSet<String>, StoreError> {
        let pending = self.pending_jobs()?.into_iter().map(|job| job.dir);
        let kept = self.kept_inputs()?.into_iter().map(|kept| kept.dir);
        let drafts = self.drafts()?.into_iter().map(|draft| draft.dir);
        Ok(pending.chain(kept).chain(drafts).collect())
    }

    /// Returns true for a folder that nobody has changed since this process found itself alone, so that only rows can say that it is not
    /// left.
    pub fn is_left(&self, folder: &Path) -> bool {
        let before = self.left_before();
        before.is_some_and(|time| changed_at(folder).is_some_and(|at| at < time))
    }
}

impl Gone {
    /// Returns true when nobody goes on with what a process made and last changed `since` then.
    pub fn is_over(&self, process: Option<&str>, since: Timestamp) -> bool {
        let time = process.and_then(|process| self.0.get(process));
        let age = now().duration_since(since);
        age >= time.copied().unwrap_or(STALE).min(STALE)
    }
}
