//! The bundled checkpoint.

use candle_core::{DType, Device};
use vggt_model::{Precision, Vggt, demo};

#[test]
fn the_bundled_weights_fit_the_bundled_config() {
    let (config, weights) = (demo::config().unwrap(), demo::weights().unwrap());
    let parameters: usize = weights.iter().map(|(_, entry)| entry.elem_count()).sum();
    assert_eq!(parameters, 4_925_048);
    Vggt::load(config, &weights, DType::F32, Precision::Exact, &Device::Cpu).unwrap();
}
