//! The page of the tests' data, tools/fixtures/README.md: every folder of data has a row, and every script is there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::repository;

const PAGE: &str = "tools/fixtures/README.md";

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Folders below `folder` that hold files, relative to the repository, with a slash at the end.
fn folders_with_files(folder: &Path, found: &mut BTreeSet<String>) {
    for path in entries(folder) {
        if path.is_dir() {
            folders_with_files(&path, found);
        } else {
            let folder = folder.strip_prefix(repository("")).unwrap();
            found.insert(format!("{}/", folder.to_str().unwrap()));
        }
    }
}

#[test]
fn every_folder_of_test_data_is_on_the_page_of_the_generators() {
    let page = fs::read_to_string(repository(PAGE)).unwrap();
    let mut folders = BTreeSet::new();
    for data in ["tests/data", "model/tests/data", "model/demo"] {
        folders_with_files(&repository(data), &mut folders);
    }
    assert!(folders.len() > 8, "{folders:?}");
    folders.retain(|folder| !page.contains(&format!("`{folder}")));
    assert!(folders.is_empty(), "{PAGE} lacks {folders:?}");
}

#[test]
fn the_page_of_the_generators_names_the_scripts_that_are_there() {
    let page = fs::read_to_string(repository(PAGE)).unwrap();
    let is_script = |name: &&str| name.starts_with("make_") && !name.contains('*');
    let named: BTreeSet<&str> = page.split('`').filter(is_script).collect();
    let paths = entries(&repository("tools/fixtures"));
    let names = paths.iter().map(|path| path.file_name().unwrap());
    let scripts = names.filter_map(|name| name.to_str()).filter(is_script);
    assert_eq!(named, scripts.collect());
}
