//! Convolutions, channels last: Winograd's for 3 x 3 with stride 1, the product of matrices for the others.

use candle_core::Result;

use super::{Isa, Shared, collect_into_uninit, epilogue::BiasSkips, gemm, weights, winograd};
use crate::stop;

/// A convolution whose operands have been checked against each other.
#[derive(Clone, Copy)]
pub(crate) struct Conv2d<'a> {
    /// [batch, height, width, c_in]
    pub(crate) x: &'a [f32],
    /// Element of maps.
    pub(crate) batch: usize,
    /// Height of a map.
    pub(crate) height: usize,
    /// Width of a map.
    pub(crate) width: usize,
    /// Channels of a map.
    pub(crate) c_in: usize,
    /// Side of the kernel.
    pub(crate) kernel: usize,
    /// From one output to the next.
    pub(crate) stride: usize,
    /// Zeros around a map.
    pub(crate) padding: usize,
    /// Height of the result.
    pub(crate) rows: usize,
    /// Width of the result.
    pub(crate) columns: usize,
    /// Takes max(x, 0) for x.
    pub(crate) relu_before: bool,
    /// The weights, in the order in which they are read.
    pub(crate) weights: Weights<'a>,
    /// What follows. Its bias has an element for each output channel, its skips are as large as the result.
    pub(crate) epilogue: BiasSkips<'a>,
}

/// Weights in the order in which one of the two algorithms reads them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// [c_out, kernel, kernel, c_in]
    Product(&'a [f32]),
    /// [3, 3, c_in, c_out]
    Winograd(&'a [f32]),
}

impl Conv2d<'_> {
    /// Returns [batch, rows, columns, c_out].
    ///
    /// # Panics
    /// When the operands do not fit each other.
    pub(crate) fn run(&self, isa: Isa) -> Result<Vec<f32>> {
        let c_out = self.epilogue.bias.len();
        let input_len = self.height * self.width * self.c_in;
        let output_len = self.rows * self.columns * c_out;
        let BiasSkips {
            skip_relu, skip, ..
        } = self.epilogue;
        assert_eq!(self.x.len(), self.batch * input_len);
        for skip in [skip_relu, skip].into_iter().flatten() {
            assert_eq!(skip.len(), self.batch * output_len);
        }
        let write = |out: Shared<'_, f32>| {
            for (i, x) in self.x.chunks_exact(input_len.max(1)).enumerate() {
                stop::check()?;
                let out = out.part(i * output_len, output_len);
                let epilogue = BiasSkips {
                    first: i * self.rows * self.columns,
                    ..self.epilogue
                };
                self.one(isa, x, epilogue, out);
            }
            Ok(())
        };
        // SAFETY: both algorithms write every element of every map, and read none before.
        unsafe { collect_into_uninit(self.batch * output_len, write) }
    }

    /// Convolves one map.
    fn one(&self, isa: Isa, x: &[f32], epilogue: BiasSkips<'_>, out: Shared<'_, f32>) {
        let (m, n) = (self.rows * self.columns, epilogue.bias.len());
        let weights = match self.weights {
            Weights::Winograd(weight) => {
                let operands = winograd::Operands {
                    x,
                    height: self.height,
                    width: self.width,
                    c_in: self.c_in,
                    relu: self.relu_before,
                    weight,
                    c_out: n,
                };
                return winograd::conv3x3(isa, operands, &epilogue, out);
            }
            Weights::Product(weights) => weights::Weights::F32(weights),
        };
        let prepare = match self.relu_before {
            true => gemm::Prepare::Relu,
            false => gemm::Prepare::Plain,
        };
        if self.kernel == 1 && self.stride == 1 {
            let left = gemm::Matrix {
                data: x,
                depth: self.c_in,
            };
            gemm::gemm(isa, (m, n), (&left, prepare), weights, &epilogue, out);
        } else {
            let map = Map { x, conv: self };
            gemm::gemm(isa, (m, n), (&map, prepare), weights, &epilogue, out);
        }
    }
}

/// One map as the left side of a product: a row holds what the kernel sees from one position, tap by tap.
#[derive(Clone, Copy)]
struct Map<'a> {
    /// [height, width, c_in]
    x: &'a [f32],
    conv: &'a Conv2d<'a>,
}

/// What a tap outside the map sees.
static ZEROS: [f32; 256] = [0.0; 256];

impl gemm::Rows for Map<'_> {
    fn depth(&self) -> usize {
        self.conv.kernel * self.conv.kernel * self.conv.c_in
    }

    // Never beyond the channels of one tap, nor beyond the zeros.
    fn run(&self, k: usize) -> usize {
        ZEROS.len().min(self.conv.c_in - k % self.conv.c_in)
    }

    fn slice(&self, row: usize, k: usize, len: usize) -> &[f32] {
        let Conv2d {
            height,
            width,
            c_in,
            kernel,
            stride,
            padding,
            columns,
            ..
        } = *self.conv;
        let (tap, channel) = (k / c_in, k % c_in);
        let position = |at: usize, tap: usize, n: usize| {
            (at * stride + tap)
                .checked_sub(padding)
                .filter(|at| *at < n)
        };
        let y = position(row / columns, tap / kernel, height);
        let x = position(row % columns, tap % kernel, width);
        match (y, x) {
            (Some(y), Some(x)) => &self.x[(y * width + x) * c_in + channel..][..len],
            _ => &ZEROS[..len],
        }
    }
}
