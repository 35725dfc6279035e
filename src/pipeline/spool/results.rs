//! The network's results in a spool: written frame by frame, read back after an interruption.

use candle_core::{DType, Device, Tensor};

use super::{
    Cameras, Fields, Spool,
    column::Column,
    data::Data,
    error::{SpoolError, failed},
    home::{CAMERAS, Home},
    journal::Record,
};

/// Values of a camera: pose_enc, extrinsic, intrinsic.
const CAMERA: [usize; 3] = [9, 12, 9];

/// Bytes of a frame beside its pixels: its camera, and its part of the journal, about.
const FRAME_BYTES: u64 = 4 * 30 + 400;

/// What the network says of one frame. F32; any device, any shape with as many values.
#[derive(Debug, Clone)]
pub struct FrameOutputs {
    /// Depth along the camera's z axis. [H, W, 1]
    pub depth: Tensor,
    /// Confidence of the depth. [H, W]
    pub depth_conf: Tensor,
    /// World points of the point head, [H, W, 3], and their confidence, [H, W]; where [`Fields::points`].
    pub points: Option<(Tensor, Tensor)>,
    /// Camera tokens, where [`Fields::camera_tokens`] is not 0.
    pub camera_tokens: Option<Tensor>,
}

impl Fields {
    /// Name, and number of values of a frame of so many pixels, of each kind of result.
    fn columns(self, pixels: usize) -> Vec<(&'static str, usize)> {
        let mut columns = vec![("depth", pixels), ("depth_conf", pixels)];
        if self.points {
            columns.extend([("world_points", 3 * pixels), ("world_points_conf", pixels)]);
        }
        if self.camera_tokens > 0 {
            columns.push(("camera_tokens", self.camera_tokens));
        }
        columns
    }

    /// Returns the bytes that a frame of so many pixels takes.
    pub fn bytes(self, pixels: u64) -> u64 {
        let values: usize = self.columns(pixels as usize).iter().map(|(_, n)| n).sum();
        3 * pixels + 4 * values as u64 + FRAME_BYTES
    }
}

impl Spool {
    /// Keeps the results of a frame. Once this returns, a process that is killed need not compute them again.
    ///
    /// # Errors
    /// When a tensor has another size or cannot be written, as on a full disk: what was kept before stays.
    pub fn put(&mut self, frame: usize, results: &FrameOutputs) -> Result<(), SpoolError> {
        let points = results.points.as_ref();
        let tensors = [
            Some(&results.depth),
            Some(&results.depth_conf),
            points
                .map(|(points, _)| points)
                .filter(|_| self.fields().points),
            points
                .map(|(_, conf)| conf)
                .filter(|_| self.fields().points),
            (results.camera_tokens.as_ref()).filter(|_| self.fields().camera_tokens > 0),
        ];
        let tensors: Vec<&Tensor> = tensors.into_iter().flatten().collect();
        let mut hasher = crc32fast::Hasher::new();
        for (i, column) in self.results.iter().enumerate() {
            let missing = || SpoolError::Size {
                name: column.name,
                frame,
                expected: 1,
                found: 0,
            };
            let bytes = column.bytes(frame, tensors.get(i).copied().ok_or_else(missing)?)?;
            hasher.update(&bytes);
            let written = column.write(frame, &bytes);
            written.map_err(failed("write", &self.path_of(column)))?;
        }
        self.record(&Record::Frame {
            index: frame,
            sum: hasher.finalize(),
        })?;
        self.done[frame] = true;
        Ok(())
    }

    /// Returns the camera tokens of all frames. [S, [`Fields::camera_tokens`]]
    ///
    /// # Errors
    /// When they are not kept or cannot be read.
    pub fn camera_tokens(&self) -> Result<Tensor, SpoolError> {
        let name = "camera_tokens";
        let Some(column) = self.results.iter().find(|column| column.name == name) else {
            let (frame, expected, found) = (0, 1, 0);
            return Err(SpoolError::Size {
                name,
                frame,
                expected,
                found,
            });
        };
        let mut values = Vec::with_capacity(self.count() * self.fields().camera_tokens);
        for frame in 0..self.count() {
            let read = column.values(frame);
            values.extend(read.map_err(failed("read", &self.path_of(column)))?);
        }
        let shape = (self.count(), self.fields().camera_tokens);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// Keeps the cameras of all frames: pose_enc [S, 9], extrinsic [S, 3, 4], intrinsic [S, 3, 3]. Nothing is missing then.
    ///
    /// # Errors
    /// When a tensor has another size or cannot be written.
    pub fn finish(
        &mut self,
        pose_enc: &Tensor,
        extrinsic: &Tensor,
        intrinsic: &Tensor,
    ) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        for (tensor, values) in [pose_enc, extrinsic, intrinsic].into_iter().zip(CAMERA) {
            let all: Vec<f32> = (tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?)
                .flatten_all()?
                .to_vec1()?;
            if all.len() != self.count() * values {
                return Err(SpoolError::Size {
                    name: CAMERAS,
                    frame: 0,
                    expected: self.count() * values,
                    found: all.len(),
                });
            }
            bytes.extend(all.iter().flat_map(|v| v.to_le_bytes()));
        }
        let path = self.home.path().join(CAMERAS);
        let written = self.home.create(CAMERAS)?.write_at(&bytes, 0);
        written.map_err(failed("write", &path))?;
        let sum = crc32fast::hash(&bytes);
        self.record(&Record::Cameras { sum })?;
        self.cameras = Some(Cameras::of_bytes(&bytes, self.count())?);
        Ok(())
    }

    /// Opens a column for each kind of result.
    pub(super) fn columns(
        &self,
        open: impl Fn(&Home, &'static str) -> Result<Data, SpoolError>,
    ) -> Result<Vec<Column>, SpoolError> {
        let pixels = self.decoded.height * self.decoded.width;
        let columns = self.fields().columns(pixels).into_iter();
        columns
            .map(|(name, values)| Ok(Column::new(name, open(&self.home, name)?, 4 * values)))
            .collect()
    }

    /// Takes over what the journal says is finished, as far as the data is what it was.
    pub(super) fn take_over(&mut self, records: &[Record]) -> Result<(), SpoolError> {
        for record in records {
            match record {
                Record::Decoded(_) => {}
                Record::Frame { index, sum } => {
                    if let Some(done) = self.done.get(*index) {
                        let found = *done || self.sum_of(*index) == Some(*sum);
                        self.done[*index] = found;
                    }
                }
                Record::Cameras { sum } => self.cameras = self.read_cameras(*sum)?,
            }
        }
        Ok(())
    }

    /// Checksum of the results of a frame; `None` where they cannot be read.
    fn sum_of(&self, frame: usize) -> Option<u32> {
        let mut hasher = crc32fast::Hasher::new();
        for column in &self.results {
            hasher.update(&column.read(frame).ok()?);
        }
        Some(hasher.finalize())
    }

    fn read_cameras(&self, sum: u32) -> Result<Option<Cameras>, SpoolError> {
        let Some(file) = self.home.open(CAMERAS)? else {
            return Ok(None);
        };
        let length = 4 * CAMERA.iter().sum::<usize>() * self.count();
        match super::header::read_all(file, length as u64) {
            Ok(bytes) if bytes.len() == length && crc32fast::hash(&bytes) == sum => {
                Ok(Some(Cameras::of_bytes(&bytes, self.count())?))
            }
            _ => Ok(None),
        }
    }
}

impl Cameras {
    /// Reads what [`Spool::finish`] writes.
    fn of_bytes(bytes: &[u8], count: usize) -> Result<Self, SpoolError> {
        let words = bytes.as_chunks::<4>().0.iter();
        let mut values = words.map(|word| f32::from_le_bytes(*word));
        let mut next = |shape: &[usize]| {
            let n = shape.iter().product();
            let values: Vec<f32> = values.by_ref().take(n).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        Ok(Self {
            pose_enc: next(&[count, 9])?,
            extrinsic: next(&[count, 3, 4])?,
            intrinsic: next(&[count, 3, 3])?,
        })
    }
}
