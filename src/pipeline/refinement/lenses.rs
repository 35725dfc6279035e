//! Which photos were taken with the same lens.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::photos::Photo;
use crate::scene::View;

/// Photos of one size and camera whose predicted focal lengths are within this factor of their median are taken for photos of one lens: the
/// network is right to a tenth, and zooms are steps of more.
const SAME_ZOOM: f64 = 1.3;

/// Which photos were taken with the same lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LensSharing {
    /// All frames of a video, and photos of the same size that note the same camera, lens and focal length, if any, and are predicted with
    /// about the same focal length.
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
        [original(photo.gray.width()), original(photo.gray.height())]
    };
    // What photos note tells lenses apart, unless all are said to be one.
    let by_note = !is_video && sharing == LensSharing::Auto;
    let kind = |photo: &Photo| {
        let noted = by_note.then(|| photo.note.lens.clone());
        (size(photo), noted.unwrap_or_default())
    };
    let kinds: Vec<_> = photos.iter().map(kind).collect();
    let mut all = kinds.clone();
    all.sort_unstable();
    all.dedup();
    let by_kind = kinds.iter().map(|kind| all.binary_search(kind));
    let by_kind: Vec<usize> = by_kind.map(Result::unwrap_or_default).collect();
    if !by_note {
        return by_kind;
    }
    let focal = |view: usize| {
        views[view].intrinsic[0][0] / photos[view].scale[0] * photos[view].original_scale
    };
    let middles = (0..all.len()).map(|kind| {
        let members = (0..photos.len()).filter(|view| by_kind[*view] == kind);
        let mut focals: Vec<f64> = members.map(focal).collect();
        focals.sort_by(f64::total_cmp);
        focals.get(focals.len() / 2).copied().unwrap_or(1.0)
    });
    let middles: Vec<f64> = middles.collect();
    // Beside the lens of most photos of a kind one for each that was zoomed or cropped.
    let number = |view: usize| {
        let ratio = focal(view) / middles[by_kind[view]];
        match (1.0 / SAME_ZOOM..SAME_ZOOM).contains(&ratio) {
            true => by_kind[view],
            false => all.len() + view,
        }
    };
    (0..photos.len()).map(number).collect()
}
