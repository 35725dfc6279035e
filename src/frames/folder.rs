//! Which files of a folder are images.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use vggt_model::preprocess::{SIGNATURE_BYTES, is_image};

use super::FramesError;

/// The image files of a folder, sorted by name (by the bytes of the name, as Python sorts).
///
/// Sub-folders and names that start with a dot are passed over in silence. Other files that are no
/// image, by their first bytes and not by their ending, are skipped with a warning in the log.
///
/// # Errors
/// When the folder cannot be read, or holds no image.
pub fn list_folder(dir: &Path) -> Result<Vec<PathBuf>, FramesError> {
    let fail = |source| FramesError::Read {
        path: dir.to_path_buf(),
        source,
    };
    let mut pictures = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Follows symbolic links; opening a pipe would wait for its other end.
        let regular = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if hidden || path.is_dir() {
            continue;
        }
        if regular && is_picture(&path) {
            pictures.push(path);
        } else {
            tracing::warn!(path = %path.display(), "skipping \"{}\": not a picture", path.display());
        }
    }
    if pictures.is_empty() {
        return Err(FramesError::NoPictures {
            path: dir.to_path_buf(),
        });
    }
    pictures.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(pictures)
}

/// Whether a file is an image of a known format, by its first bytes.
pub fn is_picture(path: &Path) -> bool {
    let mut head = Vec::with_capacity(SIGNATURE_BYTES);
    File::open(path)
        .and_then(|file| file.take(SIGNATURE_BYTES as u64).read_to_end(&mut head))
        .is_ok()
        && is_image(&head)
}
