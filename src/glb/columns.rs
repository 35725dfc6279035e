//! The binary chunk: the layout of the columns, and their bytes.

use std::io::{self, Write};

use super::{ColorSpace, GlbError, GlbOptions, color::Encoder};
use crate::scene::{CameraMesh, Scene, ScenePoints, bounds::Bounds};

/// Points encoded between two writes.
const CHUNK: usize = 8192;

/// A range of the binary chunk. All start and end at multiples of 4.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Bytes from one element to the next.
    pub(crate) stride: usize,
}

/// Layout of the binary chunk, computed before anything is encoded.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) options: GlbOptions,
    /// Number of points.
    pub(crate) points: usize,
    pub(crate) positions: Stretch,
    pub(crate) colors: Stretch,
    /// The smallest and largest position along each axis, world space.
    pub(crate) bounds: Bounds,
    pub(crate) cameras: Option<CameraLayout>,
}

/// All cameras' corners one after the other; the faces only once, since every camera has the same.
#[derive(Debug)]
pub(crate) struct CameraLayout {
    pub(crate) positions: Stretch,
    pub(crate) colors: Stretch,
    pub(crate) indices: Stretch,
    pub(crate) index_count: usize,
}

impl Layout {
    /// Lays out the cameras of `scene` and `points` points within `bounds`.
    pub(crate) fn of(scene: &Scene, points: usize, bounds: Bounds, options: GlbOptions) -> Self {
        let mut end = 0;
        let mut next = |count: usize, stride: usize| {
            let offset = end;
            let length = count as u64 * stride as u64;
            end = (offset + length).next_multiple_of(4);
            Stretch {
                offset,
                length,
                stride,
            }
        };
        let color_stride = Encoder::stride(options.color_space);
        let positions = next(points, if options.is_quantized() { 8 } else { 12 });
        let colors = next(points, color_stride);
        let cameras = scene.cameras.first().map(|first| {
            let vertices = scene.cameras.iter().map(|c| c.vertices.len()).sum();
            let index_count = 3 * visible_faces(first).count();
            CameraLayout {
                positions: next(vertices, 12),
                colors: next(vertices, color_stride),
                indices: next(index_count, 2),
                index_count,
            }
        });
        Self {
            options,
            points,
            positions,
            colors,
            bounds,
            cameras,
        }
    }

    /// Length of the binary chunk.
    pub(crate) fn total(&self) -> u64 {
        let last = self.cameras.as_ref().map_or(&self.colors, |c| &c.indices);
        (last.offset + last.length).next_multiple_of(4)
    }

    /// Extent of the cloud along each axis, 1 where it is flat so that a scale by it can be undone.
    pub(crate) fn extent(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| {
            let extent = f64::from(self.bounds[1][axis]) - f64::from(self.bounds[0][axis]);
            if extent > 0.0 { extent } else { 1.0 }
        })
    }

    /// A position as normalized 16-bit parts of the extent above the lower bound.
    pub(crate) fn quantize(&self, position: [f32; 3]) -> [u16; 3] {
        let extent = self.extent();
        [0, 1, 2].map(|axis| {
            let above = f64::from(position[axis]) - f64::from(self.bounds[0][axis]);
            (above / extent[axis] * f64::from(u16::MAX)).round() as u16
        })
    }

    /// Returns the bytes of the binary chunk that one point takes.
    pub(crate) fn bytes_per_point(&self) -> u64 {
        (self.positions.stride + self.colors.stride) as u64
    }

    /// Writes the binary chunk's bytes, of `points` and of the cameras of `scene`. Reads the points twice: the format wants all
    /// positions before the first color.
    pub(crate) fn write(
        &self,
        scene: &Scene,
        points: &ScenePoints<'_>,
        out: &mut impl Write,
    ) -> Result<(), GlbError> {
        let encoder = Encoder::new(self.options.color_space);
        points.for_each_position(|positions| {
            if self.options.is_quantized() {
                write_column(positions, out, |p, bytes| {
                    for q in self.quantize(*p) {
                        bytes.extend(q.to_le_bytes());
                    }
                    bytes.extend([0; 2]);
                })
            } else {
                write_column(positions, out, push_position)
            }
            .map_err(GlbError::Io)
        })?;
        points.for_each_color(|colors| {
            write_column(colors, out, |c, bytes| encoder.push(*c, bytes)).map_err(GlbError::Io)
        })?;
        Ok(self.write_cameras(scene, &encoder, out)?)
    }

    fn write_cameras(
        &self,
        scene: &Scene,
        encoder: &Encoder,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(first) = scene.cameras.first() else {
            return Ok(());
        };
        for camera in &scene.cameras {
            write_column(&camera.vertices, out, push_position)?;
        }
        for camera in &scene.cameras {
            write_column(&camera.vertices, out, |_, bytes| {
                encoder.push(camera.color, bytes);
            })?;
        }
        let mut bytes = Vec::new();
        for index in visible_faces(first).flatten() {
            // 14 corners, and 240 bytes in all: no padding is needed.
            bytes.extend((*index as u16).to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        out.write_all(&bytes)
    }
}

/// The faces that cover any area; upstream's shape has some that join one corner to itself.
fn visible_faces(camera: &CameraMesh) -> impl Iterator<Item = &[u32; 3]> {
    camera
        .faces
        .iter()
        .filter(|[a, b, c]| a != b && b != c && c != a)
}

fn push_position(position: &[f32; 3], bytes: &mut Vec<u8>) {
    for x in position {
        bytes.extend(x.to_le_bytes());
    }
}

fn write_column<T>(
    column: &[T],
    out: &mut impl Write,
    mut push: impl FnMut(&T, &mut Vec<u8>),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for chunk in column.chunks(CHUNK) {
        bytes.clear();
        for item in chunk {
            push(item, &mut bytes);
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// The component type of a color.
pub(crate) fn color_component(space: ColorSpace) -> gltf_json::accessor::ComponentType {
    match space {
        ColorSpace::Linear => gltf_json::accessor::ComponentType::U16,
        ColorSpace::Srgb => gltf_json::accessor::ComponentType::U8,
    }
}
