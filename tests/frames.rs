//! Images and videos in, the network's input out: against fixtures that Pillow, PyTorch and OpenCV made.

mod damaged;
#[cfg(feature = "video")]
mod heif;
mod hostile;
mod images;
#[cfg(feature = "video")]
mod keyframes;
mod large;
mod orientation;
mod preprocess;
mod profiles;
mod raw;
#[cfg(feature = "video")]
mod timing;
#[cfg(feature = "video")]
mod video;

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::SafeTensors;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/frames")
        .join(name)
}

/// One tensor of 8-bit values from a fixture: its shape and its bytes.
fn fixture(file: &str, key: &str) -> (Vec<usize>, Vec<u8>) {
    let bytes = fs::read(data(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(key).unwrap();
    (view.shape().to_vec(), view.data().to_vec())
}

/// Largest and mean absolute difference.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let each = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    (each().max().unwrap(), sum as f64 / a.len() as f64)
}
