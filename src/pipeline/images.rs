//! Reading images one by one: as many as fit, without those that cannot be used.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use super::{
    PipelineError, SkippedImages, Stage, Warning,
    source::{Item, Reader, Selected, evenly},
    spool::Taken,
};
use crate::frames::{
    Folder, FramesError, ImageNote, PreprocessError, SkipReason, no_images, skipped_file,
};

impl Reader<'_> {
    /// Reads named images: one that cannot be used is an error.
    pub(super) fn images(&mut self, items: &[Item<'_>]) -> Result<Selected, PipelineError> {
        self.take(items, &mut |_, e| Err(e))
    }

    /// Reads the images of a folder: those that cannot be used are skipped, and told.
    pub(super) fn folder(&mut self, dir: &Path, folder: Folder) -> Result<Selected, PipelineError> {
        let Folder {
            images,
            mut skipped,
        } = folder;
        let mut skip = |index: usize, e: PreprocessError| match SkipReason::of(&e) {
            Some(reason) => {
                tracing::debug!("skipping an image: {e}");
                let images: &Vec<PathBuf> = &images;
                skipped.0.push(skipped_file(&images[index], reason));
                Ok(())
            }
            None => Err(e),
        };
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        };
        let items: Vec<Item<'_>> = (images.iter())
            .map(|path| Item::File(name(path), path))
            .collect();
        let selected = self.take(&items, &mut skip)?;
        if selected.taken.is_empty() {
            return Err(no_images(dir, skipped).into());
        }
        if !skipped.0.is_empty() {
            let used = selected.taken.len();
            self.watcher.warn(&Warning::ImagesSkipped(SkippedImages {
                used,
                left_out: selected.available - used,
                skipped,
            }));
        }
        Ok(selected)
    }

    /// Reads what the limit allows, evenly among the images for which `skip` did not decide that they cannot be used.
    fn take(
        &mut self,
        items: &[Item<'_>],
        skip: &mut dyn FnMut(usize, PreprocessError) -> Result<(), PreprocessError>,
    ) -> Result<Selected, PipelineError> {
        let (mut height, mut width) = (0, 0);
        let mut choice = Choice::new(items.len());
        while let Some(index) = choice.waiting.pop_front() {
            let done = choice.taken.len();
            let total = done + choice.waiting.len() + 1;
            let image = match self.read(&items[index], (done, total)) {
                Ok(image) => image,
                // What happened to the image, not to the process that decoded it.
                Err(PipelineError::Frames(FramesError::Image(e))) => {
                    skip(index, e)?;
                    choice.remove(index);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let notes = image.notes.clone();
            let one = self.put(image)?;
            let (h, w) = (one.height as usize, one.width as usize);
            choice.taken.insert(index, (one, notes));
            if h > height || w > width {
                // All images are padded to the largest, so a larger one may leave memory for fewer.
                (height, width) = (height.max(h), width.max(w));
                let max = self.limit.frames(height, width);
                if choice.limit(max) {
                    self.report_thinned(choice.usable.len(), max);
                }
            }
            let done = choice.taken.len();
            if !self
                .watcher
                .step(Stage::Decode, done, done + choice.waiting.len())
            {
                return Err(PipelineError::Cancelled);
            }
        }
        let available = choice.usable.len();
        let (taken, notes): (Vec<_>, Vec<_>) = choice.taken.into_values().unzip();
        let named = taken.iter().zip(notes);
        self.report_notes(named.flat_map(|(one, notes)| {
            let name = &one.name;
            notes.into_iter().map(move |note| (name.as_str(), note))
        }));
        Ok(Selected {
            taken,
            available,
            keyframes: None,
            seconds: Vec::new(),
        })
    }

    /// Tells each kind of note once.
    fn report_notes<'n>(&mut self, notes: impl Iterator<Item = (&'n str, ImageNote)>) {
        let mut kinds: Vec<(&str, ImageNote, usize)> = Vec::new();
        for (name, note) in notes {
            let same =
                |known: &ImageNote| std::mem::discriminant(known) == std::mem::discriminant(&note);
            match kinds.iter_mut().find(|(_, known, _)| same(known)) {
                Some((.., others)) => *others += 1,
                None => kinds.push((name, note, 0)),
            }
        }
        for (name, note, others) in kinds {
            let name = name.to_owned();
            self.watcher.warn(&Warning::Image { name, note, others });
        }
    }
}

/// Which images are read. A change of the choice keeps what was read and is still chosen.
struct Choice {
    /// Indices of the images that can be used, as far as is known.
    usable: Vec<usize>,
    max: usize,
    /// Chosen, and not read yet.
    waiting: VecDeque<usize>,
    /// Chosen and in the spool. What is not chosen any more leaves a gap there until the end.
    taken: BTreeMap<usize, (Taken, Vec<ImageNote>)>,
}

impl Choice {
    fn new(count: usize) -> Self {
        Self {
            usable: (0..count).collect(),
            max: usize::MAX,
            waiting: (0..count).collect(),
            taken: BTreeMap::new(),
        }
    }

    /// Allows at most `max` images; returns whether that leaves some out that were chosen so far.
    fn limit(&mut self, max: usize) -> bool {
        let fewer = max < self.max && max < self.usable.len();
        self.max = self.max.min(max);
        if fewer {
            self.choose();
        }
        fewer
    }

    /// Takes an image out that cannot be used. Where not all are chosen, others take its place.
    fn remove(&mut self, index: usize) {
        self.usable.retain(|usable| *usable != index);
        if self.usable.len() >= self.max {
            self.choose();
        }
    }

    fn choose(&mut self) {
        let count = self.usable.len().min(self.max);
        let chosen: Vec<usize> = evenly(self.usable.len(), count)
            .map(|i| self.usable[i])
            .collect();
        self.taken
            .retain(|index, _| chosen.binary_search(index).is_ok());
        let is_new = |index: &usize| !self.taken.contains_key(index);
        self.waiting = chosen.into_iter().filter(is_new).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_replaced_where_there_are_more() {
        let mut choice = Choice::new(9);
        assert!(choice.limit(3));
        assert_eq!(choice.waiting, [0, 4, 8]);
        choice.remove(4);
        assert_eq!(choice.waiting, [0, 5, 8]);
        choice.remove(8);
        assert_eq!(choice.waiting, [0, 3, 7]);
        assert!(!choice.limit(3) && choice.limit(2));
        assert_eq!(choice.waiting, [0, 7]);
        for index in [0, 1, 2, 3, 5, 6, 7] {
            choice.remove(index);
        }
        assert_eq!(choice.usable.len(), 0);
    }
}
