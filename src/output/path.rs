//! What a path names by its spelling alone: a stream, a file of a known ending, or a folder.

use std::{
    fs::Metadata,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::OutputError;

/// What a user's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, or a stream, without a meaning in its ending.
    Stream,
    /// A file whose lower-case ending is one of those asked for.
    File(String),
    /// A folder.
    Folder,
}

/// Returns the ending of a path in lower case, without the dot.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

/// Tells what `path` names, where files may have the endings `known`, in lower case.
///
/// A trailing slash, an existing folder, and a name without an ending are folders.
///
/// # Errors
/// When the ending is none of `known`.
pub fn place(path: &Path, known: &[&str]) -> Result<Place, OutputError> {
    let by_ending = extension(path).filter(|ending| known.contains(&ending.as_str()));
    if is_stream(path) {
        return Ok(by_ending.map_or(Place::Stream, Place::File));
    }
    let last = path.as_os_str().as_encoded_bytes().last();
    let slash = last.is_some_and(|last| std::path::is_separator(char::from(*last)));
    if slash || path.is_dir() {
        return Ok(Place::Folder);
    }
    match (by_ending, extension(path)) {
        (Some(ending), _) => Ok(Place::File(ending)),
        (None, None) => Ok(Place::Folder),
        (None, Some(ending)) => Err(OutputError::Ending {
            path: path.to_owned(),
            ending,
            known: listed(known),
        }),
    }
}

/// Returns true for standard output and whatever is there and neither a file nor a folder.
fn is_stream(path: &Path) -> bool {
    is_standard_output(path)
        || path
            .metadata()
            .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
        || is_descriptor(path)
}

/// Returns true for the names of standard output.
pub(super) fn is_standard_output(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .map(Path::new)
        .contains(&path)
}

/// Returns true for the name of standard error.
pub(super) fn is_standard_error(path: &Path) -> bool {
    ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]
        .map(Path::new)
        .contains(&path)
}

/// Returns true for the names of open files: what lies behind them must not be replaced by a rename.
pub(super) fn is_descriptor(path: &Path) -> bool {
    is_standard_error(path)
        || path.starts_with("/dev/fd")
        || path.starts_with("/proc/self/fd")
        || path.starts_with("/proc/thread-self/fd")
}

fn listed(known: &[&str]) -> String {
    let dotted: Vec<String> = known.iter().map(|ending| format!(".{ending}")).collect();
    match dotted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => dotted.concat(),
    }
}

/// Returns `path` or the nearest folder above it that exists, the current one for a relative path, and what it is.
pub(super) fn existing(path: &Path) -> Option<(&Path, Metadata)> {
    path.ancestors().find_map(|above| {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        Some((above, above.metadata().ok()?))
    })
}

/// Returns the path that writing to `path` reaches through symbolic links, whether or not it exists.
///
/// # Errors
/// When the links form a loop, or one cannot be read.
pub(super) fn follow(path: &Path) -> std::io::Result<PathBuf> {
    // Linux: MAXSYMLINKS, the most links that the kernel follows.
    const MAX_LINKS: usize = 40;
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        // What these lead to is an open file and not a path.
        if is_standard_output(&at) || is_descriptor(&at) {
            return Ok(at);
        }
        match at.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                let target = at.read_link()?;
                at = at.parent().unwrap_or(Path::new("")).join(target);
            }
            Ok(_) => return Ok(at),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(at);
            }
            Err(e) => return Err(e),
        }
    }
    Err(std::io::Error::other("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["glb", "html", "ply"];

    fn of(path: &str) -> Result<Place, OutputError> {
        place(Path::new(path), &KNOWN)
    }

    #[test]
    fn a_known_ending_counts_whatever_its_case() {
        for path in ["a.glb", "no/such/A.GLB", "a.b.Glb"] {
            assert_eq!(of(path).unwrap(), Place::File("glb".to_owned()), "{path}");
        }
    }

    #[test]
    fn no_ending_and_a_trailing_slash_are_folders() {
        for path in ["outputs", "a.glb/", "no/such/folder", "..", ".hidden"] {
            assert_eq!(of(path).unwrap(), Place::Folder, "{path}");
        }
    }

    #[test]
    fn an_unknown_ending_is_an_error_that_lists_the_known_ones() {
        for path in ["a.obj", "a.gltf", "a.usdz", "a.las", "a.npz", "a.glb.bak"] {
            let e = of(path).unwrap_err().to_string();
            assert!(e.contains(".glb, .html or .ply"), "{e}");
        }
    }

    #[test]
    fn devices_and_standard_output_are_streams() {
        for path in ["-", "/dev/stdout", "/dev/null", "/dev/fd/1"] {
            assert_eq!(of(path).unwrap(), Place::Stream, "{path}");
        }
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("a");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(follow(&link).is_err());
    }
}
