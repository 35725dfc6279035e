//! The whole network on `data/heads64`, whose attention heads have 64 channels as those of VGGT-1B have: on a CUDA device
//! they go through the tensor cores' kernel, which the smaller heads of `data/tiny` do not.
//!
//! The expected values are made by tools/fixtures/make_heads64.py with the PyTorch implementation in float32 on a CPU. The
//! weights and images are in no file: they follow from their names, here and in that script alike.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use vggt_model::{
    Config, Vggt, aggregator::normalize_images, progress::Silent, state_dict_keys, weights::Weights,
};

use crate::parity::{data, device, relative_error, tolerance};

/// Name and shape of the images [S, 3, H, W] of each case.
const CASES: [(&str, [usize; 4]); 3] = [
    ("case_s2_98x70", [2, 3, 98, 70]),
    ("case_s3_70x98", [3, 3, 70, 98]),
    ("case_s1_98x98", [1, 3, 98, 98]),
];

/// Of the dense outputs every ninth pixel is recorded, in reading order over all frames. Nine has no factor in common with
/// the widths and heights, so that every row and every column is among them.
const PIXEL_STEP: usize = 9;

/// How many times the error of the simulation an output in a 16-bit type may be off. reference.json holds the errors that
/// the roundings of the CUDA path cause in a simulation of it in PyTorch. They are samples of rounding noise, and the simulation
/// knows neither a device's order of sums nor its approximations; hence a factor. A pose has nine elements, so that the error of one
/// case says little (two processors differed by a factor of two): what is compared is the root mean square over the three cases, here
/// and there. Simulated, never measured on a device; on CPUs, where candle's operations round more often than the kernels, at most
/// 0.91 of what this allows was measured.
const SIMULATION_FACTOR: f64 = 2.0;

/// An output in a 16-bit type that is nearer than this to F32 was not computed in that type: the simulated errors of the
/// aggregator's tokens are 1e-3 (f16) and 8.5e-3 (bf16).
const LEAST_16_BIT_ERROR: f64 = 1e-4;

fn config() -> Config {
    Config::open(data("heads64/config.json")).unwrap()
}

fn reference() -> serde_json::Value {
    let text = std::fs::read_to_string(data("heads64/reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Numbers in [0, 1): the upper 24 bits of SplitMix64 that starts at the FNV-1a hash of `name`. `uniform` of the script.
fn uniform(name: &str, count: usize) -> Vec<f32> {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let step = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(step).collect()
}

/// Norms near one, small biases, matrices that keep the variance. `center_and_spread` of the script.
fn center_and_spread(name: &str, shape: &[usize]) -> (f32, f32) {
    let fan_in: usize = shape[1..].iter().product();
    let matrix = (3.0 / fan_in as f64).sqrt();
    match (shape.len(), name) {
        // Fields of view near one radian, so that a focal length follows from them.
        (_, "camera_head.pose_branch.fc2.weight") => (0.0, (0.2 * matrix) as f32),
        (_, "camera_head.pose_branch.fc2.bias") => (0.4, 0.02),
        (1, _) if name.ends_with("weight") => (1.0, 0.1),
        (1, _) if name.ends_with("gamma") => (0.1, 0.05),
        (1, _) => (0.0, 0.02),
        _ if name.ends_with("weight") => (0.0, matrix as f32),
        _ => (0.0, 0.5),
    }
}

/// Every parameter, by name.
fn parameters() -> BTreeMap<String, Tensor> {
    let keys = state_dict_keys(&config()).unwrap();
    let parameter = |(name, shape): (String, Vec<usize>)| {
        let (center, spread) = center_and_spread(&name, &shape);
        let mut values = uniform(&name, shape.iter().product());
        for value in &mut values {
            *value = center + spread * (2.0 * *value - 1.0);
        }
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        (name, tensor)
    };
    keys.into_iter().map(parameter).collect()
}

fn load(dtype: DType, device: &Device) -> Vggt {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heads64.safetensors");
    let parameters: HashMap<_, _> = parameters().into_iter().collect();
    candle_core::safetensors::save(&parameters, &file).unwrap();
    let weights = Weights::open(&file).unwrap();
    let model = Vggt::builder(weights).config(config()).dtype(dtype);
    model.device(device.clone()).load().unwrap()
}

fn images(case: &str, shape: [usize; 4], device: &Device) -> Tensor {
    let values = uniform(&format!("{case}.images"), shape.iter().product());
    Tensor::from_vec(values, shape.to_vec(), device).unwrap()
}

/// The recorded pixels of a dense output [S, H, W, ...].
fn recorded_pixels(dense: &Tensor) -> Tensor {
    let pixels = dense.flatten(0, 2).unwrap();
    let count = pixels.dim(0).unwrap() as u32;
    let kept = Tensor::arange_step(0, count, PIXEL_STEP as u32, &Device::Cpu).unwrap();
    pixels.index_select(&kept, 0).unwrap()
}

/// Every recorded output, computed by `model`.
fn outputs(model: &Vggt, images: &Tensor, dtype: DType) -> Vec<(String, Tensor)> {
    let aggregator = model.aggregator();
    let normalized = normalize_images(images).unwrap().to_dtype(dtype).unwrap();
    let trunk = aggregator.patch_embed();
    let patches = trunk.forward(&normalized, &mut Silent).unwrap();
    let tokens = aggregator.forward(images, &mut Silent).unwrap();
    let last = model.config().aggregator.depth - 1;
    let p = model.forward(images).unwrap();
    let (points, points_conf) = (p.world_points.unwrap(), p.world_points_conf.unwrap());
    vec![
        ("dino.patch_tokens".to_owned(), patches),
        (
            format!("aggregator.{last:02}"),
            tokens.last().unwrap().clone(),
        ),
        ("pose_enc".to_owned(), p.pose_enc),
        ("extrinsic".to_owned(), p.extrinsic),
        ("intrinsic".to_owned(), p.intrinsic),
        ("depth".to_owned(), recorded_pixels(&p.depth)),
        ("depth_conf".to_owned(), recorded_pixels(&p.depth_conf)),
        ("world_points".to_owned(), recorded_pixels(&points)),
        (
            "world_points_conf".to_owned(),
            recorded_pixels(&points_conf),
        ),
    ]
}

/// Returns the error of every output in `dtype` against the reference, by the output's name, in each case.
fn errors(dtype: DType, device: &Device) -> BTreeMap<String, Vec<f64>> {
    let model = load(dtype, device);
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (case, shape) in CASES {
        let file = data(&format!("heads64/{case}.safetensors"));
        let recorded = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let found = outputs(&model, &images(case, shape, device), dtype);
        assert_eq!(found.len(), recorded.len(), "{case}");
        for (output, found) in found {
            let error = relative_error(&found, &recorded[&output]);
            println!("{case} {} {output} {error:.2e}", dtype.as_str());
            errors.entry(output).or_default().push(error);
        }
    }
    errors
}

fn root_mean_square(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    (squares / values.len() as f64).sqrt()
}

#[test]
fn the_weights_are_those_of_the_reference() {
    let mut hasher = Sha256::new();
    for (name, tensor) in parameters() {
        hasher.update(name.as_bytes());
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        for value in values {
            hasher.update(value.to_le_bytes());
        }
    }
    let found: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(reference()["weights_sha256"], found);
}

#[test]
fn outputs_of_heads_of_64_channels_are_exact() {
    let device = device();
    let allowed = tolerance(&device);
    for (output, errors) in errors(DType::F32, &device) {
        let exact = errors.iter().all(|error| *error <= allowed);
        assert!(exact, "{output}: {errors:?}, allowed {allowed:e}");
    }
}

#[test]
fn outputs_in_16_bit_types_are_as_near_as_their_roundings_allow() {
    let device = device();
    let reference = reference();
    for dtype in [DType::BF16, DType::F16] {
        for (output, errors) in errors(dtype, &device) {
            let simulated = |(case, _)| {
                let error = &reference["errors"][case][dtype.as_str()][&output];
                error.as_f64().unwrap()
            };
            let allowed = SIMULATION_FACTOR * root_mean_square(&CASES.map(simulated));
            let error = root_mean_square(&errors);
            let dtype = dtype.as_str();
            println!("{dtype} {output} {error:.2e} of {allowed:.2e}");
            assert!(
                error <= allowed,
                "{dtype} {output}: {error:e}, allowed {allowed:e}, of {errors:?}"
            );
            if output.starts_with("aggregator") {
                let is_16_bit = errors.iter().all(|error| *error > LEAST_16_BIT_ERROR);
                assert!(is_16_bit, "{dtype} {output}: {errors:?}");
            }
        }
    }
}
