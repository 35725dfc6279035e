//! The cases of the transformers, with tolerances for each type.
//!
//! Shapes are small, since the tests also run them on a CPU that plays a card, but meet every edge: odd rows, tails of tiles
//! that are nearly empty, several batch entries, rotations that repeat, rows too wide for registers or off the 16 bytes that
//! move at once.

use candle_core::DType;

use super::{
    case::{Case, LinearThen, MapSize, Operation},
    judge::Roundings,
};

// Tolerances are three times the largest error that was measured: F32 on the CPU and through the emulated kernels, 16 bits
// through the emulated kernels, with errors as Case::judge has them, in roundings to the type.

/// Measured 2.8 and 0.66: in 16 bits the result is rounded and nothing else, in F32 a difference from the mean and its square
/// root are rounded as well.
const NORM: Roundings = Roundings {
    single: 8.4,
    half: 2.0,
};

/// Measured 1.2 and 0.83, where candle's kernel rounds Φ(x) and then the product; in F32 CUDA documents 5 units in the last
/// place, which is 10 roundings, for its Φ.
const GELU: Roundings = Roundings {
    single: 12.0,
    half: 2.5,
};

/// Measured 22 and 1.8: in 16 bits the norm's output, the product and the result are rounded, in F32 every step of a sum of up
/// to 1024 products.
const LINEAR: Roundings = Roundings {
    single: 66.0,
    half: 5.5,
};

/// Measured 16 and 2.2: as a linear layer, with one rounding more for the hidden layer.
const MLP: Roundings = Roundings {
    single: 48.0,
    half: 6.5,
};

/// Measured 45 and 3.1: rounded queries and keys move scores of up to 5 by some roundings of that size, and the result, a mean
/// of many values, is smaller than these.
const PREPARED: Roundings = Roundings {
    single: 135.0,
    half: 9.3,
};

/// Measured 36 and 1.3: in 16 bits the weights of the values and the result are rounded, in F32 the sums of the scores.
const ATTENTION: Roundings = Roundings {
    single: 108.0,
    half: 3.9,
};

/// Measured 3.2 and 2.7: the filter's weights, the first product and the result are rounded.
const BICUBIC: Roundings = Roundings {
    single: 9.6,
    half: 8.2,
};

pub(super) fn cases(dtype: DType) -> Vec<Case> {
    let families = [
        (NORM, layer_norms()),
        (GELU, gelus()),
        (LINEAR, linears()),
        (MLP, mlps()),
        (PREPARED, prepared_attentions()),
        (ATTENTION, attentions()),
        (BICUBIC, embeddings()),
    ];
    let of_family = |(limit, operations): (Roundings, Vec<(&'static str, Operation)>)| {
        let tolerance = limit.tolerance(dtype);
        let case = move |(name, operation)| Case::new(name, operation, dtype, tolerance);
        operations.into_iter().map(case)
    };
    families.into_iter().flat_map(of_family).collect()
}

fn layer_norms() -> Vec<(&'static str, Operation)> {
    let norm = |rows, channels| Operation::LayerNorm { rows, channels };
    vec![
        ("layer norm, 1024 channels", norm(19, 1024)),
        ("layer norm, 2048 channels", norm(9, 2048)),
        ("layer norm, 1027 channels", norm(11, 1027)),
        ("layer norm, one row", norm(1, 384)),
    ]
}

fn gelus() -> Vec<(&'static str, Operation)> {
    let gelu = Operation::Gelu {
        rows: 67,
        channels: 131,
    };
    vec![("GELU", gelu)]
}

fn linears() -> Vec<(&'static str, Operation)> {
    let linear = |batch, rows, (c_in, c_out), after_norm, then| Operation::Linear {
        batch,
        rows,
        c_in,
        c_out,
        after_norm,
        then,
    };
    use LinearThen::{Bias, Gelu, Residual};
    vec![
        // Wider than what the threads of a block cover at once.
        ("linear after norm", linear(1, 17, (256, 3072), true, Bias)),
        (
            "linear after norm, odd width",
            linear(2, 13, (129, 131), true, Bias),
        ),
        ("linear", linear(1, 37, (1024, 64), false, Bias)),
        ("linear and GELU", linear(3, 11, (96, 1032), false, Gelu)),
        (
            "linear and GELU, odd width",
            linear(1, 23, (64, 131), false, Gelu),
        ),
        (
            "linear, LayerScale, residual",
            linear(3, 7, (192, 1032), false, Residual),
        ),
        (
            "linear, LayerScale, residual, odd width",
            linear(1, 29, (64, 131), false, Residual),
        ),
    ]
}

fn mlps() -> Vec<(&'static str, Operation)> {
    let mlp = |rows, channels, hidden| Operation::Mlp {
        rows,
        channels,
        hidden,
    };
    vec![
        ("MLP", mlp(35, 128, 512)),
        // A chunk and three rows.
        ("MLP, 8195 rows in two chunks", mlp(8195, 24, 48)),
    ]
}

fn self_attention(
    (batch, frames, positions): (usize, usize, usize),
    (heads, depth): (usize, usize),
    norms: bool,
    rotations: bool,
) -> Operation {
    Operation::SelfAttention {
        batch,
        frames,
        positions,
        heads,
        depth,
        norms,
        rotations,
    }
}

/// With queries and keys that are normalized or rotated first. Most have a tile of keys or of queries and a few more.
fn prepared_attentions() -> Vec<(&'static str, Operation)> {
    let attend = self_attention;
    vec![
        (
            "self-attention in each of 3 frames",
            attend((3, 1, 69), (2, 64), true, true),
        ),
        (
            "self-attention across 3 frames",
            attend((1, 3, 43), (2, 64), true, true),
        ),
        (
            "self-attention, one token",
            attend((1, 1, 1), (2, 64), true, true),
        ),
        (
            "self-attention, norms",
            attend((1, 1, 71), (3, 64), true, false),
        ),
        (
            "self-attention, rotations",
            attend((2, 2, 33), (1, 64), false, true),
        ),
        (
            "self-attention, heads of 32",
            attend((2, 2, 35), (2, 32), true, true),
        ),
        (
            "self-attention, heads of 12",
            attend((1, 3, 23), (4, 12), true, true),
        ),
    ]
}

/// With queries and keys as they are: the trunk's, and those of the track head, whose keys are other tokens.
fn attentions() -> Vec<(&'static str, Operation)> {
    let attend = |(batch, heads, depth), queries, keys| Operation::Attention {
        batch,
        heads,
        depth,
        queries,
        keys,
    };
    vec![
        (
            "self-attention, 2 frames of the trunk",
            self_attention((2, 1, 129), (2, 64), false, false),
        ),
        (
            "self-attention, heads of 20, no norms",
            self_attention((2, 1, 37), (2, 20), false, false),
        ),
        ("attention, fewer keys", attend((2, 2, 64), 131, 65)),
        ("attention, more keys", attend((1, 2, 64), 19, 197)),
        ("attention, heads of 48", attend((2, 2, 48), 67, 33)),
    ]
}

fn embeddings() -> Vec<(&'static str, Operation)> {
    let resample = |from, to| Operation::Bicubic {
        from,
        to,
        channels: 48,
    };
    vec![
        (
            "bicubic, shrinking and growing",
            resample(MapSize::new(37, 37), MapSize::new(28, 41)),
        ),
        (
            "bicubic, growing",
            resample(MapSize::new(9, 9), MapSize::new(13, 29)),
        ),
    ]
}
