//! A scene mapped into the original images.

use std::{
    collections::HashMap,
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
    /// The written points of the cloud, as indices in it; those of one image follow each other.
    points: Vec<usize>,
    /// Points that several images show, which come before those of the cloud.
    tracks: Vec<ImageTrack>,
}

/// A point that several frames show.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// World space.
    pub position: [f64; 3],
    /// sRGB.
    pub color: [u8; 3],
    /// Frame, and where the network's image of it shows the point: pixels with centers at half numbers.
    pub observations: Vec<(usize, [f64; 2])>,
}

/// A point of the model with its track among the model's images.
#[derive(Debug)]
struct ImageTrack {
    position: [f64; 3],
    color: [u8; 3],
    /// Number of the image, and which of its 2D points.
    elements: Vec<(u32, u32)>,
    /// Mean distance between projection and observation, original pixels.
    error: f64,
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
    /// First coefficient of radial distortion; 0 for none.
    pub k1: f64,
    /// OpenCV axes; its rotation is orthonormal.
    pub camera_from_world: Affine,
}

/// One shown frame: a camera, an image and a stretch of the points.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) id: u32,
    /// The number of the first image with the same camera.
    pub(super) camera: u32,
    pub(super) original: &'a OriginalImage,
    /// fx, fy, cx, cy in original pixels.
    pub(super) pinhole: [f64; 4],
    pub(super) k1: f64,
    /// Exactly the rotation of `quaternion`, so that errors are those a reader finds.
    pub(super) camera_from_world: Affine,
    /// w, x, y, z of the rotation of `camera_from_world`.
    pub(super) quaternion: [f64; 4],
    /// Places in [`Model::points`].
    pub(super) points: Range<usize>,
    /// Points of tracks, by their place among the tracks, and where this image shows them, original pixels.
    tracked: Vec<(usize, [f64; 2])>,
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
        let mut model = Self {
            cloud,
            images,
            points,
            tracks: Vec::new(),
        };
        model.share_cameras();
        Ok(model)
    }

    /// Returns the model with the radial distortion of each frame's lens.
    #[must_use]
    pub fn with_distortion(mut self, k1: &[f64]) -> Self {
        for image in &mut self.images {
            image.k1 = k1.get(image.id as usize - 1).copied().unwrap_or(0.0);
        }
        self.share_cameras();
        self
    }

    /// Returns the model with these points before its others. Observations in frames that are not shown, or outside of the original
    /// image, are left out, and so are points that fewer than two images show then.
    #[must_use]
    pub fn with_tracks(mut self, tracks: &[Track]) -> Self {
        let numbers = self
            .images
            .iter()
            .map(|image| image.id as usize - 1)
            .zip(0..);
        let places: HashMap<usize, usize> = numbers.collect();
        for track in tracks {
            let seen = track.observations.iter().filter_map(|(frame, pixel)| {
                let place = *places.get(frame)?;
                let center = self.images[place].original.source_of(*pixel);
                self.images[place]
                    .original
                    .holds(center)
                    .then_some((place, center))
            });
            let seen: Vec<(usize, [f64; 2])> = seen.collect();
            if seen.len() < 2 {
                continue;
            }
            let errors = seen
                .iter()
                .map(|(place, center)| self.images[*place].error(track.position, *center));
            let error = errors.sum::<f64>() / seen.len() as f64;
            let elements = seen.iter().map(|(place, center)| {
                let image = &mut self.images[*place];
                image.tracked.push((self.tracks.len(), *center));
                (image.id, image.tracked.len() as u32 - 1)
            });
            let elements = elements.collect();
            self.tracks.push(ImageTrack {
                position: track.position,
                color: track.color,
                elements,
                error,
            });
        }
        self
    }

    /// Gives images of one size whose lenses are the same to the bit one camera: trainers expect one for each lens.
    fn share_cameras(&mut self) {
        let mut first: HashMap<([u32; 2], [u64; 5]), u32> = HashMap::new();
        for image in &mut self.images {
            let [fx, fy, cx, cy] = image.pinhole;
            let bits = [fx, fy, cx, cy, image.k1].map(f64::to_bits);
            let size = [image.original.width, image.original.height];
            image.camera = *first.entry((size, bits)).or_insert(image.id);
        }
    }

    /// The cameras of the shown frames, in order.
    pub fn cameras(&self) -> impl Iterator<Item = Camera<'_>> {
        self.images.iter().map(|image| Camera {
            frame: image.id as usize - 1,
            name: &image.original.name,
            width: image.original.width,
            height: image.original.height,
            pinhole: image.pinhole,
            k1: image.k1,
            camera_from_world: image.camera_from_world,
        })
    }

    /// The lenses: each is the camera of one or several images, and carries the number of the first.
    pub(super) fn lenses(&self) -> impl Iterator<Item = &Image<'a>> {
        self.images.iter().filter(|image| image.camera == image.id)
    }

    /// How many points the model has: those of tracks, and those of the cloud that lie in an original image.
    pub fn len(&self) -> usize {
        self.tracks.len() + self.points.len()
    }

    /// Whether the model has no point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// The points of one image, in order: number from 1, and where it shows the point, original pixels. Those of tracks come first.
    pub(super) fn observations(&self, image: &Image<'_>) -> impl Iterator<Item = (u64, [f64; 2])> {
        let tracked = image.tracked.clone().into_iter();
        let tracked = tracked.map(|(track, center)| (track as u64 + 1, center));
        tracked.chain(self.of_pixels(image))
    }

    /// The points of the cloud that come from pixels of one image: number, and center of the pixel in the original image.
    fn of_pixels(&self, image: &Image<'_>) -> impl Iterator<Item = (u64, [f64; 2])> {
        let original = image.original;
        image.points.clone().map(move |place| {
            let center = pixel_center(self.cloud, original, self.points[place]);
            ((self.tracks.len() + place) as u64 + 1, center)
        })
    }

    /// Every point of the model: those of tracks, then the others image by image.
    pub(super) fn points3d(&self) -> impl Iterator<Item = Point> {
        let tracks = self.tracks.iter().zip(1..).map(|(track, id)| Point {
            id,
            position: track.position,
            color: track.color,
            error: track.error,
            elements: track.elements.clone(),
        });
        let of_pixels = self.images.iter().flat_map(move |image| {
            self.of_pixels(image).zip(image.tracked.len() as u32..).map(
                move |((id, center), index)| {
                    let point = self.points[id as usize - 1 - self.tracks.len()];
                    let position = self.cloud.positions[point].map(f64::from);
                    Point {
                        id,
                        position,
                        color: self.cloud.colors[point],
                        error: image.error(position, center),
                        elements: vec![(image.id, index)],
                    }
                },
            )
        });
        tracks.chain(of_pixels)
    }
}

/// A point and its track.
pub(super) struct Point {
    pub(super) id: u64,
    pub(super) position: [f64; 3],
    pub(super) color: [u8; 3],
    /// Original pixels.
    pub(super) error: f64,
    /// Number of the image, and which of its 2D points.
    pub(super) elements: Vec<(u32, u32)>,
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
        let id = view.frame as u32 + 1;
        Ok(Self {
            id,
            camera: id,
            original,
            pinhole: [fx, fy, cx, cy],
            k1: 0.0,
            camera_from_world: rotation::affine(quaternion, translation),
            quaternion,
            points,
            tracked: Vec::new(),
        })
    }

    /// COLMAP's name, its number, and the parameters of the lens: what trainers read everywhere, unless there is distortion.
    pub(super) fn lens(&self) -> (&'static str, i32, Vec<f64>) {
        match self.k1 == 0.0 {
            true => ("PINHOLE", 1, self.pinhole.to_vec()),
            // fx, fy, cx, cy, k1, k2, p1, p2
            false => {
                let distortion = [self.k1, 0.0, 0.0, 0.0];
                ("OPENCV", 4, [self.pinhole, distortion].concat())
            }
        }
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
        let radial = 1.0 + self.k1 * ((x / z).powi(2) + (y / z).powi(2));
        let column = fx * x / z * radial + cx;
        let row = fy * y / z * radial + cy;
        let error = (column - center[0]).hypot(row - center[1]);
        if error.is_finite() { error } else { -1.0 }
    }
}

/// The center of the pixel that made a point, in the original image.
fn pixel_center(cloud: &PointCloud, original: &OriginalImage, point: usize) -> [f64; 2] {
    original.source_of(cloud.pixel(point).map(|x| f64::from(x) + 0.5))
}
