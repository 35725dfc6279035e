//! Where the scene is on the Earth, by the positions that cameras and phones note in photos.

use std::fmt;

use nalgebra::{Point3, Rotation3, Similarity3, UnitQuaternion, Vector3};
use serde_json::{Value, json};
use vggt_refine::similarity::{AlignError, align_points};

use super::{
    super::{PipelineError, SavedFrames},
    PlacingError,
    geometry::median,
    level,
};
use crate::{
    frames::{GpsPosition, PhotoNotes},
    scene::{Origin, PredictedFrames, camera::views},
};

/// Positions that are needed: two give a scale and a heading, the third tells whether they agree.
pub(super) const NEEDED: usize = 3;

/// Length of the vertical that the cameras tell, in parts of the path's extent: it outweighs the altitudes, which are several
/// times less accurate than the rest of a GPS position.
const VERTICAL: f64 = 3.0;

/// Rolls at which the cameras' vertical is not used, degrees, in the median.
const ROLL_DEG: f64 = 10.0;

/// Errors in parts of the extent at which the result would be noise.
const TOO_INACCURATE: f64 = 0.5;

/// Semi-major axis, meters, and flattening of WGS 84: NIMA TR8350.2, table 3.1.
const WGS84: (f64, f64) = (6_378_137.0, 1.0 / 298.257_223_563);

/// How the scene fits the noted positions.
#[derive(Debug, Clone, PartialEq)]
pub struct GpsReport {
    /// Where (0, 0, 0) is: the first photo with a position.
    pub origin: Origin,
    /// Photos with a position.
    pub positions: usize,
    /// Whether altitudes were noted.
    pub has_altitude: bool,
    /// Meters for each unit before.
    pub scale: f64,
    /// Median distance between the cameras and the noted positions, meters.
    pub median_distance_m: f64,
    /// Extent of the noted positions, meters.
    pub extent_m: f64,
}

impl GpsReport {
    /// Returns it as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "origin": self.origin,
            "positions": self.positions,
            "has_altitude": self.has_altitude,
            "scale": self.scale,
            "median_distance_m": self.median_distance_m,
            "extent_m": self.extent_m,
        })
    }
}

impl fmt::Display for GpsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "placed by the positions of {} photos, {:.1} m apart; cameras are off by {:.2} m (median)",
            self.positions, self.extent_m, self.median_distance_m
        )
    }
}

/// Returns earth_from_world, with its scale: x east, y north, z up, meters from the first photo with a position.
///
/// # Errors
/// When too few photos note a position, they are all in one place, or they do not fit the cameras.
pub(super) fn locate(
    frames: &dyn PredictedFrames,
    saved: &SavedFrames,
    notes: &PhotoNotes,
) -> Result<(Similarity3<f64>, GpsReport), PipelineError> {
    let views = views(frames, 0..frames.count())?;
    let noted = views.iter().filter_map(|view| {
        let name = saved.names.get(view.frame)?;
        Some((view, notes.get(name)?.gps?))
    });
    let noted: Vec<_> = noted.collect();
    let too_few = || PlacingError::TooFewPositions {
        found: noted.len(),
        photos: views.len(),
        needed: NEEDED,
    };
    let (_, first) = noted
        .first()
        .filter(|_| noted.len() >= NEEDED)
        .ok_or_else(too_few)?;
    let has_altitude = noted.iter().all(|(_, gps)| gps.altitude.is_some());
    // Some without an altitude would be below the ground: then all count as on one level.
    let altitude = |gps: &GpsPosition| gps.altitude.filter(|_| has_altitude).unwrap_or_default();
    let origin = Origin {
        latitude: first.latitude,
        longitude: first.longitude,
        altitude: altitude(first),
    };
    let local = East::of(&origin);
    let mut target: Vec<Point3<f64>> = noted
        .iter()
        .map(|(_, gps)| local.point(gps.latitude, gps.longitude, altitude(gps)))
        .collect();
    let mut source = Vec::with_capacity(2 * noted.len());
    for (view, _) in &noted {
        source.push(Point3::from(view.world_from_camera()?.0.map(|row| row[3])));
    }
    let count = source.len();
    let extents = (extent(&source), extent(&target));
    // The vertical of the cameras, which also keeps the scene upright along a straight path.
    if let Ok((up, roll)) = level::up(&views)
        && roll < ROLL_DEG
    {
        let above = |points: &[Point3<f64>], step: Vector3<f64>| {
            points.iter().map(|p| p + step).collect::<Vec<_>>()
        };
        source.extend(above(&source, up.into_inner() * VERTICAL * extents.0));
        target.extend(above(&target, Vector3::z() * VERTICAL * extents.1));
    }
    if !(extents.0 > 0.0 && extents.1 > 0.0) {
        return Err(PlacingError::Gps(AlignError::NoBaseline).into());
    }
    let alignment = align_points(&source, &target).map_err(PlacingError::Gps)?;
    let mut distances = alignment.distances[..count].to_vec();
    let median_distance_m = median(&mut distances).unwrap_or_default();
    if median_distance_m > TOO_INACCURATE * extents.1 {
        return Err(PlacingError::Inaccurate {
            error_m: median_distance_m,
            extent_m: extents.1,
        }
        .into());
    }
    let report = GpsReport {
        origin,
        positions: count,
        has_altitude,
        scale: alignment.similarity.scaling(),
        median_distance_m,
        extent_m: extents.1,
    };
    Ok((alignment.similarity, report))
}

/// Twice the mean distance from the middle.
fn extent(points: &[Point3<f64>]) -> f64 {
    let count = points.len() as f64;
    let middle = points.iter().map(|p| p.coords).sum::<Vector3<f64>>() / count;
    let squares = points.iter().map(|p| (p.coords - middle).norm_squared());
    2.0 * (squares.sum::<f64>() / count).sqrt()
}

/// The plane that touches the Earth at a place.
struct East {
    origin: Vector3<f64>,
    /// East, north and up from the Earth's axes.
    turn: UnitQuaternion<f64>,
}

impl East {
    fn of(origin: &Origin) -> Self {
        let (lat, lon) = (origin.latitude.to_radians(), origin.longitude.to_radians());
        let east = Vector3::new(-lon.sin(), lon.cos(), 0.0);
        let up = Vector3::new(lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin());
        let north = up.cross(&east);
        let rows =
            nalgebra::Matrix3::from_rows(&[east.transpose(), north.transpose(), up.transpose()]);
        Self {
            origin: earth_centered(origin.latitude, origin.longitude, origin.altitude),
            turn: UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(rows)),
        }
    }

    /// East, north and up of a place, meters.
    fn point(&self, latitude: f64, longitude: f64, altitude: f64) -> Point3<f64> {
        let at = earth_centered(latitude, longitude, altitude);
        Point3::from(self.turn * (at - self.origin))
    }
}

/// Geodetic to Earth-centered, meters.
fn earth_centered(latitude: f64, longitude: f64, altitude: f64) -> Vector3<f64> {
    let (axis, flattening) = WGS84;
    let eccentricity_squared = flattening * (2.0 - flattening);
    let (lat, lon) = (latitude.to_radians(), longitude.to_radians());
    let normal = axis / (1.0 - eccentricity_squared * lat.sin().powi(2)).sqrt();
    let across = (normal + altitude) * lat.cos();
    let along = (normal * (1.0 - eccentricity_squared) + altitude) * lat.sin();
    Vector3::new(across * lon.cos(), across * lon.sin(), along)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_meters_agree_with_the_length_of_a_degree() {
        let origin = Origin {
            latitude: 45.0,
            longitude: 8.0,
            altitude: 200.0,
        };
        let local = East::of(&origin);
        assert!(local.point(45.0, 8.0, 200.0).coords.norm() < 1e-6);
        // A thousandth of a degree at 45 degrees: 111.132 m of latitude and 78.847 m of longitude on the ellipsoid.
        let north = local.point(45.001, 8.0, 200.0);
        assert!(
            (north.y - 111.135).abs() < 0.01 && north.x.abs() < 1e-6,
            "{north}"
        );
        let east = local.point(45.0, 8.001, 200.0);
        assert!(
            (east.x - 78.849).abs() < 0.01 && east.y.abs() < 0.01,
            "{east}"
        );
        let up = local.point(45.0, 8.0, 210.0);
        assert!((up.z - 10.0).abs() < 1e-6, "{up}");
    }
}
