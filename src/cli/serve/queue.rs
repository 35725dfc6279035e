//! The flags of the queue: how many jobs may wait.

use crate::jobs::JobSettings;

/// The queue.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs")]
pub(super) struct QueueArgs {
    /// Reconstruct again even if the same user sent the same before
    #[arg(long, hide_short_help = true)]
    no_cache: bool,
    /// Maximum number of waiting jobs; a user of whom none waits is taken beyond it, unless that many users wait
    #[arg(long, value_name = "N", default_value_t = 16, hide_short_help = true)]
    queue: u16,
    /// Maximum number of waiting jobs of one user
    #[arg(long, value_name = "N", default_value_t = 4, hide_short_help = true)]
    queue_per_user: u16,
    /// Maximum number of waiting jobs of VIPs beyond --queue
    #[arg(long, value_name = "N", default_value_t = 8, hide_short_help = true)]
    queue_vip: u16,
}

impl QueueArgs {
    /// Adds what these flags say.
    pub(super) fn settings(&self, of_jobs: JobSettings) -> JobSettings {
        JobSettings {
            queue: self.queue.into(),
            queue_vip: self.queue_vip.into(),
            queue_per_user: self.queue_per_user.into(),
            cache: !self.no_cache,
            ..of_jobs
        }
    }
}
