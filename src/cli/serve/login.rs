//! The flags of logging in.

use std::time::Duration;

use crate::server::LoginSettings;

/// Failed logins.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LoginArgs {
    /// Failed logins of an account that start a pause; an address has four times as many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    login_attempts: u32,
    /// Length of the pause, in which the account cannot log in
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    login_pause: u64,
    /// Delay in milliseconds after the third failed login in a row; it doubles with each further one, up to 8 s
    #[arg(long, value_name = "MS", default_value_t = 250)]
    login_delay: u64,
}

impl LoginArgs {
    pub(super) fn settings(&self) -> LoginSettings {
        LoginSettings {
            until_pause: self.login_attempts,
            pause: Duration::from_secs(self.login_pause),
            delay: Duration::from_millis(self.login_delay),
            ..LoginSettings::default()
        }
    }
}
