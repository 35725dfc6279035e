//! A pass that does not fit after all: once more, with fewer frames.

use vggt_model::{ForwardOptions, Predictions};

use super::{Network, PipelineError, Watcher, source::evenly};
use crate::frames::{Frames, FramesError};

/// Runs the network on all frames, and when the device runs out of memory once more on half of them, evenly chosen, the first
/// among them; a warning says so. Gives the frames that were used along, with [`Frames::given`] as it was.
///
/// The limit on frames is an estimate of what fits, and others may take a card's memory meanwhile.
///
/// # Errors
/// When half of the frames do not fit either, and as [`Network::predict`].
pub fn predict_what_fits(
    network: &Network,
    frames: Frames,
    options: &ForwardOptions,
    watcher: &mut dyn Watcher,
) -> Result<(Frames, Predictions), PipelineError> {
    with_fewer_frames(
        frames,
        |frames| network.predict(&frames.images, options, watcher),
        || network.return_device_memory(),
    )
}

/// The rule of [`predict_what_fits`] for any `pass`; `give_back` comes between two of them.
fn with_fewer_frames<T>(
    frames: Frames,
    mut pass: impl FnMut(&Frames) -> Result<T, PipelineError>,
    give_back: impl FnOnce(),
) -> Result<(Frames, T), PipelineError> {
    match pass(&frames) {
        Err(e @ PipelineError::OutOfMemory { .. }) if frames.names.len() > 1 => {
            let (all, most) = (frames.names.len(), frames.names.len() / 2);
            tracing::warn!("{e}: once more with {most} of the {all} frames, evenly");
            give_back();
            let chosen: Vec<usize> = evenly(all, most).collect();
            let fewer = frames.chosen(&chosen).map_err(FramesError::from)?;
            drop(frames);
            let made = pass(&fewer)?;
            Ok((fewer, made))
        }
        done => Ok((frames, done?)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::frames::Placement;

    /// Every pixel of a frame is its number.
    fn frames(s: usize) -> Frames {
        let numbers: Vec<f32> = (0..s).flat_map(|i| [i as f32; 12]).collect();
        Frames {
            images: Tensor::from_vec(numbers, (s, 3, 2, 2), &Device::Cpu).unwrap(),
            names: (0..s).map(|i| i.to_string()).collect(),
            placements: (0..s as u32).map(placement).collect(),
            given: s,
        }
    }

    fn placement(number: u32) -> Placement {
        Placement {
            source_width: number,
            source_height: 2,
            scale_x: 1.0,
            scale_y: 1.0,
            offset_x: 0.0,
            offset_y: 0.0,
        }
    }

    /// A pass over frames that fits when there are at most `most`: which frames it saw.
    fn pass(most: usize) -> impl FnMut(&Frames) -> Result<Vec<f32>, PipelineError> {
        move |frames| {
            let s = frames.images.dims()[0];
            assert_eq!((frames.names.len(), frames.placements.len()), (s, s));
            if s > most {
                return Err(PipelineError::OutOfMemory {
                    frames: s,
                    width: 2,
                    height: 2,
                });
            }
            let first = frames.images.flatten_from(1).unwrap();
            let first = first.narrow(1, 0, 1).unwrap().flatten_all().unwrap();
            Ok(first.to_vec1().unwrap())
        }
    }

    #[test]
    fn what_fits_is_computed_once() {
        let all = frames(5);
        let (used, seen) = with_fewer_frames(all, pass(5), || panic!("nothing failed")).unwrap();
        assert_eq!(seen, [0., 1., 2., 3., 4.]);
        assert_eq!(used.names.len(), 5);
    }

    #[test]
    fn what_does_not_fit_is_tried_once_more_with_half_the_frames() {
        let mut given_back = 0;
        let (used, seen) = with_fewer_frames(frames(7), pass(4), || given_back += 1).unwrap();
        assert_eq!(seen, [0., 3., 6.]);
        assert_eq!(used.names, ["0", "3", "6"]);
        assert_eq!(used.placements, [0, 3, 6].map(placement));
        assert_eq!(used.given, 7);
        assert_eq!(given_back, 1);
    }

    #[test]
    fn there_is_no_third_try_and_none_with_a_single_frame() {
        for (s, told) in [(8, 4), (1, 1)] {
            let e = with_fewer_frames(frames(s), pass(0), || ()).unwrap_err();
            assert!(
                matches!(e, PipelineError::OutOfMemory { frames, .. } if frames == told),
                "{e}"
            );
        }
    }
}
