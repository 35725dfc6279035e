//! Choices among frames that are drawn here.

use super::{super::gray::Gray, *};

const WIDTH: usize = 160;
const HEIGHT: usize = 120;

/// A picture of boxes, the same for the same seed, seen from `left` on.
fn picture(seed: u32, left: usize) -> Gray {
    let mut pixels = vec![128; WIDTH * HEIGHT];
    let mut dice = seed.wrapping_mul(2_654_435_761) | 1;
    let mut below = |n: usize| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (dice >> 8) as usize % n
    };
    for _ in 0..600 {
        let (x, y) = (below(4 * WIDTH), below(HEIGHT));
        let (wide, high) = (below(30) + 3, below(30) + 3);
        let value = below(256) as u8;
        for row in pixels.chunks_exact_mut(WIDTH).skip(y).take(high) {
            let from = x.saturating_sub(left).min(WIDTH);
            let to = (x + wide).saturating_sub(left).min(WIDTH);
            row[from..to].fill(value);
        }
    }
    Gray {
        width: WIDTH,
        height: HEIGHT,
        pixels,
    }
}

/// Means of squares of pixels.
fn blurred(gray: &Gray, radius: usize) -> Gray {
    let mut blurred = gray.clone();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let rows = y.saturating_sub(radius)..(y + radius + 1).min(HEIGHT);
            let columns = x.saturating_sub(radius)..(x + radius + 1).min(WIDTH);
            let count = rows.len() * columns.len();
            let row = |y: usize| &gray.pixels[y * WIDTH..][columns.clone()];
            let sum: usize = rows.flat_map(row).map(|value| usize::from(*value)).sum();
            blurred.pixels[y * WIDTH + x] = (sum / count) as u8;
        }
    }
    blurred
}

fn candidates(frames: &[Gray]) -> Vec<Candidate> {
    let sketches = frames.iter().map(Sketch::of);
    let numbered = sketches.zip(1..).map(|(sketch, number)| Candidate {
        number,
        seconds: (number - 1) as f64 / 25.0,
        sketch,
    });
    numbered.collect()
}

fn chosen(frames: &[Gray], n: usize) -> Choice {
    let choice = choose(&candidates(frames), n, &mut || true).unwrap();
    assert_eq!(choice.chosen.len(), n.min(frames.len()));
    assert!(choice.chosen.windows(2).all(|two| two[0] < two[1]));
    choice
}

#[test]
fn any_number_of_any_frames_is_chosen() {
    let mut frames: Vec<Gray> = (0..24).map(|i| picture(1, 4 * i)).collect();
    for i in (0..24).step_by(3) {
        frames[i] = blurred(&frames[i], 2);
    }
    frames[5].pixels.fill(0);
    for length in [1, 2, 3, 7, 24] {
        for n in 1..=30 {
            chosen(&frames[..length], n);
        }
    }
    assert_eq!(choose(&[], 3, &mut || true), Some(Choice::default()));
    assert_eq!(choose(&candidates(&frames), 3, &mut || false), None);
}

#[test]
fn the_sharp_ones_come_first_then_the_blurred_and_the_plain_last() {
    let mut frames: Vec<Gray> = (0..24).map(|i| picture(1, 4 * i)).collect();
    for (i, frame) in frames.iter_mut().enumerate() {
        match i % 4 {
            1 => *frame = blurred(frame, 2),
            2 => frame.pixels.fill(3),
            _ => {}
        }
    }
    for n in 1..=24 {
        let choice = chosen(&frames, n);
        let of_kind = |kind: usize| choice.chosen.iter().filter(|i| *i % 4 == kind).count();
        let (blurred, plain) = (of_kind(1), of_kind(2));
        assert_eq!(blurred, n.saturating_sub(12).min(6), "{choice:?}");
        assert_eq!(plain, n.saturating_sub(18), "{choice:?}");
        assert_eq!(
            (choice.less_sharp, choice.plain),
            (6 - blurred as u64, 6 - plain as u64)
        );
    }
}

#[test]
fn the_choice_is_the_same_on_any_number_of_threads() {
    let frames: Vec<Gray> = (0..40).map(|i| picture(1 + i as u32 % 3, 3 * i)).collect();
    let expected = chosen(&frames, 9);
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let choice = pool.build().unwrap().install(|| chosen(&frames, 9));
        assert_eq!(choice, expected);
    }
}

#[test]
fn brightness_and_blur_are_small_differences_and_another_picture_is_a_large_one() {
    let one = picture(1, 0);
    let mut dark = one.clone();
    dark.pixels.iter_mut().for_each(|value| *value /= 2);
    let sketch = Sketch::of(&one);
    let [dark, blurred, other] = [dark, blurred(&one, 2), picture(2, 0)].map(|g| Sketch::of(&g));
    assert!(sketch.distance(&dark) < SAME && sketch.distance(&blurred) < SAME);
    assert!(sketch.distance(&other) > OTHER);
    assert!(sketch.difference(&dark) < sketch.difference(&other));
    assert!(blurred.detail < sketch.detail * SHARP && dark.detail < sketch.detail * SHARP);
}

#[test]
fn frames_of_any_size_can_be_looked_at() {
    for (width, height) in [(1, 1), (2, 512), (3, 3), (512, 1), (33, 25), (512, 288)] {
        let pixels = (0..width * height).map(|i| (i * 37 % 251) as u8).collect();
        let sketch = Sketch::of(&Gray {
            width,
            height,
            pixels,
        });
        assert!(
            sketch.detail.is_finite() && sketch.detail >= 0.0,
            "{width} x {height}"
        );
        assert_eq!(sketch.difference(&sketch.clone()), 0);
    }
}
