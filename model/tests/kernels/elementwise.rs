//! `layer_norm.cu` and `epilogue.cu`.

use candle_core::{DType, Device, Tensor};
use vggt_model::ops::{
    self, Conv2d, Conv2dConfig, ConvFusion, Fusion, LayerNorm, Linear,
    cuda::{Address, Epilogue, LayerNormCall, epilogue, layer_norm},
};

use super::{DTYPES, Memory, Random, Runner, relative_error, rounding};

/// One rounding of the result, and sums over a row in F32: near 10 roundings of it for 2000 channels in a tree of lanes.
fn tolerance(dtype: DType) -> f64 {
    rounding(dtype) + 16.0 * rounding(DType::F32)
}

#[test]
fn layer_norm_matches_the_reference() {
    let mut random = Random(1);
    // Rows and channels, and whether memory begins off the boundary of 16 bytes: rows in registers, in single elements.
    let shapes = [
        (1, 1, 0),
        (3, 5, 0),
        (9, 64, 0),
        (17, 384, 0),
        (5, 1024, 0),
        (5, 1024, 1),
        (2, 1032, 0),
        (3, 2048, 0),
        (0, 8, 0),
    ];
    for dtype in DTYPES {
        for (rows, c, offset) in shapes {
            let offset_mean = random.unit() * 3.0;
            let x: Vec<f32> = random
                .values(rows * c)
                .iter()
                .map(|x| x + offset_mean)
                .collect();
            let x = Memory::at_offset(&x, dtype, offset);
            let weight = Memory::new(&random.values(c), dtype);
            let bias = Memory::new(&random.values(c), dtype);
            for &runner in Runner::all() {
                let mut out = Memory::unwritten(rows * c, dtype, 0);
                let eps = 1e-5;
                let call = layer_norm(LayerNormCall {
                    dtype,
                    size: (rows, c),
                    eps,
                    x: x.address(),
                    weight: weight.address(),
                    bias: bias.address(),
                    out: out.address(),
                })
                .unwrap();
                runner.run(&call, &[&x, &weight, &bias], &mut out);

                let norm = LayerNorm::from_tensors(weight.tensor(c), bias.tensor(c), eps);
                let exact = norm.forward(&x.tensor((rows, c))).unwrap();
                let error = relative_error(&out.tensor((rows, c)), &exact);
                assert!(
                    error < tolerance(dtype),
                    "{runner} {dtype:?} {rows} {c}: {error:e}"
                );
            }
        }
    }
}

/// Rows and columns, and how far off the boundary of 16 bytes the memory begins: whole vectors, single elements.
const PRODUCTS: [(usize, usize, usize); 7] = [
    (1, 1, 0),
    (7, 3, 0),
    (8, 8, 0),
    (9, 130, 0),
    (20, 1032, 0),
    (20, 1032, 3),
    (0, 16, 0),
];

/// A linear layer that gives what it gets, so that all that is left of it is what comes after.
fn identity(n: usize, bias: &Memory) -> Linear {
    let weight = Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
    Linear::from_tensors(weight, bias.tensor(n))
}

#[test]
fn what_follows_a_linear_layer_matches_the_reference() {
    let mut random = Random(2);
    for dtype in DTYPES {
        for (rows, n, offset) in PRODUCTS {
            let [bias, gamma] = [0, 1].map(|_| Memory::new(&random.values(n), dtype));
            let residual = Memory::at_offset(&random.values(rows * n), dtype, offset);
            let product = random.values(rows * n);
            let (wide_gamma, wide_residual) = (gamma.tensor(n), residual.tensor((rows, n)));
            let kinds = [
                (Epilogue::Bias, ops::Epilogue::None),
                (Epilogue::Gelu, ops::Epilogue::Gelu),
                (
                    Epilogue::Residual {
                        gamma: gamma.address(),
                        residual: residual.address(),
                    },
                    ops::Epilogue::Residual {
                        gamma: &wide_gamma,
                        residual: &wide_residual,
                    },
                ),
            ];
            for (kind, fused) in kinds {
                for &runner in Runner::all() {
                    let mut y = Memory::at_offset(&product, dtype, offset);
                    let x = y.tensor((rows, n));
                    let addresses = (y.address(), bias.address());
                    let call = epilogue(kind, dtype, (rows, n), addresses).unwrap();
                    runner.run(&call, &[&bias, &gamma, &residual], &mut y);

                    let fusion = Fusion {
                        norm: None,
                        epilogue: fused,
                    };
                    let exact = identity(n, &bias).forward_fused(&x, fusion).unwrap();
                    let error = relative_error(&y.tensor((rows, n)), &exact);
                    assert!(
                        error < tolerance(dtype),
                        "{runner} {dtype:?} {rows} {n} {kind:?}: {error:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_follows_a_convolution_matches_the_reference() {
    let mut random = Random(3);
    for (rows, n, offset) in PRODUCTS.into_iter().filter(|(rows, ..)| *rows > 0) {
        let dtype = DType::F32;
        let bias = Memory::new(&random.values(n), dtype);
        let product = random.values(rows * n);
        let skips = [0, 1].map(|_| Memory::at_offset(&random.values(rows * n), dtype, offset));
        let map = [1, 1, rows, n];
        let wide = [0, 1].map(|i| skips[i].tensor(&map[..]));
        for bits in 0..8 {
            let [relu, first, second] = [1, 2, 4].map(|bit| bits & bit != 0);
            let address = |there: bool, skip: &Memory| match there {
                true => skip.address(),
                false => Address::NULL,
            };
            let kind = Epilogue::Skip {
                skip_relu: address(first, &skips[0]),
                skip: address(second, &skips[1]),
                relu,
            };
            for &runner in Runner::all() {
                let mut y = Memory::at_offset(&product, dtype, offset);
                let x = y.tensor(&map[..]);
                let call = epilogue(kind, dtype, (rows, n), (y.address(), bias.address())).unwrap();
                runner.run(&call, &[&bias, &skips[0], &skips[1]], &mut y);

                let weight = Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
                let weight = weight.reshape((n, n, 1, 1)).unwrap();
                let conv =
                    Conv2d::from_tensors(weight, bias.tensor(n), Conv2dConfig::default()).unwrap();
                let fusion = ConvFusion {
                    relu_before: false,
                    relu_after: relu,
                    skip_relu: first.then_some(&wide[0]),
                    skip: second.then_some(&wide[1]),
                };
                let exact = conv.forward_fused(&x, fusion).unwrap();
                let error = relative_error(&y.tensor(&map[..]), &exact);
                assert!(
                    error < tolerance(dtype),
                    "{runner} {rows} {n} {kind:?}: {error:e}"
                );
            }
        }
    }
}
