//! `transforms.json` as nerfstudio and instant-ngp have it.

use std::{io::Read, path::Path};

use serde_json::{Map, Value};

use super::{
    CamerasError, KnownCamera, KnownCameras, KnownLens, MAX_CAMERAS, MAX_NAME, inverse, lines,
    lines::short,
};
use crate::scene::{Affine, align::OPENGL_FROM_OPENCV, quaternion, rotation};

/// Longest document: some 10 KB for each of ten thousand frames.
const MAX_BYTES: u64 = 100 << 20;

/// How far the rotation of a matrix may be from one: six digits, as some programs write them, are good to 1e-6.
const ROTATION_TOLERANCE: f64 = 1e-3;

/// Names of the coefficients of OpenCV's distortion that are read, in their order.
const DISTORTION: [&str; 4] = ["k1", "k2", "p1", "p2"];

pub(super) fn read(path: &Path) -> Result<KnownCameras, CamerasError> {
    let mut text = String::new();
    let mut file = lines::open(path, MAX_BYTES)?.take(MAX_BYTES);
    file.read_to_string(&mut text)
        .map_err(|e| CamerasError::io(path, e))?;
    let document: Value = serde_json::from_str(&text).map_err(|e| {
        CamerasError::content(path, format!("line {}", e.line()), format!("not JSON: {e}"))
    })?;
    let whole = |why: &str| CamerasError::content(path, "its beginning", why);
    let document = document
        .as_object()
        .ok_or_else(|| whole("expected an object with \"frames\""))?;
    let frames = document
        .get("frames")
        .and_then(Value::as_array)
        .ok_or_else(|| whole("expected \"frames\", a list"))?;
    if frames.len() > MAX_CAMERAS {
        return Err(whole(&format!("more than {MAX_CAMERAS} frames")));
    }
    let cameras = frames.iter().enumerate().map(|(number, frame)| {
        camera(frame, document).map_err(|why| {
            let name = frame.get("file_path").and_then(Value::as_str);
            let name = name.map(|name| format!(" ({:?})", short(name)));
            let at = format!("frame {number}{}", name.unwrap_or_default());
            CamerasError::content(path, at, why)
        })
    });
    let cameras = cameras.collect::<Result<_, _>>()?;
    Ok(KnownCameras::named("transforms", cameras))
}

fn camera(frame: &Value, document: &Map<String, Value>) -> Result<KnownCamera, String> {
    let frame = frame.as_object().ok_or("expected an object")?;
    let name = frame.get("file_path").and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
    let name = name.ok_or("expected \"file_path\", the name of an image")?;
    let camera_from_world = match frame.get("transform_matrix") {
        Some(matrix) => Some(pose(matrix)?),
        None => None,
    };
    let lens = lens(&Scopes([frame, document]))?;
    if lens.is_none() && camera_from_world.is_none() {
        return Err("expected \"transform_matrix\" or \"fl_x\"".to_owned());
    }
    Ok(KnownCamera {
        name: name.to_owned(),
        lens,
        camera_from_world,
    })
}

/// Where a value is looked up: the frame, then the document.
struct Scopes<'a>([&'a Map<String, Value>; 2]);

impl Scopes<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|scope| scope.get(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|x| x.is_finite());
        let bad = || {
            format!(
                "expected a number as {key:?}, got {}",
                short(&value.to_string())
            )
        };
        number.map(Some).ok_or_else(bad)
    }

    fn pair(&self, [a, b]: [&str; 2]) -> Result<Option<[f64; 2]>, String> {
        match (self.number(a)?, self.number(b)?) {
            (Some(a), Some(b)) => Ok(Some([a, b])),
            (None, None) => Ok(None),
            _ => Err(format!("{a:?} and {b:?} must both be there, or neither")),
        }
    }
}

fn lens(scopes: &Scopes<'_>) -> Result<Option<KnownLens>, String> {
    let model = scopes.value("camera_model").and_then(Value::as_str);
    let fisheye = scopes.value("is_fisheye").and_then(Value::as_bool) == Some(true);
    let of_pinhole = [
        "PINHOLE",
        "SIMPLE_PINHOLE",
        "SIMPLE_RADIAL",
        "RADIAL",
        "OPENCV",
    ];
    if let Some(model) = model.filter(|model| fisheye || !of_pinhole.contains(model)) {
        let model = short(model);
        return Err(format!(
            "the camera model {model} cannot be used, since it is not a pinhole: undistort the images first"
        ));
    }
    if fisheye {
        return Err("a fisheye lens cannot be used: undistort the images first".to_owned());
    }
    for key in ["k3", "k4"] {
        if scopes.number(key)?.is_some_and(|k| k != 0.0) {
            return Err(format!(
                "the coefficient {key:?} cannot be used: undistort the images first"
            ));
        }
    }
    let mut distortion = [0.0; 4];
    for (value, key) in distortion.iter_mut().zip(DISTORTION) {
        *value = scopes.number(key)?.unwrap_or_default();
    }
    let (principal, size) = (scopes.pair(["cx", "cy"])?, scopes.pair(["w", "h"])?);
    let focal = |fx: f64, fy: Option<f64>| KnownLens::Pixels {
        focal: [fx, fy.unwrap_or(fx)],
        principal,
        size,
        distortion,
    };
    let lens = match (scopes.number("fl_x")?, scopes.number("camera_angle_x")?) {
        (Some(fx), _) => focal(fx, scopes.number("fl_y")?),
        (None, Some(x_rad)) => {
            let y_rad = scopes.number("camera_angle_y")?;
            match size {
                // With a principal point, which an angle alone has not.
                Some([w, h]) => {
                    let of = |side: f64, angle: f64| side / 2.0 / (angle / 2.0).tan();
                    focal(of(w, x_rad), y_rad.map(|angle| of(h, angle)))
                }
                None => KnownLens::Angles { x_rad, y_rad },
            }
        }
        (None, None) => return Ok(None),
    };
    let positive = |lens: &KnownLens| match lens {
        KnownLens::Pixels { focal, .. } => focal.iter().all(|f| f.is_finite() && *f > 0.0),
        KnownLens::Angles { x_rad, .. } => (1e-3..3.1).contains(x_rad),
    };
    match positive(&lens) {
        true => Ok(Some(lens)),
        false => Err("its focal length or angle must be that of a lens".to_owned()),
    }
}

/// Returns camera_from_world with OpenCV axes of world_from_camera with OpenGL axes, 3 or 4 rows of 4.
fn pose(matrix: &Value) -> Result<Affine, String> {
    let expected = || "expected 4 rows of 4 finite numbers as \"transform_matrix\"".to_owned();
    let rows = matrix.as_array().filter(|rows| matches!(rows.len(), 3 | 4));
    let rows = rows.ok_or_else(expected)?;
    let mut values = [[0.0; 4]; 3];
    for (row, value) in values.iter_mut().zip(rows) {
        let numbers = value.as_array().filter(|row| row.len() == 4);
        for (x, number) in row.iter_mut().zip(numbers.ok_or_else(expected)?) {
            *x = number
                .as_f64()
                .filter(|x| x.is_finite())
                .ok_or_else(expected)?;
        }
    }
    let world_from_camera = Affine(values).after(&OPENGL_FROM_OPENCV);
    let translation = world_from_camera.0.map(|row| row[3]);
    let rotation = rotation::affine(quaternion(&world_from_camera), translation);
    let pairs = rotation
        .0
        .iter()
        .flatten()
        .zip(world_from_camera.0.iter().flatten());
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    match largest <= ROTATION_TOLERANCE {
        true => Ok(inverse(&rotation)),
        false => Err("\"transform_matrix\" is not a rotation and a translation: it scales, shears or mirrors".to_owned()),
    }
}
