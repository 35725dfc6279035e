//! Which photos were taken with the same lens.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::photos::Photo;
use crate::scene::View;

/// Photos of one size whose predicted focal lengths are within this factor of their median are taken for photos of one lens: the
/// network is right to a tenth, and zooms are steps of more.
const SAME_ZOOM: f64 = 1.3;

/// Which photos were taken with the same lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LensSharing {
    /// All frames of a video, and photos of the same size and about the same focal length.
    #[default]
    Auto,
    /// All photos of the same size.
    Shared,
    /// Each photo has its own.
    Single,
    /// As [`LensSharing::Single`], and focal lengths stay as they are.
    Fixed,
}

impl FromStr for LensSharing {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "shared" => Ok(Self::Shared),
            "single" => Ok(Self::Single),
            "fixed" => Ok(Self::Fixed),
            _ => Err(format!(
                "invalid lenses {s:?}: expected auto, shared, single or fixed"
            )),
        }
    }
}

/// Returns the number of each photo's lens.
pub(super) fn groups(
    sharing: LensSharing,
    is_video: bool,
    photos: &[Photo],
    views: &[View],
) -> Vec<usize> {
    if matches!(sharing, LensSharing::Single | LensSharing::Fixed) {
        return (0..photos.len()).collect();
    }
    let size = |photo: &Photo| {
        let original = |side: usize| (side as f64 * photo.original_scale).round() as usize;
        (original(photo.gray.width()), original(photo.gray.height()))
    };
    let mut sizes: Vec<_> = photos.iter().map(size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let by_size = photos
        .iter()
        .map(|photo| sizes.binary_search(&size(photo)).unwrap_or_default());
    let by_size: Vec<usize> = by_size.collect();
    if is_video || sharing == LensSharing::Shared {
        return by_size;
    }
    let focal = |view: usize| {
        views[view].intrinsic[0][0] / photos[view].scale[0] * photos[view].original_scale
    };
    let zooms = (0..sizes.len()).flat_map(|size| {
        let members = (0..photos.len()).filter(|view| by_size[*view] == size);
        let mut focals: Vec<f64> = members.map(focal).collect();
        focals.sort_by(f64::total_cmp);
        let middle = focals.get(focals.len() / 2).copied();
        middle.map(|middle| (size, middle))
    });
    let middles: Vec<(usize, f64)> = zooms.collect();
    let count = sizes.len();
    // Beside the lens of most photos of a size one for each that was zoomed.
    let number = |view: usize| {
        let middle = middles[by_size[view]].1;
        let ratio = focal(view) / middle;
        match (1.0 / SAME_ZOOM..SAME_ZOOM).contains(&ratio) {
            true => by_size[view],
            false => count + view,
        }
    };
    (0..photos.len()).map(number).collect()
}
