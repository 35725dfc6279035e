//! What the photos of a source note of themselves.

use rayon::prelude::*;

use super::Source;
use crate::frames::{PhotoNotes, read_note};

/// Returns what photos note, by the names of their frames; of a video and the demo nothing.
///
/// Reads the files again, since frames are kept without the originals' metadata: headers only, some milliseconds a photo.
pub fn photo_notes(source: &Source) -> PhotoNotes {
    if matches!(source, Source::Demo | Source::Video(_)) {
        return PhotoNotes::default();
    }
    let files = source.named_files();
    let notes = files
        .par_iter()
        .map(|(name, path)| (name.clone(), read_note(path)));
    PhotoNotes(notes.collect())
}
