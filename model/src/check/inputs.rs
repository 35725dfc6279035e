//! The inputs of a case: close to what the network computes with, the same in every run.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::case::{LinearThen, Operation};
use crate::layers::RotaryPositionEmbedding2D;

/// What an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the operation takes; queries, keys and values of self-attention.
    X,
    /// Scale of the norm.
    NormWeight,
    /// Shift of the norm.
    NormBias,
    /// Weights of the layer, or of the first of two.
    Weight,
    /// Its bias.
    Bias,
    /// Weights of the second layer.
    SecondWeight,
    /// Its bias.
    SecondBias,
    /// LayerScale's factors.
    Gamma,
    /// What a branch is added to.
    Residual,
    /// Scale of the queries' norm.
    QueryNormWeight,
    /// Shift of the queries' norm.
    QueryNormBias,
    /// Scale of the keys' norm.
    KeyNormWeight,
    /// Shift of the keys' norm.
    KeyNormBias,
    /// Cosines of the rotations.
    Cos,
    /// Their signed sines.
    Sin,
    /// Queries.
    Queries,
    /// Keys.
    Keys,
    /// Values.
    Values,
    /// Position embedding of the columns.
    Columns,
    /// Position embedding of the rows.
    Rows,
    /// Added after ReLU.
    SkipRelu,
    /// Added as it is.
    Skip,
}

/// The tensors of a case by what they are for.
#[derive(Debug, Clone)]
pub struct Inputs(Vec<(Role, Tensor)>);

impl Inputs {
    /// The input for `role`.
    ///
    /// # Errors
    /// When the operation has none.
    pub fn get(&self, role: Role) -> Result<&Tensor> {
        match self.0.iter().find(|(r, _)| *r == role) {
            Some((_, tensor)) => Ok(tensor),
            None => bail!("no input for {role:?}"),
        }
    }

    /// The same on `device`.
    ///
    /// # Errors
    /// When they cannot be copied there.
    pub fn on(&self, device: &Device) -> Result<Self> {
        self.map(|t| t.to_device(device))
    }

    /// The same in F64.
    ///
    /// # Errors
    /// When they cannot be converted.
    pub fn in_f64(&self) -> Result<Self> {
        self.map(|t| t.to_dtype(DType::F64))
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let all = self.0.iter().map(|(role, t)| Ok((*role, f(t)?)));
        Ok(Self(all.collect::<Result<_>>()?))
    }
}

/// Makes inputs.
struct Maker {
    dtype: DType,
    state: u64,
    made: Vec<(Role, Tensor)>,
}

/// Tokens of a frame that have no position of their own: camera and registers.
const SPECIAL_TOKENS: usize = 5;
/// Columns of the grid that the other tokens of a frame are the positions of.
const GRID_WIDTH: usize = 37;
/// Base of the rotations' frequencies. Origin: VGGT-1B.
const ROPE_FREQUENCY: f64 = 100.0;

impl Operation {
    /// The inputs of the operation in `dtype`, seeded with `name`.
    pub(super) fn inputs(&self, dtype: DType, name: &str) -> Result<Inputs> {
        // FNV-1a.
        let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut make = Maker {
            dtype,
            state,
            made: Vec::new(),
        };
        make.of(*self)?;
        Ok(Inputs(make.made))
    }
}

impl Maker {
    fn of(&mut self, operation: Operation) -> Result<()> {
        match operation {
            Operation::LayerNorm { rows, channels } => {
                self.rows_of_all_sizes(&[rows, channels])?;
                self.norm(channels, (Role::NormWeight, Role::NormBias))
            }
            Operation::Gelu { rows, channels } => self.normal(Role::X, &[rows, channels], 0.0, 2.0),
            Operation::Linear {
                batch,
                rows,
                c_in,
                c_out,
                after_norm,
                then,
            } => {
                if after_norm {
                    self.rows_of_all_sizes(&[batch, rows, c_in])?;
                    self.norm(c_in, (Role::NormWeight, Role::NormBias))?;
                } else {
                    self.normal(Role::X, &[batch, rows, c_in], 0.0, 1.0)?;
                }
                self.layer((c_in, c_out), (Role::Weight, Role::Bias))?;
                if then == LinearThen::Residual {
                    self.normal(Role::Gamma, &[c_out], 0.5, 0.2)?;
                    self.normal(Role::Residual, &[batch, rows, c_out], 0.0, 1.0)?;
                }
                Ok(())
            }
            Operation::Mlp {
                rows,
                channels,
                hidden,
            } => {
                self.normal(Role::X, &[rows, channels], 0.0, 1.0)?;
                self.norm(channels, (Role::NormWeight, Role::NormBias))?;
                self.layer((channels, hidden), (Role::Weight, Role::Bias))?;
                self.layer((hidden, channels), (Role::SecondWeight, Role::SecondBias))?;
                self.normal(Role::Gamma, &[channels], 0.5, 0.2)
            }
            Operation::SelfAttention {
                batch,
                frames,
                positions,
                heads,
                depth,
                norms,
                rotations,
            } => {
                // Scores of queries and keys near normal have a standard deviation of 1.
                let dims = [batch, frames * positions, 3 * heads * depth];
                self.normal(Role::X, &dims, 0.0, 1.0)?;
                if norms {
                    self.norm(depth, (Role::QueryNormWeight, Role::QueryNormBias))?;
                    self.norm(depth, (Role::KeyNormWeight, Role::KeyNormBias))?;
                }
                if rotations {
                    self.rotations(positions, depth)?;
                }
                Ok(())
            }
            Operation::Attention {
                batch,
                heads,
                depth,
                queries,
                keys,
            } => {
                self.normal(Role::Queries, &[batch, heads, queries, depth], 0.0, 1.0)?;
                self.normal(Role::Keys, &[batch, heads, keys, depth], 0.0, 1.0)?;
                self.normal(Role::Values, &[batch, heads, keys, depth], 0.0, 1.0)
            }
            Operation::Bilinear {
                batch,
                from,
                to,
                channels,
                positions,
            } => {
                let dims = [batch, from.height, from.width, channels];
                self.normal(Role::X, &dims, 0.0, 1.0)?;
                if positions {
                    // A tenth of sines and cosines is what the heads add.
                    self.normal(Role::Columns, &[to.width, channels / 2], 0.0, 0.07)?;
                    self.normal(Role::Rows, &[to.height, channels / 2], 0.0, 0.07)?;
                }
                Ok(())
            }
            Operation::Conv2d {
                batch,
                map,
                c_in,
                c_out,
                kernel,
                stride,
                padding,
                fused,
            } => {
                let dims = [batch, map.height, map.width, c_in];
                self.normal(Role::X, &dims, 0.0, 1.0)?;
                let spread = 1.0 / ((c_in * kernel * kernel) as f32).sqrt();
                self.normal(Role::Weight, &[c_out, c_in, kernel, kernel], 0.0, spread)?;
                self.normal(Role::Bias, &[c_out], 0.0, 0.5)?;
                if fused {
                    let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
                    let dims = [batch, side(map.height), side(map.width), c_out];
                    self.normal(Role::SkipRelu, &dims, 0.0, 1.0)?;
                    self.normal(Role::Skip, &dims, 0.0, 1.0)?;
                }
                Ok(())
            }
            Operation::ConvTranspose2d {
                batch,
                map,
                c_in,
                c_out,
                kernel,
            } => {
                let dims = [batch, map.height, map.width, c_in];
                self.normal(Role::X, &dims, 0.0, 1.0)?;
                let spread = 1.0 / (c_in as f32).sqrt();
                self.normal(Role::Weight, &[c_in, c_out, kernel, kernel], 0.0, spread)?;
                self.normal(Role::Bias, &[c_out], 0.0, 0.5)
            }
            Operation::Bicubic { from, channels, .. } => {
                self.normal(Role::X, &[from.height, from.width, channels], 0.0, 1.0)
            }
        }
    }

    /// Sines and cosines as the aggregator makes them, in F32.
    fn rotations(&mut self, positions: usize, depth: usize) -> Result<()> {
        let position = |i: usize| match i.checked_sub(SPECIAL_TOKENS) {
            None => (0, 0),
            Some(i) => (1 + (i / GRID_WIDTH) as u32, 1 + (i % GRID_WIDTH) as u32),
        };
        let positions: Vec<(u32, u32)> = (0..positions).map(position).collect();
        let rope = RotaryPositionEmbedding2D {
            frequency: ROPE_FREQUENCY,
        };
        let table = rope.table(&positions, depth, DType::F32, &Device::Cpu)?;
        self.made.push((Role::Cos, table.cos));
        self.made.push((Role::Sin, table.sin));
        Ok(())
    }

    /// Scale and shift of a norm, near those of a trained one.
    fn norm(&mut self, channels: usize, (weight, bias): (Role, Role)) -> Result<()> {
        self.normal(weight, &[channels], 1.0, 0.1)?;
        self.normal(bias, &[channels], 0.0, 0.1)
    }

    /// A linear layer whose output is as large as its input.
    fn layer(&mut self, (c_in, c_out): (usize, usize), (weight, bias): (Role, Role)) -> Result<()> {
        self.normal(weight, &[c_out, c_in], 0.0, 1.0 / (c_in as f32).sqrt())?;
        self.normal(bias, &[c_out], 0.0, 0.5)
    }

    /// What a norm takes: rows with standard deviations from that of [`super::NORM_EPS`] up, so that what is added to the
    /// variance counts in some of them, and a mean that is not 0.
    fn rows_of_all_sizes(&mut self, dims: &[usize]) -> Result<()> {
        const SMALLEST: f32 = 0.003;
        const LARGEST: f32 = 30.0;
        let channels = dims.last().copied().unwrap_or(1);
        let rows = dims.iter().product::<usize>() / channels.max(1);
        let mut values = Vec::with_capacity(rows * channels);
        for row in 0..rows {
            let part = row as f32 / rows.max(2).saturating_sub(1) as f32;
            let size = SMALLEST * (LARGEST / SMALLEST).powf(part);
            values.extend((0..channels).map(|_| size * (0.5 + self.value())));
        }
        self.push(Role::X, values, dims)
    }

    /// A tensor of normal values with this mean and standard deviation.
    fn normal(&mut self, role: Role, dims: &[usize], mean: f32, deviation: f32) -> Result<()> {
        let count = dims.iter().product();
        let values = (0..count).map(|_| mean + deviation * self.value());
        let values = values.collect();
        self.push(role, values, dims)
    }

    fn push(&mut self, role: Role, values: Vec<f32>, dims: &[usize]) -> Result<()> {
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(self.dtype)?;
        self.made.push((role, tensor));
        Ok(())
    }

    /// A nearly normal value within 3.5: the sum of four uniform ones. Mean 0, variance 1.
    fn value(&mut self) -> f32 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let sum: u64 = (0..4).map(|i| (z >> (16 * i)) & 0xffff).sum();
        (sum as f32 / 65535.0 - 2.0) * 3f32.sqrt()
    }
}
