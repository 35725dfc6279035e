//! Errors of downloads from the hub.

use std::{io, path::PathBuf};

/// Why a file cannot be found or downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// An invalid repo, revision, file name or endpoint.
    #[error("cannot use {value:?} as {what}: {expected}")]
    Setting {
        /// Name of the setting.
        what: &'static str,
        /// Rejected value.
        value: String,
        /// Expected form.
        expected: &'static str,
    },
    /// `SSL_CERT_FILE` names a file without certificates.
    #[error("cannot read trusted certificates from \"{}\" (SSL_CERT_FILE)", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Reason.
        #[source]
        source: io::Error,
    },
    /// The file is not in the cache, and downloads are disabled.
    #[error(
        "{} of {repo} is not in the cache \"{}\", and downloads are disabled",
        file.as_deref().unwrap_or("a weights file"),
        cache.display()
    )]
    Offline {
        /// The repo.
        repo: String,
        /// Name of the file; `None` for the weights.
        file: Option<String>,
        /// Folder of the cache.
        cache: PathBuf,
    },
    /// Status 401 or 403 without a token.
    #[error(
        "the hub requires a login for {repo}: it is gated, private or misspelled. Accept the terms at {endpoint}/{repo}, create a token at {endpoint}/settings/tokens, and set HF_TOKEN to it"
    )]
    NoAccess {
        /// The repo.
        repo: String,
        /// The hub.
        endpoint: String,
    },
    /// Status 401 or 403 although a token was sent.
    #[error(
        "the hub denies the owner of this token access to {repo}: accept the terms at {endpoint}/{repo} with the same account, and check that HF_TOKEN may read gated repos"
    )]
    Refused {
        /// The repo.
        repo: String,
        /// The hub.
        endpoint: String,
    },
    /// Status 404.
    #[error(
        "{endpoint} has no {what} in {repo} at {revision}: the repo, the revision or the file name is wrong"
    )]
    NotFound {
        /// The hub.
        endpoint: String,
        /// The repo.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// The file, or what was looked for.
        what: String,
    },
    /// The repo has no file that is known to be the weights.
    #[error("cannot tell which file of {repo} holds the weights among [{files}]")]
    NoWeights {
        /// The repo.
        repo: String,
        /// Candidates.
        files: String,
    },
    /// A response that is not that of a hub.
    #[error("cannot use the response of {url}: {what}; does HF_ENDPOINT name a hub?")]
    Answer {
        /// The address, without its query.
        url: String,
        /// Reason.
        what: String,
    },
    /// Too many failures in a row.
    #[error(
        "cannot reach {url}: {what}, {attempts} times in a row; what was downloaded so far is kept, and the same command resumes from there"
    )]
    Network {
        /// The address, without its query.
        url: String,
        /// Last error.
        what: String,
        /// Number of attempts.
        attempts: u32,
    },
    /// The bytes do not have the hash or length that the hub announced.
    #[error("the download of {file} is corrupt: {what}; it was removed, try again")]
    Damaged {
        /// The file.
        file: String,
        /// Expected and found.
        what: String,
    },
    /// The disk is full.
    #[error("the disk of \"{}\" is full: {needed} more bytes are needed; free some, or set HF_HOME to another disk", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// Bytes still to come.
        needed: u64,
    },
    /// The cache cannot be written.
    #[error("cannot write \"{}\" in the cache: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The progress callback returned `false`.
    #[error("the download was stopped; the part that was downloaded is kept")]
    Cancelled,
}
