//! Notes on an image, as the two processes say them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::frames::{ImageNote, RAW_FORMATS};

/// [`ImageNote`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Note {
    Truncated(u8),
    TruncatedDetail,
    Preview(String, u32, u32),
    FirstOfMany(String),
    Scaled([u32; 4]),
}

/// What an image file has several of, in [`ImageNote::FirstOfMany`].
const MANY: [&str; 2] = ["pages", "frames"];

/// Notes of one image, at most: there are fewer kinds.
const MAX_NOTES: usize = 8;

impl Note {
    pub(super) fn of(note: &ImageNote) -> Option<Self> {
        Some(match note {
            ImageNote::Truncated { missing_percent } => Self::Truncated(*missing_percent),
            ImageNote::TruncatedDetail => Self::TruncatedDetail,
            ImageNote::Preview {
                format,
                width,
                height,
            } => Self::Preview((*format).to_owned(), *width, *height),
            ImageNote::FirstOfMany { what } => Self::FirstOfMany((*what).to_owned()),
            ImageNote::Scaled {
                width,
                height,
                to_width,
                to_height,
            } => Self::Scaled([*width, *height, *to_width, *to_height]),
            _ => return None,
        })
    }

    fn told(self) -> Option<ImageNote> {
        Some(match self {
            Self::Truncated(missing_percent) => ImageNote::Truncated { missing_percent },
            Self::TruncatedDetail => ImageNote::TruncatedDetail,
            Self::Preview(format, width, height) => ImageNote::Preview {
                format: raw_format(&format)?,
                width,
                height,
            },
            Self::FirstOfMany(what) => ImageNote::FirstOfMany {
                what: MANY.into_iter().find(|known| *known == what)?,
            },
            Self::Scaled([width, height, to_width, to_height]) => ImageNote::Scaled {
                width,
                height,
                to_width,
                to_height,
            },
        })
    }
}

/// Returns the notes of an image; `None` when they are not such as an image can have.
pub(super) fn told_notes(notes: Vec<Note>) -> Option<Vec<ImageNote>> {
    let mut kinds = HashSet::new();
    let is_new = |note: &Note| kinds.insert(std::mem::discriminant(note));
    if notes.len() > MAX_NOTES || !notes.iter().all(is_new) {
        return None;
    }
    notes.into_iter().map(Note::told).collect()
}

/// Returns the name of a RAW format, if it is one.
pub(super) fn raw_format(name: &str) -> Option<&'static str> {
    RAW_FORMATS.into_iter().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_the_way_and_others_are_refused() {
        let notes = vec![
            ImageNote::Truncated { missing_percent: 3 },
            ImageNote::TruncatedDetail,
            ImageNote::Preview {
                format: "CR2",
                width: 1,
                height: 2,
            },
            ImageNote::FirstOfMany { what: "pages" },
            ImageNote::Scaled {
                width: 4,
                height: 3,
                to_width: 2,
                to_height: 1,
            },
        ];
        let sent: Vec<Note> = notes.iter().filter_map(Note::of).collect();
        assert_eq!(told_notes(sent), Some(notes));
        for bad in [
            Note::Preview("EXE".to_owned(), 1, 1),
            Note::FirstOfMany("lies".to_owned()),
        ] {
            assert_eq!(told_notes(vec![bad]), None);
        }
        let twice = vec![Note::TruncatedDetail, Note::TruncatedDetail];
        assert_eq!(told_notes(twice), None);
    }
}
