//! How long results and jobs are kept.

use crate::store::Retention;

/// How long results and jobs are kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Retention")]
pub(super) struct KeepArgs {
    /// Delete results that are older than this many days, for good [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    /// Forget jobs that ended this many days ago; 0: never. Their results stay
    #[arg(long, value_name = "N", default_value_t = Retention::default().job_days.unwrap_or(0), hide_short_help = true)]
    keep_job_days: u32,
    /// Forget the oldest jobs of a user beyond this number, once they have ended
    #[arg(long, value_name = "N", default_value_t = Retention::default().jobs_per_user,
        value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    keep_jobs: u32,
}

impl KeepArgs {
    pub(super) fn retention(&self) -> Retention {
        Retention {
            result_days: self.keep_days,
            job_days: Some(self.keep_job_days).filter(|days| *days > 0),
            jobs_per_user: self.keep_jobs,
        }
    }
}
