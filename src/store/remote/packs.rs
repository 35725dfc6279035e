//! The packs of a spool in the bucket: put there one after the other, copied there, and written into a folder.

use std::path::Path;

use super::{
    each, files_of,
    pack::{FilePart, PACK, Pack, bytes_of, groups, unpack},
};
use crate::store::{
    Bucket, BucketError, SpoolToKeep, StoreError,
    private::{private_folder, remove_folder},
    spools::LOCK,
};

fn file_failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BucketError {
    move |source| BucketError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Puts parts of the files of a folder into the bucket, in packs numbered from `first` on below `prefix`. Returns the number of packs.
pub(super) fn send(
    bucket: &Bucket,
    prefix: &str,
    first: usize,
    folder: &Path,
    parts: &[FilePart],
) -> Result<usize, BucketError> {
    let groups = groups(parts, PACK);
    for (at, group) in groups.iter().enumerate() {
        let pack = Pack::new(folder, group).map_err(file_failed("read", folder))?;
        let key = format!("{prefix}{:06}", first + at);
        bucket.put_from(&key, pack.length(), folder, || Ok(pack.reader()))?;
    }
    Ok(groups.len())
}

/// Puts a spool below `prefix`: copies of the packs that are in the bucket already, and what these lack.
pub(super) fn keep(bucket: &Bucket, prefix: &str, spool: &SpoolToKeep) -> Result<(), BucketError> {
    copy(bucket, &spool.packs, prefix)?;
    let rest: Vec<FilePart> = match &spool.rest {
        Some(rest) => rest.clone(),
        None => whole(&spool.folder)?,
    };
    send(bucket, prefix, spool.packs.len(), &spool.folder, &rest).map(|_| ())
}

/// Copies packs under the numbers that they have in the list.
pub(super) fn copy(bucket: &Bucket, packs: &[String], prefix: &str) -> Result<(), BucketError> {
    let numbered: Vec<(usize, &String)> = packs.iter().enumerate().collect();
    each(&numbered, |(number, from)| {
        bucket
            .copy(from, &format!("{prefix}{number:06}"))
            .map(|_| ())
    })
}

/// Returns the keys of the packs below a prefix, in their order.
pub(super) fn list(bucket: &Bucket, prefix: &str) -> Result<Vec<String>, BucketError> {
    let keys: Result<Vec<String>, BucketError> = bucket
        .list(prefix)
        .map(|entry| entry.map(|entry| entry.key))
        .collect();
    let mut keys = keys?;
    keys.sort_unstable();
    Ok(keys)
}

/// Writes packs into a folder that is not there yet. It appears once all of them are right.
pub(super) fn fetch(bucket: &Bucket, packs: &[String], folder: &Path) -> Result<(), StoreError> {
    let mut name = folder.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    remove_folder(new);
    private_folder(new).map_err(file_failed("write", new))?;
    let fetched = packs.iter().try_for_each(|pack| one(bucket, pack, new));
    let fetched =
        fetched.and_then(|()| std::fs::rename(new, folder).map_err(file_failed("write", folder)));
    if fetched.is_err() {
        remove_folder(new);
    }
    Ok(fetched?)
}

fn one(bucket: &Bucket, key: &str, folder: &Path) -> Result<(), BucketError> {
    let object = bucket.head(key)?;
    let reader = bucket.read(&object, 0..object.length)?;
    unpack(reader, folder).map_err(|e| match e.downcast::<BucketError>() {
        Ok(e) => e,
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => BucketError::Damaged {
            what: "fetch",
            object: key.to_owned(),
            why: e.to_string(),
        },
        Err(e) => file_failed("write", folder)(e),
    })
}

/// Puts all files of a folder below a prefix, unless they are there. Returns the bytes that were sent.
pub(super) fn send_new(bucket: &Bucket, prefix: &str, folder: &Path) -> Result<u64, BucketError> {
    let parts = whole(folder)?;
    let mut found = 0;
    for entry in bucket.list(prefix) {
        found += entry?.length;
    }
    let bytes = bytes_of(&parts);
    if found >= bytes && found > 0 {
        return Ok(0);
    }
    if found > 0 {
        bucket.delete_prefix(prefix)?;
    }
    send(bucket, prefix, 0, folder, &parts)?;
    Ok(bytes)
}

/// Returns all files of a folder but those that say who uses it.
fn whole(folder: &Path) -> Result<Vec<FilePart>, BucketError> {
    let read = || -> std::io::Result<Vec<FilePart>> {
        let mut parts = Vec::new();
        for (name, path) in files_of(folder)? {
            if name != LOCK {
                let range = 0..path.metadata()?.len();
                parts.push(FilePart { name, range });
            }
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(parts)
    };
    read().map_err(file_failed("read", folder))
}
