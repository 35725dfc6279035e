//! A table of cameras: CSV with a header.

use std::{collections::HashMap, path::Path};

use super::{
    CamerasError, KnownCamera, KnownCameras, KnownLens, MAX_CAMERAS, MAX_NAME,
    lines::{Line, Lines},
    pose,
};

const POSE: [&str; 7] = ["qw", "qx", "qy", "qz", "tx", "ty", "tz"];

const EXPECTED: &str = "expected a header such as name,fx,fy,cx,cy,width,height,qw,qx,qy,qz,tx,ty,tz: a name, and fx or all of qw to tz";

pub(super) fn read(path: &Path) -> Result<KnownCameras, CamerasError> {
    let mut lines = Lines::open(path)?;
    let mut columns = None;
    let mut cameras = Vec::new();
    while let Some(line) = lines.next()? {
        if line.is_comment() {
            continue;
        }
        let cells = cells(&line)?;
        let Some(columns) = &columns else {
            columns = Some(header(&line, &cells)?);
            continue;
        };
        if cameras.len() == MAX_CAMERAS {
            return Err(line.fail(format!("more than {MAX_CAMERAS} cameras")));
        }
        cameras.push(camera(&line, columns, &cells)?);
    }
    Ok(KnownCameras::named("table", cameras))
}

/// Returns where each column is.
fn header(line: &Line<'_>, cells: &[String]) -> Result<HashMap<String, usize>, CamerasError> {
    let mut columns = HashMap::new();
    for (at, cell) in cells.iter().enumerate() {
        let name = cell.to_ascii_lowercase();
        if let Some(before) = columns.insert(name, at) {
            let why = format!(
                "the columns {} and {} have the same name",
                before + 1,
                at + 1
            );
            return Err(line.fail(why));
        }
    }
    let has = |name: &str| columns.contains_key(name);
    let poses = POSE.iter().filter(|name| has(name)).count();
    let all_or_none = poses == 0 || poses == POSE.len();
    match has("name") && all_or_none && (has("fx") || poses > 0) {
        true => Ok(columns),
        false => Err(line.fail(EXPECTED)),
    }
}

fn camera(
    line: &Line<'_>,
    columns: &HashMap<String, usize>,
    cells: &[String],
) -> Result<KnownCamera, CamerasError> {
    let cell = |name: &str| {
        let cell = columns.get(name).and_then(|at| cells.get(*at));
        cell.map(String::as_str).filter(|cell| !cell.is_empty())
    };
    // An empty cell is a number that is not known.
    let number = |name: &str| cell(name).map(|cell| line.number(cell, name)).transpose();
    let pair = |a: &str, b: &str| match (number(a)?, number(b)?) {
        (Some(a), Some(b)) => Ok(Some([a, b])),
        (None, None) => Ok(None),
        _ => Err(line.fail(format!("{a} and {b} must both be there, or neither"))),
    };
    let name = cell("name").filter(|name| name.len() <= MAX_NAME);
    let name = name.ok_or_else(|| line.fail("expected a name"))?;
    let (principal, size) = (pair("cx", "cy")?, pair("width", "height")?);
    let lens = match (number("fx")?, number("fy")?) {
        (Some(fx), fy) => Some(KnownLens::Pixels {
            focal: [fx, fy.unwrap_or(fx)],
            principal,
            size,
            distortion: [0.0; 4],
        }),
        (None, Some(_)) => return Err(line.fail("fy without fx")),
        (None, None) => None,
    };
    let values = POSE.map(number);
    let mut found = Vec::with_capacity(POSE.len());
    for value in values {
        found.extend(value?);
    }
    let camera_from_world = match found[..] {
        [] => None,
        [qw, qx, qy, qz, tx, ty, tz] => {
            let pose = pose([qw, qx, qy, qz], [tx, ty, tz]);
            Some(pose.map_err(|why| line.fail(why))?)
        }
        _ => return Err(line.fail("qw to tz must all be there, or none of them")),
    };
    Ok(KnownCamera {
        name: name.to_owned(),
        lens,
        camera_from_world,
    })
}

/// Splits a line at commas outside of double quotes.
fn cells(line: &Line<'_>) -> Result<Vec<String>, CamerasError> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell).trim().to_owned()),
            c => cell.push(c),
        }
    }
    cells.push(cell.trim().to_owned());
    match quoted {
        true => Err(line.fail("a quote is not closed")),
        false => Ok(cells),
    }
}
