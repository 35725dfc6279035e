//! Files that cameras, phones and programs put beside photos, and that are not photos themselves. They are left out
//! without a word: a folder of a hundred photos with as many sidecars has nothing wrong with it.

use std::{
    collections::HashSet,
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use vggt_model::preprocess::open_regular;

/// Sidecars of editors, phones and cameras, and previews of videos.
const SIDECARS: [&str; 12] = [
    "xmp", "aae", "thm", "lrv", "pp3", "dop", "cos", "on1", "nksc", "arp", "vrd", "db",
];

/// Names of files that file managers leave behind.
const LEFT_BEHIND: [&str; 4] = ["desktop.ini", "picasa.ini", "icon\r", "zbthumbnail.info"];

/// Endings of images that a camera may store beside a RAW file or a video.
const IMAGES: [&str; 12] = [
    "jpg", "jpeg", "jpe", "jfif", "heic", "heif", "hif", "avif", "png", "webp", "tif", "tiff",
];

/// Endings of RAW files.
const RAWS: [&str; 22] = [
    "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "raf", "rw2", "rwl",
    "pef", "srw", "3fr", "fff", "iiq", "dcr", "kdc", "mrw", "x3f",
];

/// Endings of videos.
const VIDEOS: [&str; 15] = [
    "mp4", "mov", "m4v", "mkv", "webm", "avi", "3gp", "3g2", "mts", "m2ts", "ts", "mpg", "mpeg",
    "wmv", "flv",
];

/// Our own list of depth maps, beside them.
const DEPTH_LIST: &str = "depth.json";
const DEPTH_MAP: &str = "_depth.png";
const DEPTH_COLORS: &str = "_depth_color.png";

/// Bytes of a list of depth maps, at most: a thousand names take a tenth of it.
const MAX_LIST: u64 = 1 << 20;

/// Returns whether a name has one of the endings of RAW files.
pub(super) fn is_raw_name(path: &Path) -> bool {
    has(&RAWS, &ending(path))
}

/// Returns whether a name has one of the endings of images or RAW files.
pub(super) fn is_image_name(path: &Path) -> bool {
    has(&IMAGES, &ending(path)) || is_raw_name(path) || has(&["bmp", "gif"], &ending(path))
}

/// Returns whether a name has one of the endings of videos.
pub(super) fn is_video_name(path: &Path) -> bool {
    has(&VIDEOS, &ending(path))
}

fn has(endings: &[&str], ending: &str) -> bool {
    endings.contains(&ending)
}

fn ending(path: &Path) -> String {
    lower(path.extension())
}

fn lower(part: Option<&std::ffi::OsStr>) -> String {
    part.unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Removes the companions of photos from the files of a folder. Only an image that `is_usable` has companions: the RAW file
/// beside an empty JPEG is the photo.
pub(super) fn leave_out(files: &mut Vec<PathBuf>, is_usable: impl Fn(&Path) -> bool) {
    let names: HashSet<String> = files.iter().map(|path| lower(path.file_name())).collect();
    let depth_maps = depth_maps(files, &names);
    let stem = |path: &Path| lower(path.file_stem());
    let is_image = |path: &&PathBuf| has(&IMAGES, &ending(path)) && is_usable(path);
    let images = files.iter().filter(is_image);
    let stems: HashSet<String> = images.map(|path| stem(path)).collect();
    let edited: HashSet<String> = stems.iter().filter_map(|stem| original(stem)).collect();
    files.retain(|path| {
        let (name, stem, ending) = (lower(path.file_name()), stem(path), ending(path));
        let beside_image = stems.contains(&stem);
        let is_companion = name.starts_with('.')
            || has(&SIDECARS, &ending)
            || has(&LEFT_BEHIND, &name)
            // Takeout's descriptions: "photo.jpg.json", "photo.jpg.supplemental-metadata.json".
            || (ending == "json" && describes(&name, &names))
            || depth_maps.contains(&name)
            // A Live Photo's video, and a camera's RAW beside its JPEG.
            || (beside_image && (has(&VIDEOS, &ending) || has(&RAWS, &ending)))
            || edited.contains(&stem);
        !is_companion
    });
}

/// Returns the name of the original of an edited image as iPhones have it: IMG_E1234 is the edit of IMG_1234.
fn original(stem: &str) -> Option<String> {
    let number = stem.strip_prefix("img_e")?;
    let is_number = number.starts_with(|c: char| c.is_ascii_digit());
    is_number.then(|| format!("img_{number}"))
}

fn describes(name: &str, names: &HashSet<String>) -> bool {
    let dots = name.match_indices('.').map(|(at, _)| &name[..at]);
    dots.into_iter().any(|front| names.contains(front))
}

/// Returns the names, in lower case, of the depth maps that `--save-depth` wrote into the folder.
fn depth_maps(files: &[PathBuf], names: &HashSet<String>) -> HashSet<String> {
    let mut maps = HashSet::new();
    let mut add = |stem: &str| {
        maps.insert(format!("{stem}{DEPTH_MAP}"));
        maps.insert(format!("{stem}{DEPTH_COLORS}"));
    };
    // A map beside its colors is ours even if the list was removed.
    for name in names {
        let stem = name.strip_suffix(DEPTH_MAP);
        if let Some(stem) = stem.filter(|s| names.contains(&format!("{s}{DEPTH_COLORS}"))) {
            add(stem);
        }
    }
    let list = files
        .iter()
        .find(|path| path.file_name() == Some(&OsString::from(DEPTH_LIST)));
    if let Some(listed) = list.and_then(|path| read_list(path)) {
        for name in listed {
            if let Some(stem) = name.to_lowercase().strip_suffix(DEPTH_MAP) {
                add(stem);
            }
        }
        maps.insert(DEPTH_LIST.to_owned());
    }
    maps
}

/// Returns all texts in a list of depth maps; `None` when the file is another one.
fn read_list(path: &Path) -> Option<Vec<String>> {
    let mut text = String::new();
    open_regular(path)
        .ok()?
        .take(MAX_LIST)
        .read_to_string(&mut text)
        .ok()?;
    let list: serde_json::Value = serde_json::from_str(&text).ok()?;
    list.get("units_per_value")?;
    let mut texts = Vec::new();
    gather(&list, &mut texts);
    Some(texts)
}

fn gather(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(values) => values.iter().for_each(|v| gather(v, texts)),
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            texts.push(key.clone());
            gather(value, texts);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(names: &[&str]) -> Vec<String> {
        let mut files = names.iter().map(PathBuf::from).collect();
        leave_out(&mut files, |_| true);
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        files.iter().map(text).collect()
    }

    #[test]
    fn sidecars_and_what_file_managers_leave_are_left_out() {
        let names = [
            "a.jpg",
            "a.xmp",
            "a.jpg.xmp",
            "A.AAE",
            "a.jpg.json",
            "Thumbs.db",
            "desktop.ini",
            ".DS_Store",
            "._a.jpg",
            ".trashed-1-a.jpg",
            ".pending-1-a.jpg",
            "A.THM",
            "a.jpg.supplemental-metadata.json",
        ];
        assert_eq!(left(&names), ["a.jpg"]);
        // Others are not companions, and are told.
        assert_eq!(left(&["notes.json", "notes.txt"]).len(), 2);
    }

    #[test]
    fn of_a_raw_and_its_jpeg_and_of_a_live_photo_the_image_stays() {
        assert_eq!(
            left(&["x.DNG", "x.jpg", "y.CR3", "z.heic", "Z.nef"]),
            ["x.jpg", "y.CR3", "z.heic"]
        );
        assert_eq!(
            left(&["x.HEIC", "X.MOV", "clip.mov"]),
            ["x.HEIC", "clip.mov"]
        );
    }

    #[test]
    fn an_image_that_cannot_be_used_has_no_companions() {
        let names = [
            "x.DNG",
            "x.jpg",
            "IMG_1.HEIC",
            "IMG_E1.JPG",
            "Ä.dng",
            "ä.jpg",
        ];
        let mut files = names.map(PathBuf::from).to_vec();
        let broken = ["x.jpg", "IMG_E1.JPG"].map(Path::new);
        leave_out(&mut files, |path| !broken.contains(&path));
        let expected = ["x.DNG", "x.jpg", "IMG_1.HEIC", "IMG_E1.JPG", "ä.jpg"];
        assert_eq!(files, expected.map(PathBuf::from));
    }

    #[test]
    fn of_an_edit_and_its_original_the_edit_stays() {
        let names = [
            "IMG_0001.HEIC",
            "IMG_E0001.JPG",
            "IMG_0001.MOV",
            "IMG_0001.AAE",
            "IMG_0002.HEIC",
        ];
        assert_eq!(left(&names), ["IMG_E0001.JPG", "IMG_0002.HEIC"]);
        // A name that only begins like an edit's.
        assert_eq!(left(&["IMG_.jpg", "IMG_East.jpg", "img_ast.jpg"]).len(), 3);
    }

    #[test]
    fn depth_maps_are_known_by_their_list_or_their_colors() {
        let dir = tempfile::tempdir().unwrap();
        let list = r#"{"units_per_value": 0.1, "files": ["a_depth.png", "B_depth.png"]}"#;
        std::fs::write(dir.path().join("depth.json"), list).unwrap();
        let names = [
            "a.jpg",
            "a_depth.png",
            "a_depth_color.png",
            "B_depth.png",
            "B_depth_color.png",
            "depth.json",
            "c_depth.png",
            "sea_depth.png",
            "sea_depth_color.png",
        ];
        let mut files = names.map(|name| dir.path().join(name)).to_vec();
        leave_out(&mut files, |_| true);
        let expected = ["a.jpg", "c_depth.png"].map(|name| dir.path().join(name));
        assert_eq!(files, expected);
    }
}
