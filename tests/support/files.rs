//! Where the services of tests have their files: a folder, or with `VGGT_TEST_FILES=s3` a bucket of an S3 server.
//!
//! Each folder of a test has a server of its own, which keeps the objects as files below `.s3`, with the names that files of a service with
//! a folder have: tests may look at them there.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use vggt::store::{Bucket, BucketSettings, GlbFile, OutRoot, Store};

use super::bucket::S3;

/// Name of the bucket.
const BUCKET: &str = "out";

/// Name of the folder of a server and of what belongs to it, in that of a test.
pub(crate) const FOLDER: &str = ".s3";

/// Whether the tests' services have their files in a bucket.
pub(crate) fn is_bucket() -> bool {
    std::env::var("VGGT_TEST_FILES").is_ok_and(|name| name == "s3")
}

/// Ends a test of what only a folder has: disks that are full or not mounted, links, modes, locks, and files that others put there.
macro_rules! only_for_folders {
    () => {
        if $crate::support::files::is_bucket() {
            return;
        }
    };
}
pub(crate) use only_for_folders;

/// The folder of the files of the service in a folder: of a bucket, that of the server.
pub(crate) fn out_of(dir: &Path) -> PathBuf {
    match is_bucket() {
        true => out_of_bucket(dir),
        false => dir.join("out"),
    }
}

/// The folder of the objects of the server of a folder.
pub(crate) fn out_of_bucket(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join("s3").join(BUCKET)
}

/// The local folder of processes whose files are in that bucket.
pub(crate) fn scratch_of(dir: &Path) -> PathBuf {
    dir.join(FOLDER).join("scratch")
}

/// Where the file of a row is.
pub(crate) fn stored_at(store: &Store, row: &GlbFile) -> PathBuf {
    if !is_bucket() {
        return store.glb_path(row);
    }
    let folder = store.out_root().ancestors().nth(2).unwrap();
    let key = row.file_path.strip_prefix("out/").unwrap();
    folder.join("s3").join(BUCKET).join(key)
}

/// Where the files of the service in a folder are.
pub(crate) fn out_root_of(dir: &Path) -> OutRoot {
    if !is_bucket() {
        return dir.join("out").into();
    }
    bucket_of(dir)
}

/// A bucket of the server of a folder, whether or not the tests' services have one.
pub(crate) fn bucket_of(dir: &Path) -> OutRoot {
    let settings = BucketSettings::from_variables(server_of(dir));
    OutRoot::Bucket {
        bucket: Bucket::with(&format!("s3://{BUCKET}").parse().unwrap(), &settings).unwrap(),
        scratch: scratch_of(dir),
    }
}

/// The variables by which the program in a folder finds its files.
pub(crate) fn variables_of(dir: &Path) -> Vec<(String, String)> {
    match is_bucket() {
        true => bucket_variables_of(dir),
        false => Vec::new(),
    }
}

/// As [`variables_of`] with a bucket, whether or not the tests' services have one.
pub(crate) fn bucket_variables_of(dir: &Path) -> Vec<(String, String)> {
    let mut variables = server_of(dir);
    let scratch = scratch_of(dir).into_os_string().into_string().unwrap();
    variables.push(("VGGT_OUT_ROOT".to_owned(), format!("s3://{BUCKET}")));
    variables.push(("VGGT_SCRATCH".to_owned(), scratch));
    variables
}

/// The variables that lead to the server of a folder, which is started with the first call and ends with the tests' process.
fn server_of(dir: &Path) -> Vec<(String, String)> {
    static SERVERS: Mutex<Option<HashMap<PathBuf, S3>>> = Mutex::new(None);
    let mut servers = SERVERS.lock().unwrap();
    let servers = servers.get_or_insert_default();
    let server = servers.entry(dir.to_owned()).or_insert_with(|| {
        fs::create_dir_all(out_of_bucket(dir)).unwrap();
        S3::start_in(&dir.join(FOLDER).join("s3"))
    });
    server.variables()
}
