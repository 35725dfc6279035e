//! Bundle adjustment on tracks whose truth is known.

use nalgebra::{Point3, Vector2};
use vggt_refine::{
    Lens, Observation, Track,
    bundle::{BundleOptions, Cameras, adjust},
};

use crate::support::{Random, disturbed, looking, median_turn_deg};

const LENS: Lens = Lens {
    focal: [800.0, 800.0],
    principal: [512.0, 384.0],
    k1: -0.05,
};

/// 24 cameras on an arc around 3000 points, which see them with 0.5 pixels of noise, and one of five observations anywhere.
fn truth(random: &mut Random) -> (Cameras, Vec<Track>) {
    let poses = (0..24).map(|i| {
        let angle = f64::from(i) * 0.06;
        looking(
            [
                4.0 * angle.sin(),
                -0.5 + 0.02 * f64::from(i),
                -4.0 * angle.cos(),
            ],
            [0.0, 0.0, 0.0],
        )
    });
    let cameras = Cameras {
        poses: poses.collect(),
        lenses: vec![LENS],
        lens_of: vec![0; 24],
    };
    let mut tracks = Vec::new();
    while tracks.len() < 3000 {
        let position = Point3::from(random.vector());
        let mut observations = Vec::new();
        let first = (random.uniform() * 14.0) as usize;
        for view in first..first + 10 {
            let Some(pixel) = cameras.project(view, &position) else {
                continue;
            };
            if !(0.0..1024.0).contains(&pixel.x) || !(0.0..768.0).contains(&pixel.y) {
                continue;
            }
            let pixel = match random.uniform() < 0.2 {
                true => Vector2::new(random.uniform() * 1024.0, random.uniform() * 768.0),
                false => pixel + Vector2::new(random.normal(), random.normal()) * 0.5,
            };
            observations.push(Observation { view, pixel });
        }
        if observations.len() > 2 {
            tracks.push(Track {
                position,
                observations,
            });
        }
    }
    (cameras, tracks)
}

/// Loses the truth: cameras by 1.5 degrees and 2 % of their distance, points by as much, the focal length by 3 %.
fn start(random: &mut Random) -> (Cameras, Cameras, Vec<Track>) {
    let (truth, mut tracks) = truth(random);
    let mut cameras = truth.clone();
    cameras.poses = disturbed(&truth.poses, 1.5, 0.08, random);
    cameras.lenses[0].focal = [824.0, 824.0];
    cameras.lenses[0].k1 = 0.0;
    tracks
        .iter_mut()
        .for_each(|track| track.position += random.vector() * 0.05);
    (truth, cameras, tracks)
}

fn options(loss_px: f64) -> BundleOptions<'static> {
    BundleOptions {
        loss_px,
        focal: true,
        focal_priors: &[],
        k1: true,
        steps: 50,
        least_gain: 1e-6,
    }
}

#[test]
fn noise_of_the_poses_is_removed_in_spite_of_outliers() {
    let (truth, mut cameras, mut tracks) = start(&mut Random(1));
    let before = median_turn_deg(&cameras.poses, &truth.poses);
    for loss_px in [20.0, 2.0, 1.0] {
        assert!(adjust(&mut cameras, &mut tracks, &options(loss_px)) > 0);
    }
    let after = median_turn_deg(&cameras.poses, &truth.poses);
    assert!(before > 0.5 && after < 0.05, "{before} -> {after} degrees");
    let lens = cameras.lenses[0];
    assert!((lens.focal[0] / 800.0 - 1.0).abs() < 0.005, "{lens:?}");
    assert!((lens.k1 + 0.05).abs() < 0.005, "{lens:?}");
    assert_eq!(lens.focal[0], lens.focal[1]);
}

#[test]
fn the_result_is_the_same_on_any_number_of_threads() {
    let adjusted = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (_, mut cameras, mut tracks) = start(&mut Random(2));
        pool.install(|| adjust(&mut cameras, &mut tracks, &options(5.0)));
        (cameras, tracks)
    };
    assert_eq!(adjusted(1), adjusted(3));
}

#[test]
fn what_is_not_to_be_adjusted_stays() {
    let (_, mut cameras, mut tracks) = start(&mut Random(3));
    // The last camera sees nothing.
    for track in &mut tracks {
        track.observations.retain(|seen| seen.view != 23);
    }
    let before = cameras.clone();
    let fixed = BundleOptions {
        focal: false,
        k1: false,
        ..options(10.0)
    };
    adjust(&mut cameras, &mut tracks, &fixed);
    assert_eq!(cameras.lenses, before.lenses);
    assert_eq!(cameras.poses[23], before.poses[23]);
    assert_ne!(cameras.poses[0], before.poses[0]);
}

#[test]
fn nothing_to_adjust_is_no_fault() {
    let mut cameras = Cameras {
        poses: Vec::new(),
        lenses: Vec::new(),
        lens_of: Vec::new(),
    };
    assert_eq!(adjust(&mut cameras, &mut [], &options(1.0)), 0);
}
