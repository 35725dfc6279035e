//! One file of weights into another.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use half::{bf16, f16};
use vggt_model::{
    convert::{ConvertError, convert, verify},
    weights::Weights,
};

use crate::weights::TINY;

fn go_on(_: u64, _: u64) -> bool {
    true
}

/// A safetensors file with one f32 tensor `w`.
fn one(values: &[f32]) -> (tempfile::TempDir, Weights) {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#,
        values.len(),
        data.len()
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    let bytes = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat();
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::open(&path).unwrap();
    (dir, weights)
}

fn save(weights: &Weights, dtype: Option<DType>, path: &Path) -> Weights {
    let mut out = Vec::new();
    let done = convert(weights, &mut out, dtype, go_on).unwrap();
    assert_eq!(done.bytes, out.len() as u64);
    std::fs::write(path, &out).unwrap();
    let back = Weights::open(path).unwrap();
    assert_eq!(back.sha256().unwrap(), done.sha256);
    back
}

fn converted(dtype: Option<DType>) -> (tempfile::TempDir, PathBuf, Weights, Weights) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let tiny = Weights::open(Path::new(TINY)).unwrap();
    let back = save(&tiny, dtype, &path);
    (dir, path, tiny, back)
}

#[test]
fn a_converted_checkpoint_has_every_byte_of_its_source() {
    let (_dir, path, tiny, back) = converted(None);
    assert_eq!(back.len(), tiny.len());
    for (name, entry) in tiny.iter() {
        assert_eq!(back.entry(name).unwrap().shape, entry.shape);
        assert_eq!(back.bytes(name), tiny.bytes(name), "{name}");
    }
    verify(&tiny, &back, None, go_on).unwrap();
    // The reader that everyone else uses.
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(
        safetensors::SafeTensors::deserialize(&bytes).unwrap().len(),
        tiny.len()
    );
}

#[test]
fn halves_are_rounded_to_nearest() {
    for dtype in [DType::F16, DType::BF16] {
        let (_dir, _, tiny, back) = converted(Some(dtype));
        verify(&tiny, &back, Some(dtype), go_on).unwrap();
        for (name, entry) in back.iter() {
            assert_eq!(entry.dtype, dtype);
            let flat = |w: &Weights| -> Vec<f32> {
                let tensor = w.tensor(name, DType::F32, &Device::Cpu).unwrap();
                tensor.flatten_all().unwrap().to_vec1().unwrap()
            };
            for (narrow, wide) in flat(&back).into_iter().zip(flat(&tiny)) {
                let rounded = match dtype {
                    DType::F16 => f16::from_f32(wide).to_f32(),
                    _ => bf16::from_f32(wide).to_f32(),
                };
                assert_eq!(narrow.to_bits(), rounded.to_bits(), "{name}");
            }
        }
    }
}

#[test]
fn a_value_beyond_the_range_of_f16_is_an_error_that_names_the_tensor() {
    let (_dir, weights) = one(&[1.0, 65_520.0]);
    let error = convert(&weights, Vec::new(), Some(DType::F16), go_on).unwrap_err();
    assert!(
        matches!(&error, ConvertError::Overflow { tensor, .. } if tensor == "w"),
        "{error}"
    );
    convert(&weights, Vec::new(), Some(DType::BF16), go_on).unwrap();
    // What is infinite already stays so.
    let (_dir, weights) = one(&[f32::INFINITY, f32::NAN, 65_504.0]);
    convert(&weights, Vec::new(), Some(DType::F16), go_on).unwrap();
}

#[test]
fn a_written_file_that_differs_is_noticed() {
    let (_dir, path, tiny, back) = converted(None);
    drop(back);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = verify(&tiny, &Weights::open(&path).unwrap(), None, go_on).unwrap_err();
    assert!(matches!(error, ConvertError::Differs { .. }), "{error}");
}

#[test]
fn whole_numbers_are_no_target_and_a_conversion_can_be_stopped() {
    let (_dir, weights) = one(&[1.0]);
    let target = convert(&weights, Vec::new(), Some(DType::I64), go_on);
    assert!(matches!(target, Err(ConvertError::Target("i64"))));
    let stopped = convert(&weights, Vec::new(), None, |_, _| false);
    assert!(matches!(stopped, Err(ConvertError::Cancelled)));
}
