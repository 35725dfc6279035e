//! The flags of what one user may hold.

use crate::jobs::QuotaSettings;

/// What one user may hold. No result is ever deleted for it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct QuotaArgs {
    /// Maximum size in MiB of a user's files, kept spools, running uploads and inputs of waiting jobs
    #[arg(long, value_name = "MIB", default_value_t = QuotaSettings::default().user_bytes >> 20,
        value_parser = clap::value_parser!(u64).range(..=MIB_MAX), hide_short_help = true)]
    max_user_bytes: u64,
    /// Maximum size in MiB of a user's kept spools, from which other formats of a result are made without the network; the
    /// oldest go first, also when a user or the disk has no space left. 0: keep none
    #[arg(long, value_name = "MIB", default_value_t = QuotaSettings::default().user_spool_bytes >> 20,
        value_parser = clap::value_parser!(u64).range(..=MIB_MAX), hide_short_help = true)]
    max_user_spools: u64,
    /// Maximum number of a user's files, counting one for each job
    #[arg(long, value_name = "N", default_value_t = QuotaSettings::default().user_files, hide_short_help = true)]
    max_user_files: u64,
    /// Maximum number of uploads of one user that arrive at the same time
    #[arg(long, value_name = "N", default_value_t = QuotaSettings::default().user_uploads as u32,
        value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    max_user_uploads: u32,
    /// Space in MiB that uploads leave free on the disk of the files [default: 1024, or 5 % of a smaller disk]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(..=MIB_MAX), hide_short_help = true)]
    min_free_space: Option<u64>,
}

/// What 63 bits count in bytes.
const MIB_MAX: u64 = i64::MAX as u64 >> 20;

impl QuotaArgs {
    pub(super) fn settings(&self) -> QuotaSettings {
        QuotaSettings {
            user_bytes: self.max_user_bytes << 20,
            user_spool_bytes: self.max_user_spools << 20,
            user_files: self.max_user_files,
            user_uploads: self.max_user_uploads as usize,
            min_free: self.min_free_space.map(|mib| mib << 20),
        }
    }
}
