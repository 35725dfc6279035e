//! Paths on the command line -> what they are: image files, one folder or one video.

use std::{fs, path::PathBuf};

use anyhow::Context;

use super::UsageError;
use crate::frames::{is_image_file, is_named_as_image, is_video_file};

/// What the paths on a command line are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inputs {
    /// Image files, or files that claim to be images.
    Images(Vec<PathBuf>),
    /// One folder.
    Folder(PathBuf),
    /// One file that is not an image.
    Video(PathBuf),
}

/// Tells folders, videos and images apart. A file that cannot be told counts as a video when it is alone, and as an image
/// among others.
///
/// # Errors
/// When a path does not exist, or a folder or a video is not alone.
pub(super) fn sort(paths: &[PathBuf]) -> anyhow::Result<Inputs> {
    for path in paths {
        let cannot = || format!("cannot read \"{}\"", path.display());
        let is_folder = fs::metadata(path).with_context(cannot)?.is_dir();
        let alone = paths.len() == 1;
        if is_folder && alone {
            return Ok(Inputs::Folder(path.clone()));
        }
        let is_image = is_image_file(path) || (is_named_as_image(path) && !is_video_file(path));
        if !is_folder && alone && !is_image {
            return Ok(Inputs::Video(path.clone()));
        }
        if is_folder || is_video_file(path) {
            let what = if is_folder { "folder" } else { "video" };
            return Err(UsageError(format!(
                "cannot use the {what} \"{}\" together with other inputs: give image files, or one folder of images, or one \
                 video",
                path.display()
            ))
            .into());
        }
    }
    Ok(Inputs::Images(paths.to_vec()))
}

/// Returns a path as a shell takes it.
pub(super) fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=@:,".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}
