//! Files in an S3 bucket: whole or not at all, with a digest that readers verify.
//!
//! Nothing here knows of rows or jobs, and the folder of a store is not read here either. The entry point is [`Bucket`], which is cheap
//! to clone. Its calls block, and tasks on the threads of the store's driver move the bytes; [`BucketReader`] is also a stream.
//!
//! Each object that is stored here carries its length and SHA-256 as metadata. A reader checks that every answer is of the object that
//! it was opened for, counts the bytes, and of a whole file also compares the digest. ETags are never looked at: they are the server's
//! own matter, and of an upload in parts or an encrypted one no digest at all.
//!
//! Requests are tried again while a fault may pass, within [`BucketLimits`]; `object_store` itself makes one attempt at each. An upload
//! in parts that a killed process began stays in the bucket, unseen, until a rule of its lifecycle (`AbortIncompleteMultipartUpload`)
//! removes it: the crate cannot list these.

mod body;
mod connection;
mod error;
mod get;
mod list;
mod object;
mod put;
mod read;
mod retry;
mod settings;
mod url;

pub use self::{
    error::BucketError,
    list::{BucketEntry, BucketList},
    object::BucketObject,
    read::BucketReader,
    settings::{BucketLimits, BucketSettings},
    url::BucketUrl,
};

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::Uri;
use object_store::{
    BackoffConfig, CopyOptions, GetOptions, GetResult, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3ConfigKey as Key},
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};
use tokio::runtime::Runtime;

use self::{
    error::Verdict,
    retry::{Fault, retried},
};
use super::driver::driver;

/// An S3 bucket, or what is below a prefix of it.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: BucketUrl,
    s3: AmazonS3,
    /// The server, as messages name it.
    host: String,
    limits: BucketLimits,
    driver: &'static Runtime,
    /// Whether the bucket is known to be there: an answer about an object does not always tell.
    seen: AtomicBool,
}

impl Bucket {
    /// Prepares access to a bucket with the settings of the environment. Nothing is sent: see [`Bucket::check`].
    ///
    /// # Errors
    /// When the settings do not fit together or a file that they name cannot be read.
    pub fn open(url: &BucketUrl) -> Result<Self, BucketError> {
        Self::with(url, &BucketSettings::from_env())
    }

    /// As [`Bucket::open`], with settings of the caller.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn with(url: &BucketUrl, settings: &BucketSettings) -> Result<Self, BucketError> {
        let bad = |why: String| BucketError::Settings {
            bucket: url.clone(),
            why,
        };
        let connections = connection::Connections::new(settings).map_err(bad)?;
        let once = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: Duration::ZERO,
        };
        let mut builder = settings
            .builder()
            .with_bucket_name(url.bucket())
            .with_retry(once)
            .with_http_connector(connections);
        let host = match settings.endpoint() {
            Some(endpoint) => {
                let uri = endpoint_of(endpoint).map_err(bad)?;
                let allow_http = settings.allow_http().map_err(bad)?;
                builder = builder.with_allow_http(allow_http.unwrap_or_else(|| is_loopback(&uri)));
                connection::host_of(&uri)
            }
            // With the bucket in the host's name, as AWS wants it, unless certificates would not fit that.
            None => {
                let region = builder.get_config_value(&Key::Region);
                let region = region.unwrap_or_else(|| "us-east-1".to_owned());
                let plain = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
                let is_plain = url.bucket().bytes().all(plain);
                let in_host = settings.in_host().map_err(bad)?.unwrap_or(is_plain);
                builder = builder.with_virtual_hosted_style_request(in_host);
                match in_host {
                    true => format!("{}.s3.{region}.amazonaws.com", url.bucket()),
                    false => format!("s3.{region}.amazonaws.com"),
                }
            }
        };
        let s3 = builder.build().map_err(|e| bad(e.to_string()))?;
        Ok(Self(Arc::new(Inner {
            url: url.clone(),
            s3,
            host,
            limits: settings.limits,
            driver: driver().map_err(BucketError::Thread)?,
            seen: AtomicBool::new(false),
        })))
    }

    /// Returns the address of the bucket.
    pub fn url(&self) -> &BucketUrl {
        &self.0.url
    }

    /// Finds out whether the bucket is there and may be listed.
    ///
    /// # Errors
    /// When it is not, or cannot be reached.
    pub fn check(&self) -> Result<(), BucketError> {
        let bucket = self.0.url.to_string();
        let what = "list";
        self.wait(what, &bucket, move |inner| async move {
            let named = inner.url.to_string();
            inner.asked(what, &named, 0, || inner.first_page()).await
        })
    }

    /// Returns length and digest of an object.
    ///
    /// # Errors
    /// [`BucketError::NotFound`] when there is no such object; when its length is not the one that was stored; when the bucket cannot be
    /// reached.
    pub fn head(&self, key: &str) -> Result<BucketObject, BucketError> {
        self.head_to("look at", key)
    }

    fn head_to(&self, what: &'static str, key: &str) -> Result<BucketObject, BucketError> {
        let key = key.to_owned();
        self.wait(what, &self.0.url.named(&key), move |inner| async move {
            inner.head(what, &key).await
        })
    }

    /// Returns whether there is an object.
    ///
    /// # Errors
    /// As [`Bucket::head`], but for an object that is not there.
    pub fn exists(&self, key: &str) -> Result<bool, BucketError> {
        match self.head(key) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes an object, and does nothing when there is none.
    ///
    /// # Errors
    /// When the bucket cannot be reached or refuses.
    pub fn delete(&self, key: &str) -> Result<(), BucketError> {
        let (what, key) = ("remove", key.to_owned());
        self.wait(what, &self.0.url.named(&key), move |inner| async move {
            let path = inner.url.path(&key)?;
            let named = inner.url.named(&key);
            match inner
                .asked(what, &named, 0, || inner.s3.delete(&path))
                .await
            {
                Err(e) if !e.is_not_found() => Err(e),
                _ => Ok(()),
            }
        })
    }

    /// Copies an object within the bucket, without a way of its bytes through this machine. S3 copies up to 5 GiB like this.
    ///
    /// # Errors
    /// When there is no such object, the copy is not the same, or the bucket cannot be reached.
    pub fn copy(&self, from: &str, to: &str) -> Result<BucketObject, BucketError> {
        let (what, from, to) = ("copy", from.to_owned(), to.to_owned());
        self.wait(what, &self.0.url.named(&from), move |inner| async move {
            let source = inner.head(what, &from).await?;
            inner.copy(what, &from, &to).await?;
            inner.verify(what, BucketObject { key: to, ..source }).await
        })
    }

    /// As [`Bucket::copy`], of an object that need not be what was stored.
    ///
    /// # Errors
    /// When there is no such object, or the bucket cannot be reached.
    pub fn copy_damaged(&self, from: &str, to: &str) -> Result<(), BucketError> {
        let (what, from, to) = ("copy", from.to_owned(), to.to_owned());
        self.wait(what, &self.0.url.named(&from), move |inner| async move {
            inner.copy(what, &from, &to).await
        })
    }

    /// Runs an operation on the threads that move bytes, and waits.
    fn wait<T, F>(
        &self,
        what: &'static str,
        object: &str,
        operation: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T, BucketError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BucketError>> + Send + 'static,
    {
        let task = self.0.driver.spawn(operation(self.0.clone()));
        pollster::block_on(task).unwrap_or_else(|e| Err(ended(what, object, e)))
    }
}

/// A task that panicked.
fn ended(what: &'static str, object: &str, e: tokio::task::JoinError) -> BucketError {
    BucketError::Refused {
        what,
        object: object.to_owned(),
        source: e.into(),
    }
}

impl Inner {
    /// Runs one kind of request until it succeeds or is given up.
    async fn asked<T, F>(
        &self,
        what: &'static str,
        object: &str,
        body: u64,
        attempt: impl FnMut() -> F,
    ) -> Result<T, BucketError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        match retried(&self.limits, &self.host, body, attempt).await {
            Ok(value) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(value)
            }
            Err(fault) => Err(self.told(what, object, fault).await),
        }
    }

    /// Returns the error of a fault.
    async fn told(&self, what: &'static str, object: &str, fault: Fault) -> BucketError {
        let object = object.to_owned();
        let verdict = match fault.verdict {
            Verdict::NotFound if !self.is_there().await => Verdict::NoBucket,
            verdict => verdict,
        };
        let source = fault.source;
        match verdict {
            Verdict::NoBucket => BucketError::NoBucket {
                what,
                object,
                bucket: self.url.bucket().to_owned(),
                endpoint: self.host.clone(),
            },
            Verdict::NotFound => BucketError::NotFound { what, object },
            Verdict::Shorter => BucketError::Damaged {
                what,
                object,
                why: format!("it is shorter than it was: {source}"),
            },
            Verdict::Denied => BucketError::Denied {
                what,
                object,
                source,
            },
            Verdict::Refused | Verdict::Strange => BucketError::Refused {
                what,
                object,
                source,
            },
            Verdict::Passing => BucketError::Unavailable {
                what,
                object,
                source,
                attempts: fault.attempts,
                seconds: fault.elapsed.as_secs(),
            },
        }
    }

    /// Returns false when there is no such bucket: the answer to a request for the head of an object has no text that would tell.
    async fn is_there(&self) -> bool {
        if self.seen.load(Ordering::Relaxed) {
            return true;
        }
        match retried(&self.limits, &self.host, 0, || self.first_page()).await {
            Ok(_) => self.seen.store(true, Ordering::Relaxed),
            Err(fault) => return fault.verdict != Verdict::NoBucket,
        }
        true
    }

    async fn first_page(&self) -> object_store::Result<()> {
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let start = self.url.start();
        self.s3.list_paginated(Some(&start), options).await?;
        Ok(())
    }

    async fn head(&self, what: &'static str, key: &str) -> Result<BucketObject, BucketError> {
        let path = self.url.path(key)?;
        let named = self.url.named(key);
        let got = self
            .asked(what, &named, 0, || self.head_once(&path))
            .await?;
        let damaged = |why| BucketError::Damaged {
            what,
            object: named,
            why,
        };
        BucketObject::of(key, &got).map_err(damaged)
    }

    async fn copy(&self, what: &'static str, from: &str, to: &str) -> Result<(), BucketError> {
        let (path, target) = (self.url.path(from)?, self.url.path(to)?);
        let named = self.url.named(from);
        let copied = || self.s3.copy_opts(&path, &target, CopyOptions::default());
        self.asked(what, &named, 0, copied).await
    }

    async fn head_once(&self, path: &Path) -> object_store::Result<GetResult> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        self.s3.get_opts(path, options).await
    }

    /// Verifies that an object is there as it was stored.
    async fn verify(
        &self,
        what: &'static str,
        stored: BucketObject,
    ) -> Result<BucketObject, BucketError> {
        let found = self.head(what, &stored.key).await?;
        if found == stored {
            return Ok(stored);
        }
        let why = match found.length == stored.length {
            true => "what was stored does not have its digest".to_owned(),
            false => format!(
                "{} bytes were stored, and {} are there",
                stored.length, found.length
            ),
        };
        Err(BucketError::Damaged {
            what,
            object: self.url.named(&stored.key),
            why,
        })
    }
}

fn endpoint_of(text: &str) -> Result<Uri, String> {
    // Not the text itself: it may hold a password.
    let bad =
        || "AWS_ENDPOINT_URL is no address: expected http://HOST:PORT or https://HOST".to_owned();
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let no_login = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    match is_http && no_login && uri.host().is_some_and(|host| !host.is_empty()) {
        true => Ok(uri),
        false => Err(bad()),
    }
}

/// Returns whether bytes to an endpoint stay on this machine.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || ip
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str, all: &[(&str, &str)]) -> Result<String, BucketError> {
        let all = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let settings = BucketSettings::from_variables(all);
        Ok(Bucket::with(&url.parse().unwrap(), &settings)?
            .0
            .host
            .clone())
    }

    #[test]
    fn the_server_follows_from_the_settings() {
        let region = ("AWS_REGION", "eu-west-1");
        let no_host = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "False");
        let endpoint = ("AWS_ENDPOINT_URL", "https://minio.test:9000/");
        for (url, settings, expected) in [
            ("s3://scenes/a", vec![], "scenes.s3.us-east-1.amazonaws.com"),
            (
                "s3://scenes/a",
                vec![region],
                "scenes.s3.eu-west-1.amazonaws.com",
            ),
            (
                "s3://my.scenes/a",
                vec![region],
                "s3.eu-west-1.amazonaws.com",
            ),
            (
                "s3://scenes/a",
                vec![region, no_host],
                "s3.eu-west-1.amazonaws.com",
            ),
            ("s3://scenes/a", vec![region, endpoint], "minio.test:9000"),
        ] {
            assert_eq!(
                host(url, &settings).unwrap(),
                expected,
                "{url} {settings:?}"
            );
        }
        let e = host("s3://scenes", &[("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "x")]).unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("AWS_VIRTUAL_HOSTED_STYLE_REQUEST=\"x\""),
            "{text}"
        );
    }

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for (text, expected) in [
            ("http://127.0.0.1:9000", true),
            ("http://127.8.8.8", true),
            ("http://[::1]:9000", true),
            ("http://localhost:9000/", true),
            ("http://localhost.test", false),
            ("http://10.0.0.1", false),
            ("http://minio:9000", false),
        ] {
            assert_eq!(is_loopback(&endpoint_of(text).unwrap()), expected, "{text}");
        }
    }
}
