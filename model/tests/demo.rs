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
