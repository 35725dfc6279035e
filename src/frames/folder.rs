//! Which files of a folder are images, in which order, and why the others are not.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use vggt_model::preprocess::SIGNATURE_BYTES;

use super::{
    FramesError, SkipReason, SkippedFile, SkippedFiles,
    companions::{is_image_name, is_video_name, leave_out},
    order::natural,
    read::is_readable,
};

/// The files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    /// The images, in natural order of their names.
    pub images: Vec<PathBuf>,
    /// The other files, companions of photos not among them.
    pub skipped: SkippedFiles,
}

/// Lists the images of a folder, in natural order: img2 before img10.
///
/// The content decides, not the name. Subfolders and known companions of photos are passed over in silence: hidden files,
/// sidecars (XMP, AAE), our own depth maps, a Live Photo's video, the RAW file beside its JPEG, the original beside its edit
/// (IMG_1234 beside IMG_E1234). A file that is not an image by its first bytes hides no other. Other files that are not images
/// are listed with a reason.
///
/// # Errors
/// When the folder cannot be read, or holds no image.
pub fn list_folder(dir: &Path) -> Result<Folder, FramesError> {
    let fail = |source| FramesError::Read {
        path: dir.to_path_buf(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if !path.is_dir() {
            files.push(path);
        }
    }
    files.sort_by(|a, b| {
        let name = |path: &'_ PathBuf| path.file_name().unwrap_or_default().to_owned();
        natural(&name(a), &name(b))
    });
    leave_out(&mut files, |path| look_at(path).is_none());
    let mut folder = Folder::default();
    for path in files {
        match look_at(&path) {
            None => folder.images.push(path),
            Some(reason) => folder.skipped.0.push(skipped(&path, reason)),
        }
    }
    if folder.images.is_empty() {
        return Err(no_images(dir, folder.skipped));
    }
    Ok(folder)
}

/// Returns the error of a folder of which no file can be used.
pub(crate) fn no_images(dir: &Path, skipped: SkippedFiles) -> FramesError {
    FramesError::NoImages {
        path: dir.to_path_buf(),
        skipped,
    }
}

/// Returns a file that is not used.
pub(crate) fn skipped(path: &Path, reason: SkipReason) -> SkippedFile {
    let name = path.file_name().unwrap_or(path.as_os_str());
    SkippedFile {
        name: name.to_string_lossy().into_owned(),
        reason,
    }
}

/// Returns why a file is not an image; `None` when it is one.
fn look_at(path: &Path) -> Option<SkipReason> {
    let mut file = match open_if_regular(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Some(SkipReason::NotAFile),
        Err(e) => return Some(SkipReason::of_io(&e)),
    };
    kind_of(path, &mut file).unwrap_or_else(|e| Some(SkipReason::of_io(&e)))
}

/// As [`look_at`], of an open file with this name.
fn kind_of(name: &Path, file: &mut File) -> io::Result<Option<SkipReason>> {
    let head = head_of(file)?;
    Ok(match () {
        () if head.is_empty() => Some(SkipReason::Empty),
        () if is_readable(file, &head) => None,
        () if is_video(name, &head) => Some(SkipReason::Video),
        () => Some(SkipReason::NotAnImage),
    })
}

/// Opens a file; `None` when it is not a regular one. Symbolic links are followed; opening a pipe would wait for its other
/// end.
fn open_if_regular(path: &Path) -> io::Result<Option<File>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    File::open(path).map(Some)
}

/// Returns the first bytes of a file.
fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(SIGNATURE_BYTES);
    file.rewind()?;
    file.take(SIGNATURE_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether a file is an image of a known format, by its content.
pub fn is_image_file(path: &Path) -> bool {
    let file = open_if_regular(path).ok().flatten();
    file.is_some_and(|mut file| is_open_image(&mut file))
}

/// As [`is_image_file`], of an open file.
pub(super) fn is_open_image(file: &mut File) -> bool {
    head_of(file).is_ok_and(|head| is_readable(file, &head))
}

/// Whether a file claims by its name to be an image.
pub fn is_named_as_image(path: &Path) -> bool {
    is_image_name(path)
}

/// Whether a file is a video, by its first bytes or, where these are not known, its name. An image is none, whatever its
/// name.
pub fn is_video_file(path: &Path) -> bool {
    let file = open_if_regular(path).ok().flatten();
    file.is_some_and(|mut file| is_open_video(path, &mut file))
}

/// As [`is_video_file`], of an open file with this name.
pub(super) fn is_open_video(name: &Path, file: &mut File) -> bool {
    head_of(file).is_ok_and(|head| !is_readable(file, &head) && is_video(name, &head))
}

/// Whether a file that begins with `head` claims by it or by its name to be a video.
pub fn is_video_head(name: &Path, head: &[u8]) -> bool {
    is_video(name, head)
}

fn is_video(path: &Path, head: &[u8]) -> bool {
    /// Brands of ISO files that are images: their reader may not be there.
    const IMAGES: [&[u8]; 8] = [
        b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1", b"avif", b"avis",
    ];
    let brand = head.get(8..12).unwrap_or_default();
    match head {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => !IMAGES.contains(&brand),
        // Matroska and WebM; AVI.
        [0x1A, 0x45, 0xDF, 0xA3, ..] => true,
        [b'R', b'I', b'F', b'F', ..] if brand.starts_with(b"AVI") => true,
        // Transport streams: their packets begin with 0x47, and other files have this ending too.
        _ if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("ts")) =>
        {
            head.starts_with(&[0x47])
        }
        _ => is_video_name(path),
    }
}
