//! A card that the CPU stands in for, as the runner of doctor's cases.

use candle_core::{DType, Device, Tensor};
use vggt_model::{
    check::{Case, Inputs, LinearThen, MapSize, NORM_EPS, Operation, Role},
    layers::{Mlp, bicubic_antialias},
    ops::cuda::{
        Address, AttentionCall, BilinearCall, Call, ComputeCapability, Epilogue, HeadNorm,
        HeadRotation, HeadRows, HeadsCall, LayerNormCall, Module, attention, bilinear, epilogue,
        heads, layer_norm,
    },
};

use super::super::{
    Memory,
    emulator::{Emulator, Order},
};

/// A card that the CPU stands in for: our kernels are emulated, and what candle and cuBLAS do between them is computed plainly.
pub(super) struct Card {
    pub(super) capability: ComputeCapability,
    /// A module whose source was changed.
    pub(super) changed: Option<(Module, &'static Emulator)>,
}

pub(super) type Result<T> = std::result::Result<T, String>;

/// One linear layer: rows [rows, c_in] in memory to [rows, c_out].
struct Layer<'a> {
    x: &'a Memory,
    rows: usize,
    norm: Option<(&'a Memory, &'a Memory)>,
    weight: &'a Tensor,
    bias: &'a Memory,
    then: LinearThen,
    /// LayerScale and residual.
    branch: Option<(&'a Memory, &'a Memory)>,
}

impl Card {
    pub(super) fn new(capability: ComputeCapability) -> Self {
        Self {
            capability,
            changed: None,
        }
    }

    fn run(&self, call: &Call, inputs: &[&Memory], outputs: &mut [&mut Memory]) -> Result<()> {
        let emulator = match &self.changed {
            Some((module, emulator)) if *module == call.module => emulator,
            _ => Emulator::of(call.module),
        };
        emulator.run(call, Order::Forward, inputs, outputs)
    }

    /// What the card makes of a case; `None` where no kernel of ours takes part.
    pub(super) fn compute(&self, case: &Case, inputs: &Inputs) -> Option<Result<Tensor>> {
        let dtype = case.dtype;
        Some(match case.operation {
            Operation::LayerNorm { rows, channels } => {
                let x = held(inputs, Role::X);
                let norm = [Role::NormWeight, Role::NormBias].map(|role| held(inputs, role));
                self.layer_norm(dtype, (rows, channels), &x, (&norm[0], &norm[1]))
                    .map(|out| out.tensor((rows, channels)))
            }
            Operation::Linear {
                batch,
                rows,
                c_out,
                after_norm,
                then,
                ..
            } => self
                .linear_case(dtype, inputs, batch * rows, after_norm, then)
                .map(|out| out.tensor((batch, rows, c_out))),
            Operation::Mlp { rows, channels, .. } => self
                .mlp(dtype, inputs, rows, channels)
                .map(|values| Tensor::from_vec(values, (rows, channels), &Device::Cpu).unwrap()),
            Operation::SelfAttention {
                batch,
                frames,
                positions,
                heads,
                depth,
                norms,
                rotations,
            } => self.self_attention(
                dtype,
                inputs,
                (batch, frames * positions, positions),
                (heads, depth),
                (norms, rotations),
            ),
            Operation::Attention {
                batch,
                heads,
                depth,
                queries,
                keys,
            } => {
                let [q, k, v] =
                    [Role::Queries, Role::Keys, Role::Values].map(|role| held(inputs, role));
                let rows = |m: &Memory, rows| HeadRows::contiguous(m.address(), heads, rows, depth);
                let call = AttentionCall {
                    dtype,
                    batch,
                    heads: (heads, depth),
                    queries,
                    keys,
                    q: rows(&q, queries),
                    k: rows(&k, keys),
                    v: rows(&v, keys),
                    out: Address::NULL,
                };
                self.attend(call, &[&q, &k, &v])
            }
            Operation::Bilinear { from, to, .. } if from == to => return None,
            Operation::Bilinear { .. } => self.bilinear(case.operation, inputs),
            Operation::Conv2d { .. } => self.conv2d(case.operation, inputs),
            Operation::Gelu { .. } => Ok(gelu_of_candle(dtype, inputs)),
            Operation::Bicubic { from, to, .. } => Ok(bicubic_of_candle(dtype, inputs, from, to)),
            Operation::ConvTranspose2d { .. } => return None,
        })
    }

    fn layer_norm(
        &self,
        dtype: DType,
        (rows, c): (usize, usize),
        x: &Memory,
        (weight, bias): (&Memory, &Memory),
    ) -> Result<Memory> {
        let mut out = Memory::unwritten(rows * c, dtype, 0);
        let call = layer_norm(LayerNormCall {
            dtype,
            size: (rows, c),
            eps: NORM_EPS,
            x: x.address(),
            weight: weight.address(),
            bias: bias.address(),
            out: out.address(),
        })
        .unwrap();
        self.run(&call, &[x, weight, bias], &mut [&mut out])?;
        Ok(out)
    }

    /// As `ops/linear.rs` does it on CUDA.
    fn linear(&self, dtype: DType, layer: &Layer<'_>) -> Result<Memory> {
        let rows = layer.rows;
        let (c_out, c_in) = layer.weight.dims2().unwrap();
        let normed = match layer.norm {
            Some(norm) => Some(self.layer_norm(dtype, (rows, c_in), layer.x, norm)?),
            None => None,
        };
        let x = f32s(&normed.as_ref().unwrap_or(layer.x).tensor((rows, c_in)));
        let mut y = Memory::new(&product(&x, &f32s(layer.weight), c_in), dtype);
        let kind = match (layer.then, layer.branch) {
            (LinearThen::Bias, _) => Epilogue::Bias,
            (LinearThen::Gelu, _) => Epilogue::Gelu,
            (LinearThen::Residual, branch) => {
                let (gamma, residual) = branch.unwrap();
                Epilogue::Residual {
                    gamma: gamma.address(),
                    residual: residual.address(),
                }
            }
        };
        let call = epilogue(
            kind,
            dtype,
            (rows, c_out),
            (y.address(), layer.bias.address()),
        );
        let mut read = vec![layer.bias];
        read.extend(layer.branch.iter().flat_map(|(a, b)| [*a, *b]));
        self.run(&call.unwrap(), &read, &mut [&mut y])?;
        Ok(y)
    }

    fn linear_case(
        &self,
        dtype: DType,
        inputs: &Inputs,
        rows: usize,
        after_norm: bool,
        then: LinearThen,
    ) -> Result<Memory> {
        let (x, bias) = (held(inputs, Role::X), held(inputs, Role::Bias));
        let norm =
            after_norm.then(|| [Role::NormWeight, Role::NormBias].map(|role| held(inputs, role)));
        let branch = (then == LinearThen::Residual)
            .then(|| [Role::Gamma, Role::Residual].map(|role| held(inputs, role)));
        self.linear(
            dtype,
            &Layer {
                x: &x,
                rows,
                norm: norm.as_ref().map(|[a, b]| (a, b)),
                weight: inputs.get(Role::Weight).unwrap(),
                bias: &bias,
                then,
                branch: branch.as_ref().map(|[a, b]| (a, b)),
            },
        )
    }

    /// As `layers/mlp.rs` does it: a chunk of rows at a time.
    fn mlp(&self, dtype: DType, inputs: &Inputs, rows: usize, c: usize) -> Result<Vec<f64>> {
        let all = f32s(inputs.get(Role::X).unwrap());
        let [weight, bias, first, second, gamma] = [
            Role::NormWeight,
            Role::NormBias,
            Role::Bias,
            Role::SecondBias,
            Role::Gamma,
        ]
        .map(|role| held(inputs, role));
        let mut out = Vec::with_capacity(rows * c);
        for chunk in all.chunks(Mlp::CHUNK * c) {
            let rows = chunk.len() / c;
            let x = Memory::new(chunk, dtype);
            let hidden = self.linear(
                dtype,
                &Layer {
                    x: &x,
                    rows,
                    norm: Some((&weight, &bias)),
                    weight: inputs.get(Role::Weight).unwrap(),
                    bias: &first,
                    then: LinearThen::Gelu,
                    branch: None,
                },
            )?;
            let y = self.linear(
                dtype,
                &Layer {
                    x: &hidden,
                    rows,
                    norm: None,
                    weight: inputs.get(Role::SecondWeight).unwrap(),
                    bias: &second,
                    then: LinearThen::Residual,
                    branch: Some((&gamma, &x)),
                },
            )?;
            out.extend(y.tensor(rows * c).to_vec1::<f64>().unwrap());
        }
        Ok(out)
    }

    /// As `ops/attention.rs` does it on CUDA.
    fn self_attention(
        &self,
        dtype: DType,
        inputs: &Inputs,
        (b, n, positions): (usize, usize, usize),
        (h, d): (usize, usize),
        (norms, rotations): (bool, bool),
    ) -> Result<Tensor> {
        let qkv = held(inputs, Role::X);
        let in_place = |which| HeadRows::in_qkv(qkv.address(), which, dtype, (h, n, d));
        let [mut q, mut k] = [0, 1].map(|_| Memory::unwritten(b * h * n * d, dtype, 0));
        let mut rows = [in_place(0), in_place(1)];
        if norms || rotations {
            let held_if = |there: bool, roles: &[Role]| -> Vec<Memory> {
                let roles = if there { roles } else { &[] };
                roles.iter().map(|role| held(inputs, *role)).collect()
            };
            let of_norms = held_if(
                norms,
                &[
                    Role::QueryNormWeight,
                    Role::QueryNormBias,
                    Role::KeyNormWeight,
                    Role::KeyNormBias,
                ],
            );
            let tables = held_if(rotations, &[Role::Cos, Role::Sin]);
            let norm = |i: usize| match of_norms.get(2 * i..2 * i + 2) {
                Some([weight, bias]) => HeadNorm {
                    weight: weight.address(),
                    bias: bias.address(),
                    eps: NORM_EPS,
                },
                _ => HeadNorm::NONE,
            };
            let rotation = match &tables[..] {
                [cos, sin] => HeadRotation {
                    cos: cos.address(),
                    sin: sin.address(),
                    positions,
                },
                _ => HeadRotation::NONE,
            };
            let call = heads(HeadsCall {
                dtype,
                tokens: (b, n),
                heads: (h, d),
                norms: [norm(0), norm(1)],
                rotation,
                qkv: qkv.address(),
                q: q.address(),
                k: k.address(),
            })
            .unwrap();
            let mut read = vec![&qkv];
            read.extend(of_norms.iter().chain(&tables));
            self.run(&call, &read, &mut [&mut q, &mut k])?;
            rows = [&q, &k].map(|x| HeadRows::contiguous(x.address(), h, n, d));
        }
        let call = AttentionCall {
            dtype,
            batch: b,
            heads: (h, d),
            queries: n,
            keys: n,
            q: rows[0],
            k: rows[1],
            v: in_place(2),
            out: Address::NULL,
        };
        self.attend(call, &[&qkv, &q, &k])
    }

    fn attend(&self, call: AttentionCall, read: &[&Memory]) -> Result<Tensor> {
        let (h, d) = call.heads;
        let (b, m) = (call.batch, call.queries);
        let mut out = Memory::unwritten(b * m * h * d, call.dtype, 0);
        let call = AttentionCall {
            out: out.address(),
            ..call
        };
        let call = attention(call, self.capability).unwrap();
        self.run(&call, read, &mut [&mut out])?;
        Ok(out.tensor((b, m, h * d)))
    }

    fn bilinear(&self, operation: Operation, inputs: &Inputs) -> Result<Tensor> {
        let Operation::Bilinear {
            batch,
            from,
            to,
            channels,
            positions,
        } = operation
        else {
            unreachable!("not a resampling")
        };
        let x = held(inputs, Role::X);
        let tables = positions.then(|| [Role::Columns, Role::Rows].map(|role| held(inputs, role)));
        let count = batch * to.positions() * channels;
        let mut out = Memory::unwritten(count, DType::F32, 0);
        let call = bilinear(BilinearCall {
            batch,
            from: (from.height, from.width),
            to: (to.height, to.width),
            channels,
            x: x.address(),
            out: out.address(),
            positions: match &tables {
                Some(tables) => tables.each_ref().map(Memory::address),
                None => [Address::NULL; 2],
            },
        })
        .unwrap();
        let mut read = vec![&x];
        read.extend(tables.iter().flatten());
        self.run(&call, &read, &mut [&mut out])?;
        Ok(out.tensor((batch, to.height, to.width, channels)))
    }

    /// As `ops/conv2d.rs` does it on CUDA: a product, then a kernel.
    fn conv2d(&self, operation: Operation, inputs: &Inputs) -> Result<Tensor> {
        let Operation::Conv2d {
            batch,
            map,
            c_in,
            c_out,
            kernel,
            stride,
            padding,
            fused,
        } = operation
        else {
            unreachable!("not a convolution")
        };
        let mut x = f32s(inputs.get(Role::X).unwrap());
        if fused {
            x.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
        let (height, width) = (side(map.height), side(map.width));
        let rows = batch * height * width;
        let mut columns = Vec::with_capacity(rows * c_in * kernel * kernel);
        for row in 0..rows {
            let (b, y, x0) = (row / (height * width), row / width % height, row % width);
            for c in 0..c_in {
                for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                    let (y, x0) = (y * stride + ky, x0 * stride + kx);
                    let inside = (padding..map.height + padding).contains(&y)
                        && (padding..map.width + padding).contains(&x0);
                    columns.push(match inside {
                        true => {
                            let place = (b * map.height + y - padding) * map.width + x0 - padding;
                            x[place * c_in + c]
                        }
                        false => 0.0,
                    });
                }
            }
        }
        let weight = f32s(inputs.get(Role::Weight).unwrap());
        let product = product(&columns, &weight, c_in * kernel * kernel);
        let mut y = Memory::new(&product, DType::F32);
        let bias = held(inputs, Role::Bias);
        let skips = fused.then(|| [Role::SkipRelu, Role::Skip].map(|role| held(inputs, role)));
        let address = |i: usize| match &skips {
            Some(skips) => skips[i].address(),
            None => Address::NULL,
        };
        let kind = Epilogue::Skip {
            skip_relu: address(0),
            skip: address(1),
            relu: fused,
        };
        let addresses = (y.address(), bias.address());
        let call = epilogue(kind, DType::F32, (rows, c_out), addresses).unwrap();
        let mut read = vec![&bias];
        read.extend(skips.iter().flatten());
        self.run(&call, &read, &mut [&mut y])?;
        Ok(y.tensor((batch, height, width, c_out)))
    }
}

fn held(inputs: &Inputs, role: Role) -> Memory {
    let tensor = inputs.get(role).unwrap();
    Memory::new(&f32s(tensor), tensor.dtype())
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// x wᵀ with x [rows, depth] and w [n, depth], summed up one by one in F32: no order of a library loses more.
fn product(x: &[f32], weight: &[f32], depth: usize) -> Vec<f32> {
    let n = weight.len() / depth;
    let turned: Vec<f32> = (0..depth)
        .flat_map(|k| (0..n).map(move |j| weight[j * depth + k]))
        .collect();
    let mut y = vec![0.0; x.len() / depth * n];
    for (x, y) in x.chunks_exact(depth).zip(y.chunks_exact_mut(n)) {
        for (x, row) in x.iter().zip(turned.chunks_exact(n)) {
            y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
        }
    }
    y
}

/// A tensor in F64 after one rounding to `dtype`.
fn rounded(tensor: &Tensor, dtype: DType) -> Tensor {
    let rounded = tensor.to_dtype(DType::F32).unwrap().to_dtype(dtype);
    rounded.unwrap().to_dtype(DType::F64).unwrap()
}

/// The arithmetic of candle's kernel, which is not ours: Φ(x) is rounded, and so is its product with x.
fn gelu_of_candle(dtype: DType, inputs: &Inputs) -> Tensor {
    let x = inputs.get(Role::X).unwrap().to_dtype(DType::F64).unwrap();
    let half = (&x * std::f64::consts::FRAC_1_SQRT_2)
        .unwrap()
        .erf()
        .unwrap();
    let normal = rounded(&((half + 1.0).unwrap() * 0.5).unwrap(), dtype);
    rounded(&(x * normal).unwrap(), dtype)
}

/// What candle's products make of the position embedding: weights in `dtype`, and a rounding after each product.
fn bicubic_of_candle(dtype: DType, inputs: &Inputs, from: MapSize, to: MapSize) -> Tensor {
    let weights = |from: usize, to: usize| {
        let eye = Tensor::eye(from, DType::F64, &Device::Cpu).unwrap();
        let all = bicubic_antialias(&eye.unsqueeze(0).unwrap(), 1, to).unwrap();
        rounded(&all.squeeze(0).unwrap(), dtype)
    };
    let x = inputs.get(Role::X).unwrap().to_dtype(DType::F64).unwrap();
    let (h, _, c) = x.dims3().unwrap();
    let columns = weights(from.width, to.width).broadcast_left(h).unwrap();
    let x = columns.contiguous().unwrap().matmul(&x).unwrap();
    let x = rounded(&x, dtype).reshape((h, to.width * c)).unwrap();
    let x = weights(from.height, to.height).matmul(&x).unwrap();
    rounded(&x, dtype)
        .reshape((to.height, to.width, c))
        .unwrap()
}
