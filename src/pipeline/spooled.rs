//! Where the results of a reconstruction are while it goes on, and where they are kept.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Cache, MadeOf, Place, Spool, SpoolError, Stamps};

/// Where results are while a reconstruction goes on.
#[derive(Clone)]
pub struct Spooling<'a> {
    /// Where they are.
    pub place: Place,
    /// Where those of earlier runs are.
    pub cache: Option<&'a Cache>,
    /// Called with the folder of the spool, if it has one, as soon as it is this process's.
    pub claimed: Option<&'a dyn Fn(&Path)>,
}

impl Default for Spooling<'_> {
    fn default() -> Self {
        Self {
            place: Place::Nameless(std::env::temp_dir()),
            cache: None,
            claimed: None,
        }
    }
}

impl Spooling<'_> {
    /// Whether it matters what the results are made of.
    pub(super) fn needs_key(&self) -> bool {
        self.cache.is_some() || matches!(self.place, Place::Folder { .. })
    }
}

/// The finished spool of a reconstruction.
#[derive(Debug)]
pub struct Spooled {
    pub(super) spool: Arc<Spool>,
    /// What the inputs were before they were read; `None` where nobody needs to know.
    pub(super) stamps: Option<Stamps>,
    pub(super) from_cache: bool,
}

impl Spooled {
    /// The frames and results.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Returns whether the results are those of an earlier run.
    pub fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// Keeps the results for the next run, unless they come from there, an input was written in the meantime, or they depend
    /// on the memory that was free. Returns the folder where they are now.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn keep_in(&self, cache: &Cache) -> Result<Option<PathBuf>, SpoolError> {
        match &self.stamps {
            Some(stamps) if !self.from_cache && stamps.still_hold() => cache.keep(&self.spool),
            _ => Ok(None),
        }
    }
}

/// What results are made of, where it is known.
pub(super) type Made = Option<(MadeOf, Stamps)>;
