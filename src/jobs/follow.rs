//! A job that is followed: told of each change, without asking the database.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Jobs,
    job::{JobState, JobStatus},
    progress::Handle,
};

/// A job that has not ended, and its changes.
#[derive(Debug)]
pub struct Following {
    handle: Arc<Handle>,
    changes: watch::Receiver<JobState>,
}

impl Following {
    /// Returns how the job stands; what changes from now on is told by [`Following::changes`].
    pub fn status(&mut self) -> JobStatus {
        // Before the status is read: a change in between is told twice, and none is missed.
        self.changes.mark_unchanged();
        self.handle.status()
    }

    /// Returns what tells of a change since the last [`Following::status`]. Its sender is there as long as this.
    pub fn changes(&mut self) -> &mut watch::Receiver<JobState> {
        &mut self.changes
    }
}

impl Jobs {
    /// Follows a job of a user that waits or runs in this process; `None` when it has ended, or is not known here (yet).
    pub fn follow(&self, user_id: i32, id: i64) -> Option<Following> {
        let state = self.shared.lock();
        let handle = match self.shared.fleet {
            Some(_) => state.running_row(id)?,
            None => state.rows.get(&id)?,
        };
        (handle.user_id == user_id).then(|| Following {
            changes: handle.watch(),
            handle: handle.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::jobs::JobId;

    #[test]
    fn a_warning_and_a_state_are_told_and_what_was_seen_is_not() {
        let handle = Handle::new(0, JobId::Row(1), 1, JobState::Queued { ahead: 1 });
        let mut following = Following {
            changes: handle.watch(),
            handle: handle.clone(),
        };
        let changed = |following: &Following| following.changes.has_changed().unwrap();
        following.status();
        handle.set(JobState::Queued { ahead: 1 });
        assert!(!changed(&following));
        handle.set(JobState::Queued { ahead: 0 });
        assert!(changed(&following));
        assert_eq!(following.status().state, JobState::Queued { ahead: 0 });
        assert!(!changed(&following));
        handle.warn(Map::new());
        assert!(changed(&following));
        assert_eq!(following.status().warnings.len(), 1);
        assert!(!changed(&following));
    }
}
