//! Which camera belongs to which frame.

use std::collections::HashMap;

use super::{CamerasError, Keys, KnownCamera, KnownCameras};

/// Times are the same when they differ by less than this, seconds, as the TUM benchmark's own associate.py has it.
const SAME_TIME_S: f64 = 0.02;

/// How two names can be the same, the strictest first.
const LEVELS: [fn(&str) -> String; 4] = [full, file_name, stem, plain_stem];

impl KnownCameras {
    /// Returns the camera of each frame; `None` where the file has none. `seconds` has the time of every frame of a video, and is
    /// empty for photos.
    ///
    /// Names match as a whole, then by their last folders, then as file names, then without their endings, and last with `_` for
    /// everything that `vggt` replaces in the names of datasets.
    ///
    /// # Errors
    /// When no camera belongs to a frame, or several could.
    pub fn of_frames(
        &self,
        names: &[String],
        seconds: &[f64],
    ) -> Result<Vec<Option<&KnownCamera>>, CamerasError> {
        let found = match &self.keys {
            Keys::Names => self.by_names(names)?,
            Keys::Seconds(stamps) => self.by_times(stamps, names.len(), seconds)?,
        };
        if found.iter().all(Option::is_none) {
            let first = |name: Option<&String>| name.cloned().unwrap_or_default();
            return Err(CamerasError::NoMatch {
                cameras: self.cameras.len(),
                frames: names.len(),
                first_camera: first(self.cameras.first().map(|camera| &camera.name)),
                first_frame: first(names.first()),
            });
        }
        let mut frame_of = HashMap::new();
        for (frame, camera) in found.iter().enumerate() {
            let Some(camera) = *camera else { continue };
            if let Some(before) = frame_of.insert(camera, frame) {
                return Err(CamerasError::Shared {
                    camera: self.cameras[camera].name.clone(),
                    frames: [before, frame].map(|frame| format!("{:?}", names[frame])),
                });
            }
        }
        let cameras = found.into_iter();
        Ok(cameras.map(|at| at.map(|at| &self.cameras[at])).collect())
    }

    fn by_names(&self, names: &[String]) -> Result<Vec<Option<usize>>, CamerasError> {
        let mut found: Vec<Option<usize>> = vec![None; names.len()];
        let mut taken = vec![false; self.cameras.len()];
        for key in LEVELS {
            let mut at: HashMap<String, Vec<usize>> = HashMap::new();
            let free = (0..self.cameras.len()).filter(|i| !taken[*i]);
            for i in free {
                at.entry(key(&self.cameras[i].name)).or_default().push(i);
            }
            for (name, found) in names.iter().zip(&mut found) {
                if let (None, Some(candidates)) = (*found, at.get(&key(name))) {
                    *found = Some(self.choose(name, candidates)?);
                }
            }
            // What matches strictly belongs to no other frame.
            found.iter().flatten().for_each(|i| taken[*i] = true);
        }
        Ok(found)
    }

    /// Returns the one camera that a frame's name stands for.
    fn choose(&self, name: &str, candidates: &[usize]) -> Result<usize, CamerasError> {
        if let [one] = candidates {
            return Ok(*one);
        }
        // The folders that both names have tell them apart.
        let closer = |at: &&usize| {
            let (a, b) = (full(&self.cameras[**at].name), full(name));
            is_below(&a, &b) || is_below(&b, &a)
        };
        let below: Vec<&usize> = candidates.iter().filter(closer).collect();
        match below[..] {
            [one] => Ok(*one),
            _ => {
                let names = candidates.iter().take(4);
                Err(CamerasError::Ambiguous {
                    frame: name.to_owned(),
                    cameras: names
                        .map(|at| format!("{:?}", self.cameras[*at].name))
                        .collect(),
                })
            }
        }
    }

    fn by_times(
        &self,
        stamps: &[f64],
        frames: usize,
        seconds: &[f64],
    ) -> Result<Vec<Option<usize>>, CamerasError> {
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        order.sort_by(|a, b| stamps[*a].total_cmp(&stamps[*b]));
        let photos: Vec<f64>;
        let (times, tolerance) = match seconds {
            [] => {
                // This program writes the numbers of photos in the place of times.
                if let Some(at) = stamps.iter().position(|stamp| !is_number(*stamp)) {
                    return Err(CamerasError::Times {
                        stamp: self.cameras[at].name.clone(),
                    });
                }
                photos = (0..frames).map(|frame| frame as f64).collect();
                (&photos[..], 0.0)
            }
            seconds => (seconds, SAME_TIME_S),
        };
        let nearest = |time: &f64| {
            let after = order.partition_point(|at| stamps[*at] < *time);
            let neighbors = [after.checked_sub(1), Some(after)];
            let neighbors = neighbors
                .into_iter()
                .flatten()
                .filter_map(|at| order.get(at));
            let distance = |at: &usize| (stamps[*at] - time).abs();
            let nearest = neighbors.min_by(|a, b| distance(a).total_cmp(&distance(b)));
            nearest.copied().filter(|at| distance(at) <= tolerance)
        };
        Ok(times.iter().map(nearest).collect())
    }
}

/// Whether a timestamp can be the number of a photo.
fn is_number(stamp: f64) -> bool {
    stamp >= 0.0 && stamp.fract() == 0.0
}

/// Whether the path `long` ends with all of `short`.
fn is_below(long: &str, short: &str) -> bool {
    let rest = long.strip_suffix(short);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// The path with forward slashes, without `./` in front.
fn full(name: &str) -> String {
    let name = name.replace('\\', "/");
    name.trim_start_matches("./").to_owned()
}

fn file_name(name: &str) -> String {
    let name = full(name);
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

fn stem(name: &str) -> String {
    let name = file_name(name);
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && is_ending(ending) => stem.to_owned(),
        _ => name,
    }
}

/// Whether what follows the last dot is an ending and not a part of a number such as `frame_1.25`.
fn is_ending(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.chars().any(|c| c.is_ascii_alphabetic())
}

fn plain_stem(name: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_alphanumeric() || "._-".contains(c) => c,
        _ => '_',
    };
    stem(name).chars().map(plain).collect()
}
