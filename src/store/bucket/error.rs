//! Errors of buckets, and what a server's answer says about another attempt.

use std::{error::Error, io, path::PathBuf};

use hyper::StatusCode;

use super::BucketUrl;
use crate::store::error::is_passing_io;

/// Why an operation on a bucket failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The variables of the environment do not lead to a bucket.
    #[error("cannot use the bucket {bucket}: {why}")]
    Settings {
        /// The bucket.
        bucket: BucketUrl,
        /// What is wrong, with the fix.
        why: String,
    },
    /// A key that no object can have.
    #[error("invalid key of an object {key:?}: {why}")]
    BadKey {
        /// The key, shortened.
        key: String,
        /// Reason.
        why: String,
    },
    /// Bytes of an object that it does not have.
    #[error("cannot read the bytes {start} to {end} of {object}: it has {length}")]
    BadRange {
        /// The object.
        object: String,
        /// The first byte.
        start: u64,
        /// The first byte that is not wanted any more.
        end: u64,
        /// Length of the object.
        length: u64,
    },
    /// There is no such bucket.
    #[error("cannot {what} {object}: there is no bucket {bucket:?} at {endpoint}")]
    NoBucket {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
        /// The bucket.
        bucket: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// There is no such object.
    #[error("cannot {what} {object}: there is no such object")]
    NotFound {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
    },
    /// The credentials are missing or wrong, or do not allow this.
    #[error("cannot {what} {object}: access denied: {source}")]
    Denied {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refuses, and will again.
    #[error("cannot {what} {object}: {source}")]
    Refused {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server cannot be reached, or fails, and may not later.
    #[error(
        "cannot {what} {object}: {source} (tried {attempts} times in {} s); try again later",
        seconds.max(&1)
    )]
    Unavailable {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
        /// Cause of the last failure.
        #[source]
        source: Box<dyn Error + Send + Sync>,
        /// Number of attempts.
        attempts: u32,
        /// Seconds from the first attempt to the end of the last one.
        seconds: u64,
    },
    /// The bytes of an object are not those that were stored.
    #[error("cannot {what} {object}: {why}")]
    Damaged {
        /// The attempted operation.
        what: &'static str,
        /// The object.
        object: String,
        /// What differs.
        why: String,
    },
    /// A local file changed while it was stored; nothing of it is in the bucket.
    #[error("cannot store \"{}\" as {object}: it changed in the meantime", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The object.
        object: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot {what} \"{}\": {source}", path.display())]
    File {
        /// The attempted operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The threads that move bytes could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl BucketError {
    /// Returns true for a fault that may pass by itself. The same may then be tried again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Thread(_) => true,
            Self::File { source, .. } => is_passing_io(source),
            _ => false,
        }
    }

    /// Returns true when there is no such object in a bucket that is there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// An answer that is not a success, or none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    text: String,
    pub(super) verdict: Verdict,
    /// Whether these are the credentials' server's words and not the bucket's.
    pub(super) host: String,
}

/// What a failure means for the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    NoBucket,
    NotFound,
    Denied,
    Refused,
    /// The object does not have the bytes that were asked for.
    Shorter,
    /// May succeed with the next attempt.
    Passing,
    /// Is no answer of S3 at all, or not one to this request: a few more attempts.
    Strange,
}

impl Failure {
    pub(super) fn new(host: &str, verdict: Verdict, text: String) -> Self {
        Self {
            text,
            verdict,
            host: host.to_owned(),
        }
    }

    /// Reads an answer of S3.
    pub(super) fn of_answer(
        host: &str,
        status: StatusCode,
        region: Option<&str>,
        body: &str,
    ) -> Self {
        let code = element(body, "Code");
        let mut text = format!("{host} answers {}", status.as_u16());
        if let Some(code) = &code {
            text = format!("{text} {code}");
        }
        if let Some(message) = element(body, "Message") {
            text = format!("{text}: {message}");
        }
        // Of a bucket of AWS elsewhere.
        if status.is_redirection()
            || matches!(code.as_deref(), Some("AuthorizationHeaderMalformed"))
        {
            let region = region
                .map(str::to_owned)
                .or_else(|| element(body, "Region"));
            if let Some(region) = region {
                text = format!("{text}; the bucket is in another region: set AWS_REGION={region}");
            } else if status.is_redirection() {
                text = format!("{text}; the bucket may be in another region: set AWS_REGION");
            }
        }
        if matches!(code.as_deref(), Some("RequestTimeTooSkewed")) {
            text = format!("{text}; set the clock of this machine");
        }
        let verdict = verdict(status, code.as_deref());
        Self::new(host, verdict, text)
    }

    /// Finds the failure in an error of the crate `object_store`.
    pub(super) fn find(e: &object_store::Error) -> Option<&Self> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(e);
        while let Some(e) = cause {
            if let Some(found) = e.downcast_ref() {
                return Some(found);
            }
            cause = e.source();
        }
        None
    }
}

/// Texts in answers with the status 200 that are failures all the same; see
/// <https://repost.aws/knowledge-center/s3-resolve-200-internalerror>.
const FAILED_200: [&str; 2] = ["InternalError", "SlowDown"];

/// Returns what an error of the crate `object_store` means.
pub(super) fn verdict_of(e: &object_store::Error) -> Verdict {
    if let Some(failure) = Failure::find(e) {
        return failure.verdict;
    }
    match e {
        object_store::Error::NotFound { .. } => Verdict::NotFound,
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => Verdict::Denied,
        e => {
            let text = e.to_string();
            match FAILED_200.iter().any(|failed| text.contains(failed)) {
                true => Verdict::Passing,
                false => Verdict::Strange,
            }
        }
    }
}

fn verdict(status: StatusCode, code: Option<&str>) -> Verdict {
    match code {
        Some("NoSuchBucket") => return Verdict::NoBucket,
        Some("NoSuchKey") => return Verdict::NotFound,
        Some(
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "AllAccessDisabled"
            | "AccountProblem",
        ) => return Verdict::Denied,
        Some(
            "RequestTimeout"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "InternalError"
            | "ServiceUnavailable"
            | "OperationAborted"
            | "IncompleteBody"
            | "ConditionalRequestConflict",
        ) => return Verdict::Passing,
        _ => {}
    }
    match status {
        StatusCode::NOT_FOUND => Verdict::NotFound,
        StatusCode::RANGE_NOT_SATISFIABLE => Verdict::Shorter,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Verdict::Denied,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
            Verdict::Passing
        }
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Verdict::Refused,
        status if status.is_server_error() => Verdict::Passing,
        _ => Verdict::Refused,
    }
}

/// Longest text of an answer in a message.
const SHOWN: usize = 300;

/// Returns the text of the first element of a name in an answer, without control characters.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim().chars().filter(|c| !c.is_control());
    let text: String = text.take(SHOWN).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_what_passes_and_what_does_not() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Verdict::NotFound),
            (404, "NoSuchBucket", Verdict::NoBucket),
            (404, "NoSuchUpload", Verdict::NotFound),
            (403, "SignatureDoesNotMatch", Verdict::Denied),
            (403, "RequestTimeTooSkewed", Verdict::Denied),
            (400, "ExpiredToken", Verdict::Denied),
            (400, "RequestTimeout", Verdict::Passing),
            (400, "InvalidPart", Verdict::Refused),
            (409, "OperationAborted", Verdict::Passing),
            (416, "InvalidRange", Verdict::Shorter),
            (429, "", Verdict::Passing),
            (500, "InternalError", Verdict::Passing),
            (501, "NotImplemented", Verdict::Refused),
            (503, "SlowDown", Verdict::Passing),
            (301, "PermanentRedirect", Verdict::Refused),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>it is\nso</Message></Error>");
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::of_answer("s3.test", status, Some("eu-1"), &body);
            assert_eq!(failure.verdict, expected, "{status} {code}");
            let text = failure.to_string();
            assert!(
                text.contains("s3.test answers") && text.contains("it isso"),
                "{text}"
            );
            assert_eq!(
                text.contains("AWS_REGION=eu-1"),
                status.is_redirection(),
                "{text}"
            );
        }
        let page = Failure::of_answer("s3.test", StatusCode::BAD_GATEWAY, None, "<html>");
        assert_eq!(page.to_string(), "s3.test answers 502");
        assert_eq!(page.verdict, Verdict::Passing);
    }
}
