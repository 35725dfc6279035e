//! The flags of the limits per peer.

use std::time::Duration;

use crate::peers::Limits;

/// Longest time that an option means, a hundred years: clocks end somewhat later.
const SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// The time that an option means.
pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(SECONDS_MAX))
}

/// Limits per peer.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Maximum size of an upload in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=4095), hide_short_help = true)]
    max_upload: u64,
    /// Maximum number of images in a request
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    max_images: u32,
    /// Maximum number of connections; a quarter is kept back for those who are logged in
    #[arg(long, value_name = "N", default_value_t = 256, hide_short_help = true)]
    max_connections: u16,
    /// Maximum number of connections from one address, or from one /64 of IPv6
    #[arg(long, value_name = "N", default_value_t = 32, hide_short_help = true)]
    max_connections_per_address: u16,
    /// Maximum number of streams of events over HTTP, which do not count as connections
    #[arg(long, value_name = "N", default_value_t = 512, hide_short_help = true)]
    max_event_streams: u16,
    /// Maximum number of streams of events of one user
    #[arg(long, value_name = "N", default_value_t = 256, hide_short_help = true)]
    max_event_streams_per_user: u16,
    /// How long to keep a connection without a request
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        hide_short_help = true
    )]
    idle_timeout: u64,
    /// How long to keep a connection that stalls during a request
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        hide_short_help = true
    )]
    stall_timeout: u64,
    /// Minimum average rate of an upload in KiB per second
    #[arg(long, value_name = "KIB", default_value_t = 8, hide_short_help = true)]
    min_upload_rate: u64,
    /// Maximum size in MiB of a rejected upload that is skipped to keep the connection
    #[arg(long, value_name = "MIB", default_value_t = 64, hide_short_help = true)]
    max_skip: u64,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            upload_bytes: self.max_upload << 20,
            images: self.max_images,
            connections: self.max_connections.into(),
            connections_per_address: self.max_connections_per_address.into(),
            event_streams: self.max_event_streams.into(),
            event_streams_per_user: self.max_event_streams_per_user.into(),
            idle: seconds(self.idle_timeout),
            stall: seconds(self.stall_timeout),
            min_rate: self.min_upload_rate.saturating_mul(1 << 10),
            drain_bytes: self.max_skip.saturating_mul(1 << 20),
        }
    }
}
