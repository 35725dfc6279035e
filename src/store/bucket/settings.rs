//! How a bucket is reached: the environment variables of the AWS tools, and limits in time.

use std::{fmt, path::PathBuf, time::Duration};

use object_store::{
    ClientConfigKey,
    aws::{AmazonS3Builder, AmazonS3ConfigKey as Key},
};

use crate::resolver::Resolver;

/// What the variables for S3 begin with.
const VARIABLES: &str = "AWS_";

/// Certificates to trust instead of the built-in ones, as the AWS tools name it.
const ROOTS: &str = "AWS_CA_BUNDLE";

/// Where a bucket is, who asks, and how patiently.
#[derive(Clone, Default)]
pub struct BucketSettings {
    variables: Vec<(Key, String)>,
    /// Authorities of certificates, PEM; the built-in ones when there is no such file.
    pub roots: Option<PathBuf>,
    /// Finds the address of the endpoint.
    pub resolver: Resolver,
    /// Limits in time.
    pub limits: BucketLimits,
}

/// How long an operation on a bucket may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLimits {
    /// Time for a connection, with the resolution of the name and TLS.
    pub connect: Duration,
    /// Silence of this length counts as a dropped connection.
    pub silence: Duration,
    /// How long an operation is tried again, in addition to the time that its bytes may take.
    pub total: Duration,
    /// The slowest transfer, in bytes per second.
    pub slowest: u64,
    /// Pause before the second attempt; it doubles with each, up to [`BucketLimits::longest_pause`], and each is shortened by chance.
    pub pause: Duration,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
}

impl Default for BucketLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            // A server that restarts is back by then; a caller that waits for longer would be taken for one that hangs.
            total: Duration::from_secs(90),
            // A part of an upload takes two minutes then.
            slowest: 64 << 10,
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl BucketLimits {
    /// Returns how long a transfer may take.
    pub(super) fn of_transfer(&self, bytes: u64) -> Duration {
        let slowest = Duration::from_secs(bytes / self.slowest.max(1));
        self.total.saturating_add(slowest)
    }

    /// Returns how long an answer to a request with a body may take.
    pub(super) fn of_answer(&self, body: u64) -> Duration {
        let slowest = Duration::from_secs(body / self.slowest.max(1));
        self.silence.saturating_add(slowest)
    }
}

impl BucketSettings {
    /// Settings from the environment: the variables of the AWS tools and of the crate `object_store`.
    ///
    /// The only place of this module that reads the environment, for the command line to call.
    pub fn from_env() -> Self {
        let all = std::env::vars_os();
        Self::from_variables(all.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// Settings from variables as in the environment.
    pub fn from_variables(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut settings = Self::default();
        for (name, value) in all {
            if !name.starts_with(VARIABLES) || value.is_empty() {
                continue;
            }
            if name == ROOTS {
                settings.roots = Some(value.into());
                continue;
            }
            match name.to_ascii_lowercase().parse() {
                // The address names the bucket, and the connection is this module's.
                Ok(Key::Bucket) => {}
                Ok(Key::Client(key)) if key != ClientConfigKey::AllowHttp => {}
                Ok(key) => settings.variables.push((key, value)),
                // Of other tools.
                Err(_) => {}
            }
        }
        settings
    }

    /// Returns the value of a variable.
    pub(super) fn value(&self, wanted: Key) -> Option<&str> {
        let found = self.variables.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the endpoint, unless it is that of AWS.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.value(Key::S3Endpoint).or(self.value(Key::Endpoint))
    }

    /// Returns what a variable says, as `object_store` reads it; `None` when it is not set.
    ///
    /// # Errors
    /// When the value is neither yes nor no.
    fn flag(&self, key: Key) -> Result<Option<bool>, String> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" | "y" => Ok(Some(true)),
            "0" | "false" | "off" | "no" | "n" => Ok(Some(false)),
            _ => {
                let name = key.as_ref().trim_start_matches("aws_").to_ascii_uppercase();
                Err(format!(
                    "{VARIABLES}{name}={value:?} is neither true nor false"
                ))
            }
        }
    }

    /// Returns whether requests may go without TLS.
    pub(super) fn allow_http(&self) -> Result<Option<bool>, String> {
        self.flag(Key::Client(ClientConfigKey::AllowHttp))
    }

    /// Returns whether the bucket is in the name of the host.
    pub(super) fn in_host(&self) -> Result<Option<bool>, String> {
        self.flag(Key::VirtualHostedStyleRequest)
    }

    /// Returns a builder with the variables.
    pub(super) fn builder(&self) -> AmazonS3Builder {
        let new = AmazonS3Builder::new();
        let all = self.variables.iter();
        all.fold(new, |builder, (key, value)| {
            builder.with_config(*key, value)
        })
    }
}

/// Without the values, some of which are secrets.
impl fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.variables.iter().map(|(key, _)| key.as_ref());
        f.debug_struct("BucketSettings")
            .field("variables", &names.collect::<Vec<_>>())
            .field("roots", &self.roots)
            .field("resolver", &self.resolver)
            .field("limits", &self.limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> BucketSettings {
        let all = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        BucketSettings::from_variables(all)
    }

    #[test]
    fn the_variables_of_the_aws_tools_are_read() {
        let settings = settings(&[
            ("AWS_ACCESS_KEY_ID", "ann"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_CA_BUNDLE", "/etc/ca.pem"),
            ("AWS_BUCKET", "another"),
            ("AWS_PAGER", "less"),
            ("HOME", "/root"),
        ]);
        assert_eq!(settings.endpoint(), Some("http://127.0.0.1:2"));
        assert_eq!(settings.value(Key::Token), None);
        assert_eq!(settings.roots, Some("/etc/ca.pem".into()));
        let builder = settings.builder();
        let of = |key| builder.get_config_value(&key);
        assert_eq!(of(Key::Region).as_deref(), Some("eu-west-2"));
        assert_eq!(of(Key::AccessKeyId).as_deref(), Some("ann"));
        assert_eq!(of(Key::Bucket), None);
        let shown = format!("{settings:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("ann"),
            "{shown}"
        );
    }
}
