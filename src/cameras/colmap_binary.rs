//! COLMAP's binary form: `cameras.bin` and `images.bin`. See `colmap/binary.rs` for the layout.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{
    CamerasError, KnownLens, MAX_CAMERAS, MAX_NAME,
    colmap::{CameraModel, Image},
    lines, pose,
};

/// Longest file: images.bin has 24 bytes for each observation.
const MAX_BYTES: u64 = 64 << 30;

/// Bytes of an observation: x, y and the number of its point.
const OBSERVATION: u64 = 24;

struct Records<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    /// Bytes of the file that were not read yet.
    left: u64,
    /// What is being read.
    at: String,
}

impl<'a> Records<'a> {
    fn open(path: &'a Path) -> Result<Self, CamerasError> {
        let file = lines::open(path, MAX_BYTES)?;
        let left = file
            .metadata()
            .map_err(|e| CamerasError::io(path, e))?
            .len();
        Ok(Self {
            path,
            reader: BufReader::new(file),
            left,
            at: "its beginning".to_owned(),
        })
    }

    fn fail(&self, why: impl Into<String>) -> CamerasError {
        CamerasError::content(self.path, self.at.clone(), why)
    }

    fn failed(&self, e: io::Error) -> CamerasError {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => self.fail("the file ends in it"),
            _ => CamerasError::io(self.path, e),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], CamerasError> {
        let mut bytes = [0; N];
        let read = self.reader.read_exact(&mut bytes);
        read.map_err(|e| self.failed(e))?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, CamerasError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CamerasError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64, CamerasError> {
        self.bytes().map(f64::from_le_bytes)
    }

    fn floats<const N: usize>(&mut self) -> Result<[f64; N], CamerasError> {
        let mut values = [0.0; N];
        for value in &mut values {
            *value = self.f64()?;
        }
        Ok(values)
    }

    /// Reads a name that ends with NUL.
    fn name(&mut self) -> Result<String, CamerasError> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_NAME as u64 + 1);
        let read = limited.read_until(0, &mut bytes);
        read.map_err(|e| self.failed(e))?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        match bytes.pop() {
            Some(0) if !bytes.is_empty() => {}
            _ => return Err(self.fail("its name is empty, cut off or too long")),
        }
        String::from_utf8(bytes).map_err(|_| self.fail("its name is not UTF-8"))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), CamerasError> {
        let offset = i64::try_from(bytes).ok().filter(|_| bytes <= self.left);
        let offset = offset.ok_or_else(|| self.fail("the file ends in it"))?;
        let skipped = self.reader.seek_relative(offset);
        skipped.map_err(|e| self.failed(e))?;
        self.left -= bytes;
        Ok(())
    }

    /// Reads the number of records, and checks it.
    fn count(&mut self) -> Result<u64, CamerasError> {
        let count = self.u64()?;
        match count > MAX_CAMERAS as u64 {
            true => Err(self.fail(format!(
                "it claims {count} records, and the limit is {MAX_CAMERAS}"
            ))),
            false => Ok(count),
        }
    }
}

pub(super) fn cameras(path: &Path) -> Result<HashMap<u32, KnownLens>, CamerasError> {
    let mut records = Records::open(path)?;
    let mut lenses = HashMap::new();
    for number in 1..=records.count()? {
        records.at = format!("camera {number}");
        let id = records.u32()?;
        let model = CameraModel::numbered(records.bytes().map(i32::from_le_bytes)?);
        let model = model.map_err(|why| records.fail(why))?;
        let size = [records.u64()?, records.u64()?].map(|side| side as f64);
        let parameters = (0..model.parameters).map(|_| records.f64());
        let parameters = parameters.collect::<Result<Vec<f64>, _>>()?;
        let lens = model.lens(size, &parameters);
        lenses.insert(id, lens.map_err(|why| records.fail(why))?);
    }
    Ok(lenses)
}

pub(super) fn images(path: &Path) -> Result<Vec<Image>, CamerasError> {
    let mut records = Records::open(path)?;
    let mut images = Vec::new();
    for number in 1..=records.count()? {
        records.at = format!("image {number}");
        records.u32()?;
        let (quaternion, translation) = (records.floats()?, records.floats()?);
        let camera = records.u32()?;
        let name = records.name()?;
        let observations = records.u64()?;
        let bytes = observations.checked_mul(OBSERVATION);
        records.skip(bytes.ok_or_else(|| records.fail("the file ends in it"))?)?;
        images.push(Image {
            camera_from_world: pose(quaternion, translation).map_err(|why| records.fail(why))?,
            name,
            camera,
        });
    }
    Ok(images)
}
