//! Lists of objects, and removals by prefix.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::{ObjectStore, list::PaginatedListOptions, list::PaginatedListStore, path::Path};

use super::{Bucket, BucketError, Inner};

const WHAT: &str = "list";

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketEntry {
    /// Key below the prefix of the bucket.
    pub key: String,
    /// Number of bytes.
    pub length: u64,
    /// When it was stored, by the server's clock.
    pub modified: Timestamp,
}

/// The objects whose keys begin with a text, page by page. The iterator ends after an error.
#[derive(Debug)]
pub struct BucketList {
    bucket: Bucket,
    /// What the full keys begin with.
    start: String,
    page: VecDeque<BucketEntry>,
    next: Next,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    First,
    /// The page of this token.
    Page(String),
    Over,
}

impl Bucket {
    /// Lists the objects whose keys begin with `prefix`: of a folder with the slash at its end, of all when it is empty. In the order of
    /// the server, which is that of the bytes in S3. Each page of up to 1000 is asked for when the one before was read.
    pub fn list(&self, prefix: &str) -> BucketList {
        BucketList {
            bucket: self.clone(),
            start: self.0.url.start() + prefix,
            page: VecDeque::new(),
            next: Next::First,
        }
    }

    /// Removes the objects whose keys begin with `prefix`, up to 1000 in one request, and returns their number.
    ///
    /// # Errors
    /// When the prefix is empty, since that would be everything; when the bucket cannot be reached or refuses. Some of the objects may be
    /// gone then.
    pub fn delete_prefix(&self, prefix: &str) -> Result<u64, BucketError> {
        if prefix.is_empty() {
            return Err(BucketError::BadKey {
                key: String::new(),
                why: "a prefix of what is to be removed is not empty".to_owned(),
            });
        }
        let mut list = self.list(prefix);
        let mut removed = 0;
        while list.next != Next::Over {
            list.turn()?;
            let keys: Vec<_> = list.page.drain(..).map(|entry| entry.key).collect();
            removed += keys.len() as u64;
            self.delete_all(keys)?;
        }
        Ok(removed)
    }

    /// Removes objects, up to 1000 in one request. Those that are not there are no error.
    ///
    /// # Errors
    /// When the bucket cannot be reached or refuses one of them.
    pub fn delete_all(&self, keys: Vec<String>) -> Result<(), BucketError> {
        let what = "remove";
        let Some(named) = keys.first().map(|key| self.0.url.named(key)) else {
            return Ok(());
        };
        self.wait(what, &named.clone(), move |inner| async move {
            let paths: Result<Vec<Path>, _> = keys.iter().map(|key| inner.url.path(key)).collect();
            let paths = paths?;
            inner
                .asked(what, &named, 0, || inner.delete_once(&paths))
                .await
        })
    }
}

impl Inner {
    pub(super) async fn delete_once(&self, paths: &[Path]) -> object_store::Result<()> {
        let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
        let removed = self.s3.delete_stream(stream::iter(paths).boxed());
        let done = removed.try_for_each(async |_| Ok(())).await;
        match done {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }

    /// Returns a page, and the token of the one after it.
    async fn page(
        self: Arc<Self>,
        start: String,
        token: Option<String>,
    ) -> Result<(VecDeque<BucketEntry>, Option<String>), BucketError> {
        let named = format!("s3://{}/{start}", self.url.bucket());
        let once = || {
            let options = PaginatedListOptions {
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            self.s3.list_paginated(Some(&start), options)
        };
        let found = self.asked(WHAT, &named, 0, once).await?;
        let wrong = |why| BucketError::Damaged {
            what: WHAT,
            object: named.clone(),
            why,
        };
        let root = self.url.start();
        let mut page = VecDeque::with_capacity(found.result.objects.len());
        for object in found.result.objects {
            let full = object.location.as_ref();
            // The markers of folders that consoles make, whose slash the crate takes away.
            if object.size == 0 && format!("{full}/") == start {
                continue;
            }
            if !full.starts_with(&start) {
                return Err(wrong(format!(
                    "the server lists {full:?}, which is not part of it"
                )));
            }
            page.push_back(BucketEntry {
                key: full.get(root.len()..).unwrap_or_default().to_owned(),
                length: object.size,
                modified: Timestamp::from_second(object.last_modified.timestamp())
                    .unwrap_or_default(),
            });
        }
        // A server that comes back to a page would be asked for ever.
        if found.page_token.is_some() && found.page_token == token {
            return Err(wrong("the server lists the same page again".to_owned()));
        }
        Ok((page, found.page_token))
    }
}

impl BucketList {
    /// Asks for the next page, which may be empty.
    fn turn(&mut self) -> Result<(), BucketError> {
        let token = match std::mem::replace(&mut self.next, Next::Over) {
            Next::Over => return Ok(()),
            Next::First => None,
            Next::Page(token) => Some(token),
        };
        let start = self.start.clone();
        let (page, next) = self
            .bucket
            .wait(WHAT, &start, |inner| inner.page(start.clone(), token))?;
        self.page = page;
        if let Some(token) = next {
            self.next = Next::Page(token);
        }
        Ok(())
    }
}

impl Iterator for BucketList {
    type Item = Result<BucketEntry, BucketError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && self.next != Next::Over {
            if let Err(e) = self.turn() {
                return Some(Err(e));
            }
        }
        self.page.pop_front().map(Ok)
    }
}
