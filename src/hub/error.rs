//! What can go wrong between here and the hub.

use std::{io, path::PathBuf};

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A repo, revision, file name or endpoint that cannot be one.
    #[error("cannot use {value:?} as {what}: {expected}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// `SSL_CERT_FILE` names a file without certificates.
    #[error("cannot take the trusted certificates from \"{}\" (SSL_CERT_FILE)", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// Not in the cache, and the network is not to be asked.
    #[error(
        "{what} of {repo} is not in the cache \"{}\" and --offline forbids a download; fetch it once with `{command}`",
        cache.display()
    )]
    Offline {
        /// The repo.
        repo: String,
        /// What was looked for.
        what: String,
        /// Where it was looked for.
        cache: PathBuf,
        /// What fetches it.
        command: String,
    },
    /// Status 401 or 403 without a token.
    #[error(
        "the hub wants to know who asks for {repo}: it is gated, private or misspelt. Accept the terms at {endpoint}/{repo}, create a token at {endpoint}/settings/tokens, and set HF_TOKEN to it"
    )]
    NoAccess {
        /// The repo.
        repo: String,
        /// The hub.
        endpoint: String,
    },
    /// Status 401 or 403 although a token was sent.
    #[error(
        "the hub refuses {repo} to the owner of this token: accept the terms at {endpoint}/{repo} with the same account, and check that HF_TOKEN may read gated repos"
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
    /// The repo has no file that can be told to be the weights.
    #[error(
        "cannot tell which file of {repo} holds the weights among [{files}]; download it and name it with --checkpoint"
    )]
    NoWeights {
        /// The repo.
        repo: String,
        /// Its candidates.
        files: String,
    },
    /// An answer that no hub gives.
    #[error("cannot use the answer of {url}: {what}; does HF_ENDPOINT name a hub?")]
    Answer {
        /// The address, without its query.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// Too many failures in a row.
    #[error(
        "cannot reach {url}: {what}, {attempts} times in a row; what has arrived is kept, so the same command goes on from there"
    )]
    Network {
        /// The address, without its query.
        url: String,
        /// What happened last.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The bytes are not those that the hub promised.
    #[error("the download of {file} is damaged: {what}; it was removed, try again")]
    Damaged {
        /// The file.
        file: String,
        /// Promised and found.
        what: String,
    },
    /// No room left.
    #[error("the disk of \"{}\" is full: {needed} more bytes are needed; make room, or set HF_HOME to another disk", path.display())]
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
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The caller's observer answered `false`.
    #[error("the download was stopped; what has arrived is kept")]
    Cancelled,
}
