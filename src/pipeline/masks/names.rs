//! Which file of a folder is the mask of which picture, by their names.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

/// Returns the names that the mask of a picture may have, as messages list them, with `*` for any ending.
pub(super) fn looked_for(picture: &str) -> String {
    let name = Path::new(picture).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let stem = stem_of(&name);
    format!("{stem}_mask.*, {stem}.mask.*, mask_{stem}.*, {name}, {name}.* and {stem}.*")
}

/// Files by their names in lower case, and by these without the ending.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_name: HashMap<String, Vec<PathBuf>>,
    by_stem: HashMap<String, Vec<PathBuf>>,
}

impl Index {
    /// Makes the index of the files of one folder.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let mut index = Self::default();
        for path in files {
            let name = path.file_name().unwrap_or_default();
            let name = name.to_string_lossy().to_lowercase();
            let by_stem = index.by_stem.entry(stem_of(&name).to_owned());
            by_stem.or_default().push(path.clone());
            index.by_name.entry(name).or_default().push(path);
        }
        index
    }

    /// Returns the files that may be the mask of the picture with this name, sorted: those that say that they are masks, or if there are
    /// none, those with its whole name, or if there are none, those with its name without the ending.
    ///
    /// So a folder may hold the pictures too, and pictures whose names differ only in the ending may have masks of their own.
    pub(super) fn candidates(&self, picture: &str) -> Vec<PathBuf> {
        let name = picture.to_lowercase();
        let stem = stem_of(&name);
        let called_masks: [Vec<&PathBuf>; 2] = [name.as_str(), stem].map(|name| {
            let names = [
                format!("{name}_mask"),
                format!("{name}.mask"),
                format!("mask_{name}"),
            ];
            names.iter().flat_map(|stem| self.with_stem(stem)).collect()
        });
        let same_name = self.by_name.get(&name).into_iter().flatten();
        let whole_name = same_name.chain(self.with_stem(&name)).collect();
        let tiers: [Vec<&PathBuf>; 3] = [
            called_masks.concat(),
            whole_name,
            self.with_stem(stem).collect(),
        ];
        let first = tiers.into_iter().find(|tier| !tier.is_empty());
        let mut found: Vec<PathBuf> = first.into_iter().flatten().cloned().collect();
        found.sort();
        found.dedup();
        found
    }

    fn with_stem(&self, stem: &str) -> impl Iterator<Item = &PathBuf> {
        self.by_stem.get(stem).into_iter().flatten()
    }
}

/// Returns a name without its last ending.
fn stem_of(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// Returns folder and file name of a picture, whose name may have folders in it; what is not a plain name is left out, since saved
/// predictions hold names of anybody's choice.
pub(super) fn split(picture: &str) -> (PathBuf, String) {
    let plain: PathBuf = Path::new(picture)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let name = plain.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let folder = plain.parent().map(Path::to_path_buf).unwrap_or_default();
    (folder, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(files: &[&str], picture: &str) -> Vec<String> {
        let index = Index::new(files.iter().map(PathBuf::from).collect());
        let found = index.candidates(picture).into_iter();
        found.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn every_usual_name_of_a_mask_is_found_in_any_case() {
        let names = [
            "IMG_1.jpg",
            "IMG_1.png",
            "img_1.PNG",
            "IMG_1.jpg.png",
            "IMG_1.JPG.PNG",
            "IMG_1_mask.png",
            "IMG_1.mask.png",
            "mask_IMG_1.png",
            "IMG_1.jpg_mask.png",
            "mask_IMG_1.jpg.webp",
            "IMG_1.jpg.mask",
            "img_1.tif",
        ];
        for name in names {
            let others = [
                "IMG_10.png",
                "IMG_2_mask.png",
                "IMG_1_depth.png",
                "1.png",
                "mask.png",
            ];
            let files = [&[name], &others[..]].concat();
            assert_eq!(candidates(&files, "IMG_1.jpg"), [name]);
        }
        assert_eq!(
            candidates(&["IMG_10.png", "mask.png"], "IMG_1.jpg"),
            [""; 0]
        );
    }

    #[test]
    fn a_name_that_says_mask_goes_first_then_the_whole_name() {
        let files = ["a.png", "a.jpg.png", "a.png.png"];
        assert_eq!(candidates(&files, "a.jpg"), ["a.jpg.png"]);
        let mixed = ["a.jpg", "a_mask.png", "b.jpg"];
        assert_eq!(candidates(&mixed, "a.jpg"), ["a_mask.png"]);
        assert_eq!(candidates(&files, "a.png"), ["a.png", "a.png.png"]);
        assert_eq!(
            candidates(&["a_mask.png", "mask_a.png"], "a.jpg"),
            ["a_mask.png", "mask_a.png"]
        );
    }

    #[test]
    fn a_name_leads_out_of_no_folder() {
        let of = |picture: &str| {
            let (folder, name) = split(picture);
            (folder.display().to_string(), name)
        };
        assert_eq!(
            of("left/001.jpg"),
            ("left".to_owned(), "001.jpg".to_owned())
        );
        assert_eq!(
            of("../../etc/a.png"),
            ("etc".to_owned(), "a.png".to_owned())
        );
        assert_eq!(of("/a.png"), (String::new(), "a.png".to_owned()));
        assert_eq!(of(".."), (String::new(), String::new()));
    }
}
