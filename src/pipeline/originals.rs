//! The original photos of frames, decoded a second time: keeping them from the first would take more memory than the network.

use std::{collections::HashMap, path::Path};

use image::RgbImage;
use vggt_model::demo;

use super::{PipelineError, ReadOptions, Source, decode::FrameDecoder};
use crate::{
    decoder::Shape,
    frames::{VideoChoice, VideoProgress, decode_image},
};

/// Gets the original of a frame, by the frame's index; `false` ends the work.
pub(super) type Sink<'a> = dyn FnMut(usize, RgbImage) -> bool + 'a;

/// Decodes the originals of the frames with these names and passes each to `sink`, in their order. Those that are not there any
/// more, or cannot be decoded any more, are left out.
///
/// # Errors
/// When the decoder's process or the video fails.
pub(super) fn for_each_original(
    source: &Source,
    read: &ReadOptions,
    names: &[String],
    sink: &mut Sink<'_>,
) -> Result<(), PipelineError> {
    if let Source::Video(path) = source {
        return for_each_of_video(path, read, names, sink);
    }
    let files: HashMap<_, _> = source.named_files().into_iter().collect();
    let mut decoder = FrameDecoder::new(read);
    for (index, name) in names.iter().enumerate() {
        let decoded = match (source, files.get(name)) {
            (Source::Demo, _) => bundled(name, read),
            (_, Some(path)) => {
                let decoded = decoder.image(path, name, Shape::Whole, &mut || true);
                decoded.ok().map(|decoded| decoded.rgb)
            }
            _ => None,
        };
        if let Some(image) = decoded
            && !sink(index, image)
        {
            break;
        }
    }
    Ok(())
}

fn bundled(name: &str, read: &ReadOptions) -> Option<RgbImage> {
    let (_, bytes) = demo::FRAMES.iter().find(|(frame, _)| *frame == name)?;
    let image = decode_image(name, bytes, &read.image_limits).ok()?;
    Some(image.rgb)
}

/// Decodes the frames of a video that have these names, once more and in one pass.
///
/// # Errors
/// When the video cannot be read.
pub(super) fn for_each_of_video(
    path: &Path,
    read: &ReadOptions,
    names: &[String],
    sink: &mut Sink<'_>,
) -> Result<(), PipelineError> {
    let indices: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    // The frames that were used, whatever chose them.
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let mut goes_on = true;
    FrameDecoder::new(read).video(
        path,
        (&VideoChoice::Numbers(numbers), None),
        Shape::Whole,
        &mut |_: VideoProgress| true,
        &mut |frame| {
            if let Some(index) = indices.get(frame.name.as_str())
                && goes_on
            {
                goes_on = sink(*index, frame.rgb);
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// Returns the number in the name of a video's frame.
fn number_of(frame: &str) -> Option<u64> {
    let digits: String = frame.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}
