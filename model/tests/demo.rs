//! The bundled checkpoint.

use vggt_model::{Vggt, demo};

#[test]
fn the_bundled_weights_fit_the_bundled_config() {
    let (config, weights) = (demo::config().unwrap(), demo::weights().unwrap());
    let parameters: usize = weights.iter().map(|(_, entry)| entry.elem_count()).sum();
    assert_eq!(parameters, 4_925_048);
    Vggt::builder(weights).config(config).load().unwrap();
}

#[cfg(feature = "image")]
#[test]
fn the_bundled_images_have_the_size_of_the_bundled_config() {
    let config = demo::config().unwrap();
    let frames = demo::images().unwrap();
    let (s, _, h, w) = frames.images.dims4().unwrap();
    assert_eq!((s, w), (demo::FRAMES.len(), config.img_size));
    assert_eq!(h % config.patch_size, 0);
}

/// The demo's frames in memory, in order, and after them one of noise.
#[cfg(feature = "image")]
#[test]
fn a_frame_of_something_else_is_told_from_those_of_the_scene() {
    use candle_core::{DType, Device, Tensor};
    use vggt_model::{
        AnchorOptions, ForwardOptions,
        anchors::{AnchorSchedule, unrelated_scores},
        progress::Silent,
    };

    let (config, weights) = (demo::config().unwrap(), demo::weights().unwrap());
    let model = Vggt::builder(weights).config(config).load().unwrap();
    let scene = demo::images().unwrap().images;
    let noise = Tensor::rand(
        0f32,
        1.0,
        scene.narrow(0, 0, 1).unwrap().dims(),
        &Device::Cpu,
    );
    let anchors = Tensor::cat(&[scene.narrow(0, 0, 3).unwrap(), noise.unwrap()], 0).unwrap();
    let options = AnchorOptions {
        schedule: AnchorSchedule::of(model.config()),
        dtype: DType::F16,
        scratch: None,
    };
    let pass = model.anchors(&anchors, options, &mut Silent).unwrap();
    let others = scene.narrow(0, 3, 5).unwrap();
    let frames = model
        .frames(
            &others,
            &pass.cache,
            &ForwardOptions::default(),
            &mut Silent,
        )
        .unwrap();
    let mut similarity = pass.similarity;
    similarity.extend(frames.1);
    let scores = unrelated_scores(&similarity);
    println!("{scores:?}");
    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
    assert_eq!(scores[3], least, "{scores:?}");
}
