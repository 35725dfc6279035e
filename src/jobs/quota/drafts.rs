//! What drafts count for: the files that were announced, whether they have arrived or not.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Held, InputHold, QuotaError, QuotaSettings, Quotas, stored_by, with_space};
use crate::store::Store;

impl Quotas {
    /// Counts a draft, which has no file yet. Kept spools are removed to make space.
    ///
    /// # Errors
    /// When the user holds as much as is allowed.
    pub(in crate::jobs) fn begin_draft(
        self: &Arc<Self>,
        settings: &QuotaSettings,
        store: &Store,
        user: i32,
    ) -> Result<InputHold, QuotaError> {
        with_space(store, user, || {
            let stored = stored_by(store, user)?;
            let disk = store.disk_space();
            let mut all = self.lock();
            let held = all.get(&user).copied().unwrap_or_default();
            settings.check(stored, held, 0)?;
            settings.check_disk(disk, &all, 0)?;
            all.entry(user).or_default().inputs += 1;
            drop(all);
            Ok(self.hold(user, 0, 0))
        })
    }

    /// Counts a draft of an earlier process.
    pub(in crate::jobs) fn resume_draft(
        self: &Arc<Self>,
        user: i32,
        bytes: u64,
        arriving: u64,
    ) -> InputHold {
        let mut all = self.lock();
        let held = all.entry(user).or_default();
        held.inputs += 1;
        held.bytes += bytes;
        held.arriving += arriving;
        drop(all);
        self.hold(user, bytes, arriving)
    }

    /// Counts a part of a file of a draft among the user's uploads that arrive at the same time.
    ///
    /// # Errors
    /// When there are as many as is allowed.
    pub(in crate::jobs) fn arrive(
        self: &Arc<Self>,
        settings: &QuotaSettings,
        user: i32,
    ) -> Result<Arrival, QuotaError> {
        let mut all = self.lock();
        let running = all.get(&user).map_or(0, |held| held.uploads);
        if running >= settings.user_uploads {
            return Err(QuotaError::Uploads {
                running,
                max: settings.user_uploads,
            });
        }
        all.entry(user).or_default().uploads += 1;
        Ok(Arrival {
            quotas: self.clone(),
            user,
        })
    }
}

impl InputHold {
    /// Counts a file that was announced. Kept spools are removed to make space.
    ///
    /// # Errors
    /// When it is more than the user may hold or than fits on the disk.
    pub(in crate::jobs) fn grow(
        &self,
        settings: &QuotaSettings,
        store: &Store,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        with_space(store, self.user, || {
            let stored = stored_by(store, self.user)?;
            let disk = store.disk_space();
            let mut all = self.quotas.lock();
            let held = all.entry(self.user).or_default();
            // The draft itself is counted already.
            let others = Held {
                inputs: held.inputs.saturating_sub(1),
                ..*held
            };
            settings.check(stored, others, bytes)?;
            settings.check_disk(disk, &all, bytes)?;
            let held = all.entry(self.user).or_default();
            held.bytes += bytes;
            held.arriving += bytes;
            self.bytes.fetch_add(bytes, Relaxed);
            self.arriving.fetch_add(bytes, Relaxed);
            Ok(())
        })
    }

    /// Counts a file no more, of which so many bytes had not arrived.
    pub(in crate::jobs) fn shrink(&self, bytes: u64, arriving: u64) {
        self.quotas.change(self.user, |held| {
            // What a disk lost arrives a second time.
            let arriving = arriving.min(self.arriving.load(Relaxed));
            held.bytes -= bytes;
            held.arriving -= arriving;
            self.bytes.fetch_sub(bytes, Relaxed);
            self.arriving.fetch_sub(arriving, Relaxed);
        });
    }

    /// Notes that so many bytes are on the disk, which has that much less space now.
    pub(in crate::jobs) fn arrived(&self, bytes: u64) {
        self.shrink(0, bytes);
    }
}

/// A part of a file that arrives, counted until this is dropped.
#[derive(Debug)]
pub(in crate::jobs) struct Arrival {
    quotas: Arc<Quotas>,
    user: i32,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.quotas.change(self.user, |held| held.uploads -= 1);
    }
}
