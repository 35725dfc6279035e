//! Names of images: distinct ones for frames, and ones that every trainer reads for a dataset.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

/// Returns one name for each path: the file's name, or where two files have the same, the path below the folder that all
/// of them have in common, with forward slashes. A file that is given twice gets a number.
pub(in super::super) fn distinct_names(paths: &[PathBuf]) -> Vec<String> {
    let names: Vec<String> = paths.iter().map(|path| file_name(path)).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    if distinct.len() == names.len() {
        return names;
    }
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let paths: Vec<PathBuf> = paths.iter().map(absolute).collect();
    let common = common_folder(&paths);
    let below = paths.iter().map(|path| {
        let below = path.strip_prefix(&common).unwrap_or(path);
        joined(below)
    });
    numbered(below)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn common_folder(paths: &[PathBuf]) -> PathBuf {
    let mut folders = paths.iter().filter_map(|path| path.parent());
    let Some(first) = folders.next() else {
        return PathBuf::new();
    };
    let shared = |a: PathBuf, b: &Path| {
        let both = a.components().zip(b.components());
        both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    };
    folders.fold(first.to_owned(), shared)
}

/// Joins what is a name in a path by forward slashes, without `..` and roots.
fn joined(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the names of a dataset's images for frames of these names and extensions, in the same order.
///
/// COLMAP's text form ends a name at the first blank, and shells and URLs stumble over more: what is not a letter, a digit or
/// one of `._-/` becomes `_`.
pub(super) fn of_dataset<'a>(
    frames: impl Iterator<Item = (&'a str, Option<&'static str>)>,
) -> Vec<String> {
    let plain = |c: char| match c {
        c if c.is_alphanumeric() || "._-/".contains(c) => c,
        _ => '_',
    };
    numbered(frames.map(|(name, extension)| {
        let path = Path::new(name);
        let same = |ending: &str| extension == Some(normal(&ending.to_lowercase()));
        let keeps = path.extension().and_then(|e| e.to_str()).is_some_and(same);
        let path = match extension {
            Some(extension) if !keeps => path.with_extension(extension),
            _ => path.to_owned(),
        };
        let name: String = joined(&path).chars().map(plain).collect();
        match name.is_empty() {
            true => "image".to_owned(),
            false => name,
        }
    }))
}

/// Returns the usual spelling of an extension.
fn normal(extension: &str) -> &str {
    match extension {
        "jpeg" | "jpe" | "jfif" => "jpg",
        other => other,
    }
}

/// Puts a number before the extension of names that were there before, also of those that differ only in case: some file
/// systems do not tell them apart.
fn numbered(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names
        .map(|name| {
            let mut unique = name.clone();
            let mut number = 2;
            while !seen.insert(unique.to_lowercase()) {
                unique = match name.rsplit_once('.') {
                    Some((stem, ending)) if !ending.contains('/') => {
                        format!("{stem}_{number}.{ending}")
                    }
                    _ => format!("{name}_{number}"),
                };
                number += 1;
            }
            unique
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct(paths: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        distinct_names(&paths)
    }

    #[test]
    fn names_that_collide_keep_their_folders() {
        assert_eq!(distinct(&["/p/a/1.jpg", "/p/b/2.jpg"]), ["1.jpg", "2.jpg"]);
        let found = distinct(&["/p/left/1.jpg", "/p/right/1.jpg", "/p/top.jpg"]);
        assert_eq!(found, ["left/1.jpg", "right/1.jpg", "top.jpg"]);
        let found = distinct(&["a.jpg", "a.jpg", "x/a.jpg"]);
        assert_eq!(found, ["a.jpg", "a_2.jpg", "x/a.jpg"]);
    }

    #[test]
    fn names_of_a_dataset_have_no_blanks_and_differ() {
        let names = [
            ("my photo 1.jpg", Some("jpg")),
            ("my_photo_1.JPG", Some("jpg")),
            ("IMG_1.HEIC", Some("jpg")),
            ("IMG_1.jpeg", Some("jpg")),
            ("left/ä#1.png", Some("png")),
            ("../../etc/passwd", None),
        ];
        let expected = [
            "my_photo_1.jpg",
            "my_photo_1_2.JPG",
            "IMG_1.jpg",
            "IMG_1.jpeg",
            "left/ä_1.png",
            "etc/passwd",
        ];
        assert_eq!(of_dataset(names.into_iter()), expected);
    }
}
