//! The flags of logging in.

use std::time::Duration;

use super::limits::seconds;
use crate::peers::{LoginSettings, TrustedProxy};

/// Logins and proxies.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LoginArgs {
    /// How long a connection may stay without a login
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..), hide_short_help = true)]
    login_timeout: u64,
    /// Failed logins of an account after which its passwords are checked one at a time, one each 8 s; an address has four
    /// times as many, and then one each half second. Logins from where the user has logged in before are not affected
    #[arg(long, value_name = "N", default_value_t = 10, hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    login_attempts: u32,
    /// How long this lasts after the last failed login
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        hide_short_help = true
    )]
    login_pause: u64,
    /// Delay in milliseconds after the third failed login in a row; it doubles with each further one, up to 8 s
    #[arg(long, value_name = "MS", default_value_t = 250, hide_short_help = true)]
    login_delay: u64,
    /// A proxy that tells the addresses of its clients by the PROXY protocol, which it then must; may be repeated
    #[arg(long, value_name = "ADDRESS[/LEN]", hide_short_help = true)]
    trusted_proxy: Vec<TrustedProxy>,
}

impl LoginArgs {
    pub(super) fn settings(&self) -> LoginSettings {
        LoginSettings {
            timeout: seconds(self.login_timeout),
            until_slow: self.login_attempts,
            pause: seconds(self.login_pause),
            delay: Duration::from_millis(self.login_delay),
            ..LoginSettings::default()
        }
    }

    pub(super) fn trusted_proxies(&self) -> Vec<TrustedProxy> {
        self.trusted_proxy.clone()
    }
}
