//! Lenses before the refinement: one for each group of views, and what is known of its focal length.

use crate::{
    bundle::{Cameras, FocalPrior},
    camera::Lens,
    tracks::median,
    view::View,
};

/// While matches are coarse, focal lengths stay close to what is known. A note is better than a prediction: the 35 mm equivalents
/// of EXIF are rounded to whole millimeters and refer to the diagonal, which other sides of a sensor change by a few percent.
pub(crate) const COARSE_FOCAL_TRUST: FocalTrust = FocalTrust {
    predicted: Trust {
        sigma: 0.1,
        loss: f64::INFINITY,
    },
    noted: Trust {
        sigma: 0.05,
        loss: f64::INFINITY,
    },
};
/// Once they are fine, what is known decides only what the photos leave open. A note counts as long as the photos agree with it to some
/// percent. It hardly does where they contradict it, because a crop to the same shape makes it wrong by any factor.
pub(crate) const FINE_FOCAL_TRUST: FocalTrust = FocalTrust {
    predicted: Trust {
        sigma: 2.0,
        loss: f64::INFINITY,
    },
    noted: Trust {
        sigma: 0.5,
        loss: 0.03,
    },
};

/// How far what is known of focal lengths before the refinement is trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FocalTrust {
    predicted: Trust,
    noted: Trust,
}

/// Standard deviation of the logarithm, and the scale of its loss; see [`FocalPrior`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trust {
    sigma: f64,
    loss: f64,
}

/// What is known of the focal length of a lens along x before the refinement, pixels.
pub(crate) struct KnownFocal {
    predicted: f64,
    /// The median of those that the cameras noted.
    noted: Option<f64>,
}

impl KnownFocal {
    /// Returns what holds the focal length in an adjustment: the note if there is one.
    pub(crate) fn prior(&self, trust: &FocalTrust) -> FocalPrior {
        let (focal, Trust { sigma, loss }) = match self.noted {
            Some(noted) => (noted, trust.noted),
            None => (self.predicted, trust.predicted),
        };
        FocalPrior { focal, sigma, loss }
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
