//! Every operation of the network at VGGT-1B's shapes, each beside candle's own in the same run.
//!
//! `cargo bench -p vggt-model -- linear` runs one group; `VGGT_CPU=avx2` or `plain` lowers the instruction set.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark has no interface, and a failure ends it"
)]

use std::{hint::black_box, time::Duration};

use candle_core::{DType, Device, Module, Result, Tensor};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use vggt_model::{
    Precision,
    ops::{
        Conv2d, Conv2dConfig, ConvFusion, ConvTranspose2d, Epilogue, Fusion, LayerNorm, Linear,
        RopeTable, SelfAttention, attention, bilinear_align_corners, gelu,
    },
    weights::{VarBuilder, Weights},
};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
}

/// Adds one version of an operation.
fn version(group: &mut Group<'_>, name: &str, mut f: impl FnMut() -> Result<Tensor>) {
    group.bench_function(name, |b| b.iter(|| black_box(f().unwrap())));
}

/// A group of versions of one operation at one shape. The slow ones take seconds: few samples say enough.
fn group<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    group
}

/// A layer whose weights lie in a mapped file of type `dtype`.
fn mapped(dir: &tempfile::TempDir, size: (usize, usize), dtype: DType, fast: bool) -> Linear {
    let path = dir.path().join(format!("{}.safetensors", dtype.as_str()));
    let weight = random(&[size.1, size.0]).to_dtype(dtype).unwrap();
    let bias = random(&[size.1]).to_dtype(dtype).unwrap();
    let tensors = [("weight", weight), ("bias", bias)].into_iter().collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let vb = VarBuilder::from_weights(Weights::open(&path).unwrap(), DType::F32, &Device::Cpu);
    let precision = if fast {
        Precision::Fast
    } else {
        Precision::Exact
    };
    Linear::new(size.0, size.1, &vb.with_precision(precision)).unwrap()
}

fn linear(c: &mut Criterion) {
    for (rows, c_in, c_out) in [
        (1374, 1024, 3072),
        (1374, 1024, 4096),
        (1374, 4096, 1024),
        (5496, 1024, 3072),
    ] {
        let mut group = group(c, &format!("linear {rows}, {c_in}->{c_out}"));
        let dir = tempfile::tempdir().unwrap();
        let x = random(&[rows, c_in]);
        let candle = candle_nn::Linear::new(random(&[c_out, c_in]), Some(random(&[c_out])));
        version(&mut group, "candle", || candle.forward(&x));
        for (name, dtype, fast) in [
            ("f32", DType::F32, false),
            ("f16", DType::F16, false),
            ("bf16", DType::BF16, false),
            ("f16 fast", DType::F16, true),
        ] {
            let ours = mapped(&dir, (c_in, c_out), dtype, fast);
            version(&mut group, name, || ours.forward(&x));
        }
        let norm = LayerNorm::from_tensors(random(&[c_in]), random(&[c_in]), 1e-5);
        let ours = mapped(&dir, (c_in, c_out), DType::F16, false);
        let fusion = Fusion {
            norm: Some(&norm),
            epilogue: Epilogue::Gelu,
        };
        version(&mut group, "f16, norm and gelu", || {
            ours.forward_fused(&x, fusion)
        });
        let (gamma, residual) = (random(&[c_out]), random(&[rows, c_out]));
        let epilogue = Epilogue::Residual {
            gamma: &gamma,
            residual: &residual,
        };
        version(&mut group, "f16, scale and residual", || {
            ours.forward_fused(
                &x,
                Fusion {
                    norm: None,
                    epilogue,
                },
            )
        });
    }
}

fn attentions(c: &mut Criterion) {
    const HEADS: usize = 16;
    const D: usize = 64;
    for n in [1374, 5496] {
        let mut group = group(c, &format!("attention 16x64, N={n}"));
        let [q, k, v] = [0; 3].map(|_| random(&[1, HEADS, n, D]));
        version(&mut group, "candle", || {
            // One head at a time: all scores of the longer sequence would be 2 GB.
            let heads = (0..HEADS).map(|head| {
                let part = |t: &Tensor| t.narrow(1, head, 1)?.contiguous();
                let scores = (part(&q)? * 0.125)?.matmul(&part(&k)?.t()?)?;
                candle_nn::ops::softmax_last_dim(&scores)?.matmul(&part(&v)?)
            });
            Tensor::cat(&heads.collect::<Result<Vec<_>>>()?, 1)
        });
        version(&mut group, "tiles", || attention(&q, &k, &v));
        let qkv = random(&[1, n, 3 * HEADS * D]);
        let [q_norm, k_norm] =
            [0; 2].map(|_| LayerNorm::from_tensors(random(&[D]), random(&[D]), 1e-5));
        let rope = RopeTable::new(random(&[n, D]), random(&[n, D]));
        let op = SelfAttention {
            num_heads: HEADS,
            q_norm: Some(&q_norm),
            k_norm: Some(&k_norm),
            rope: Some(&rope),
            precision: Precision::Exact,
        };
        version(
            &mut group,
            "tiles, from qkv with norms and rotations",
            || op.forward(&qkv),
        );
        let op = SelfAttention {
            precision: Precision::Fast,
            ..op
        };
        version(&mut group, "the same, scores in 16-bit integers", || {
            op.forward(&qkv)
        });
    }
}

/// Channels last, as the network has it, and first, as candle wants it.
fn maps(h: usize, c: usize) -> (Tensor, Tensor) {
    let x = random(&[1, h, h, c]);
    let first = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    (x, first)
}

fn convolutions(c: &mut Criterion) {
    for (kernel, stride, c_in, c_out, h) in [
        (3, 1, 256, 256, 74),
        (3, 1, 256, 256, 148),
        (3, 1, 256, 256, 296),
        (3, 1, 256, 128, 296),
        (3, 1, 128, 32, 518),
        (3, 2, 1024, 1024, 37),
        (1, 1, 256, 256, 296),
    ] {
        let name = format!("conv{kernel}x{kernel}s{stride} {c_in}->{c_out} at {h}");
        let mut group = group(c, &name);
        let (x, first) = maps(h, c_in);
        let weight = random(&[c_out, c_in, kernel, kernel]);
        version(&mut group, "candle", || {
            first.conv2d(&weight, kernel / 2, stride, 1, 1)
        });
        let bias = random(&[c_out]);
        let config = Conv2dConfig {
            stride,
            padding: kernel / 2,
        };
        let ours = Conv2d::from_tensors(weight.clone(), bias, config).unwrap();
        version(&mut group, "ours", || ours.forward(&x));
        let fusion = ConvFusion {
            relu_before: true,
            relu_after: true,
            ..ConvFusion::default()
        };
        version(&mut group, "ours, relu before and after", || {
            ours.forward_fused(&x, fusion)
        });
    }
    for (c_in, k) in [(256, 4), (512, 2)] {
        let mut group = group(c, &format!("conv_transpose {c_in} {k}x{k} at 37"));
        let (x, first) = maps(37, c_in);
        let weight = random(&[c_in, c_in, k, k]);
        version(&mut group, "candle", || {
            first.conv_transpose2d(&weight, 0, 0, k, 1)
        });
        let ours = ConvTranspose2d::from_tensors(&weight, random(&[c_in])).unwrap();
        version(&mut group, "ours", || ours.forward(&x));
    }
}

fn resampling(c: &mut Criterion) {
    for (channels, from, to) in [(256, 148, 296), (128, 296, 518)] {
        let mut group = group(c, &format!("bilinear {channels} channels, {from}->{to}"));
        let (x, first) = maps(from, channels);
        version(&mut group, "candle", || {
            first.upsample_bilinear2d(to, to, true)
        });
        version(&mut group, "ours", || {
            bilinear_align_corners(&x, (to, to), None)
        });
    }
}

fn elementwise(c: &mut Criterion) {
    let mut gelus = group(c, "gelu 1374x4096");
    let x = random(&[1374, 4096]);
    version(&mut gelus, "candle", || x.gelu_erf());
    version(&mut gelus, "ours", || gelu(&x));
    gelus.finish();

    let mut norms = group(c, "layer_norm 1374x1024");
    let x = random(&[1374, 1024]);
    let (weight, bias) = (random(&[1024]), random(&[1024]));
    version(&mut norms, "candle", || {
        candle_nn::ops::layer_norm(&x, &weight, &bias, 1e-5)
    });
    let ours = LayerNorm::from_tensors(weight.clone(), bias.clone(), 1e-5);
    version(&mut norms, "ours", || ours.forward(&x));
}

criterion_group!(
    ops,
    linear,
    attentions,
    convolutions,
    resampling,
    elementwise
);
criterion_main!(ops);
