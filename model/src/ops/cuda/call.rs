//! A call of a kernel, as plain data.

use candle_core::{DType, Result, bail};

/// Where something lies in the memory of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// The address that says that there is nothing.
    pub const NULL: Self = Self(0);

    /// Whether the kernels may move 16 bytes at once from here on.
    fn is_wide(self) -> bool {
        self.0.is_multiple_of(WIDE_BYTES as u64)
    }
}

/// An argument of a kernel. Its size is that of the parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// A pointer.
    Address(Address),
    /// `int`
    I32(i32),
    /// `int64_t`
    I64(i64),
    /// `float`
    F32(f32),
}

/// A file of `model/kernels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// `layer_norm.cu`
    LayerNorm,
    /// `epilogue.cu`
    Epilogue,
    /// `heads.cu`
    Heads,
    /// `flash_attention.cu`
    FlashAttention,
    /// `attention.cu`
    Attention,
    /// `bilinear.cu`
    Bilinear,
}

impl Module {
    /// Every file.
    pub const ALL: [Self; 6] = [
        Self::LayerNorm,
        Self::Epilogue,
        Self::Heads,
        Self::FlashAttention,
        Self::Attention,
        Self::Bilinear,
    ];

    /// Its name without `.cu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerNorm => "layer_norm",
            Self::Epilogue => "epilogue",
            Self::Heads => "heads",
            Self::FlashAttention => "flash_attention",
            Self::Attention => "attention",
            Self::Bilinear => "bilinear",
        }
    }

    /// The names of its kernels.
    pub fn kernels(self) -> &'static [&'static str] {
        match self {
            Self::LayerNorm => &["layer_norm_f32", "layer_norm_f16", "layer_norm_bf16"],
            Self::Epilogue => &[
                "bias_f32",
                "bias_f16",
                "bias_bf16",
                "bias_gelu_f32",
                "bias_gelu_f16",
                "bias_gelu_bf16",
                "bias_residual_f32",
                "bias_residual_f16",
                "bias_residual_bf16",
                "bias_skip_f32",
                "bias_skip_f16",
                "bias_skip_bf16",
            ],
            Self::Heads => &["heads_f32", "heads_f16", "heads_bf16"],
            Self::FlashAttention => &["flash_f16", "flash_bf16"],
            Self::Attention => &["attention_f32", "attention_f16", "attention_bf16"],
            Self::Bilinear => &["bilinear_f32"],
        }
    }

    /// The kernel called `name` for `dtype`. Its whole name ends with the type.
    pub(super) fn kernel(self, name: &str, dtype: DType) -> Result<&'static str> {
        let type_name = type_name(dtype)?;
        let is_it = |whole: &&str| {
            let rest = whole
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('_'));
            rest == Some(type_name)
        };
        match self.kernels().iter().find(|whole| is_it(whole)) {
            Some(whole) => Ok(whole),
            None => bail!("{}.cu has no {name} in {type_name}", self.name()),
        }
    }
}

/// A kernel, how many threads run it, and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The file it is in.
    pub module: Module,
    /// Its name there, one of [`Module::kernels`].
    pub function: &'static str,
    /// Blocks, in one dimension. With 0 of them there is nothing to do, and CUDA would refuse.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block; at most `SHARED_BYTES`.
    pub shared_bytes: u32,
    /// In the order of the kernel's parameters.
    pub args: Vec<Arg>,
}

/// Blocks in the first dimension of a grid. Origin: CUDA's programming guide, technical specifications.
const MAX_BLOCKS: usize = i32::MAX as usize;

/// Shared memory that every block of every card may have without asking for more. Origin: as above.
pub(super) const SHARED_BYTES: usize = 48 << 10;

/// What one instruction moves at most.
pub(super) const WIDE_BYTES: usize = 16;

/// How kernels spell a type.
fn type_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::F16 => Ok("f16"),
        DType::BF16 => Ok("bf16"),
        _ => bail!("no kernel computes in {}", dtype.as_str()),
    }
}

/// A dimension as the kernels take it. Offsets are computed in 64 bits; what they are made of has 32.
pub(super) fn int(n: usize, what: &str) -> Result<Arg> {
    match i32::try_from(n) {
        Ok(n) => Ok(Arg::I32(n)),
        Err(_) => bail!("{n} {what} are more than a kernel takes"),
    }
}

/// A number of blocks.
pub(super) fn grid(blocks: usize) -> Result<u32> {
    if blocks > MAX_BLOCKS {
        bail!("{blocks} blocks are more than a grid has")
    }
    Ok(blocks as u32)
}

/// Whether rows of `c` elements that begin at `addresses` can be moved 16 bytes at once.
pub(super) fn is_wide(dtype: DType, c: usize, addresses: &[Address]) -> bool {
    (c * dtype.size_in_bytes()).is_multiple_of(WIDE_BYTES)
        && addresses.iter().all(|address| address.is_wide())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        assert_eq!(grid(MAX_BLOCKS).unwrap(), i32::MAX as u32);
        let e = grid(MAX_BLOCKS + 1).unwrap_err().to_string();
        assert!(e.contains("2147483648 blocks"), "{e}");
        let e = int(1 << 31, "rows").unwrap_err().to_string();
        assert!(e.contains("2147483648 rows"), "{e}");
        assert!(type_name(DType::F64).is_err());
    }

    #[test]
    fn kernels_are_found_by_name_and_type() {
        let named = |name, dtype| Module::Epilogue.kernel(name, dtype);
        assert_eq!(named("bias", DType::F16).unwrap(), "bias_f16");
        assert_eq!(named("bias", DType::BF16).unwrap(), "bias_bf16");
        assert_eq!(named("bias_gelu", DType::F32).unwrap(), "bias_gelu_f32");
        assert!(named("bia", DType::F32).is_err());
        assert!(named("bias", DType::F64).is_err());
        let e = Module::FlashAttention.kernel("flash", DType::F32);
        let e = e.unwrap_err().to_string();
        assert!(e.contains("flash_attention.cu has no flash in f32"), "{e}");
        // The table of loaded modules has them in this order.
        for (i, module) in Module::ALL.into_iter().enumerate() {
            assert_eq!(module as usize, i);
        }
    }

    #[test]
    fn sixteen_bytes_move_at_once_only_from_aligned_rows() {
        let at = |n| [Address(256), Address(n)];
        assert!(is_wide(DType::F32, 4, &at(512)));
        assert!(is_wide(DType::BF16, 8, &at(512)));
        assert!(!is_wide(DType::BF16, 4, &at(512)));
        assert!(!is_wide(DType::F32, 5, &at(512)));
        assert!(!is_wide(DType::F32, 4, &at(520)));
        // A part that is not there is at every boundary.
        assert!(is_wide(DType::F32, 4, &[Address::NULL]));
    }
}
