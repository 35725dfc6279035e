//! The flags of processes that share the jobs of a PostgreSQL database.

use std::{str::FromStr, time::Duration};

use crate::{
    jobs::{FleetSettings, JobSettings},
    store::JobSize,
};

/// Several processes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several processes, with PostgreSQL")]
pub(super) struct FleetArgs {
    /// After how many seconds without a sign of life a job is taken away from its worker and given to another
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(3..=86_400))]
    lease: u32,
    /// Maximum number of jobs of one user that run at the same time, in all processes
    #[arg(long, value_name = "N", default_value_t = 4, hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..))]
    running_per_user: u32,
    /// With --out-root s3://...: how often what is computed of a job is put into the bucket, for another worker to go on with
    #[arg(long, value_name = "SECONDS", default_value_t = 15, hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    save_progress_every: u32,
}

impl FleetArgs {
    /// Adds what these flags say.
    pub(super) fn settings(&self, of_jobs: JobSettings) -> JobSettings {
        JobSettings {
            save_progress_every: Duration::from_secs(self.save_progress_every.into()),
            fleet: FleetSettings {
                lease: Duration::from_secs(self.lease.into()),
                running_per_user: self.running_per_user,
                ..of_jobs.fleet
            },
            ..of_jobs
        }
    }
}

/// Which jobs a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Vip,
    Size(JobSize),
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "vip" => Ok(Self::Vip),
            size => size
                .parse()
                .map(Self::Size)
                .map_err(|_| "expected vip, small, medium or large"),
        }
    }
}
