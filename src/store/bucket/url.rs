//! The address of a bucket.

use std::{fmt, str::FromStr};

use object_store::path::Path;

use super::BucketError;

/// How the address begins.
const SCHEME: &str = "s3://";

/// What S3 allows for the name of a bucket.
const NAME_MIN: usize = 3;
const NAME_MAX: usize = 63;

/// What S3 allows for a key, in bytes of UTF-8.
const KEY_MAX: usize = 1024;

/// The largest prefix, so that it leaves space for the keys below it.
const PREFIX_MAX: usize = 512;

/// A bucket, and the prefix below which its objects are: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    bucket: String,
    /// Without slashes at its ends; may be empty.
    prefix: String,
}

impl BucketUrl {
    /// Returns whether a text is such an address.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Returns the name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the prefix, without slashes at its ends; empty for the whole bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the full key of an object.
    pub(super) fn path(&self, key: &str) -> Result<Path, BucketError> {
        let bad = |why: &str| BucketError::BadKey {
            key: key.chars().take(KEY_MAX).collect(),
            why: why.to_owned(),
        };
        if key.is_empty() {
            return Err(bad("it is empty"));
        }
        if key.starts_with('/') || key.ends_with('/') {
            return Err(bad("it begins or ends with a slash"));
        }
        let full = self.start() + key;
        if full.len() > KEY_MAX {
            return Err(bad("with its prefix it is longer than 1024 bytes"));
        }
        check_segments(key).map_err(|why| bad(&why))?;
        Path::parse(&full).map_err(|e| bad(&e.to_string()))
    }

    /// Returns what the full keys begin with: nothing, or the prefix and a slash.
    pub(super) fn start(&self) -> String {
        match self.prefix.is_empty() {
            true => String::new(),
            false => format!("{}/", self.prefix),
        }
    }

    /// Returns an object as messages name it.
    pub(super) fn named(&self, key: &str) -> String {
        format!("{SCHEME}{}/{}{key}", self.bucket, self.start())
    }
}

/// Checks what lies between the slashes: nothing that a server or a file system may take for another place.
fn check_segments(path: &str) -> Result<(), String> {
    if path.chars().any(char::is_control) {
        return Err("it holds control characters".to_owned());
    }
    match path
        .split('/')
        .find(|part| matches!(*part, "" | "." | ".."))
    {
        Some("") => Err("it has two slashes in a row".to_owned()),
        Some(part) => Err(format!("it has a part {part:?}")),
        None => Ok(()),
    }
}

impl FromStr for BucketUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Nothing of the text when it may hold a password.
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err("invalid address of a bucket: expected s3://BUCKET/PREFIX".to_owned());
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(
                "invalid address of a bucket: credentials do not belong there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    .to_owned(),
            );
        }
        let bad = |why: &str| Err(format!("invalid address of a bucket {text:?}: {why}"));
        if bucket.contains(':') {
            return bad("a host and port do not belong there; set AWS_ENDPOINT_URL");
        }
        if !(NAME_MIN..=NAME_MAX).contains(&bucket.len()) {
            return bad("the name of a bucket has 3 to 63 characters");
        }
        // Capitals and underscores are in names of old buckets.
        let plain = |c: char| c.is_ascii_alphanumeric();
        if !bucket.chars().all(|c| plain(c) || "-._".contains(c)) {
            return bad("the name of a bucket has letters, digits, dots and hyphens");
        }
        if !bucket.starts_with(plain) || !bucket.ends_with(plain) || bucket.contains("..") {
            return bad("the name of a bucket begins and ends with a letter or digit");
        }
        if prefix.contains(['?', '#']) {
            return bad("a prefix has no ? and no #");
        }
        if prefix.starts_with('/') {
            return bad("it has two slashes in a row");
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.len() > PREFIX_MAX {
            return bad("the prefix is longer than 512 bytes");
        }
        if !prefix.is_empty()
            && let Err(why) = check_segments(prefix)
        {
            return bad(&format!("of the prefix, {why}"));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<BucketUrl, String> {
        text.parse()
    }

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        for (text, bucket, prefix, shown) in [
            ("s3://scenes", "scenes", "", "s3://scenes"),
            ("s3://scenes/", "scenes", "", "s3://scenes"),
            (
                "s3://my.scenes/a/b/",
                "my.scenes",
                "a/b",
                "s3://my.scenes/a/b",
            ),
            ("s3://a-b/ä %20+", "a-b", "ä %20+", "s3://a-b/ä %20+"),
        ] {
            let url = url(text).unwrap();
            assert_eq!((url.bucket(), url.prefix()), (bucket, prefix), "{text}");
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_address_says_why_and_repeats_no_password() {
        for (text, word) in [
            ("/srv/out", "s3://BUCKET"),
            ("s3://", "3 to 63"),
            ("s3://ab/x", "3 to 63"),
            ("s3://key:s3cret@scenes/x", "AWS_ACCESS_KEY_ID"),
            ("s3://127.0.0.1:9000/x", "AWS_ENDPOINT_URL"),
            ("s3://sce nes/x", "letters"),
            ("s3://-scenes/x", "begins"),
            ("s3://scenes/a//b", "two slashes"),
            ("s3://scenes//", "two slashes"),
            ("s3://scenes/a/../b", "\"..\""),
            ("s3://scenes/a\nb", "control"),
            ("s3://scenes/a?region=x", "no ?"),
        ] {
            let e = url(text).unwrap_err();
            assert!(e.contains(word), "{text}: {e}");
            assert!(!e.contains("s3cret"), "{e}");
        }
    }

    #[test]
    fn keys_stay_below_the_prefix() {
        let url = url("s3://scenes/a").unwrap();
        assert_eq!(url.path("b/c d+é%2F").unwrap().as_ref(), "a/b/c d+é%2F");
        for key in [
            "",
            "/b",
            "b/",
            "b//c",
            "../b",
            "b/./c",
            "b\0",
            &"k".repeat(1023),
        ] {
            assert!(url.path(key).is_err(), "{key:?}");
        }
        assert!(url.path(&"k".repeat(1022)).is_ok());
    }
}
