//! Every stage of the network against the PyTorch implementation, on `data/tiny`: real key names, random weights in which
//! nothing is zero or one, outputs computed in float32 on a CPU. A test for each stage, each fed with the reference's
//! own input where that is recorded, so that a failure names its room.
//!
//! VGGT_TEST_DEVICE chooses the device: `cpu`, the default, or `cuda`.

use std::{collections::HashMap, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use vggt_model::{
    Config, ForwardOptions, Isa, Precision, Predictions, Tracks, Vggt,
    aggregator::{AggregatedTokens, normalize_images},
    cuda,
    geometry::{pose_encoding_to_extri_intri, unproject_depth_map_to_point_map},
    heads::TrackPrediction,
    progress::Silent,
    weights::Weights,
};

/// ‖a - b‖ / ‖b‖ that two float32 implementations of some hundred layers may differ by.
const TOLERANCE: f64 = 2e-5;

/// The same on a CUDA device, where cuBLAS and the kernels add in another order than the CPU on which the reference was
/// computed. A figure chosen before the first run on a device, not a measured one.
const CUDA_TOLERANCE: f64 = 5e-5;

/// Tracks after four refinements, of which each multiplies the last digits' difference by about ten (see below).
const TRACK_TOLERANCE: f64 = 5e-5;

/// The same on a CUDA device, wider in the same proportion as `CUDA_TOLERANCE`.
const CUDA_TRACK_TOLERANCE: f64 = 1.25e-4;

/// Visibility and confidence after four refinements. The tracker feeds flows through sines of up to a thousand times
/// their size, so that float32 does not determine these to more digits: PyTorch itself, on these very feature maps,
/// differs from the recorded answers by 2.9e-4 (vis) on another processor and by 4.4e-4 in float64. That the tracker is
/// the same function is held to `TOLERANCE` after one and after two refinements.
const FOURTH_REFINEMENT_TOLERANCE: f64 = 1e-3;

const CASES: [&str; 2] = ["case_s1_70x70", "case_s3_56x84"];

/// The device that VGGT_TEST_DEVICE names. Every test opens its own: candle's CUDA devices work on the default stream of
/// the thread that calls, and tests run in threads of their own.
pub(crate) fn device() -> Device {
    match std::env::var("VGGT_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => {
            cuda::open(0).unwrap_or_else(|why| panic!("VGGT_TEST_DEVICE is cuda, but: {why}"))
        }
        Ok(other) => panic!("VGGT_TEST_DEVICE is {other:?}, expected cpu or cuda"),
    }
}

/// What F32 results may differ by on `device`.
pub(crate) fn tolerance(device: &Device) -> f64 {
    if device.is_cpu() {
        TOLERANCE
    } else {
        CUDA_TOLERANCE
    }
}

struct Case {
    name: &'static str,
    device: Device,
    taps: HashMap<String, Tensor>,
    model: Vggt,
}

impl Case {
    fn open(name: &'static str) -> Self {
        Self::with(name, |_| ())
    }

    fn with(name: &'static str, change: impl FnOnce(&mut Config)) -> Self {
        Self::with_precision(name, Precision::Exact, change)
    }

    fn with_precision(
        name: &'static str,
        precision: Precision,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = data("tiny");
        let mut config = Config::open(dir.join("config.json")).unwrap();
        change(&mut config);
        let weights = Weights::open(dir.join("model.pt")).unwrap();
        let taps = dir.join(format!("{name}.safetensors"));
        let device = device();
        Self {
            name,
            taps: candle_core::safetensors::load(taps, &device).unwrap(),
            model: Vggt::builder(weights)
                .config(config)
                .dtype(DType::F32)
                .precision(precision)
                .device(device.clone())
                .load()
                .unwrap(),
            device,
        }
    }

    fn tap(&self, name: &str) -> &Tensor {
        &self.taps[name]
    }

    fn size(&self) -> (usize, usize, usize) {
        let (s, _, h, w) = self.tap("images").dims4().unwrap();
        (s, h, w)
    }

    fn tokens(&self) -> AggregatedTokens {
        let images = self.tap("images");
        self.model
            .aggregator()
            .forward(images, &mut Silent)
            .unwrap()
    }

    /// The reference's tokens, so that a head is tested without what comes before it.
    fn reference_tokens(&self) -> AggregatedTokens {
        let depth = self.model.config().aggregator.depth;
        let layers = (0..depth).map(|i| (i, self.tap(&format!("aggregator.{i:02}")).clone()));
        AggregatedTokens::from_layers(layers, self.model.config().patch_start_idx())
    }

    fn predict(&self) -> Predictions {
        let options = ForwardOptions {
            query_points: Some(self.tap("query_points").clone()),
            ..ForwardOptions::default()
        };
        self.model
            .forward_with(self.tap("images"), &options, &mut Silent)
            .unwrap()
    }

    /// Tracks on the reference's own feature maps.
    fn follow(&self) -> TrackPrediction {
        let head = self.model.track_head().unwrap();
        let (maps, points) = (self.tap("track.feature_maps"), self.tap("query_points"));
        head.follow(maps, points, &mut Silent).unwrap()
    }

    fn assert_tracks(&self, found: &TrackPrediction) {
        // In a single frame nothing moves, so nothing is magnified.
        let tolerance = match self.size() {
            (1, ..) => tolerance(&self.device),
            _ => FOURTH_REFINEMENT_TOLERANCE,
        };
        let track_tolerance = if self.device.is_cpu() {
            TRACK_TOLERANCE
        } else {
            CUDA_TRACK_TOLERANCE
        };
        self.assert_within("track", &found.track, track_tolerance);
        self.assert_within("vis", &found.vis, tolerance);
        self.assert_within("conf", &found.conf, tolerance);
    }

    fn assert_near(&self, tap: &str, ours: &Tensor) {
        self.assert_within(tap, ours, tolerance(&self.device));
    }

    fn assert_within(&self, tap: &str, ours: &Tensor, tolerance: f64) {
        let error = relative_error(ours, self.tap(tap));
        println!("{} {tap} {error:.2e}", self.name);
        assert!(error <= tolerance, "{} {tap}: {error:e}", self.name);
    }
}

pub(crate) fn data(name: &str) -> PathBuf {
    crate::crate_dir().join("tests/data").join(name)
}

/// ‖a - b‖ / ‖b‖ in F64.
pub(crate) fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &Tensor| {
        let t = t.to_device(&Device::Cpu).unwrap();
        let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        t.to_vec1::<f64>().unwrap()
    };
    let (a, b) = (flat(a), flat(b));
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    difference / norm(&mut b.iter().copied())
}

#[test]
fn images_are_normalised() {
    for case in CASES.map(Case::open) {
        let ours = normalize_images(case.tap("images")).unwrap();
        case.assert_near("normalized_images", &ours);
    }
}

#[test]
fn the_position_embedding_is_resampled() {
    for case in CASES.map(Case::open) {
        let (_, h, w) = case.size();
        let ours = case
            .model
            .aggregator()
            .patch_embed()
            .pos_embed(h, w)
            .unwrap();
        case.assert_near("dino.pos_embed", &ours);
    }
}

#[test]
fn the_trunk_gives_patch_tokens() {
    for case in CASES.map(Case::open) {
        let images = case.tap("normalized_images");
        let trunk = case.model.aggregator().patch_embed();
        let ours = trunk.forward(images, &mut Silent).unwrap();
        case.assert_near("dino.patch_tokens", &ours);
    }
}

#[test]
fn the_aggregator_gives_every_layer() {
    for case in CASES.map(Case::open) {
        let tokens = case.tokens();
        for i in 0..case.model.config().aggregator.depth {
            case.assert_near(&format!("aggregator.{i:02}"), tokens.layer(i).unwrap());
        }
    }
}

#[test]
fn the_camera_head_refines_poses() {
    for case in CASES.map(Case::open) {
        let head = case.model.camera_head();
        let poses = head.forward(&case.reference_tokens(), &mut Silent).unwrap();
        for (i, pose) in poses.iter().enumerate() {
            case.assert_near(&format!("camera.pose_enc.{i}"), pose);
        }
        case.assert_near("pose_enc", poses.last().unwrap());
    }
}

#[test]
fn the_depth_head_gives_depth_and_confidence() {
    for case in CASES.map(Case::open) {
        let head = case.model.depth_head().unwrap();
        let (depth, conf) = head
            .forward(&case.reference_tokens(), case.size(), &mut Silent)
            .unwrap();
        case.assert_near("depth", &depth);
        case.assert_near("depth_conf", &conf);
    }
}

#[test]
fn the_point_head_gives_points_and_confidence() {
    for case in CASES.map(Case::open) {
        let head = case.model.point_head().unwrap();
        let (points, conf) = head
            .forward(&case.reference_tokens(), case.size(), &mut Silent)
            .unwrap();
        case.assert_near("world_points", &points);
        case.assert_near("world_points_conf", &conf);
    }
}

#[test]
fn the_track_head_gives_feature_maps() {
    for case in CASES.map(Case::open) {
        let head = case.model.track_head().unwrap();
        let maps = head.feature_maps(&case.reference_tokens(), case.size());
        case.assert_near("track.feature_maps", &maps.unwrap());
    }
}

#[test]
fn the_first_refinements_of_tracks_are_exact() {
    let reference = data("tiny/track_iterations.safetensors");
    let reference = candle_core::safetensors::load(reference, &Device::Cpu).unwrap();
    for name in CASES {
        for iters in [1, 2] {
            let case = Case::with(name, |config| {
                config.track_head.as_mut().unwrap().iters = iters;
            });
            let found = case.follow();
            for (output, ours) in [
                ("track", &found.track),
                ("vis", &found.vis),
                ("conf", &found.conf),
            ] {
                let error = relative_error(ours, &reference[&format!("{name}.{iters}.{output}")]);
                println!("{name} {output} after {iters} {error:.2e}");
                assert!(
                    error <= tolerance(&case.device),
                    "{name} {output} after {iters}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn the_track_head_follows_points() {
    for case in CASES.map(Case::open) {
        case.assert_tracks(&case.follow());
    }
}

#[test]
fn cameras_and_points_follow_from_the_poses() {
    for case in CASES.map(Case::open) {
        let (_, h, w) = case.size();
        let (extrinsic, intrinsic) =
            pose_encoding_to_extri_intri(case.tap("pose_enc"), (h, w)).unwrap();
        case.assert_near("extrinsic", &extrinsic);
        case.assert_near("intrinsic", &intrinsic);
        let points = unproject_depth_map_to_point_map(
            case.tap("depth"),
            case.tap("extrinsic"),
            case.tap("intrinsic"),
        );
        case.assert_near("world_points_from_depth", &points.unwrap());
    }
}

#[test]
fn the_whole_network_gives_every_prediction() {
    for case in CASES.map(Case::open) {
        let p = case.predict();
        for (tap, ours) in [
            ("pose_enc", &p.pose_enc),
            ("extrinsic", &p.extrinsic),
            ("intrinsic", &p.intrinsic),
            ("depth", &p.depth),
            ("depth_conf", &p.depth_conf),
            ("world_points", p.world_points.as_ref().unwrap()),
            ("world_points_conf", p.world_points_conf.as_ref().unwrap()),
            ("world_points_from_depth", &p.world_points_from_depth),
        ] {
            case.assert_near(tap, ours);
        }
        let Tracks {
            track, vis, conf, ..
        } = p.tracks.unwrap();
        case.assert_tracks(&TrackPrediction { track, vis, conf });
    }
}

/// Of a whole pass with linear layers and attention in 16-bit integers, of which each layer is off by some 2e-4. Measured: at most
/// 1e-4.
const FAST_TOLERANCE: f64 = 3e-4;

#[test]
fn the_fast_precision_stays_near_the_reference() {
    // It is for CPUs, and for those with the instructions.
    if Isa::best().is_none() || !device().is_cpu() {
        return;
    }
    for name in CASES {
        let case = Case::with_precision(name, Precision::Fast, |_| ());
        let p = case.predict();
        for (tap, ours) in [
            ("pose_enc", &p.pose_enc),
            ("depth", &p.depth),
            ("depth_conf", &p.depth_conf),
            ("world_points", p.world_points.as_ref().unwrap()),
            ("world_points_conf", p.world_points_conf.as_ref().unwrap()),
        ] {
            case.assert_within(tap, ours, FAST_TOLERANCE);
        }
        // It must not be the exact one under another name.
        assert!(relative_error(&p.depth, case.tap("depth")) > 1e-6);
    }
}
