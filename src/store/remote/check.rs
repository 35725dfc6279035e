//! Compares rows with the objects of a bucket, both ways.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;

use super::{Remote, glb_of, job_of, job_prefix, key};
use crate::store::{
    BucketError, CheckReport, GlbFile, Repair, Store, StoreError, glb_files as glbs,
    schema::removed_files,
};

/// Bytes of the header of a GLB.
const HEADER: u64 = 12;

/// What is in the bucket.
#[derive(Debug, Default)]
struct Found {
    /// The results, by key, and their lengths.
    glbs: BTreeMap<String, u64>,
    /// The results with which something is kept, by key.
    spools: BTreeSet<String>,
}

impl Store {
    /// As [`Store::check_and`], where the files are in a bucket.
    pub(in crate::store) fn check_bucket(
        &self,
        remote: &Remote,
        repair: Repair,
    ) -> Result<CheckReport, StoreError> {
        let found = find(remote)?;
        // Behind the list: one that was stored since is not on it, and one that is about to be has a note or a row.
        let mut conn = self.connection()?;
        let rows = glbs::all(&mut conn)?;
        let noted: Vec<String> = removed_files::table
            .select(removed_files::file_path)
            .load(&mut *conn)?;
        drop(conn);
        let abandoned = self.abandoned()?;
        let mut report = CheckReport {
            rows: rows.len(),
            files: found.glbs.len(),
            ..CheckReport::default()
        };
        let mut known: BTreeSet<String> = rows.iter().map(|row| key(&row.file_path)).collect();
        known.extend(noted.iter().map(|path| key(path)));
        let unclaimed: Vec<&String> = found.glbs.keys().filter(|k| !known.contains(*k)).collect();
        let lone = |glb: &&String| !known.contains(*glb) && !found.glbs.contains_key(*glb);
        let lone: Vec<&String> = found.spools.iter().filter(lone).collect();
        let folders = self.left_folders(remote)?;
        report.unclaimed = unclaimed.iter().map(|key| remote.named(key)).collect();
        let abandoned_keys = abandoned.iter().map(|path| key(path));
        let spools = lone.iter().map(|glb| super::spool_prefix(glb));
        let inputs = folders.iter().map(|dir| job_prefix(dir));
        let left = abandoned_keys.chain(spools).chain(inputs);
        report.temporary = left.map(|key| remote.named(&key)).collect();
        for row in rows {
            let length = found.glbs.get(&key(&row.file_path)).copied();
            match length {
                // It was removed, or moved, since the list was made.
                None if self.find_glb(&row.hashed_name)?.is_none() => report.rows -= 1,
                // Stored since.
                None if remote.bucket.exists(&key(&row.file_path))? => {}
                None => report.missing.push(row),
                Some(length) if length == row.file_size => {}
                Some(length) if length_in_header(remote, &row)? == Some(length) => {
                    report.wrong_size.push(row);
                }
                Some(_) => report.damaged.push(row),
            }
        }
        if repair != Repair::No {
            let size =
                |row: &GlbFile| Ok(found.glbs.get(&key(&row.file_path)).copied().unwrap_or(0));
            let mut conn = self.connection()?;
            conn.write(|conn| self.repair_rows(conn, repair, &mut report, size))?;
            drop(conn);
            let set_aside = report.damaged.iter().map(|row| key(&row.file_path));
            let damaged: Vec<String> = match report.kept {
                0 => set_aside.collect(),
                _ => Vec::new(),
            };
            for key in damaged.iter().chain(unclaimed) {
                self.set_aside_object(remote, key)?;
            }
            for glb in lone {
                remote.bucket.delete_prefix(&super::spool_prefix(glb))?;
            }
            self.sweep_bucket()?;
            self.finish_removals()?;
        }
        Ok(report)
    }

    /// Returns how many of the files and folders that the rows name are in the bucket.
    pub(in crate::store) fn count_objects(
        &self,
        remote: &Remote,
        rows: &[GlbFile],
        dirs: &[String],
    ) -> Result<usize, StoreError> {
        let mut there = BTreeSet::new();
        for entry in remote.bucket.list("") {
            let key = entry?.key;
            there.insert(match job_of(&key) {
                Some(dir) => job_prefix(dir),
                None => key,
            });
        }
        let rows = rows.iter().map(|row| key(&row.file_path));
        let dirs = dirs.iter().map(|dir| job_prefix(dir));
        Ok(rows.chain(dirs).filter(|key| there.contains(key)).count())
    }
}

fn find(remote: &Remote) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for entry in remote.bucket.list("") {
        let entry = entry?;
        match glb_of(&entry.key) {
            Some(glb) if glb == entry.key => {
                found.glbs.insert(glb, entry.length);
            }
            Some(glb) => {
                found.spools.insert(glb);
            }
            None => {}
        }
    }
    Ok(found)
}

/// Returns the length in the header of a GLB.
fn length_in_header(remote: &Remote, row: &GlbFile) -> Result<Option<u64>, StoreError> {
    let object = match remote.bucket.head(&key(&row.file_path)) {
        Ok(object) => object,
        // It is not as long as it was.
        Err(BucketError::Damaged { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let head = remote.bucket.read(&object, 0..HEADER.min(object.length))?;
    Ok(crate::store::check::length_in_header(&head.into_bytes()?))
}
