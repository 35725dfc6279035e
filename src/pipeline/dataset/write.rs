//! Writing the images of a dataset.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Cursor, Write},
    path::Path,
};

use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use sha2::{Digest, Sha256};

use super::{
    DatasetImage, DatasetImages, Origin, WrittenImages,
    manifest::{Manifest, hex},
};
use crate::{
    decoder::Shape,
    output::{OutputError, OutputRules},
    pipeline::{
        PipelineError, ReadOptions, Source, decode::FrameDecoder, originals::for_each_of_video,
        stills::photo,
    },
    scene::PredictedFrames,
};

/// Quality of JPEGs that are encoded again: differences are below what a splat can show.
const JPEG_QUALITY: u8 = 95;

/// A writer that hashes what passes.
struct Hashed<W> {
    to: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

struct Writer<'a> {
    dataset: &'a DatasetImages,
    rules: &'a OutputRules,
    written: WrittenImages,
}

/// See [`DatasetImages::write_network`].
pub(super) fn network_images(
    dataset: &DatasetImages,
    frames: &dyn PredictedFrames,
    rules: &OutputRules,
) -> Result<WrittenImages, PipelineError> {
    let mut writer = Writer::new(dataset, rules);
    for (index, image) in dataset.images.iter().enumerate() {
        writer.encode(image, &photo(frames, index)?)?;
    }
    Ok(writer.written)
}

/// See [`DatasetImages::write`].
pub(super) fn images(
    dataset: &DatasetImages,
    source: Option<&Source>,
    read: &ReadOptions,
    rules: &OutputRules,
) -> Result<WrittenImages, PipelineError> {
    let mut writer = Writer::new(dataset, rules);
    if let Some(Source::Video(path)) = source {
        writer.video(path, read)?;
    } else {
        let mut decoder = FrameDecoder::new(read);
        for (index, image) in dataset.images.iter().enumerate() {
            writer.image(index, image, &mut decoder)?;
        }
    }
    // Never a photo of the user's: an input, also one that was left out of the frames, or a folder elsewhere behind a link.
    let stale = dataset.manifest.stale(&dataset.folder, &dataset.names());
    let stale = stale
        .into_iter()
        .filter(|path| dataset.owns_images() && !rules.is_input(path));
    for stale in stale {
        fs::remove_file(&stale).map_err(|source| OutputError::Io {
            path: stale,
            source,
        })?;
    }
    Ok(writer.written)
}

impl<'a> Writer<'a> {
    fn new(dataset: &'a DatasetImages, rules: &'a OutputRules) -> Self {
        Self {
            dataset,
            rules,
            written: WrittenImages {
                manifest: Manifest::new(),
                ..WrittenImages::default()
            },
        }
    }

    fn image(
        &mut self,
        index: usize,
        image: &DatasetImage,
        decoder: &mut FrameDecoder<'_>,
    ) -> Result<(), PipelineError> {
        let path = self.dataset.path(image);
        match &image.origin {
            Origin::Copy(from) => {
                if self.dataset.is_in_place(image, &path) {
                    return Ok(());
                }
                self.put(image, |out| {
                    io::copy(&mut File::open(from)?, out)?;
                    Ok(())
                })
            }
            Origin::Bundled(bytes) => self.put(image, |out| out.write_all(bytes)),
            Origin::Decode(from) => {
                let name = from.file_name().unwrap_or(from.as_os_str());
                let name = name.to_string_lossy();
                let decoded = decoder.image(from, &name, Shape::Whole, &mut || true)?;
                self.written.sizes.insert(index, decoded.rgb.dimensions());
                self.encode(image, &decoded.rgb)
            }
            Origin::Frame | Origin::Network | Origin::Missing => Ok(()),
        }
    }

    /// Decodes the video a second time: keeping its frames from the first would take more memory than the network.
    fn video(&mut self, path: &Path, read: &ReadOptions) -> Result<(), PipelineError> {
        let dataset = self.dataset;
        let names: Vec<String> = dataset.images.iter().map(|i| i.frame.clone()).collect();
        let mut left: HashSet<usize> = (0..names.len()).collect();
        let mut failed = None;
        for_each_of_video(path, read, &names, &mut |index, rgb| {
            left.remove(&index);
            failed = self.encode(&dataset.images[index], &rgb).err();
            failed.is_none()
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        match left.into_iter().min() {
            Some(index) => Err(PipelineError::Vanished {
                path: path.to_owned(),
                frame: names[index].clone(),
            }),
            None => Ok(()),
        }
    }

    fn encode(&mut self, image: &DatasetImage, rgb: &RgbImage) -> Result<(), PipelineError> {
        let mut bytes = Cursor::new(Vec::new());
        let encoded = match image.name.to_lowercase().ends_with(".png") {
            true => rgb.write_to(&mut bytes, ImageFormat::Png),
            false => {
                rgb.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
            }
        };
        encoded.map_err(|e| OutputError::Io {
            path: self.dataset.path(image),
            source: io::Error::other(e),
        })?;
        self.put(image, |out| out.write_all(bytes.get_ref()))
    }

    /// Writes one image, if it may be written, and remembers it.
    fn put(
        &mut self,
        image: &DatasetImage,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), PipelineError> {
        let path = self.dataset.path(image);
        let fail = |source| OutputError::Io {
            path: path.clone(),
            source,
        };
        let target = self.dataset.may_write(image, &path, self.rules)?;
        let mut out = Hashed {
            to: target.create()?,
            hasher: Sha256::new(),
        };
        write(&mut out).map_err(fail)?;
        self.written.bytes += out.to.written();
        out.to.commit().map_err(fail)?;
        self.written.manifest.add(&image.name, hex(out.hasher));
        Ok(())
    }
}
