//! The images of a dataset: `images/` beside a COLMAP model or `transforms.json`, as trainers of splats read them.
//!
//! Trainers read pixels as they are stored and ignore EXIF, so every image here is upright, whole and RGB of 8 bits: a JPEG or
//! PNG that is so is copied byte for byte, everything else is decoded and encoded again; frames of a video become PNGs. The cameras of
//! the model are in the pixels of exactly these files.
//!
//! [`DatasetImages::plan`] decides names and origins before the network runs, [`DatasetImages::write`] writes the files.

mod manifest;
mod names;
mod write;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use vggt_model::demo;

use super::{PipelineError, ReadOptions, Source};
use crate::{
    frames::{Placement, is_plain_rgb},
    output::{OutputError, OutputRules, Target, require_space},
    scene::PredictedFrames,
    system::FileId,
};
use manifest::Manifest;

pub(super) use names::distinct_names;

/// The folder of the images, as trainers expect it.
pub(super) const IMAGES: &str = "images";

/// The folder of a COLMAP model, as trainers expect it.
pub(super) const MODEL: &str = "sparse/0";

/// The images of one dataset.
#[derive(Debug)]
pub struct DatasetImages {
    folder: PathBuf,
    images: Vec<DatasetImage>,
    manifest: Manifest,
}

/// What was written.
#[derive(Debug, Default)]
pub struct WrittenImages {
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Width and height of the images that were encoded again, by the index of their frame.
    pub sizes: HashMap<usize, (u32, u32)>,
    pub(super) manifest: Manifest,
}

impl WrittenImages {
    /// Returns where the frames lie in the files that were written: photos of very many pixels are decoded at a smaller size.
    #[must_use]
    pub fn placements(&self, placements: &[Placement]) -> Vec<Placement> {
        let placements = placements.iter().enumerate();
        placements
            .map(|(i, p)| match self.sizes.get(&i) {
                Some(&(width, height)) => Placement {
                    source_width: width,
                    source_height: height,
                    scale_x: p.scale_x * f64::from(p.source_width) / f64::from(width),
                    scale_y: p.scale_y * f64::from(p.source_height) / f64::from(height),
                    ..*p
                },
                None => *p,
            })
            .collect()
    }
}

#[derive(Debug)]
struct DatasetImage {
    /// The name of the frame in the predictions.
    frame: String,
    /// Its name in the dataset, relative to `images`.
    name: String,
    origin: Origin,
}

/// Where the pixels come from.
#[derive(Debug)]
enum Origin {
    /// A file that is upright as it is.
    Copy(PathBuf),
    /// A bundled file.
    Bundled(&'static [u8]),
    /// A file that has to be decoded: EXIF turns it, or trainers do not read its format.
    Decode(PathBuf),
    /// A frame of a video.
    Frame,
    /// The pixels that the network saw: no more is kept.
    Network,
    /// The photo is not at hand: saved predictions were given without it.
    Missing,
}

impl Origin {
    /// Returns the extension of the file in the dataset; `None` keeps the one of the frame's name.
    fn extension(&self) -> Option<&'static str> {
        match self {
            Self::Copy(path) => match is_png(path) {
                true => Some("png"),
                false => Some("jpg"),
            },
            Self::Decode(path) if is_jpeg(path) || is_heif(path) => Some("jpg"),
            Self::Network => Some("jpg"),
            Self::Decode(_) | Self::Frame => Some("png"),
            Self::Bundled(_) | Self::Missing => None,
        }
    }
}

impl DatasetImages {
    /// Decides names and origins of the images of these frames in the dataset `folder`; `source` is `None` where only
    /// predictions are at hand.
    pub fn plan(folder: &Path, source: Option<&Source>, frames: &[String]) -> Self {
        let mut files: HashMap<String, PathBuf> = source
            .map(|source| source.named_files().into_iter().collect())
            .unwrap_or_default();
        let origins: Vec<Origin> = frames
            .iter()
            .map(|name| match source {
                Some(Source::Video(_)) => Origin::Frame,
                Some(Source::Demo) => bundled(name),
                _ => files.remove(name).map_or(Origin::Missing, of_file),
            })
            .collect();
        Self::of_origins(folder, frames, origins)
    }

    /// As [`DatasetImages::plan`] where the photos are gone, and only what the network saw of them is at hand.
    pub(super) fn of_network(folder: &Path, frames: &[String]) -> Self {
        let origins = frames.iter().map(|_| Origin::Network);
        Self::of_origins(folder, frames, origins.collect())
    }

    fn of_origins(folder: &Path, frames: &[String], origins: Vec<Origin>) -> Self {
        let wanted = frames.iter().zip(&origins);
        let names = names::of_dataset(wanted.map(|(name, o)| (name.as_str(), o.extension())));
        let images = frames.iter().zip(names).zip(origins);
        Self {
            folder: folder.to_owned(),
            images: images
                .map(|((frame, name), origin)| DatasetImage {
                    frame: frame.clone(),
                    name,
                    origin,
                })
                .collect(),
            manifest: Manifest::read(folder),
        }
    }

    /// Returns the folder of the dataset.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the name of each frame's image in the dataset.
    pub fn names(&self) -> Vec<String> {
        self.images.iter().map(|image| image.name.clone()).collect()
    }

    /// Returns true when the photos are not at hand, so that no images can be written.
    pub fn are_missing(&self) -> bool {
        let missing = |image: &DatasetImage| matches!(image.origin, Origin::Missing);
        self.images.iter().all(missing)
    }

    /// Refuses images that would replace files which are not ours, and a disk without space for the copies.
    ///
    /// # Errors
    /// As [`OutputRules::file`].
    pub fn check(&self, rules: &OutputRules) -> Result<(), OutputError> {
        let mut bytes = 0;
        for image in &self.images {
            let path = self.path(image);
            if let Origin::Copy(from) | Origin::Decode(from) = &image.origin {
                bytes += fs::metadata(from).map_or(0, |m| m.len());
            }
            if !self.is_in_place(image, &path) {
                self.may_write(image, &path, rules)?;
            }
        }
        rules.file(&self.folder.join(manifest::NAME))?;
        require_space(&self.folder, bytes)
    }

    fn path(&self, image: &DatasetImage) -> PathBuf {
        self.folder.join(IMAGES).join(&image.name)
    }

    /// Returns true when `images` is a folder of the dataset and not a link to one elsewhere.
    fn owns_images(&self) -> bool {
        !self.folder.join(IMAGES).is_symlink()
    }

    /// Returns the target of a file of the model, if it may be written.
    ///
    /// # Errors
    /// When something else wrote the file that is there.
    pub fn model_file(&self, name: &str, rules: &OutputRules) -> Result<Target, OutputError> {
        let path = self.folder.join(name);
        match self.manifest.wrote_file(name, &path) && !rules.is_input(&path) {
            true => Target::replacing(&path),
            false => rules.file(&path),
        }
    }

    /// Removes a file that an earlier run wrote and that this one does not, if it has not changed since.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), OutputError> {
        let path = self.folder.join(name);
        if !self.manifest.wrote_file(name, &path) {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|source| OutputError::Io { path, source })
    }

    /// Refuses a model that a newer COLMAP wrote into the same folder: its rigs and frames would contradict ours.
    ///
    /// # Errors
    /// [`OutputError::NotOurs`].
    pub fn check_foreign(&self, rules: &OutputRules) -> Result<(), OutputError> {
        match self.foreign().next() {
            Some(path) if !rules.overwrites() => Err(OutputError::NotOurs { path }),
            _ => Ok(()),
        }
    }

    /// Returns the files of a newer COLMAP that are there and that this program does not write.
    pub(super) fn foreign(&self) -> impl Iterator<Item = PathBuf> {
        let files = ["rigs.bin", "frames.bin", "rigs.txt", "frames.txt"];
        let files = files.map(|name| self.folder.join(MODEL).join(name));
        files.into_iter().filter(|file| file.exists())
    }

    /// Returns true when the image already is the file that the dataset needs: the photos lie in the dataset's own folder.
    fn is_in_place(&self, image: &DatasetImage, path: &Path) -> bool {
        match &image.origin {
            Origin::Copy(from) => same_file(from, path),
            _ => false,
        }
    }

    /// Returns the target of an image that may be written: nothing is there, an earlier run wrote what is there, or it has the
    /// same bytes.
    fn may_write(
        &self,
        image: &DatasetImage,
        path: &Path,
        rules: &OutputRules,
    ) -> Result<Target, OutputError> {
        let copied = match &image.origin {
            Origin::Copy(from) => !rules.is_input(path) && same_bytes(from, path),
            _ => false,
        };
        let ours = copied || self.manifest.wrote_image(&image.name, path);
        match ours && !rules.is_input(path) && self.owns_images() {
            true => Target::replacing(path),
            false => rules.file(path),
        }
    }

    /// Returns what is there of an earlier run, where no images are written.
    pub fn kept(&self) -> WrittenImages {
        WrittenImages {
            manifest: self.manifest.with_images_only(),
            ..WrittenImages::default()
        }
    }

    /// Writes the images, and removes those of an earlier run that are no longer among them.
    ///
    /// # Errors
    /// When an image cannot be read or written.
    pub fn write(
        &self,
        source: Option<&Source>,
        read: &ReadOptions,
        rules: &OutputRules,
    ) -> Result<WrittenImages, PipelineError> {
        write::images(self, source, read, rules)
    }

    /// Writes the photos at the size at which the network saw them, without padding.
    ///
    /// # Errors
    /// When a frame cannot be read or an image cannot be written.
    pub(super) fn write_network(
        &self,
        frames: &dyn PredictedFrames,
        rules: &OutputRules,
    ) -> Result<WrittenImages, PipelineError> {
        write::network_images(self, frames, rules)
    }
}

fn bundled(name: &str) -> Origin {
    let found = demo::FRAMES.iter().find(|(frame, _)| *frame == name);
    found.map_or(Origin::Missing, |(_, bytes)| Origin::Bundled(bytes))
}

fn of_file(path: PathBuf) -> Origin {
    match is_plain_rgb(&path) {
        true => Origin::Copy(path),
        false => Origin::Decode(path),
    }
}

fn head(path: &Path) -> [u8; 12] {
    let mut head = [0; 12];
    if let Ok(mut file) = fs::File::open(path) {
        // A shorter file has zeros at the end, which are no signature.
        let _ = std::io::Read::read(&mut file, &mut head);
    }
    head
}

fn is_jpeg(path: &Path) -> bool {
    head(path).starts_with(&[0xFF, 0xD8, 0xFF])
}

fn is_png(path: &Path) -> bool {
    head(path).starts_with(b"\x89PNG")
}

/// Returns true for HEIC and AVIF, which lose detail as JPEG does.
fn is_heif(path: &Path) -> bool {
    &head(path)[4..8] == b"ftyp"
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|m| FileId::new(path, &m));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|m| m.len()).ok();
    length(b).is_some()
        && length(a) == length(b)
        && manifest::sha256_of(a).is_some_and(|hash| Some(hash) == manifest::sha256_of(b))
}
