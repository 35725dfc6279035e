//! Attention of some tokens to the keys and values of others, which are kept and used many times.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::{
    super::{
        LayerNorm, RopeTable,
        backend::Backend,
        cpu::{
            self, Isa,
            attention::{self as on_cpu, Packed, Queries},
            flash::{Elements, HeadRows, Keys, Prepare},
        },
    },
    HeadPreparation, MAX_SCORES, attention,
    heads::split_heads,
    reference, rotation_of,
};
use crate::precision::Precision;

/// Keys and values of some tokens, ready to be attended to: keys are normalized and rotated.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// [1, heads, N, D]
    k: Tensor,
    /// [1, heads, N, D]
    v: Tensor,
}

/// Keys and values in the order in which the backend reads them. On the CPU that is a copy, in F32, for the time in which many
/// tokens attend to them.
#[derive(Debug)]
pub struct PackedKeys(Kind);

#[derive(Debug)]
enum Kind {
    Cpu(Packed),
    Tensors(KeysValues),
}

impl KeysValues {
    /// Takes `kv` [1, N, 2 C], for each token its keys and values, head by head, and prepares the keys.
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn new(kv: &Tensor, keys: HeadPreparation<'_>) -> Result<Self> {
        let (b, _, c2) = kv.dims3()?;
        if b != 1 || !c2.is_multiple_of(2) {
            bail!("expected keys and values [1, N, 2 C], got {:?}", kv.dims())
        }
        let c = c2 / 2;
        Ok(Self {
            k: keys.forward(&kv.narrow(2, 0, c)?)?,
            v: split_heads(&kv.narrow(2, c, c)?, keys.num_heads)?,
        })
    }

    /// Returns them in another type, F32, F16 or BF16, which is what they are kept in.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(Self {
            k: self.k.to_dtype(dtype)?,
            v: self.v.to_dtype(dtype)?,
        })
    }

    /// Returns the bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        bytes(&self.k) + bytes(&self.v)
    }

    /// Prepares them for attention in `dtype`, on the CPU with scores of this precision.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pack(&self, dtype: DType, precision: Precision) -> Result<PackedKeys> {
        let isa = match (self.k.device(), dtype) {
            (Device::Cpu, DType::F32) => Isa::best(),
            _ => None,
        };
        match isa {
            Some(isa) if self.k.dim(2)? > 0 => self.pack_on_cpu(isa, precision),
            _ => Ok(PackedKeys(Kind::Tensors(self.to_dtype(dtype)?))),
        }
    }

    fn pack_on_cpu(&self, isa: Isa, precision: Precision) -> Result<PackedKeys> {
        let (batch, heads, n, depth) = self.k.dims4()?;
        let (k, v) = (self.k.contiguous()?, self.v.contiguous()?);
        let (k_storage, k_layout) = k.storage_and_layout();
        let (v_storage, v_layout) = v.storage_and_layout();
        let rows = |storage, layout| -> Result<HeadRows<'_>> {
            Ok(HeadRows::contiguous(
                elements(storage, layout)?,
                heads,
                n,
                depth,
            ))
        };
        let packed = on_cpu::KeysValues {
            k: rows(&k_storage, k_layout)?,
            prepare_k: Prepare::default(),
            v: rows(&v_storage, v_layout)?,
            batch,
            heads,
            keys: Keys { n, depth },
        };
        Ok(PackedKeys(Kind::Cpu(packed.pack(isa, precision)?)))
    }
}

/// Borrows what the CPU's attention reads: contiguous F32 or F16.
fn elements<'a>(storage: &'a Storage, layout: &Layout) -> Result<Elements<'a>> {
    let (Storage::Cpu(data), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
        bail!("expected contiguous keys and values on the CPU")
    };
    match data {
        CpuStorage::F32(data) => Ok(Elements::F32(&data[start..end])),
        CpuStorage::F16(data) => Ok(Elements::F16(&data[start..end])),
        _ => bail!("keys and values on the CPU are kept as F32 or F16"),
    }
}

/// The attention of a sequence to the keys and values of another one.
#[derive(Debug, Clone, Copy)]
pub struct CrossAttention<'a> {
    /// Heads.
    pub num_heads: usize,
    /// Normalizes the queries of each head.
    pub q_norm: Option<&'a LayerNorm>,
    /// Rotates queries by their position.
    pub rope: Option<&'a RopeTable>,
}

impl CrossAttention<'_> {
    /// q [1, M, C], head by head -> [1, M, C].
    ///
    /// # Errors
    /// When the shapes do not fit or the device fails.
    pub fn forward(&self, q: &Tensor, keys: &PackedKeys) -> Result<Tensor> {
        let (b, m, c) = q.dims3()?;
        let depth = self.preparation().depth(m, c)?;
        if b != 1 {
            bail!("expected queries [1, M, C], got {:?}", q.dims())
        }
        match &keys.0 {
            Kind::Cpu(packed) => {
                if packed.shape() != (1, self.num_heads, depth) {
                    bail!(
                        "the keys are not of {} heads of {depth} channels",
                        self.num_heads
                    )
                }
                q.contiguous()?.apply_op1_no_bwd(&Attend {
                    op: *self,
                    depth,
                    packed,
                })
            }
            Kind::Tensors(KeysValues { k, v }) => match Backend::of(q) {
                Some(_) => attention(&self.preparation().forward(q)?, k, v),
                None => reference(&self.preparation().reference(q)?, k, v, MAX_SCORES),
            },
        }
    }

    fn preparation(&self) -> HeadPreparation<'_> {
        HeadPreparation {
            num_heads: self.num_heads,
            norm: self.q_norm,
            rope: self.rope,
        }
    }
}

/// [`CrossAttention`] on the CPU. Its operands were checked.
struct Attend<'a> {
    op: CrossAttention<'a>,
    /// Channels of a head.
    depth: usize,
    packed: &'a Packed,
}

impl CustomOp1 for Attend<'_> {
    fn name(&self) -> &'static str {
        "cross_attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, m, c) = layout.shape().dims3()?;
        let norm = self.op.q_norm.map(LayerNorm::slices).transpose()?;
        let tables = rotation_of(self.op.rope)?;
        let queries = Queries {
            q: HeadRows {
                data: Elements::F32(cpu::contiguous(storage, layout)?),
                start: 0,
                strides: [m * c, self.depth, c],
            },
            prepare_q: Prepare {
                norm: norm.as_ref().map(|norm| norm.parameters()),
                rope: tables.as_ref().map(|tables| tables.rotation()),
            },
            count: m,
        };
        let out = self.packed.attend(&queries)?;
        Ok((CpuStorage::F32(out), (1, m, c).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        bail!("the keys are on the CPU")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{
        SelfAttention,
        testing::{random, relative_error},
    };

    fn norm(depth: usize) -> LayerNorm {
        LayerNorm::from_tensors(random(&[depth]), random(&[depth]), 1e-5)
    }

    fn rope(positions: usize, depth: usize) -> RopeTable {
        RopeTable::new(random(&[positions, depth]), random(&[positions, depth]))
    }

    fn bits(t: &Tensor) -> Vec<u32> {
        let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    /// Attention of all tokens to themselves, through kept keys and values.
    fn through_kept(
        qkv: &Tensor,
        op: SelfAttention<'_>,
        dtype: DType,
        queries: std::ops::Range<usize>,
    ) -> Tensor {
        let c = qkv.dim(2).unwrap() / 3;
        let kv = qkv.narrow(2, c, 2 * c).unwrap();
        let keys = HeadPreparation {
            num_heads: op.num_heads,
            norm: op.k_norm,
            rope: op.rope,
        };
        let kept = KeysValues::new(&kv, keys).unwrap().to_dtype(dtype).unwrap();
        let packed = kept.pack(DType::F32, op.precision).unwrap();
        let q = qkv.narrow(2, 0, c).unwrap();
        let q = q.narrow(1, queries.start, queries.len()).unwrap();
        let cross = CrossAttention {
            num_heads: op.num_heads,
            q_norm: op.q_norm,
            rope: op.rope,
        };
        cross.forward(&q, &packed).unwrap()
    }

    #[test]
    fn kept_keys_give_the_bits_of_attention_to_oneself() {
        for (positions, frames, heads, depth) in [(6, 1, 2, 12), (30, 5, 4, 12), (13, 40, 1, 64)] {
            let n = positions * frames;
            let (q_norm, k_norm, rope) = (norm(depth), norm(depth), rope(positions, depth));
            let qkv = random(&[1, n, 3 * heads * depth]);
            for precision in [Precision::Exact, Precision::Fast] {
                let op = SelfAttention {
                    num_heads: heads,
                    q_norm: Some(&q_norm),
                    k_norm: Some(&k_norm),
                    rope: Some(&rope),
                    precision,
                };
                let dense = op.forward(&qkv).unwrap();
                let kept = through_kept(&qkv, op, DType::F32, 0..n);
                assert_eq!(bits(&dense), bits(&kept), "{frames} frames {precision:?}");
                // The queries of one frame alone.
                let last = n - positions..n;
                let alone = through_kept(&qkv, op, DType::F32, last.clone());
                let of_dense = dense.narrow(1, last.start, positions).unwrap();
                assert_eq!(
                    bits(&of_dense),
                    bits(&alone),
                    "{frames} frames {precision:?}"
                );
                let halves = through_kept(&qkv, op, DType::F16, 0..n);
                let error = relative_error(&halves, &dense);
                assert!(error > 0.0 && error < 5e-3, "{error:e}");
            }
        }
    }

    #[test]
    fn the_reference_is_the_same_function() {
        let (q_norm, k_norm, rope) = (norm(8), norm(8), rope(5, 8));
        let qkv = random(&[1, 15, 3 * 16]);
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let op = SelfAttention {
            num_heads: 2,
            q_norm: Some(&q_norm),
            k_norm: Some(&k_norm),
            rope: Some(&rope),
            precision: Precision::Exact,
        };
        let ours = through_kept(&qkv, op, DType::F32, 0..15);
        let (q_wide, k_wide) = (
            q_norm.with_dtype(DType::F64).unwrap(),
            k_norm.with_dtype(DType::F64).unwrap(),
        );
        let in_wide = SelfAttention {
            q_norm: Some(&q_wide),
            k_norm: Some(&k_wide),
            ..op
        };
        let exact = in_wide.forward(&wide(&qkv)).unwrap();
        assert!(relative_error(&ours, &exact) < 2e-6);
        // F64 has no backend: kept keys go through the reference as well.
        let kv = wide(&qkv.narrow(2, 16, 32).unwrap());
        let keys = HeadPreparation {
            num_heads: 2,
            norm: Some(&k_wide),
            rope: Some(&rope),
        };
        let packed = KeysValues::new(&kv, keys)
            .unwrap()
            .pack(DType::F64, Precision::Exact)
            .unwrap();
        let cross = CrossAttention {
            num_heads: 2,
            q_norm: Some(&q_wide),
            rope: Some(&rope),
        };
        let reference = cross
            .forward(&wide(&qkv.narrow(2, 0, 16).unwrap()), &packed)
            .unwrap();
        assert!(relative_error(&reference, &exact) < 1e-12);
    }

    #[test]
    fn keys_of_other_heads_are_refused() {
        let keys = HeadPreparation {
            num_heads: 2,
            norm: None,
            rope: None,
        };
        let kept = KeysValues::new(&random(&[1, 3, 16]), keys).unwrap();
        let packed = kept.pack(DType::F32, Precision::Exact).unwrap();
        let cross = CrossAttention {
            num_heads: 4,
            q_norm: None,
            rope: None,
        };
        assert!(cross.forward(&random(&[1, 3, 8]), &packed).is_err());
        assert!(KeysValues::new(&random(&[2, 3, 16]), keys).is_err());
        assert!(KeysValues::new(&random(&[1, 3, 15]), keys).is_err());
    }
}
