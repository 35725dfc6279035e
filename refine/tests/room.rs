//! Photos of a rendered room: cameras that are off come back, and photos that do not determine them are refused.

use rayon::prelude::*;
use vggt_refine::{Pose, Progress, RefineOptions, Refinement, Refusal, Stopped, View, refine};

use crate::support::{
    Random, disturbed, looking, median_turn_deg,
    photos::{Place, lens, view},
};

fn photos(place: Place, poses: &[Pose], k1: f64) -> Vec<View> {
    poses
        .par_iter()
        .map(|pose| view(place, pose, &lens(k1)))
        .collect()
}

/// A walk along one side of the room, looking at the other and at what stands in between.
fn walk(count: usize) -> Vec<Pose> {
    let at = |i: usize| i as f64 / (count - 1) as f64 - 0.5;
    let pose = |i: usize| {
        looking(
            [3.6 * at(i), -0.3 + 0.4 * at(i) * at(i), -2.0],
            [0.8 * at(i), 0.3, 1.0],
        )
    };
    (0..count).map(pose).collect()
}

/// Loses the cameras: by degrees and units of the world, the focal length by 4 %, depths by 3 % and a factor for each view.
fn lost(mut views: Vec<View>, degrees: f64, shift: f64) -> Vec<View> {
    let mut random = Random(5);
    let truth: Vec<Pose> = views.iter().map(|view| view.pose).collect();
    let poses = disturbed(&truth, degrees, shift, &mut random);
    for (view, pose) in views.iter_mut().zip(poses) {
        view.pose = pose;
        let factor = 1.0 + 0.04 * random.normal();
        view.lens.focal = view
            .lens
            .focal
            .map(|focal| focal * (1.04 + 0.01 * random.normal()));
        view.lens.k1 = 0.0;
        for depth in &mut view.depth.values {
            *depth *= (factor * (1.0 + 0.02 * random.normal())) as f32;
        }
    }
    views
}

fn refined(views: Vec<View>, options: &RefineOptions) -> Refinement {
    refine(views, options, &mut |_| Ok(())).unwrap()
}

fn poses(found: &Refinement) -> Vec<Pose> {
    found.cameras.iter().map(|camera| camera.pose).collect()
}

#[test]
fn cameras_that_are_off_come_back() {
    let truth = walk(12);
    let lost = lost(photos(Place::Room, &truth, 0.0), 2.5, 0.06);
    let before = median_turn_deg(
        &lost.iter().map(|view| view.pose).collect::<Vec<_>>(),
        &truth,
    );
    let found = refined(lost, &RefineOptions::default());
    let after = median_turn_deg(&poses(&found), &truth);
    let report = &found.report;
    assert!(report.accepted, "{report:?}");
    assert!(
        before > 1.0 && after < 0.05,
        "{before} -> {after} degrees, {report:?}"
    );
    assert!(report.median_after_px.unwrap() < 0.3, "{report:?}");
    assert_eq!(report.refined_views, 12);
    let focal = found.cameras[0].lens.focal[0];
    assert!((focal / 330.0 - 1.0).abs() < 0.005, "{focal}");
    // The points lie where they were seen, and cameras of one lens share it.
    let most = found
        .tracks
        .iter()
        .map(|track| track.observations.len())
        .max();
    assert!(most >= Some(4), "{most:?}");
    assert!(
        found
            .cameras
            .iter()
            .all(|camera| camera.lens == found.cameras[0].lens)
    );
}

#[test]
fn distortion_is_found_where_it_is_asked_for() {
    let truth = walk(12);
    let lost = lost(photos(Place::Room, &truth, -0.1), 1.0, 0.03);
    let options = RefineOptions {
        k1: true,
        ..RefineOptions::default()
    };
    let found = refined(lost, &options);
    assert!(found.report.accepted, "{:?}", found.report);
    let k1 = found.cameras[0].lens.k1;
    assert!((k1 + 0.1).abs() < 0.01, "{k1}");
    let after = median_turn_deg(&poses(&found), &truth);
    assert!(after < 0.05, "{after} degrees");
}

#[test]
fn a_camera_that_only_turns_is_refused() {
    let turn = |i: usize| (i as f64 - 4.0) * 0.12;
    let truth: Vec<_> = (0..9)
        .map(|i| {
            looking(
                [0.2, -0.4, -1.9],
                [0.2 + turn(i).sin(), -0.3, -1.9 + turn(i).cos()],
            )
        })
        .collect();
    let lost = lost(photos(Place::Room, &truth, 0.0), 1.0, 0.03);
    let predicted: Vec<Pose> = lost.iter().map(|view| view.pose).collect();
    let found = refined(lost, &RefineOptions::default());
    let report = &found.report;
    assert!(
        matches!(report.refused, Some(Refusal::NoParallax { .. })),
        "{report:?}"
    );
    assert_eq!(poses(&found), predicted);
    assert!(found.tracks.is_empty());
}

#[test]
fn one_plane_alone_is_refused() {
    let at = |i: usize| i as f64 * 0.25 - 1.0;
    let truth: Vec<_> = (0..9)
        .map(|i| looking([at(i), -0.2, -1.0], [at(i) * 0.8, -0.1, 2.5]))
        .collect();
    let views = lost(photos(Place::Wall, &truth, 0.0), 0.6, 0.02);
    let report = refined(views, &RefineOptions::default()).report;
    assert_eq!(report.refused, Some(Refusal::Plane), "{report:?}");
}

#[test]
fn photos_that_do_not_belong_together_are_refused() {
    let poses = walk(6);
    let mut views = photos(Place::Room, &poses, 0.0);
    // Each photo with the camera of another place.
    let elsewhere: Vec<_> = (0..6)
        .map(|i| {
            looking(
                [0.0, 0.0, 0.0],
                [(i as f64 * 1.1).cos(), 0.0, (i as f64 * 1.1).sin()],
            )
        })
        .collect();
    for (view, pose) in views.iter_mut().zip(elsewhere) {
        view.pose = pose;
    }
    let report = refined(views, &RefineOptions::default()).report;
    assert!(
        matches!(report.refused, Some(Refusal::FewTracks { .. })),
        "{report:?}"
    );
    for few in [0, 1] {
        let views = photos(Place::Room, &poses[..few], 0.0);
        let found = refined(views, &RefineOptions::default());
        assert!(matches!(
            found.report.refused,
            Some(Refusal::FewTracks { tracks: 0, .. })
        ));
        assert_eq!(found.cameras.len(), few);
    }
}

#[test]
fn a_photo_that_shows_something_else_keeps_its_place_among_the_others() {
    let truth = walk(10);
    let mut views = lost(photos(Place::Room, &truth, 0.0), 1.0, 0.03);
    let blank = vec![120; views[4].photo.width() * views[4].photo.height()];
    views[4].photo =
        vggt_refine::Gray::new(views[4].photo.width(), views[4].photo.height(), blank).unwrap();
    let found = refined(views, &RefineOptions::default());
    assert!(
        found.report.accepted && found.report.refined_views == 9,
        "{:?}",
        found.report
    );
    let weak = found.cameras[4];
    assert!(!weak.refined && weak.inliers == 0);
    let turn = poses(&found)[4]
        .rotation
        .angle_to(&truth[4].rotation)
        .to_degrees();
    assert!(turn < 5.0, "{turn} degrees");
}

#[test]
fn the_caller_hears_of_progress_and_can_stop() {
    let views = photos(Place::Room, &walk(4), 0.0);
    let mut heard: Vec<Progress> = Vec::new();
    let mut watch = |progress: Progress| {
        heard.push(progress);
        if progress.done > 4 {
            Err(Stopped)
        } else {
            Ok(())
        }
    };
    assert!(matches!(
        refine(views, &RefineOptions::default(), &mut watch),
        Err(Stopped)
    ));
    assert!(heard.windows(2).all(|pair| pair[0].done <= pair[1].done));
    assert_eq!(heard.last(), Some(&Progress { done: 8, of: 8 }));
}
