//! Masks that a user drew or another program made: a folder with an image for each picture, white where points are kept.
//!
//! Masks drop points; the network sees the whole pictures. [`Masks::open`] looks at the folder, [`Masks::read`] finds the mask of each
//! frame and brings it into the pixels of the network's input.

mod names;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::masked::PackedMask;
use crate::frames::{
    ImageLimits, Mask, Placement, PreprocessError, is_image_file, is_named_as_image, read_mask,
};
use names::{Index, looked_for, split};

/// How far the proportions of a mask may be from those of its picture: networks that make masks round sides to multiples of 14 or 16.
const MAX_STRETCH: f64 = 0.02;

/// Files of a folder that are named in an error.
const LISTED: usize = 3;

/// Why masks cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaskError {
    /// The folder cannot be read.
    #[error("cannot read the folder of masks \"{}\"", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// No picture has a mask.
    #[error(
        "cannot find the mask of any picture in \"{}\", which holds {holds}: looked for {looked_for}, and so on for each picture",
        path.display()
    )]
    NoneFound {
        /// The folder.
        path: PathBuf,
        /// What is there.
        holds: String,
        /// The names that the mask of the first picture may have.
        looked_for: String,
    },
    /// Two files may be the mask of a picture.
    #[error(
        "cannot tell which is the mask of \"{picture}\": \"{}\" or \"{}\"; remove one of them",
        one.display(), other.display()
    )]
    Ambiguous {
        /// Name of the picture.
        picture: String,
        /// A file.
        one: PathBuf,
        /// Another file.
        other: PathBuf,
    },
    /// A mask cannot be decoded.
    #[error("cannot use \"{}\" as a mask", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Error of the image.
        #[source]
        source: PreprocessError,
    },
    /// A mask has other proportions than its picture.
    #[error(
        "cannot lay the mask \"{}\" of {}x{} pixels over \"{picture}\" of {}x{} pixels: {}",
        path.display(), mask.0, mask.1, size.0, size.1, reason(*mask, *size)
    )]
    Proportions {
        /// The mask.
        path: PathBuf,
        /// Name of the picture.
        picture: String,
        /// Width and height of the mask.
        mask: (u32, u32),
        /// Width and height of the picture, upright.
        size: (u32, u32),
    },
}

/// Says what is wrong with the size of a mask, and what to do.
fn reason(mask: (u32, u32), (width, height): (u32, u32)) -> &'static str {
    match fits(mask, (height, width)) {
        true => {
            "it lies on its side; a mask belongs to the picture as viewers show it, turned as its EXIF orientation says, so turn the mask"
        }
        false => {
            "a mask needs the proportions of the whole picture, at any size; make it again from the picture as it is"
        }
    }
}

/// Returns whether a mask of this size has the proportions of a picture of that one: up to [`MAX_STRETCH`], or a pixel.
fn fits((width, height): (u32, u32), (of_width, of_height): (u32, u32)) -> bool {
    let [w, h, of_w, of_h] = [width, height, of_width, of_height].map(f64::from);
    let (scaled_w, scaled_h) = (h * of_w / of_h, w * of_h / of_w);
    let is_close =
        |found: f64, expected: f64| (found - expected).abs() <= (MAX_STRETCH * expected).max(1.0);
    width > 0 && height > 0 && is_close(w, scaled_w) && is_close(h, scaled_h)
}

/// A folder of masks.
#[derive(Debug)]
pub struct Masks {
    folder: PathBuf,
    /// The pictures themselves, which may lie in the same folder.
    pictures: HashSet<PathBuf>,
    limits: ImageLimits,
    /// What was read last, since a check before the network runs reads all of them.
    last: RefCell<Option<Arc<ReadMasks>>>,
}

/// The masks of some frames.
#[derive(Debug)]
pub(super) struct ReadMasks {
    names: Vec<String>,
    size: (usize, usize),
    /// The mask of each frame, if it has one, in the pixels of the network's input.
    pub(super) masks: Arc<[Option<PackedMask>]>,
}

impl ReadMasks {
    /// Returns the names of the frames that have no mask.
    pub(super) fn without(&self) -> Vec<String> {
        let all = self.names.iter().zip(&*self.masks);
        let without = all.filter(|(_, mask)| mask.is_none());
        without.map(|(name, _)| name.clone()).collect()
    }
}

impl Masks {
    /// Looks at a folder of masks. `pictures` are files that are not masks, wherever they lie.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(
        folder: &Path,
        pictures: &[PathBuf],
        limits: ImageLimits,
    ) -> Result<Self, MaskError> {
        let masks = Self {
            folder: folder.to_owned(),
            pictures: pictures
                .iter()
                .filter_map(|p| p.canonicalize().ok())
                .collect(),
            limits,
            last: RefCell::new(None),
        };
        masks.files_in(Path::new(""))?;
        Ok(masks)
    }

    /// Returns the images in the folder itself, which no output may replace.
    pub fn files(&self) -> Vec<PathBuf> {
        // The folder could be read when it was opened.
        self.files_in(Path::new("")).unwrap_or_default()
    }

    /// Returns the masks of frames with these names, whose network images of `size` (height, width) lie in their pictures as the
    /// placements say; without a placement a frame is its picture.
    ///
    /// # Errors
    /// When no frame has a mask, one has two, or a mask cannot be decoded or does not have the proportions of its picture.
    pub(super) fn read(
        &self,
        names: &[String],
        placements: &[Placement],
        size: (usize, usize),
    ) -> Result<Arc<ReadMasks>, MaskError> {
        let same = |last: &Arc<ReadMasks>| last.names == names && last.size == size;
        if let Some(last) = self.last.borrow().as_ref().filter(|last| same(last)) {
            return Ok(last.clone());
        }
        let files = self.find(names)?;
        let masks = files.into_iter().enumerate().map(|(index, file)| {
            let Some(path) = file else {
                return Ok(None);
            };
            let placement = placements.get(index).copied();
            let placement = placement.unwrap_or_else(|| whole(size));
            self.read_one(&path, &names[index], &placement, size)
                .map(Some)
        });
        let read = Arc::new(ReadMasks {
            masks: masks.collect::<Result<_, MaskError>>()?,
            names: names.to_vec(),
            size,
        });
        *self.last.borrow_mut() = Some(read.clone());
        Ok(read)
    }

    /// Finds the file of each picture's mask.
    fn find(&self, names: &[String]) -> Result<Vec<Option<PathBuf>>, MaskError> {
        let mut indices: HashMap<PathBuf, Index> = HashMap::new();
        let mut found = Vec::with_capacity(names.len());
        for picture in names {
            let (folder, name) = split(picture);
            let index = match indices.get(&folder) {
                Some(index) => index,
                None => {
                    // Only the folder itself has to be there.
                    let files = self.files_in(&folder).unwrap_or_default();
                    indices.entry(folder).or_insert(Index::new(files))
                }
            };
            let mut candidates = index.candidates(&name).into_iter();
            found.push(match (candidates.next(), candidates.next()) {
                (Some(one), Some(other)) => {
                    return Err(MaskError::Ambiguous {
                        picture: picture.clone(),
                        one,
                        other,
                    });
                }
                (one, _) => one,
            });
        }
        match found.iter().any(Option::is_some) {
            true => Ok(found),
            false => Err(self.none_found(names)),
        }
    }

    fn none_found(&self, names: &[String]) -> MaskError {
        let files = self.files();
        let first = files.iter().take(LISTED).map(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        });
        let first: Vec<String> = first.collect();
        MaskError::NoneFound {
            path: self.folder.clone(),
            holds: match files.len() {
                0 => "no images".to_owned(),
                n if n <= LISTED => first.join(", "),
                n => format!("{} and {} more", first.join(", "), n - LISTED),
            },
            looked_for: looked_for(names.first().map_or("", String::as_str)),
        }
    }

    /// Returns the images in a folder below that of the masks, the pictures themselves and hidden files not among them, sorted.
    fn files_in(&self, below: &Path) -> Result<Vec<PathBuf>, MaskError> {
        let folder = match below.as_os_str().is_empty() {
            true => self.folder.clone(),
            false => self.folder.join(below),
        };
        let fail = |source| MaskError::Folder {
            path: folder.clone(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().unwrap_or_default();
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            let is_picture = || {
                let canonical = path.canonicalize();
                canonical.is_ok_and(|path| self.pictures.contains(&path))
            };
            // A damaged image is still a mask, and an error.
            let is_image = || is_named_as_image(&path) || is_image_file(&path);
            if !is_hidden && path.is_file() && is_image() && !is_picture() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn read_one(
        &self,
        path: &Path,
        picture: &str,
        placement: &Placement,
        size: (usize, usize),
    ) -> Result<PackedMask, MaskError> {
        let mask = read_mask(path, &self.limits).map_err(|source| MaskError::Image {
            path: path.to_owned(),
            source,
        })?;
        let picture_size = (placement.source_width, placement.source_height);
        if !fits(mask.size(), picture_size) {
            return Err(MaskError::Proportions {
                path: path.to_owned(),
                picture: picture.to_owned(),
                mask: mask.size(),
                size: picture_size,
            });
        }
        Ok(PackedMask::of(&placed(&mask, placement, size)))
    }
}

/// Returns the placement of a picture that is the network's image itself.
fn whole((height, width): (usize, usize)) -> Placement {
    Placement {
        source_width: width as u32,
        source_height: height as u32,
        scale_x: 1.0,
        scale_y: 1.0,
        offset_x: 0.0,
        offset_y: 0.0,
    }
}

/// Returns one flag for each pixel of the network's image, in raster order: what the mask says at the place of its center in the
/// picture.
fn placed(mask: &Mask, placement: &Placement, (height, width): (usize, usize)) -> Vec<bool> {
    let p = placement;
    let (extent_x, extent_y) = (
        f64::from(p.source_width) * p.scale_x,
        f64::from(p.source_height) * p.scale_y,
    );
    let share = |i: usize, offset: f64, extent: f64| (i as f64 + 0.5 - offset) / extent;
    let columns: Vec<f64> = (0..width).map(|x| share(x, p.offset_x, extent_x)).collect();
    let rows = (0..height).map(|y| share(y, p.offset_y, extent_y));
    rows.flat_map(|y| columns.iter().map(move |x| mask.keeps(*x, y)))
        .collect()
}

#[cfg(test)]
mod tests {
    use image::GrayImage;

    use super::*;

    #[test]
    fn a_mask_of_any_size_fits_if_it_has_the_proportions() {
        for mask in [
            (4000, 3000),
            (800, 600),
            (518, 392),
            (4, 3),
            (1333, 1000),
            (8000, 6000),
        ] {
            assert!(fits(mask, (4000, 3000)), "{mask:?}");
        }
        for mask in [
            (3000, 4000),
            (4000, 2800),
            (3800, 3000),
            (0, 0),
            (500, 500),
            (4000, 0),
        ] {
            assert!(!fits(mask, (4000, 3000)), "{mask:?}");
        }
    }

    #[test]
    fn a_mask_is_laid_where_its_picture_lies() {
        // Four quarters of a picture, of which the upper right and the lower left are kept.
        let mask = Mask::new(GrayImage::from_raw(2, 2, vec![0, 255, 255, 0]).unwrap());
        let placement = |scale: f64, [offset_x, offset_y]: [f64; 2]| Placement {
            source_width: 40,
            source_height: 20,
            scale_x: scale,
            scale_y: scale,
            offset_x,
            offset_y,
        };
        let kept =
            |placement: Placement, [x, y]: [usize; 2]| placed(&mask, &placement, (8, 8))[8 * y + x];
        // Padded: rows 2 to 5 show the picture.
        let padded = placement(0.2, [0.0, 2.0]);
        let at = [[3, 2], [4, 2], [4, 3], [3, 4], [4, 4], [3, 5]];
        let expected = [false, true, true, true, false, true];
        assert_eq!(at.map(|pixel| kept(padded, pixel)), expected);
        // Cropped: the image begins at the row 6 of 20, and shows the left 8 of 40 columns.
        let cropped = placement(1.0, [0.0, -6.0]);
        let at = [[0, 0], [7, 3], [0, 4], [7, 7]];
        assert_eq!(
            at.map(|pixel| kept(cropped, pixel)),
            [false, false, true, true]
        );
    }
}
