//! Bilinear resampling whose corners stay in place.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{
    self,
    device::{self, Operand, Queue},
};
use super::{
    Positions,
    cpu::{self, Kernel, Shared, Vector, gemm},
    version::Version,
};

/// Resamples [B, H, W, C] to [B, height, width, C], and adds an embedding of the new places if there is one.
///
/// # Errors
/// When the shape does not fit or the device fails.
// PyTorch: F.interpolate(x, size, mode="bilinear", align_corners=True), channels last
// candle's own upsample_bilinear2d is serial, and wrong for strided input when the size stays the same.
pub fn bilinear_align_corners(
    x: &Tensor,
    (height, width): (usize, usize),
    positions: Option<&Positions>,
) -> Result<Tensor> {
    let (_, h, w, _) = x.dims4()?;
    if (h, w) == (height, width) {
        return match positions {
            Some(positions) => positions.add(x),
            None => Ok(x.clone()),
        };
    }
    match Version::of(x) {
        // On both devices it is for the heads, which are F32.
        Some(version) if x.dtype() == DType::F32 && h > 0 && w > 0 => {
            x.contiguous()?.apply_op1_no_bwd(&Fused {
                height,
                width,
                positions,
                version,
            })
        }
        _ => {
            let y = plain(x, height, width)?;
            match positions {
                Some(positions) => positions.add(&y),
                None => Ok(y),
            }
        }
    }
}

/// The two neighbours of a place along one axis, and the weight of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    t: f32,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    // PyTorch computes the scale and the place in the type of the data, F32.
    let scale = if to > 1 {
        (from - 1) as f32 / (to - 1) as f32
    } else {
        0.0
    };
    (0..to)
        .map(|i| {
            let place = scale * i as f32;
            let low = (place as usize).min(from - 1);
            let high = (low + 1).min(from - 1);
            let t = place - low as f32;
            Tap { low, high, t }
        })
        .collect()
}

/// The definition: one interpolation matrix for each axis.
fn plain(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let matrix = |from: usize, to: usize| {
        let mut m = vec![0f32; to * from];
        for (i, tap) in taps(from, to).into_iter().enumerate() {
            m[i * from + tap.low] += 1.0 - tap.t;
            m[i * from + tap.high] += tap.t;
        }
        Tensor::from_vec(m, (to, from), x.device())?.to_dtype(x.dtype())
    };
    let along = |matrix: Tensor, x: Tensor| {
        let batch = x.dim(0)?;
        matrix.broadcast_left(batch)?.contiguous()?.matmul(&x)
    };
    let x = along(matrix(w, width)?, x.contiguous()?.reshape((b * h, w, c))?)?;
    let x = along(matrix(h, height)?, x.reshape((b, h, width * c))?)?;
    x.reshape((b, height, width, c))
}

struct Fused<'a> {
    height: usize,
    width: usize,
    positions: Option<&'a Positions>,
    version: Version,
}

impl CustomOp1 for Fused<'_> {
    fn name(&self) -> &'static str {
        "bilinear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::contiguous(storage, layout)?;
        let dims = layout.shape().dims4()?;
        let out = match self.positions {
            None => self.resample(x, dims, None),
            Some(p) => cpu::with_numbers(&p.columns, |columns| {
                cpu::with_numbers(&p.rows, |rows| {
                    let half = dims.3 / 2;
                    if dims.3 % 2 != 0
                        || columns.len() != self.width * half
                        || rows.len() != self.height * half
                    {
                        bail!("the positions are those of another map")
                    }
                    self.resample(x, dims, Some((columns, rows)))
                })
            }),
        }?;
        let shape = Shape::from((dims.0, self.height, self.width, dims.3));
        Ok((CpuStorage::F32(out), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let queue = Queue::of(x);
        let (batch, h, w, c) = layout.shape().dims4()?;
        if self.positions.is_some() && c % 2 != 0 {
            bail!("the positions are those of another map")
        }
        let shape = Shape::from((batch, self.height, self.width, c));
        let mut out = queue.unwritten(&shape, DType::F32)?;
        let held = self
            .positions
            .map(|p| [&p.columns, &p.rows].map(device::hold));
        {
            let [columns, rows] = match &held {
                Some([columns, rows]) => [
                    queue.parameter(columns, self.width * (c / 2), DType::F32)?,
                    queue.parameter(rows, self.height * (c / 2), DType::F32)?,
                ],
                None => [Operand::none(), Operand::none()],
            };
            let x = queue.input(x, layout, DType::F32)?;
            let to = queue.output(&mut out)?;
            let call = cuda::bilinear(cuda::BilinearCall {
                batch,
                from: (h, w),
                to: (self.height, self.width),
                channels: c,
                x: x.address,
                out: to.address,
                positions: [columns.address, rows.address],
            })?;
            // SAFETY: the operands are alive, and were measured against the sizes.
            #[allow(unsafe_code)]
            unsafe {
                queue.launch(&call)?;
            }
        }
        Ok((out, shape))
    }
}

impl Fused<'_> {
    fn resample(
        &self,
        x: &[f32],
        (b, h, w, c): (usize, usize, usize, usize),
        positions: Option<(&[f32], &[f32])>,
    ) -> Result<Vec<f32>> {
        let (height, width) = (self.height, self.width);
        let isa = self.version.isa()?;
        let (ys, xs) = (taps(h, height), taps(w, width));
        let row = |index: usize, out: &mut [f32]| {
            let (batch, y) = (index / height, index % height);
            let tap = ys[y];
            let source = |y: usize| &x[(batch * h + y) * w * c..][..w * c];
            isa.run(Row {
                low: source(tap.low),
                high: source(tap.high),
                t: tap.t,
                taps: &xs,
                c,
                positions: positions.map(|(columns, rows)| {
                    let half = c / 2;
                    (columns, &rows[y * half..][..half])
                }),
                out,
            });
        };
        let write = |out: Shared<'_, f32>| {
            (0..b * height).into_par_iter().for_each(|index| {
                // SAFETY: each task has a row of its own.
                #[allow(unsafe_code)]
                row(index, unsafe { out.slice(index * width * c, width * c) });
            });
            Ok(())
        };
        // SAFETY: every row is written.
        #[allow(unsafe_code)]
        unsafe {
            cpu::written(b * height * width * c, write)
        }
    }
}

/// One row of the result.
struct Row<'a> {
    /// The two rows it lies between, [W, C].
    low: &'a [f32],
    high: &'a [f32],
    t: f32,
    taps: &'a [Tap],
    c: usize,
    /// Embeddings [width, C / 2] of the columns and [C / 2] of this row.
    positions: Option<(&'a [f32], &'a [f32])>,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn run<V: Vector>(self) {
        let c = self.c;
        let half = c / 2;
        let out = Shared::new(self.out);
        for (i, tap) in self.taps.iter().enumerate() {
            let (a, b) = (tap.low * c, tap.high * c);
            let mut k = 0;
            while k < c {
                // A register never covers channels of both embeddings.
                let end = if self.positions.is_some() && k < half {
                    half
                } else {
                    c
                };
                let n = V::LANES.min(end - k);
                // SAFETY: taps lie inside the source row, whose pixels have c channels; k + n is at most c, and i is a
                // pixel of the result.
                unsafe {
                    let (s, t) = (V::splat(1.0 - tap.t), V::splat(tap.t));
                    let load = |row: &[f32], at: usize| gemm::load::<V>(row, at + k, n);
                    let low = load(self.low, a) * s + load(self.low, b) * t;
                    let high = load(self.high, a) * s + load(self.high, b) * t;
                    let mut y = low * V::splat(1.0 - self.t) + high * V::splat(self.t);
                    if let Some((columns, row)) = self.positions {
                        y = y + if k < half {
                            gemm::load::<V>(columns, i * half + k, n)
                        } else {
                            gemm::load::<V>(row, k - half, n)
                        };
                    }
                    if n == V::LANES {
                        y.store(out.at(i * c + k));
                    } else {
                        y.store_first(out.at(i * c + k), n);
                    }
                }
                k += n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::Isa;
    use crate::ops::testing::{random, relative_error};

    #[test]
    fn the_vectorised_version_is_the_plain_one() {
        for (h, w, height, width, c) in [
            (3, 5, 6, 10, 3),
            (7, 1, 3, 4, 20),
            (1, 1, 2, 2, 16),
            (5, 4, 1, 9, 34),
            (6, 9, 4, 5, 8),
        ] {
            let x = random(&[2, w, h, c]).transpose(1, 2).unwrap();
            let exact = plain(&x.to_dtype(DType::F64).unwrap(), height, width).unwrap();
            for isa in Isa::all() {
                let op = Fused {
                    height,
                    width,
                    positions: None,
                    version: Version::Cpu(isa),
                };
                let ours = x.contiguous().unwrap().apply_op1_no_bwd(&op).unwrap();
                // The weights of the matrices are F32, as PyTorch's are.
                let error = relative_error(&ours, &exact);
                assert!(error < 1e-6, "{} {h}x{w}x{c}: {error:e}", isa.name());
            }
        }
    }

    #[test]
    fn positions_are_added_on_the_way() {
        for (c, size) in [(2, (3, 4)), (20, (7, 9)), (64, (5, 5))] {
            let x = random(&[1, 3, 4, c]);
            let positions = Positions::new(random(&[size.1, c / 2]), random(&[size.0, c / 2]));
            let apart = bilinear_align_corners(&x, size, None).unwrap();
            let apart = positions.add(&apart).unwrap();
            let ours = bilinear_align_corners(&x, size, Some(&positions)).unwrap();
            assert!(relative_error(&ours, &apart) < 1e-6, "{c}");
        }
    }

    #[test]
    fn positions_of_another_map_are_refused() {
        let positions = Positions::new(random(&[4, 2]), random(&[5, 2]));
        assert!(bilinear_align_corners(&random(&[1, 2, 2, 4]), (5, 5), Some(&positions)).is_err());
    }
}
