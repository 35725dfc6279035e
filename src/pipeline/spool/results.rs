//! The network's results in a spool: written frame by frame, read back after an interruption.

use candle_core::{DType, Device, Tensor};
use vggt_model::anchors::FrameSimilarity;

use super::{
    Cameras, Fields, Spool,
    column::Column,
    data::Data,
    error::{SpoolError, failed},
    home::{CAMERAS, Home},
    journal::Record,
};

/// Names of the columns and of their files.
const DEPTH: &str = "depth";
const DEPTH_CONF: &str = "depth_conf";
const POINTS: &str = "world_points";
const POINTS_CONF: &str = "world_points_conf";
const CAMERA_TOKENS: &str = "camera_tokens";
const SIMILARITY: &str = "similarity";

/// Values of a camera: pose_enc, extrinsic, intrinsic.
const CAMERA: [usize; 3] = [9, 12, 9];

/// Bytes of a frame beside its pixels: its camera, and its part of the journal, about.
const FRAME_BYTES: u64 = 4 * 30 + 400;

/// What the network says of one frame. F32; any device, any shape with as many values.
#[derive(Debug, Clone)]
pub struct FrameOutputs {
    /// Depth along the camera's z axis, [H, W, 1]; `None` without a depth head, which is kept as NaN.
    pub depth: Option<Tensor>,
    /// Confidence of the depth, [H, W]; `None` likewise.
    pub depth_conf: Option<Tensor>,
    /// World points of the point head, [H, W, 3], and their confidence, [H, W]; where [`Fields::points`].
    pub points: Option<(Tensor, Tensor)>,
    /// Camera tokens, where [`Fields::camera_tokens`] is not 0; `None` where the cameras come with all frames.
    pub camera_tokens: Option<Tensor>,
    /// How much it is like the first frame, where [`Fields::compared`].
    pub similarity: Option<FrameSimilarity>,
}

/// Values of one column: those of a tensor, or the same for all.
enum Values<'a> {
    Tensor(&'a Tensor),
    List(Vec<f32>),
    Fill(f32),
}

impl Fields {
    /// Name, and number of values of a frame of so many pixels, (H, W), of each kind of result.
    pub(super) fn columns(self, (h, w): (usize, usize)) -> Vec<(&'static str, usize)> {
        let pixels = h * w;
        let mut columns = vec![(DEPTH, pixels), (DEPTH_CONF, pixels)];
        if self.points {
            columns.extend([(POINTS, 3 * pixels), (POINTS_CONF, pixels)]);
        }
        if self.camera_tokens > 0 {
            columns.push((CAMERA_TOKENS, self.camera_tokens));
        }
        if let Some(compared) = self.compared {
            columns.push((SIMILARITY, compared.values((h, w))));
        }
        columns
    }

    /// Returns the bytes that a frame of so many pixels, (H, W), takes.
    pub fn bytes(self, size: (usize, usize)) -> u64 {
        let values: usize = self.columns(size).iter().map(|(_, n)| n).sum();
        (3 * size.0 * size.1 + 4 * values) as u64 + FRAME_BYTES
    }
}

impl FrameOutputs {
    /// The values of a column.
    fn of(&self, name: &str) -> Option<Values<'_>> {
        let or_nan = |tensor: &'_ Option<Tensor>| match tensor {
            Some(_) => None,
            None => Some(Values::Fill(f32::NAN)),
        };
        let points = self.points.as_ref();
        match name {
            DEPTH => or_nan(&self.depth).or(self.depth.as_ref().map(Values::Tensor)),
            DEPTH_CONF => or_nan(&self.depth_conf).or(self.depth_conf.as_ref().map(Values::Tensor)),
            POINTS => points.map(|(points, _)| Values::Tensor(points)),
            POINTS_CONF => points.map(|(_, conf)| Values::Tensor(conf)),
            CAMERA_TOKENS => Some(match &self.camera_tokens {
                Some(tokens) => Values::Tensor(tokens),
                None => Values::Fill(0.0),
            }),
            SIMILARITY => Some(match &self.similarity {
                Some(similarity) => Values::List(similarity.to_values()),
                None => Values::Fill(0.0),
            }),
            _ => None,
        }
    }
}

impl Spool {
    /// Keeps the results of a frame. Once this returns, a process that is killed need not compute them again.
    ///
    /// # Errors
    /// When a tensor is missing, has another size or cannot be written, as on a full disk: what was kept before stays.
    pub fn put(&mut self, frame: usize, results: &FrameOutputs) -> Result<(), SpoolError> {
        let mut hasher = crc32fast::Hasher::new();
        for column in &self.results {
            let bytes = match results.of(column.name) {
                Some(Values::Tensor(tensor)) => column.bytes(frame, tensor)?,
                Some(Values::List(values)) => column.bytes_of(frame, &values)?,
                Some(Values::Fill(value)) => value.to_le_bytes().repeat(column.stride() / 4),
                None => return Err(not_kept(column.name, frame)),
            };
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

    /// Returns how much a frame is like the first one.
    ///
    /// # Errors
    /// When it is not kept or cannot be read.
    pub fn similarity(&self, frame: usize) -> Result<FrameSimilarity, SpoolError> {
        let column = self.results.iter().find(|column| column.name == SIMILARITY);
        let column = column.ok_or_else(|| not_kept(SIMILARITY, frame))?;
        let values = column.values(frame);
        let values = values.map_err(failed("read", &self.path_of(column)))?;
        FrameSimilarity::of_values(values).ok_or_else(|| not_kept(SIMILARITY, frame))
    }

    /// Returns the camera tokens of all frames. [S, [`Fields::camera_tokens`]]
    ///
    /// # Errors
    /// When they are not kept or cannot be read.
    pub fn camera_tokens(&self) -> Result<Tensor, SpoolError> {
        self.camera_tokens_of(0..self.count())
    }

    /// Returns the camera tokens of some frames.
    pub(in super::super) fn camera_tokens_of(
        &self,
        frames: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Tensor, SpoolError> {
        let count = frames.len();
        let column = self
            .results
            .iter()
            .find(|column| column.name == CAMERA_TOKENS);
        let column = column.ok_or_else(|| not_kept(CAMERA_TOKENS, 0))?;
        let mut values = Vec::with_capacity(count * self.fields().camera_tokens);
        for frame in frames {
            let read = column.values(frame);
            values.extend(read.map_err(failed("read", &self.path_of(column)))?);
        }
        let shape = (count, self.fields().camera_tokens);
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
        let size = (self.decoded.height, self.decoded.width);
        let columns = self.fields().columns(size).into_iter();
        columns
            .map(|(name, values)| Ok(Column::new(name, open(&self.home, name)?, 4 * values)))
            .collect()
    }

    /// Takes over what the journal says is finished, as far as the data is what it was.
    pub(super) fn take_over(&mut self, records: &[Record]) -> Result<(), SpoolError> {
        for record in records {
            match record {
                Record::Decoded(_) => {}
                Record::Chosen(chosen) => {
                    self.decoded.by_memory |= chosen.by_memory;
                    self.chosen = Some((**chosen).clone());
                }
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

/// The error of a result that is not there.
fn not_kept(name: &'static str, frame: usize) -> SpoolError {
    SpoolError::Size {
        name,
        frame,
        expected: 1,
        found: 0,
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
