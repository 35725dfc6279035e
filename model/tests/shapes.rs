//! Which parameters and which inputs the network takes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use candle_core::{DType, Device, Tensor};
use vggt_model::{
    Config, Error, ForwardOptions, Vggt,
    progress::{Observer, Silent, Stage, StopFlag},
    state_dict_keys,
    weights::{VarBuilder, Weights},
};

use crate::parity::{data, relative_error};

fn tiny() -> Vggt {
    let config = Config::open(data("tiny/config.json")).unwrap();
    let weights = Weights::open(data("tiny/model.pt")).unwrap();
    Vggt::builder(weights).config(config).load().unwrap()
}

fn noise(s: usize, h: usize, w: usize) -> Tensor {
    Tensor::rand(0f32, 1.0, (s, 3, h, w), &Device::Cpu).unwrap()
}

#[test]
fn vggt_1b_has_exactly_the_keys_of_its_state_dict() {
    let expected: BTreeMap<String, String> = include_str!("data/vggt-1b.keys.txt")
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, shape)| (name.to_owned(), shape.to_owned()))
        .collect();
    assert_eq!(expected.len(), 1797);
    let keys = state_dict_keys(&Config::default()).unwrap();
    assert_eq!(keys.len(), 1797);
    let parameters: usize = keys.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
    assert_eq!(parameters, 1_256_537_516);
    let ours: BTreeMap<String, String> = keys
        .into_iter()
        .map(|(name, shape)| (name, format!("{shape:?}")))
        .collect();
    assert_eq!(ours, expected);
}

#[test]
fn any_multiple_of_the_patch_size_and_any_number_of_frames_go_through() {
    let model = tiny();
    for (s, h, w) in [(1, 14, 14), (2, 28, 98), (5, 42, 14)] {
        let p = model.forward(&noise(s, h, w)).unwrap();
        assert_eq!(p.depth.dims(), [s, h, w, 1]);
        assert_eq!(p.extrinsic.dims(), [s, 3, 4]);
        assert_eq!(p.world_points.unwrap().dims(), [s, h, w, 3]);
    }
}

#[test]
fn other_shapes_are_refused_with_the_reason() {
    let model = tiny();
    for dims in [
        vec![1, 3, 15, 14],
        vec![0, 3, 14, 14],
        vec![3, 14, 14],
        vec![1, 4, 14, 14],
    ] {
        let images = Tensor::zeros(dims.clone(), DType::F32, &Device::Cpu).unwrap();
        let e = model.forward(&images).unwrap_err();
        assert!(
            matches!(&e, Error::Input(why) if why.contains("multiples of 14")),
            "{dims:?}: {e}"
        );
    }
}

#[test]
fn frames_too_small_to_track_in_are_refused() {
    let options = ForwardOptions {
        query_points: Some(Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap()),
        ..ForwardOptions::default()
    };
    // Three levels at stride 2 need 8 pixels: one patch suffices for the tiny config, so it is deepened.
    let mut config = Config::open(data("tiny/config.json")).unwrap();
    if let Some(track) = &mut config.track_head {
        track.corr_levels = 6;
    }
    let vb = VarBuilder::random(1, DType::F32, &Device::Cpu);
    let model = Vggt::new(config, &vb).unwrap();
    let e = model
        .forward_with(&noise(2, 28, 28), &options, &mut Silent)
        .unwrap_err();
    assert!(e.to_string().contains("at least 64 pixels"), "{e}");
}

#[test]
fn the_points_head_can_be_left_out() {
    let options = ForwardOptions {
        skip_points: true,
        ..ForwardOptions::default()
    };
    let model = tiny();
    let images = noise(2, 28, 28);
    let without = model.forward_with(&images, &options, &mut Silent).unwrap();
    let with = model.forward(&images).unwrap();
    assert!(without.world_points.is_none());
    assert_eq!(relative_error(&without.depth, &with.depth), 0.0);
}

#[test]
fn the_observer_sees_every_stage_and_can_stop_it() {
    let model = tiny();
    let images = noise(2, 28, 28);
    // Runs the network until `stop` is seen; returns the number of steps of each stage.
    let run = |stop: Option<Stage>| {
        let mut count = BTreeMap::<Stage, usize>::new();
        let mut observer = |stage: Stage, done: usize, total: usize| {
            assert!(done >= 1 && done <= total);
            *count.entry(stage).or_default() += 1;
            if stop == Some(stage) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let done = model.forward_with(&images, &ForwardOptions::default(), &mut observer);
        (done, count)
    };
    let (done, count) = run(None);
    done.unwrap();
    let seen: Vec<_> = count.into_iter().collect();
    use Stage::{Camera, Depth, FrameBlocks, GlobalBlocks, PatchEmbed, Point};
    let expected = [
        (PatchEmbed, 2),
        (FrameBlocks, 4),
        (GlobalBlocks, 4),
        (Camera, 4),
        (Depth, 2),
        (Point, 2),
    ];
    assert_eq!(seen, expected);

    let (done, count) = run(Some(Stage::GlobalBlocks));
    assert!(matches!(done, Err(Error::Cancelled)));
    assert_eq!(count[&Stage::GlobalBlocks], 1);
    assert!(!count.contains_key(&Stage::Camera));
}

/// Sets the flag once it has seen `after`, and goes on itself.
struct SetsFlag {
    flag: StopFlag,
    after: Stage,
    steps: usize,
}

impl Observer for SetsFlag {
    fn step(&mut self, stage: Stage, _: usize, _: usize) -> ControlFlow<()> {
        self.steps += usize::from(self.flag.is_stopped());
        if stage == self.after {
            self.flag.stop();
        }
        ControlFlow::Continue(())
    }

    fn stop_flag(&self) -> Option<StopFlag> {
        Some(self.flag.clone())
    }
}

#[test]
fn the_flag_ends_the_pass_before_its_next_step() {
    let model = tiny();
    let images = noise(2, 28, 28);
    for after in [Stage::PatchEmbed, Stage::FrameBlocks, Stage::Camera] {
        let mut observer = SetsFlag {
            flag: StopFlag::new(),
            after,
            steps: 0,
        };
        let done = model.forward_with(&images, &ForwardOptions::default(), &mut observer);
        assert!(matches!(done, Err(Error::Cancelled)), "{after:?}");
        assert_eq!(observer.steps, 0, "{after:?}");
    }
    // It belonged to those passes, not to this thread.
    model.forward(&images).unwrap();
}

#[test]
fn a_checkpoint_without_a_track_head_is_loaded_without_one() {
    let config = Config::open(data("tiny/config.json")).unwrap();
    let keys = state_dict_keys(&config).unwrap();
    assert!(keys.iter().any(|(name, _)| name.starts_with("track_head.")));
    let all = Weights::open(data("tiny/model.pt")).unwrap();
    let kept: HashMap<String, Tensor> = all
        .iter()
        .filter(|(name, _)| !name.starts_with("track_head."))
        .map(|(name, _)| {
            let tensor = all.tensor(name, DType::F32, &Device::Cpu).unwrap();
            (name.to_owned(), tensor)
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("without.safetensors");
    candle_core::safetensors::save(&kept, &path).unwrap();

    let weights = Weights::open(&path).unwrap();
    let model = Vggt::builder(&weights).config(config).load().unwrap();
    assert!(model.track_head().is_none());
}
