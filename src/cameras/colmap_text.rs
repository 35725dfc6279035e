//! COLMAP's text form: `cameras.txt` and `images.txt`.

use std::{collections::HashMap, path::Path};

use super::{
    CamerasError, KnownLens, MAX_CAMERAS, MAX_NAME,
    colmap::{CameraModel, Image},
    lines::{Line, Lines},
    pose,
};

pub(super) fn cameras(path: &Path) -> Result<HashMap<u32, KnownLens>, CamerasError> {
    let mut lines = Lines::open(path)?;
    let mut lenses = HashMap::new();
    while let Some(line) = lines.next()? {
        if line.is_comment() {
            continue;
        }
        let mut words = line.text.split_whitespace();
        let id = whole(&line, words.next(), "CAMERA_ID")?;
        let model = CameraModel::named(words.next().unwrap_or_default());
        let model = model.map_err(|why| line.fail(why))?;
        let mut number = |what: &str| line.next_number(&mut words, what);
        let size = [number("WIDTH")?, number("HEIGHT")?];
        let parameters = (0..model.parameters).map(|_| number("PARAMS"));
        let parameters = parameters.collect::<Result<Vec<f64>, _>>()?;
        let lens = model
            .lens(size, &parameters)
            .map_err(|why| line.fail(why))?;
        if lenses.len() == MAX_CAMERAS {
            return Err(line.fail(format!("more than {MAX_CAMERAS} cameras")));
        }
        lenses.insert(id, lens);
    }
    Ok(lenses)
}

pub(super) fn images(path: &Path) -> Result<Vec<Image>, CamerasError> {
    let mut lines = Lines::open(path)?;
    let mut images = Vec::new();
    while let Some(line) = lines.next()? {
        if line.is_comment() {
            continue;
        }
        let image = image(&line)?;
        if images.len() == MAX_CAMERAS {
            return Err(line.fail(format!("more than {MAX_CAMERAS} images")));
        }
        images.push(image);
        // The line of its observations, which may be empty.
        lines.skip()?;
    }
    Ok(images)
}

fn image(line: &Line<'_>) -> Result<Image, CamerasError> {
    let mut rest = line.text;
    let mut words = std::iter::from_fn(|| {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        Some(word).filter(|word| !word.is_empty())
    });
    whole(line, words.next(), "IMAGE_ID")?;
    let mut number = |what: &str| line.next_number(&mut words, what);
    let quaternion = [number("QW")?, number("QX")?, number("QY")?, number("QZ")?];
    let translation = [number("TX")?, number("TY")?, number("TZ")?];
    let camera = whole(line, words.next(), "CAMERA_ID")?;
    // COLMAP ends a name at a blank; other programs write names with blanks all the same.
    let name = rest;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(line.fail("expected the name of an image at the end of the line"));
    }
    Ok(Image {
        name: name.to_owned(),
        camera,
        camera_from_world: pose(quaternion, translation).map_err(|why| line.fail(why))?,
    })
}

fn whole(line: &Line<'_>, word: Option<&str>, what: &str) -> Result<u32, CamerasError> {
    let word = word.unwrap_or_default();
    let expected = || {
        format!(
            "expected a whole number as {what}, got {:?}",
            super::lines::short(word)
        )
    };
    word.parse().map_err(|_| line.fail(expected()))
}
