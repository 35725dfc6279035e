//! A pass that runs out of memory is repeated once with fewer frames.

use vggt_model::{ForwardOptions, Predictions, anchors::FrameSimilarity};

use super::{Network, PipelineError, Warning, Watcher, source::evenly};
use crate::frames::{Frames, FramesError};

/// Predictions, and how much each frame is like the first one.
pub(super) type Compared = (Predictions, Vec<FrameSimilarity>);

/// Runs the network on all frames, and when the device runs out of memory once more on half of them, chosen evenly, the first
/// among them; the watcher is warned. Returns the frames that were used along with the predictions and how much each frame is
/// like the first; [`Frames::available`] stays as it was.
///
/// The limit on frames is an estimate of what fits, and other processes may take memory of a GPU in the meantime.
///
/// # Errors
/// When half of the frames do not fit either, and as [`Network::predict`].
pub(super) fn predict_what_fits(
    network: &Network,
    frames: Frames,
    options: &ForwardOptions,
    watcher: &mut dyn Watcher,
) -> Result<(Frames, Compared), PipelineError> {
    with_fewer_frames(
        frames,
        watcher,
        |frames, watcher| network.predict_compared(&frames.images, options, watcher),
        || network.return_device_memory(),
    )
}

/// The rule of [`predict_what_fits`] for any `pass`; `between` is called between two passes.
fn with_fewer_frames<T>(
    frames: Frames,
    watcher: &mut dyn Watcher,
    mut pass: impl FnMut(&Frames, &mut dyn Watcher) -> Result<T, PipelineError>,
    between: impl FnOnce(),
) -> Result<(Frames, T), PipelineError> {
    match pass(&frames, watcher) {
        Err(e @ PipelineError::OutOfMemory { .. }) if frames.names.len() > 1 => {
            let (of, used) = (frames.names.len(), frames.names.len() / 2);
            watcher.warn(&Warning::RetriedWithFewer {
                error: e.to_string(),
                used,
                of,
            });
            between();
            let selected: Vec<usize> = evenly(of, used).collect();
            let fewer = frames.select(&selected).map_err(FramesError::from)?;
            drop(frames);
            let done = pass(&fewer, watcher)?;
            Ok((fewer, done))
        }
        done => Ok((frames, done?)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{frames::Placement, pipeline::Stage};

    /// Collects warnings.
    #[derive(Default)]
    struct Warnings(Vec<Warning>);

    impl Watcher for Warnings {
        fn step(&mut self, _: Stage, _: usize, _: usize) -> bool {
            true
        }

        fn warn(&mut self, warning: &Warning) {
            self.0.push(warning.clone());
        }
    }

    /// Every pixel of a frame is the frame's index.
    fn frames(s: usize) -> Frames {
        let values: Vec<f32> = (0..s).flat_map(|i| [i as f32; 12]).collect();
        Frames {
            images: Tensor::from_vec(values, (s, 3, 2, 2), &Device::Cpu).unwrap(),
            names: (0..s).map(|i| i.to_string()).collect(),
            placements: (0..s as u32).map(placement).collect(),
            available: s,
        }
    }

    fn placement(index: u32) -> Placement {
        Placement {
            source_width: index,
            source_height: 2,
            scale_x: 1.0,
            scale_y: 1.0,
            offset_x: 0.0,
            offset_y: 0.0,
        }
    }

    /// A pass that fails above `max` frames, and returns the indices of the frames that it saw.
    fn pass(
        max: usize,
    ) -> impl FnMut(&Frames, &mut dyn Watcher) -> Result<Vec<f32>, PipelineError> {
        move |frames, _| {
            let s = frames.images.dims()[0];
            assert_eq!((frames.names.len(), frames.placements.len()), (s, s));
            if s > max {
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
        let mut warnings = Warnings::default();
        let between = || panic!("nothing failed");
        let (used, seen) = with_fewer_frames(frames(5), &mut warnings, pass(5), between).unwrap();
        assert_eq!(seen, [0., 1., 2., 3., 4.]);
        assert_eq!(used.names.len(), 5);
        assert!(warnings.0.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_tried_once_more_with_half_the_frames() {
        let (mut warnings, mut returned) = (Warnings::default(), 0);
        let between = || returned += 1;
        let (used, seen) = with_fewer_frames(frames(7), &mut warnings, pass(4), between).unwrap();
        assert_eq!(seen, [0., 3., 6.]);
        assert_eq!(used.names, ["0", "3", "6"]);
        assert_eq!(used.placements, [0, 3, 6].map(placement));
        assert_eq!(used.available, 7);
        assert_eq!(returned, 1);
        assert!(
            matches!(
                warnings.0[..],
                [Warning::RetriedWithFewer { used: 3, of: 7, .. }]
            ),
            "{:?}",
            warnings.0
        );
    }

    #[test]
    fn there_is_no_third_try_and_none_with_a_single_frame() {
        for (s, last) in [(8, 4), (1, 1)] {
            let mut warnings = Warnings::default();
            let e = with_fewer_frames(frames(s), &mut warnings, pass(0), || ()).unwrap_err();
            assert!(
                matches!(e, PipelineError::OutOfMemory { frames, .. } if frames == last),
                "{e}"
            );
        }
    }
}
