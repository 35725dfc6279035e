//! Lenses before the refinement: one for each group of views, and what is known of its focal length.

use crate::{
    bundle::{Cameras, FocalPrior},
    camera::Lens,
    tracks::median,
    view::View,
};

/// While matches are coarse, focal lengths stay close to what is known. A note is better than a prediction: the 35 mm equivalents
/// of EXIF are rounded to whole millimeters and refer to the diagonal, which other sides of a sensor change by a few percent.
pub(crate) const COARSE_FOCAL_SIGMAS: FocalSigmas = FocalSigmas {
    predicted: 0.1,
    noted: 0.05,
};
/// Once they are fine, far more than it is, so that what is known decides nothing but what the photos leave open. A note needs
/// even more than a prediction, because a crop or a digital zoom makes it wrong by any factor: with 3, a note that is off by 30 %
/// moves a focal length that photos determine by 2 %. With 0.05 it would move it by 30 %, however many photos there are, because
/// a prior weighs as much as all observations.
pub(crate) const FINE_FOCAL_SIGMAS: FocalSigmas = FocalSigmas {
    predicted: 2.0,
    noted: 3.0,
};

/// Standard deviations of the logarithms of focal lengths that are known before the refinement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FocalSigmas {
    predicted: f64,
    noted: f64,
}

/// What is known of the focal length of a lens along x before the refinement, pixels.
pub(crate) struct KnownFocal {
    predicted: f64,
    /// The median of those that the cameras noted.
    noted: Option<f64>,
}

impl KnownFocal {
    /// Returns what holds the focal length in an adjustment: the note if there is one.
    pub(crate) fn prior(&self, sigmas: &FocalSigmas) -> FocalPrior {
        let (focal, sigma) = match self.noted {
            Some(noted) => (noted, sigmas.noted),
            None => (self.predicted, sigmas.predicted),
        };
        FocalPrior { focal, sigma }
    }
}

/// Returns the cameras with one lens for each group: the middle of those that were predicted.
pub(crate) fn with_shared_lenses(predicted: &Cameras, groups: &[usize]) -> Cameras {
    let mut numbers: Vec<usize> = groups.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let middle = |group: usize, of: &dyn Fn(&Lens) -> f64| {
        let views = (0..groups.len()).filter(|view| groups[*view] == group);
        median(views.map(|view| of(predicted.lens(view))).collect()).unwrap_or_default()
    };
    let lens = |group: &usize| {
        // Pixels are square, whatever small difference was predicted.
        let focal = middle(*group, &|lens| (lens.focal[0] * lens.focal[1]).sqrt());
        Lens {
            focal: [focal, focal],
            principal: [0, 1].map(|axis| middle(*group, &|lens| lens.principal[axis])),
            k1: middle(*group, &|lens| lens.k1),
        }
    };
    Cameras {
        poses: predicted.poses.clone(),
        lenses: numbers.iter().map(lens).collect(),
        lens_of: groups
            .iter()
            .filter_map(|group| numbers.binary_search(group).ok())
            .collect(),
    }
}

/// Returns what is known of the focal length of each lens.
pub(crate) fn known_focals(cameras: &Cameras, views: &[View]) -> Vec<KnownFocal> {
    let noted = |lens: usize| {
        let of_lens = views.iter().zip(&cameras.lens_of);
        let of_lens = of_lens.filter(|(_, own)| **own == lens);
        let noted = of_lens.filter_map(|(view, _)| view.noted_focal);
        median(
            noted
                .filter(|focal| focal.is_finite() && *focal > 0.0)
                .collect(),
        )
    };
    let lenses = cameras.lenses.iter().enumerate();
    let known = lenses.map(|(number, lens)| KnownFocal {
        predicted: lens.focal[0],
        noted: noted(number),
    });
    known.collect()
}
