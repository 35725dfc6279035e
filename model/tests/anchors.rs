//! Attention to anchors against the PyTorch implementation, and against the network as it was trained.
//!
//! `data/anchor` holds two cases on the network of `data/tiny`, computed in float32 on a CPU: K and V of the global blocks are
//! those of the anchors, by the schedule that the case names.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};
use vggt_model::{
    AnchorOptions, AnchorPass, Cameras, Config, ForwardOptions, FrameResults, Isa, Predictions,
    Vggt,
    aggregator::AggregatedTokens,
    anchors::{AnchorSchedule, choose, unrelated_scores},
    geometry::unproject_depth_map_to_point_map,
    progress::Silent,
    weights::Weights,
};

use crate::parity::{data, device, relative_error, tolerance};

const CASES: [&str; 2] = ["case_s5_70x70", "case_s6_56x84"];

fn tiny() -> Vggt {
    let dir = data("tiny");
    Vggt::builder(Weights::open(dir.join("model.pt")).unwrap())
        .config(Config::open(dir.join("config.json")).unwrap())
        .dtype(DType::F32)
        .device(device())
        .load()
        .unwrap()
}

fn noise(s: usize, h: usize, w: usize) -> Tensor {
    Tensor::rand(0f32, 1.0, (s, 3, h, w), &Device::Cpu).unwrap()
}

/// Frames of `images`, in this order.
fn select(images: &Tensor, frames: &[usize]) -> Tensor {
    let frames: Vec<u32> = frames.iter().map(|frame| *frame as u32).collect();
    let frames = Tensor::new(frames, images.device()).unwrap();
    images.index_select(&frames, 0).unwrap()
}

/// That two tensors have the same bits. The plain versions of the operations and those of a device add in an order that depends on
/// the number of frames: there they are near.
fn assert_same(a: &Tensor, b: &Tensor, what: &str) {
    if Isa::best().is_none() || !device().is_cpu() {
        let error = relative_error(a, b);
        assert!(error <= tolerance(&device()), "{what}: {error:e}");
        return;
    }
    let bits = |t: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    assert!(bits(a) == bits(b), "{what}");
}

/// A scene that is computed with anchors.
struct Scene {
    model: Vggt,
    images: Tensor,
    anchors: Vec<usize>,
    schedule: AnchorSchedule,
    dtype: DType,
}

/// What it gives, frame by frame.
struct Computed {
    /// Layers of the aggregator, [1, P, 2 C] of each frame.
    layers: Vec<Vec<Tensor>>,
    results: Vec<FrameResults>,
    cameras: Cameras,
}

impl Scene {
    fn size(&self) -> (usize, usize, usize) {
        let (s, _, h, w) = self.images.dims4().unwrap();
        (s, h, w)
    }

    fn pass(&self, scratch: bool) -> AnchorPass {
        let options = AnchorOptions {
            schedule: self.schedule,
            dtype: self.dtype,
            scratch: scratch.then(|| tempfile::tempfile().unwrap()),
        };
        let images = select(&self.images, &self.anchors);
        self.model.anchors(&images, options, &mut Silent).unwrap()
    }

    fn others(&self) -> Vec<usize> {
        let (s, ..) = self.size();
        (0..s).filter(|i| !self.anchors.contains(i)).collect()
    }

    /// All frames, those that are not anchors `batch` at a time in the order `others`.
    fn compute(&self, batch: usize, others: &[usize], scratch: bool) -> Computed {
        let (s, h, w) = self.size();
        let depth = self.model.config().aggregator.depth;
        let mut pass = self.pass(scratch);
        let mut found: HashMap<usize, (Vec<Tensor>, FrameResults)> = HashMap::new();
        let options = ForwardOptions::default();
        let heads = |tokens: &AggregatedTokens| {
            self.model
                .results(tokens, (h, w), &options, &mut Silent)
                .unwrap()
        };
        let layers = |tokens: &AggregatedTokens, at: usize| {
            (0..depth)
                .map(|i| tokens.layer(i).unwrap().narrow(0, at, 1).unwrap())
                .collect()
        };
        for (at, frame) in self.anchors.iter().enumerate() {
            let tokens = pass.tokens.frame(at).unwrap();
            found.insert(*frame, (layers(&tokens, 0), heads(&tokens)));
        }
        for frames in others.chunks(batch) {
            let images = select(&self.images, frames).to_device(&device()).unwrap();
            let aggregator = self.model.aggregator();
            let (tokens, _) = aggregator
                .frames(&images, &pass.cache, &mut Silent)
                .unwrap();
            let (results, _) = self
                .model
                .frames(
                    &select(&self.images, frames),
                    &pass.cache,
                    &options,
                    &mut Silent,
                )
                .unwrap();
            for (at, frame) in frames.iter().enumerate() {
                found.insert(*frame, (layers(&tokens, at), one(&results, at)));
            }
        }
        let (mut all_layers, mut results) = (Vec::new(), Vec::new());
        for frame in 0..s {
            let (layers, result) = found.remove(&frame).unwrap();
            all_layers.push(layers);
            results.push(result);
        }
        let tokens: Vec<&Tensor> = results.iter().map(|r| &r.camera_tokens).collect();
        let tokens = Tensor::cat(&tokens, 0).unwrap();
        Computed {
            layers: all_layers,
            results,
            cameras: self.model.cameras(&tokens, (h, w), &mut Silent).unwrap(),
        }
    }
}

/// The results of one frame of a batch.
fn one(results: &FrameResults, at: usize) -> FrameResults {
    let of = |t: &Tensor| t.narrow(0, at, 1).unwrap();
    FrameResults {
        camera_tokens: of(&results.camera_tokens),
        depth: results.depth.as_ref().map(of),
        depth_conf: results.depth_conf.as_ref().map(of),
        world_points: results.world_points.as_ref().map(of),
        world_points_conf: results.world_points_conf.as_ref().map(of),
    }
}

impl Computed {
    fn layer(&self, layer: usize) -> Tensor {
        let frames: Vec<&Tensor> = self.layers.iter().map(|layers| &layers[layer]).collect();
        Tensor::cat(&frames, 0).unwrap()
    }

    fn joined(&self, field: impl Fn(&FrameResults) -> Option<Tensor>) -> Tensor {
        let frames: Vec<Tensor> = self.results.iter().map(|r| field(r).unwrap()).collect();
        Tensor::cat(&frames, 0).unwrap()
    }

    /// Every prediction under the name of its tap.
    fn predictions(&self) -> Vec<(&'static str, Tensor)> {
        let depth = self.joined(|r| r.depth.clone());
        let Cameras {
            pose_enc,
            extrinsic,
            intrinsic,
        } = &self.cameras;
        let from_depth = unproject_depth_map_to_point_map(&depth, extrinsic, intrinsic);
        vec![
            ("pose_enc", pose_enc.clone()),
            ("extrinsic", extrinsic.clone()),
            ("intrinsic", intrinsic.clone()),
            ("depth", depth),
            ("depth_conf", self.joined(|r| r.depth_conf.clone())),
            ("world_points", self.joined(|r| r.world_points.clone())),
            (
                "world_points_conf",
                self.joined(|r| r.world_points_conf.clone()),
            ),
            ("world_points_from_depth", from_depth.unwrap()),
        ]
    }

    fn assert_same_bits(&self, other: &Self, what: &str) {
        for (frame, (a, b)) in self.layers.iter().zip(&other.layers).enumerate() {
            for (layer, (a, b)) in a.iter().zip(b).enumerate() {
                assert_same(a, b, &format!("{what}: frame {frame}, layer {layer}"));
            }
        }
        for ((tap, a), (_, b)) in self.predictions().iter().zip(&other.predictions()) {
            assert_same(a, b, &format!("{what}: {tap}"));
        }
    }
}

fn case(name: &str) -> (Scene, HashMap<String, Tensor>) {
    let taps = data("anchor").join(format!("{name}.safetensors"));
    let taps = candle_core::safetensors::load(taps, &Device::Cpu).unwrap();
    let whole = |name: &str| -> Vec<usize> {
        let values: Vec<f32> = taps[name].to_vec1().unwrap();
        values.into_iter().map(|x| x as usize).collect()
    };
    let mut anchors = whole("anchors");
    // The order of the keys is that of the frames.
    anchors.sort_unstable();
    let schedule = whole("schedule");
    let scene = Scene {
        model: tiny(),
        images: taps["images"].clone(),
        anchors,
        schedule: AnchorSchedule {
            local: schedule[0],
            sampled: schedule[1],
            stride: schedule[2],
        },
        dtype: DType::F32,
    };
    (scene, taps)
}

#[test]
fn every_tap_is_the_references() {
    for name in CASES {
        let (scene, taps) = case(name);
        let computed = scene.compute(3, &scene.others(), false);
        let depth = scene.model.config().aggregator.depth;
        let layers = (0..depth).map(|i| (format!("aggregator.{i:02}"), computed.layer(i)));
        let predictions = computed.predictions().into_iter();
        let predictions = predictions.map(|(tap, t)| (tap.to_owned(), t));
        for (tap, ours) in layers.chain(predictions) {
            let error = relative_error(&ours, &taps[&tap]);
            println!("{name} {tap} {error:.2e}");
            assert!(error <= tolerance(&device()), "{name} {tap}: {error:e}");
        }
        let tokens = computed.joined(|r| Some(r.camera_tokens.clone()));
        let tokens = tokens.to_device(&device()).unwrap();
        let poses = scene.model.camera_head().of_tokens(&tokens, &mut Silent);
        for (i, pose) in poses.unwrap().iter().enumerate() {
            let error = relative_error(pose, &taps[&format!("camera.pose_enc.{i}")]);
            assert!(error <= tolerance(&device()), "{name} pose {i}: {error:e}");
        }
    }
}

#[test]
fn descriptors_and_their_order_are_the_references() {
    for name in CASES {
        let (scene, taps) = case(name);
        let means = scene.model.describe(&scene.images, &mut Silent).unwrap();
        let centered = means
            .broadcast_sub(&means.mean_keepdim(0).unwrap())
            .unwrap();
        let length = centered.sqr().unwrap().sum_keepdim(D::Minus1).unwrap();
        let ours = centered.broadcast_div(&length.sqrt().unwrap()).unwrap();
        let error = relative_error(&ours, &taps["descriptors"]);
        assert!(error <= tolerance(&device()), "{name}: {error:e}");
        let order: Vec<f32> = taps["farthest_order"].to_vec1().unwrap();
        let mut expected = Vec::new();
        for (count, frame) in order.iter().enumerate() {
            expected.push(*frame as usize);
            let mut sorted = expected.clone();
            sorted.sort_unstable();
            let choice = choose(&means, count + 1).unwrap();
            assert_eq!(choice.frames, sorted, "{name}");
            assert_eq!(choice.largest_distance == 0.0, count + 1 == order.len());
        }
    }
}

#[test]
fn with_every_frame_an_anchor_all_taps_have_the_bits_of_the_network_as_it_was_trained() {
    for (s, h, w) in [(1, 70, 70), (2, 28, 98), (5, 56, 84), (9, 70, 42)] {
        let scene = Scene {
            model: tiny(),
            images: noise(s, h, w),
            anchors: (0..s).collect(),
            schedule: AnchorSchedule::whole(),
            dtype: DType::F32,
        };
        let tokens = scene
            .model
            .aggregator()
            .forward(&scene.images.to_device(&device()).unwrap(), &mut Silent)
            .unwrap();
        let dense: Predictions = scene.model.forward(&scene.images).unwrap();
        let taps = HashMap::from([
            ("pose_enc", dense.pose_enc),
            ("extrinsic", dense.extrinsic),
            ("intrinsic", dense.intrinsic),
            ("depth", dense.depth),
            ("depth_conf", dense.depth_conf),
            ("world_points", dense.world_points.unwrap()),
            ("world_points_conf", dense.world_points_conf.unwrap()),
            ("world_points_from_depth", dense.world_points_from_depth),
        ]);
        for scratch in [false, true] {
            let computed = scene.compute(1, &[], scratch);
            for layer in 0..scene.model.config().aggregator.depth {
                let expected = tokens.layer(layer).unwrap();
                let what = format!("{s} frames, layer {layer}");
                assert_same(&computed.layer(layer), expected, &what);
            }
            for (tap, ours) in computed.predictions() {
                assert_same(&ours, &taps[tap], &format!("{s} frames, {tap}"));
            }
        }
    }
}

#[test]
fn a_frame_has_the_same_bits_in_any_batch_in_any_order_and_with_any_number_of_threads() {
    let scene = Scene {
        model: tiny(),
        images: noise(17, 56, 84),
        anchors: vec![0, 3, 8, 16],
        schedule: AnchorSchedule {
            local: 1,
            sampled: 3,
            stride: 2,
        },
        dtype: DType::F32,
    };
    let others = scene.others();
    let once = scene.compute(others.len(), &others, false);
    for batch in [1, 3, 7] {
        let streamed = scene.compute(batch, &others, batch == 3);
        once.assert_same_bits(&streamed, &format!("batches of {batch}"));
    }
    let backwards: Vec<usize> = others.iter().rev().copied().collect();
    once.assert_same_bits(&scene.compute(4, &backwards, true), "backwards");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let computed = pool
            .build()
            .unwrap()
            .install(|| scene.compute(5, &others, false));
        once.assert_same_bits(&computed, &format!("{threads} threads"));
    }
}

#[test]
fn frames_that_change_places_change_their_results_with_them() {
    let scene = |images| Scene {
        model: tiny(),
        images,
        anchors: vec![0, 2],
        schedule: AnchorSchedule {
            local: 0,
            sampled: 2,
            stride: 3,
        },
        dtype: DType::F32,
    };
    let images = noise(6, 42, 70);
    let straight = scene(images.clone());
    // The anchors stay where they are.
    let order = [0, 5, 2, 1, 4, 3];
    let permuted = scene(select(&images, &order));
    let a = straight.compute(2, &straight.others(), false);
    let b = permuted.compute(3, &permuted.others(), false);
    for (place, frame) in order.into_iter().enumerate() {
        for (layer, (a, b)) in a.layers[frame].iter().zip(&b.layers[place]).enumerate() {
            assert_same(a, b, &format!("frame {frame}, layer {layer}"));
        }
        let depth = |computed: &Computed, i: usize| computed.results[i].depth.clone().unwrap();
        let what = format!("frame {frame}");
        assert_same(&depth(&a, frame), &depth(&b, place), &what);
    }
}

#[test]
fn keys_and_values_in_half_the_memory_are_near() {
    let mut scene = case("case_s6_56x84").0;
    let exact = scene.compute(3, &scene.others(), false);
    let bytes = scene.pass(false).cache.bytes();
    scene.dtype = DType::F16;
    assert_eq!(2 * scene.pass(false).cache.bytes(), bytes);
    let halves = scene.compute(2, &scene.others(), false);
    let once = scene.compute(3, &scene.others(), true);
    halves.assert_same_bits(&once, "halves");
    for ((tap, ours), (_, exact)) in halves.predictions().iter().zip(&exact.predictions()) {
        let error = relative_error(ours, exact);
        println!("{tap} {error:.2e}");
        assert!(error > 0.0 && error < 2e-3, "{tap}: {error:e}");
    }
}

#[test]
fn frames_are_compared_with_the_first_alike_as_anchors_and_as_others() {
    let first = noise(1, 56, 56);
    let images = Tensor::cat(&[&first, &noise(1, 56, 56), &first, &first], 0).unwrap();
    let scene = Scene {
        model: tiny(),
        images,
        anchors: vec![0, 1, 2],
        schedule: AnchorSchedule::whole(),
        dtype: DType::F32,
    };
    let pass = scene.pass(false);
    let other = select(&scene.images, &[3]);
    let options = ForwardOptions::default();
    let frames = scene
        .model
        .frames(&other, &pass.cache, &options, &mut Silent);
    let mut similarity = pass.similarity;
    similarity.extend(frames.unwrap().1);
    // Every second row and column of 4 x 4 patches, 4 heads.
    assert!(
        similarity
            .iter()
            .all(|frame| frame.attention.len() == 4 * 4)
    );
    let scores = unrelated_scores(&similarity);
    assert!(
        scores.iter().all(|score| (0.0..=1.0).contains(score)),
        "{scores:?}"
    );
    // An anchor and another frame with the same pixels, which are not the scene's first.
    assert!((scores[2] - scores[3]).abs() < 1e-5, "{scores:?}");
}

#[test]
fn what_does_not_fit_the_anchors_is_refused_with_the_reason() {
    let model = tiny();
    let options = |schedule, dtype| AnchorOptions {
        schedule,
        dtype,
        scratch: None,
    };
    let anchors = noise(2, 42, 42);
    let whole = AnchorSchedule::whole();
    let never = AnchorSchedule { local: 4, ..whole };
    for (options, word) in [
        (options(never, DType::F32), "LOCAL,SAMPLED,STRIDE"),
        (options(whole, DType::F64), "f64"),
    ] {
        let e = model.anchors(&anchors, options, &mut Silent).unwrap_err();
        assert!(e.to_string().contains(word), "{e}");
    }
    let mut pass = model
        .anchors(&anchors, options(whole, DType::F32), &mut Silent)
        .unwrap();
    assert!(pass.tokens.frame(2).is_err());
    let frames = |images: Tensor, options: ForwardOptions| {
        let done = model.frames(&images, &pass.cache, &options, &mut Silent);
        done.map(|_| ()).unwrap_err().to_string()
    };
    let other_size = frames(noise(1, 42, 56), ForwardOptions::default());
    assert!(other_size.contains("3 x 3 patches"), "{other_size}");
    let tracks = ForwardOptions {
        query_points: Some(Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap()),
        ..ForwardOptions::default()
    };
    let tracks = frames(noise(1, 42, 42), tracks);
    assert!(tracks.contains("anchors"), "{tracks}");
    assert!(
        model
            .frames(
                &noise(1, 42, 43),
                &pass.cache,
                &ForwardOptions::default(),
                &mut Silent
            )
            .is_err()
    );
}
