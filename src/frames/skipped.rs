//! Files of a folder that are not used, and why.

use std::{fmt, io};

use serde::{Deserialize, Serialize};
use vggt_model::preprocess::PreprocessError;

/// Why a file of a folder is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its content is of no known image format.
    NotAnImage,
    /// It is a video.
    Video,
    /// It is not a regular file but a pipe, a socket or a device.
    NotAFile,
    /// It has no content.
    Empty,
    /// The file system does not let this user read it.
    PermissionDenied,
    /// The file system cannot read it.
    Unreadable,
    /// It ends before the first pixels.
    CutOff,
    /// It cannot be decoded.
    Damaged,
    /// It is of a variant of its format that is not read.
    Unsupported,
    /// It is a RAW file without a JPEG preview.
    NoPreview,
    /// It exceeds a limit on images.
    TooLarge,
}

impl SkipReason {
    /// Returns the reason of an error of the file system.
    pub(crate) fn of_io(e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Unreadable,
        }
    }

    /// Returns the reason of an error of reading or decoding one image; `None` when it is not the image's.
    pub(crate) fn of(e: &PreprocessError) -> Option<Self> {
        Some(match e {
            PreprocessError::Read { source, .. } => Self::of_io(source),
            PreprocessError::NotAnImage { .. } => Self::NotAnImage,
            PreprocessError::Truncated { .. } => Self::CutOff,
            PreprocessError::Decode { .. }
            | PreprocessError::Container { .. }
            | PreprocessError::NoPixels { .. } => Self::Damaged,
            PreprocessError::Unsupported { .. } => Self::Unsupported,
            PreprocessError::NoPreview { .. } => Self::NoPreview,
            PreprocessError::ImageTooLarge { .. }
            | PreprocessError::FileTooLarge { .. }
            | PreprocessError::NeedsMemory { .. } => Self::TooLarge,
            _ => return None,
        })
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnImage => "not an image",
            Self::Video => "not an image but a video",
            Self::NotAFile => "not a regular file",
            Self::Empty => "empty",
            Self::PermissionDenied => "permission denied",
            Self::Unreadable => "cannot be read",
            Self::CutOff => "cut off",
            Self::Damaged => "damaged",
            Self::Unsupported => "of a kind that is not read",
            Self::NoPreview => "RAW without a JPEG preview",
            Self::TooLarge => "above the limits on images",
        })
    }
}

/// A file that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Its name, without the folder.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// The files of a folder that are not used. Displays them grouped by reason, with some names each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFiles(pub Vec<SkippedFile>);

/// Names that are displayed for each reason: enough to find the files, and one line for hundreds.
const NAMES: usize = 3;

impl SkippedFiles {
    /// Returns the names for each reason, in the order of the reasons.
    #[must_use]
    pub fn groups(&self) -> Vec<(SkipReason, Vec<&str>)> {
        let mut reasons: Vec<SkipReason> = self.0.iter().map(|file| file.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let names = |reason: SkipReason| {
            let of_reason = self.0.iter().filter(move |file| file.reason == reason);
            of_reason.map(|file| file.name.as_str()).collect()
        };
        reasons.into_iter().map(|r| (r, names(r))).collect()
    }
}

impl fmt::Display for SkippedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, names)) in self.groups().iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {reason} (", names.len())?;
            for (i, name) in names.iter().take(NAMES).enumerate() {
                write!(f, "{}{name:?}", if i == 0 { "" } else { ", " })?;
            }
            match names.len().saturating_sub(NAMES) {
                0 => f.write_str(")")?,
                more => write!(f, " and {more} more)")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_grouped_by_reason_with_some_of_their_names() {
        let file = |name: &str, reason| SkippedFile {
            name: name.to_owned(),
            reason,
        };
        let mut files = SkippedFiles(vec![
            file("a.jpg", SkipReason::CutOff),
            file("notes.txt", SkipReason::NotAnImage),
            file("b.jpg", SkipReason::CutOff),
        ]);
        assert_eq!(
            files.to_string(),
            "1 not an image (\"notes.txt\"), 2 cut off (\"a.jpg\", \"b.jpg\")"
        );
        for name in ["c", "d", "e"] {
            files.0.push(file(name, SkipReason::CutOff));
        }
        assert!(
            files
                .to_string()
                .ends_with("5 cut off (\"a.jpg\", \"b.jpg\", \"c\" and 2 more)")
        );
    }
}
