//! The sharpest and most different frames of a clip: which candidates are chosen. Pure arithmetic, the same on any number of
//! threads.
//!
//! A frame is left out as less sharp where one that shows the same within a second has clearly more detail, and as plain where it
//! has almost none. Of the others, always the one is taken that looks least like those taken so far; when all look alike, the rest
//! is spread evenly over the time that is left. In the end each gives its place to the sharpest frame next to it that looks like it.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    candidates::Candidate,
    sketch::{LOOK, Sketch},
    spread::{fill_gaps, spread},
};

/// Time on both sides of a frame in which a sharper one may replace it, in seconds: two steps of someone who walks.
const NEIGHBORHOOD_S: f64 = 1.0;

/// Neighbors on each side that are looked at, at most: a second of 60 frames.
const NEIGHBORS: usize = 60;

/// A frame is less sharp with less than this part of the detail of its neighbors: a blur of a pixel and more, of
/// [`super::sketch::LOOKED_AT`].
const SHARP: f32 = 0.7;

/// Frames of a smaller [`Sketch::distance`] show the same.
const SAME: f32 = 0.02;

/// A frame is blurred because the camera moves, so that its neighbors show something else by as much as it moves between two
/// frames. Those that are so many times farther away still show almost the same: the distance grows with the square of the way, so
/// these are eight steps of the camera.
const MOVED: f32 = 64.0;

/// Those that are so many times farther away, three steps, show the same.
const NEXT: f32 = 9.0;

/// A frame with less than this part of the contrast of its neighbors, and the square of it of their detail, is dull: it is one of a
/// fade, or taken in the dark.
const DULL: f32 = 0.5;

/// Frames of a larger distance show something else, however fast the camera moves.
const OTHER: f32 = 0.4;

/// How much the detail of those that only show almost the same counts.
const ALMOST: f32 = 0.7;

/// A frame is plain with less than this part of the detail that the best tenth of the clip has, as a scene at a tenth of its
/// brightness, ...
const PLAIN: f32 = 0.01;

/// ... less than this detail, of which a dark photo has more, ...
const PLAIN_DETAIL: f32 = 4.0;

/// ... and less than this contrast, in gray levels, of which a picture without fine detail has more.
const PLAIN_CONTRAST: f32 = 8.0;

/// Detail that no frame needs: what is left of noise. Square of a gray level.
const NOISE: f32 = 0.5;

/// Frames of a smaller difference look alike: half a gray level, as encoders leave it between the frames of a picture that stands, ...
const ALIKE: u32 = LOOK as u32 / 2;

/// ... and up to one and a half with noise ...
const ALIKE_WITH_NOISE: u32 = LOOK as u32 * 3 / 2;

/// ... that makes such a part of it between two frames in a row, in the quietest quarter of the clip.
const NOISE_IN_A_ROW: u32 = 4;

/// A frame gives its place to one with so many times its detail: strong noise makes a tenth more of it.
const CLEARLY: f32 = 1.15;

/// Frames that are compared by one thread at a time.
const AT_A_TIME: usize = 1024;

/// Which candidates are chosen, and why others are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// Indices of the candidates, in order.
    pub(super) chosen: Vec<usize>,
    /// Candidates that are not chosen since a neighbor is sharper.
    pub(super) less_sharp: u64,
    /// Candidates that are not chosen since they have almost no detail.
    pub(super) plain: u64,
}

/// What a candidate is good for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rated {
    class: Class,
    /// By which those of one class are compared.
    value: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    LessSharp,
    Sharp,
}

/// Chooses `n` of the candidates, or all if there are fewer. `go_on` is asked now and then; `None` when it says no.
pub(super) fn choose(
    candidates: &[Candidate],
    n: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Choice> {
    let rated = &rated(candidates)[..];
    let of_class = |class: Class| (0..rated.len()).filter(move |i| rated[*i].class == class);
    let sharp: Vec<usize> = of_class(Class::Sharp).collect();
    let mut chosen = if sharp.len() > n {
        let among: Vec<&Candidate> = sharp.iter().map(|i| &candidates[*i]).collect();
        let chosen = different(&among, n, go_on)?;
        chosen.into_iter().map(|i| sharp[i]).collect()
    } else {
        sharp
    };
    // Where there are too few, the best of the others.
    let mut rest: Vec<usize> = of_class(Class::LessSharp).collect();
    // A stable sort: of equals the earlier one is taken.
    rest.sort_by(|a, b| rated[*b].value.total_cmp(&rated[*a].value));
    let mut plain: Vec<usize> = of_class(Class::Plain).collect();
    plain.sort_by(|a, b| rated[*b].value.total_cmp(&rated[*a].value));
    rest.extend(plain);
    chosen.extend(rest.into_iter().take(n - chosen.len()));
    chosen.sort_unstable();
    let left_out = |class| {
        let all = of_class(class);
        all.filter(|i| chosen.binary_search(i).is_err()).count() as u64
    };
    Some(Choice {
        less_sharp: left_out(Class::LessSharp),
        plain: left_out(Class::Plain),
        chosen,
    })
}

/// What each candidate is good for.
fn rated(candidates: &[Candidate]) -> Vec<Rated> {
    let mut details: Vec<f32> = candidates.iter().map(|one| one.sketch.detail).collect();
    details.sort_unstable_by(f32::total_cmp);
    let good = details.get(details.len() * 9 / 10).copied();
    let plain_below = (good.unwrap_or_default() * PLAIN - NOISE).min(PLAIN_DETAIL);
    let rate = |i: usize| {
        let Sketch {
            detail, contrast, ..
        } = candidates[i].sketch;
        let is_plain = detail < plain_below && contrast < PLAIN_CONTRAST;
        if is_plain || is_dull(candidates, i) {
            return Rated {
                class: Class::Plain,
                value: detail,
            };
        }
        let value = sharpness(candidates, i);
        let class = match value < SHARP {
            true => Class::LessSharp,
            false => Class::Sharp,
        };
        Rated { class, value }
    };
    (0..candidates.len()).into_par_iter().map(rate).collect()
}

/// The neighbors of a candidate in time, itself among them.
fn neighbors(candidates: &[Candidate], i: usize) -> Range<usize> {
    let is_near =
        |other: &&Candidate| (other.seconds - candidates[i].seconds).abs() <= NEIGHBORHOOD_S;
    let before = candidates[..i].iter().rev().take(NEIGHBORS);
    let after = candidates[i + 1..].iter().take(NEIGHBORS);
    i - before.take_while(is_near).count()..i + 1 + after.take_while(is_near).count()
}

/// Whether a candidate is much darker or duller than most of its neighbors.
fn is_dull(candidates: &[Candidate], i: usize) -> bool {
    let near = &candidates[neighbors(candidates, i)];
    let median = |value: fn(&Sketch) -> f32| {
        let mut values: Vec<f32> = near.iter().map(|one| value(&one.sketch)).collect();
        let middle = values.len() / 2;
        *values.select_nth_unstable_by(middle, f32::total_cmp).1
    };
    let own = &candidates[i].sketch;
    own.contrast < median(|sketch| sketch.contrast) * DULL - NOISE
        && own.detail < median(|sketch| sketch.detail) * DULL * DULL - NOISE
}

/// The detail of a candidate by that of the best neighbor that shows the same, in 0..=1.
fn sharpness(candidates: &[Candidate], i: usize) -> f32 {
    let own = &candidates[i].sketch;
    let near = neighbors(candidates, i);
    let next_to = i.saturating_sub(1)..(i + 2).min(candidates.len());
    let distance = |other: usize| own.distance(&candidates[other].sketch);
    let moved = next_to.filter(|other| *other != i).map(distance);
    let moved = moved.fold(OTHER, f32::min);
    let same = (moved * NEXT).clamp(SAME, OTHER);
    let almost = (moved * MOVED).clamp(SAME, OTHER);
    let best = near.map(|other| {
        let detail = candidates[other].sketch.detail;
        match distance(other) {
            distance if distance <= same => detail,
            distance if distance <= almost => detail * ALMOST,
            _ => 0.0,
        }
    });
    (own.detail + NOISE) / (best.fold(own.detail, f32::max) + NOISE)
}

/// Chooses `n` of more candidates, all of which are sharp; returns their indices in order.
fn different(
    among: &[&Candidate],
    n: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<usize>> {
    let mean = Sketch::mean(among.iter().map(|one| &one.sketch));
    let typical = |(_, one): &(usize, &&Candidate)| one.sketch.difference_to(&mean);
    // Frames of little detail are nearer to the mean.
    let mut details: Vec<f32> = among.iter().map(|one| one.sketch.detail).collect();
    details.sort_unstable_by(f32::total_cmp);
    let detailed =
        |(_, one): &(usize, &&Candidate)| one.sketch.detail >= details[details.len() / 2];
    // Of equals the first.
    let first = among
        .iter()
        .enumerate()
        .filter(detailed)
        .min_by_key(typical);
    let mut taken = vec![first.map_or(0, |(i, _)| i)];
    // How different each is from the one among the taken that is most like it.
    let mut differences = vec![u32::MAX; among.len()];
    let alike = alike(among);
    while let Some(last) = taken.last() {
        if !go_on() {
            return None;
        }
        let last = &among[*last].sketch;
        (differences.par_iter_mut().zip(among))
            .with_min_len(AT_A_TIME)
            .for_each(|(difference, one)| {
                *difference = last.difference(&one.sketch).min(*difference)
            });
        // Of equals the first.
        let next = differences
            .iter()
            .enumerate()
            .rev()
            .max_by_key(|(_, difference)| **difference);
        match next {
            Some((i, difference)) if *difference > alike && taken.len() < n => taken.push(i),
            _ => break,
        }
    }
    let moments: Vec<f64> = among.iter().map(|one| one.seconds).collect();
    if taken.len() == 1 && differences.iter().all(|difference| *difference <= alike) {
        let ends = (moments[0], moments[moments.len() - 1]);
        taken = spread(&moments, n, ends, true);
    }
    taken.sort_unstable();
    if taken.len() < n {
        taken.extend(fill_gaps(&moments, &taken, n - taken.len()));
        taken.sort_unstable();
    }
    Some(sharpest(among, &taken, alike))
}

/// The difference up to which frames look alike.
fn alike(among: &[&Candidate]) -> u32 {
    let in_a_row = |two: &[&Candidate]| two[0].sketch.difference(&two[1].sketch);
    let mut differences: Vec<u32> = among.windows(2).map(in_a_row).collect();
    differences.sort_unstable();
    let quiet = differences.get(differences.len() / 4).copied();
    (quiet.unwrap_or_default() * NOISE_IN_A_ROW).clamp(ALIKE, ALIKE_WITH_NOISE)
}

/// Replaces each of those that are taken by the sharpest next to it that looks like it. Both are indices in order.
fn sharpest(among: &[&Candidate], taken: &[usize], alike: u32) -> Vec<usize> {
    let replaced = taken.iter().enumerate().map(|(place, at)| {
        let own = among[*at];
        let next_to = |other: Option<&usize>| other.map(|other| among[*other]);
        let before = place.checked_sub(1).and_then(|i| next_to(taken.get(i)));
        let after = next_to(taken.get(place + 1));
        // Nearer to it than to the next one that is taken, in time and in looks.
        let nearest = [before, after].into_iter().flatten();
        let nearest = nearest
            .map(|other| own.sketch.difference(&other.sketch))
            .min();
        let like_it = nearest.map_or(alike, |difference| (difference / 4).max(alike));
        let from = place
            .checked_sub(1)
            .map_or(0, |i| usize::midpoint(taken[i], *at) + 1);
        let to = taken
            .get(place + 1)
            .map_or(among.len(), |next| usize::midpoint(*at, *next) + 1);
        let near = |i: &usize| {
            let other = among[*i];
            (other.seconds - own.seconds).abs() <= NEIGHBORHOOD_S
                && own.sketch.difference(&other.sketch) <= like_it
        };
        let from = from.max(at.saturating_sub(NEIGHBORS));
        let to = to.min(at + NEIGHBORS + 1);
        // What differs less is the encoder's doing.
        let clearly = own.sketch.detail * CLEARLY + NOISE;
        let sharper = |i: &usize| *i == *at || among[*i].sketch.detail > clearly;
        let best = (from..to).filter(near).filter(sharper).max_by(|a, b| {
            let by_detail = among[*a].sketch.detail.total_cmp(&among[*b].sketch.detail);
            // Of equals the nearest.
            by_detail.then(b.abs_diff(*at).cmp(&a.abs_diff(*at)))
        });
        best.unwrap_or(*at)
    });
    replaced.collect()
}

#[cfg(test)]
mod tests;
