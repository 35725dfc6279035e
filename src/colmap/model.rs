//! A scene mapped into the original images.

use std::{
    io::{self, Write},
    ops::Range,
};

use super::{ColmapError, ModelFile, OriginalImage, binary, check_names, text};
use crate::scene::{Affine, PointCloud, Provenance, Scene, View, rotation};

/// A scene as COLMAP sees it, ready to be written.
#[derive(Debug)]
pub struct Model<'a> {
    cloud: &'a PointCloud,
    pub(super) images: Vec<Image<'a>>,
    /// The written points, as indices in the cloud; those of one image follow each other.
    points: Vec<usize>,
}

/// The camera of one shown frame, in the pixels of its original image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera<'a> {
    /// Index of the frame, counted from 0 over all frames.
    pub frame: usize,
    /// Name of the image.
    pub name: &'a str,
    /// Width of the image in pixels.
    pub width: u32,
    /// Height of the image in pixels.
    pub height: u32,
    /// fx, fy, cx, cy in pixels, whose centers lie at half numbers.
    pub pinhole: [f64; 4],
    /// OpenCV axes; its rotation is orthonormal.
    pub camera_from_world: Affine,
}

/// One shown frame: a camera, an image and a stretch of the points.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Of the camera and of the image.
    pub(super) id: u32,
    pub(super) original: &'a OriginalImage,
    /// fx, fy, cx, cy in original pixels.
    pub(super) pinhole: [f64; 4],
    /// Exactly the rotation of `quaternion`, so that errors are those a reader finds.
    pub(super) camera_from_world: Affine,
    /// w, x, y, z of the rotation of `camera_from_world`.
    pub(super) quaternion: [f64; 4],
    /// Places in [`Model::points`].
    pub(super) points: Range<usize>,
}

impl<'a> Model<'a> {
    /// Maps `scene` with the points of `cloud` into the original images; `originals` has one for each frame of the predictions,
    /// shown or not. The points are those of the scene or some of them, in order.
    ///
    /// # Errors
    /// When there is not one image for each frame, or names or placements cannot be used.
    pub fn new(
        scene: &Scene,
        cloud: &'a PointCloud,
        originals: &'a [OriginalImage],
    ) -> Result<Self, ColmapError> {
        if originals.len() != scene.frames {
            return Err(ColmapError::Count {
                frames: scene.frames,
                images: originals.len(),
            });
        }
        check_names(originals.iter().map(|o| o.name.as_str()))?;
        let all = if scene.nothing_kept { 0 } else { cloud.len() };
        let mut points = Vec::with_capacity(all);
        let mut images = Vec::with_capacity(scene.views.len());
        let mut next = 0;
        for view in &scene.views {
            let original = &originals[view.frame];
            original.check()?;
            let start = points.len();
            while next < all && cloud.frame(next) == view.frame {
                if original.holds(pixel_center(cloud, original, next)) {
                    points.push(next);
                }
                next += 1;
            }
            images.push(Image::new(view, original, start..points.len())?);
        }
        Ok(Self {
            cloud,
            images,
            points,
        })
    }

    /// The cameras of the shown frames, in order.
    pub fn cameras(&self) -> impl Iterator<Item = Camera<'_>> {
        self.images.iter().map(|image| Camera {
            frame: image.id as usize - 1,
            name: &image.original.name,
            width: image.original.width,
            height: image.original.height,
            pinhole: image.pinhole,
            camera_from_world: image.camera_from_world,
        })
    }

    /// How many points the model has: those of the cloud that lie in an original image.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether the model has no point.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Writes one file of the model; `provenance` goes into the text form's comments. Number by number: `out` should
    /// be buffered.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(
        &self,
        file: ModelFile,
        provenance: &Provenance,
        out: &mut impl Write,
    ) -> io::Result<()> {
        match file {
            ModelFile::CamerasBinary => binary::cameras(self, out)?,
            ModelFile::ImagesBinary => binary::images(self, out)?,
            ModelFile::PointsBinary => binary::points(self, out)?,
            ModelFile::CamerasText => text::cameras(self, provenance, out)?,
            ModelFile::ImagesText => text::images(self, provenance, out)?,
            ModelFile::PointsText => text::points(self, provenance, out)?,
        }
        out.flush()
    }

    /// The points of one image, in order: number from 1, and center of the pixel in the original image.
    pub(super) fn observations(&self, image: &Image<'_>) -> impl Iterator<Item = (u64, [f64; 2])> {
        let original = image.original;
        image.points.clone().map(move |place| {
            let center = pixel_center(self.cloud, original, self.points[place]);
            (place as u64 + 1, center)
        })
    }

    /// Every point of the model, image by image.
    pub(super) fn points3d(&self) -> impl Iterator<Item = Point> {
        self.images.iter().flat_map(move |image| {
            self.observations(image)
                .enumerate()
                .map(move |(index, (id, center))| {
                    let point = self.points[id as usize - 1];
                    let position = self.cloud.positions[point].map(f64::from);
                    Point {
                        id,
                        position,
                        color: self.cloud.colors[point],
                        error: image.error(position, center),
                        image: image.id,
                        index: index as u32,
                    }
                })
        })
    }
}

/// A point and its track of one element.
pub(super) struct Point {
    pub(super) id: u64,
    pub(super) position: [f64; 3],
    pub(super) color: [u8; 3],
    /// Original pixels.
    pub(super) error: f64,
    pub(super) image: u32,
    /// Which of the image's 2D points.
    pub(super) index: u32,
}

impl<'a> Image<'a> {
    fn new(
        view: &View,
        original: &'a OriginalImage,
        points: Range<usize>,
    ) -> Result<Self, ColmapError> {
        let k = &view.intrinsic;
        let quaternion = rotation::quaternion(&view.camera_from_world);
        let translation = view.camera_from_world.0.map(|row| row[3]);
        let [cx, cy] = original.source_of([k[0][2] + 0.5, k[1][2] + 0.5]);
        let [fx, fy] = [k[0][0] / original.scale_x, k[1][1] / original.scale_y];
        let numbers = [fx, fy, cx, cy]
            .into_iter()
            .chain(quaternion)
            .chain(translation);
        if !numbers.into_iter().all(f64::is_finite) {
            return Err(ColmapError::Camera { frame: view.frame });
        }
        Ok(Self {
            id: view.frame as u32 + 1,
            original,
            pinhole: [fx, fy, cx, cy],
            camera_from_world: rotation::affine(quaternion, translation),
            quaternion,
            points,
        })
    }

    pub(super) fn translation(&self) -> [f64; 3] {
        self.camera_from_world.0.map(|row| row[3])
    }

    /// Distance between the projection of a world point and a pixel, original pixels; -1, which is COLMAP's
    /// "unknown", for a point that is not in front of the camera and has no projection.
    fn error(&self, position: [f64; 3], center: [f64; 2]) -> f64 {
        let [x, y, z] = self.camera_from_world.apply(position);
        if z <= 0.0 {
            return -1.0;
        }
        let [fx, fy, cx, cy] = self.pinhole;
        let error = (fx * x / z + cx - center[0]).hypot(fy * y / z + cy - center[1]);
        if error.is_finite() { error } else { -1.0 }
    }
}

/// The center of the pixel that made a point, in the original image.
fn pixel_center(cloud: &PointCloud, original: &OriginalImage, point: usize) -> [f64; 2] {
    original.source_of(cloud.pixel(point).map(|x| f64::from(x) + 0.5))
}
