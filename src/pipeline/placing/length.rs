//! Lengths that somebody measured: two points in photos and how far they are apart.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

use super::{
    super::{METERS_PER_UNIT, PipelineError, SavedFrames},
    PlacingError,
    geometry::median,
    known::placement,
};
use crate::scene::{Field, Flat, PredictedFrames, camera::views};

/// Units of lengths, in meters.
const UNITS: [(&str, f64); 6] = [
    ("km", 1000.0),
    ("cm", 0.01),
    ("mm", 0.001),
    ("m", 1.0),
    ("ft", 0.3048),
    ("in", 0.0254),
];

/// Scales that differ by more than this, in percent, are worth a warning.
const DISAGREEMENT_PERCENT: f64 = 5.0;

/// Ends that are nearer than this part of their distance from the camera are the same point: depths are not better.
const SAME: f64 = 1e-6;

const EXPECTED: &str = "expected two points and a length, as in \"3:120,80 3:640,92 = 1.20m\": the number or name of a photo, x and y \
                        in its pixels; \
                        units are m, cm, mm, km, ft and in";

/// A point in a photo.
#[derive(Debug, Clone, PartialEq)]
pub struct PhotoPoint {
    /// The name of the photo, or its number from 0.
    pub photo: String,
    /// Column and row in pixels of the photo, upright; the center of the first pixel is at (0.5, 0.5).
    pub at: [f64; 2],
}

/// Two points, and how far they are apart.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredLength {
    /// The ends.
    pub ends: [PhotoPoint; 2],
    /// Meters.
    pub meters: f64,
}

impl FromStr for MeasuredLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid length {text:?}: {EXPECTED}");
        let (points, length) = text.rsplit_once('=').ok_or_else(bad)?;
        let mut ends = Vec::new();
        // Names may have blanks: a point ends with its pixel.
        let mut name = String::new();
        for word in points.split_whitespace() {
            if !name.is_empty() {
                name.push(' ');
            }
            name.push_str(word);
            if let Some((photo, at)) = name
                .rsplit_once(':')
                .and_then(|(n, at)| Some((n, pixel(at)?)))
            {
                ends.push(PhotoPoint {
                    photo: photo.to_owned(),
                    at,
                });
                name.clear();
            }
        }
        let is_named = |end: &PhotoPoint| !end.photo.is_empty();
        match <[PhotoPoint; 2]>::try_from(ends) {
            Ok(ends) if name.is_empty() && ends.iter().all(is_named) => Ok(Self {
                ends,
                meters: meters(length.trim()).ok_or_else(bad)?,
            }),
            _ => Err(bad()),
        }
    }
}

fn pixel(text: &str) -> Option<[f64; 2]> {
    let (x, y) = text.split_once(',')?;
    let at = [x.parse().ok()?, y.parse().ok()?];
    at.iter().all(|x: &f64| x.is_finite()).then_some(at)
}

/// Meters of a length with its unit; without one it is in meters.
fn meters(text: &str) -> Option<f64> {
    let with_unit = UNITS
        .iter()
        .find_map(|(unit, meters)| Some((text.strip_suffix(unit)?, *meters)));
    let (number, factor) = with_unit.unwrap_or((text, 1.0));
    let value = number.trim().parse::<f64>().ok()? * factor;
    (value.is_finite() && value > 0.0).then_some(value)
}

/// What the lengths say.
#[derive(Debug, Clone, PartialEq)]
pub struct LengthReport {
    /// Meters in a unit of the scene: the median.
    pub meters_per_unit: f64,
    /// The same by each length.
    pub each: Vec<f64>,
}

impl LengthReport {
    /// Returns it as JSON.
    pub fn to_json(&self) -> Value {
        json!({"meters_per_unit": self.meters_per_unit, "each": self.each})
    }

    /// Returns by how much the lengths differ, in percent, where that is worth a warning.
    pub fn disagreement(&self) -> Option<u32> {
        let most = self.each.iter().copied().fold(0.0, f64::max);
        let least = self.each.iter().copied().fold(f64::INFINITY, f64::min);
        let percent = 100.0 * (most / least - 1.0);
        (percent > DISAGREEMENT_PERCENT).then_some(percent.round() as u32)
    }
}

impl fmt::Display for LengthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.6} meters in a unit, by {} measured lengths",
            self.meters_per_unit,
            self.each.len()
        )
    }
}

/// Returns how many meters a unit is by the lengths.
///
/// # Errors
/// When a photo or a depth is missing, a point is outside of what the network saw, or the scale is impossible.
pub(super) fn measure(
    frames: &dyn PredictedFrames,
    saved: &SavedFrames,
    lengths: &[MeasuredLength],
) -> Result<LengthReport, PipelineError> {
    let mut each = Vec::with_capacity(lengths.len());
    for (number, length) in (1..).zip(lengths) {
        let [a, b] = &length.ends;
        let (a, b) = (position(frames, saved, a)?, position(frames, saved, b)?);
        let squares = a.at.iter().zip(b.at).map(|(a, b)| (a - b).powi(2));
        let units = squares.sum::<f64>().sqrt();
        // Greater alone is false for NaN.
        let is_length = units > SAME * a.depth.max(b.depth);
        if !is_length {
            return Err(PlacingError::NoLength { number }.into());
        }
        each.push(length.meters / units);
    }
    let meters_per_unit = match median(&mut each.clone()) {
        Some(middle) if each.len() % 2 == 0 => {
            // The mean of the two in the middle.
            let above = each
                .iter()
                .copied()
                .filter(|x| *x > middle)
                .fold(f64::INFINITY, f64::min);
            let equal = each.iter().filter(|x| **x <= middle).count() > each.len() / 2;
            if equal {
                middle
            } else {
                f64::midpoint(middle, above)
            }
        }
        middle => middle.unwrap_or(f64::NAN),
    };
    match METERS_PER_UNIT.contains(&meters_per_unit) {
        true => Ok(LengthReport {
            meters_per_unit,
            each,
        }),
        false => Err(PlacingError::Scale {
            meters: meters_per_unit,
        }
        .into()),
    }
}

/// A point of the scene.
struct Position {
    at: [f64; 3],
    depth: f64,
}

/// Returns where a point of a photo is in the scene, by the depth of the pixel that it lies in.
fn position(
    frames: &dyn PredictedFrames,
    saved: &SavedFrames,
    point: &PhotoPoint,
) -> Result<Position, PipelineError> {
    let frame = frame(saved, &point.photo, frames.count())?;
    let name = saved.names.get(frame).cloned().unwrap_or_default();
    let (height, width) = frames.size();
    let place = placement(saved, frame, (height, width));
    let [x, y] = point.at;
    let inside = (0.0..=f64::from(place.source_width)).contains(&x)
        && (0.0..=f64::from(place.source_height)).contains(&y);
    if !inside {
        return Err(PlacingError::Outside {
            x,
            y,
            name,
            width: place.source_width,
            height: place.source_height,
        }
        .into());
    }
    let column = x * place.scale_x + place.offset_x;
    let row = y * place.scale_y + place.offset_y;
    if !((0.0..=width as f64).contains(&column) && (0.0..=height as f64).contains(&row)) {
        return Err(PlacingError::Cropped { x, y, name }.into());
    }
    // The pixel whose square the point is in; a point on the edge belongs to the last one.
    let (c, r) = (
        (column as usize).min(width - 1),
        (row as usize).min(height - 1),
    );
    let at = r * width + c;
    let depths = Flat::read_from(frames, frame, Field::Depth)?;
    let depth = f64::from(depths.read().values()?[at]);
    let keep = frames.keep(frame)?;
    let masked = keep.is_some_and(|keep| keep.get(at) == Some(&false));
    if masked || !(depth.is_finite() && depth > 0.0) {
        return Err(PlacingError::NoDepth { x, y, name }.into());
    }
    let views = views(frames, frame..frame + 1)?;
    let view = views
        .first()
        .ok_or(crate::scene::SceneError::Camera { frame })?;
    let k = &view.intrinsic;
    // The network's pixel centers lie at integers.
    let beside = [
        (column - 0.5 - c as f64) / k[0][0] * depth,
        (row - 0.5 - r as f64) / k[1][1] * depth,
    ];
    // From the middle of the pixel, whose point knows the lens with its distortion.
    let points = Flat::read_from(frames, frame, Field::WorldPointsFromDepth)?;
    let points = points.read();
    let middle = &points.values()?[3 * at..3 * at + 3];
    let axes = view.world_from_camera()?.0;
    let shifted = |i: usize| f64::from(middle[i]) + axes[i][0] * beside[0] + axes[i][1] * beside[1];
    Ok(Position {
        at: [0, 1, 2].map(shifted),
        depth,
    })
}

/// Returns the frame of this name, of this name without its ending, or of this number.
fn frame(saved: &SavedFrames, photo: &str, count: usize) -> Result<usize, PlacingError> {
    let fail = |why: String| {
        Err(PlacingError::Frame {
            name: photo.to_owned(),
            why,
        })
    };
    let names = saved.names.iter().take(count).enumerate();
    let stem = |name: &str| {
        name.rsplit_once('.')
            .map_or(name, |(stem, _)| stem)
            .to_owned()
    };
    let same: Vec<usize> = names
        .clone()
        .filter(|(_, name)| *name == photo)
        .map(|(i, _)| i)
        .collect();
    if let [one] = same[..] {
        return Ok(one);
    }
    let alike: Vec<usize> = names
        .filter(|(_, name)| stem(name) == photo)
        .map(|(i, _)| i)
        .collect();
    match (&alike[..], photo.parse::<usize>()) {
        ([one], _) => Ok(*one),
        ([_, _, ..], _) => fail("several photos have this name".to_owned()),
        ([], Ok(number)) if number < count => Ok(number),
        ([], Ok(_)) => fail(format!(
            "photos are numbered 0 to {}",
            count.saturating_sub(1)
        )),
        ([], Err(_)) => fail("no photo has this name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_names_with_blanks_and_colons_and_every_unit() {
        let parsed: MeasuredLength = "my photo: 1.jpg:120,80.5 3:640,92 = 1.20m".parse().unwrap();
        assert_eq!(parsed.ends[0].photo, "my photo: 1.jpg");
        assert_eq!(
            (parsed.ends[0].at, parsed.ends[1].at),
            ([120.0, 80.5], [640.0, 92.0])
        );
        assert_eq!(parsed.ends[1].photo, "3");
        for (length, expected) in [
            ("2", 2.0),
            ("2 m", 2.0),
            ("50cm", 0.5),
            ("20 mm", 0.02),
            ("0.5km", 500.0),
            ("10ft", 3.048),
            ("10 in", 0.254),
        ] {
            let parsed: MeasuredLength = format!("0:1,2 0:3,4={length}").parse().unwrap();
            assert!((parsed.meters - expected).abs() < 1e-12, "{length}");
        }
    }

    #[test]
    fn what_is_not_a_length_is_told_with_an_example() {
        for bad in [
            "",
            "0:1,2 0:3,4",
            "0:1,2 = 1m",
            "0:1,2 0:3,4 0:5,6 = 1m",
            "0:1,2 0:3,4 = 0m",
            "0:1,2 0:3,4 = -1",
            "0:1,2 0:3,4 = 1 mile",
            "0:1,2 0:3,nan = 1",
            "0:1,2 :3,4 = 1",
            "0:1,2 0:3,4 x = 1",
            "0:1,2 0:3,4 = inf",
        ] {
            let e = bad.parse::<MeasuredLength>().unwrap_err();
            assert!(e.contains("expected two points"), "{e}");
        }
    }

    #[test]
    fn scales_that_differ_are_told() {
        let report = |each: &[f64]| LengthReport {
            meters_per_unit: 1.0,
            each: each.to_vec(),
        };
        assert_eq!(report(&[1.0]).disagreement(), None);
        assert_eq!(report(&[1.0, 1.04]).disagreement(), None);
        assert_eq!(report(&[1.1, 1.0, 1.2]).disagreement(), Some(20));
    }
}
