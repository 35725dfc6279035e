//! The cases of speed: shapes near those of VGGT-1B.

use candle_core::DType;

use super::{
    Target,
    case::{Case, LinearThen, MapSize, Operation, Purpose},
};

/// Channels, heads and channels of a head of VGGT-1B.
const CHANNELS: usize = 1024;
const HEADS: usize = 16;
const DEPTH: usize = 64;
/// Channels of most maps of its dense heads.
const MAP_CHANNELS: usize = 256;

pub(super) fn cases(dtypes: &[DType], target: Target) -> Vec<Case> {
    // Tokens and patches of some frames of 518 x 392, and a map between patches and pixels.
    let (frames, positions, map) = match target {
        Target::Processor => (1, 521, MapSize::new(37, 28)),
        Target::Card => (8, 1041, MapSize::new(148, 112)),
    };
    let case = |(name, operation): (&str, Operation), dtype| Case {
        name: name.to_owned(),
        operation,
        dtype,
        purpose: Purpose::Speed,
    };
    let mut all = Vec::new();
    for dtype in dtypes {
        let of_type = transformer(frames, positions).into_iter();
        all.extend(of_type.map(|operation| case(operation, *dtype)));
    }
    all.extend(dense(map).into_iter().map(|op| case(op, DType::F32)));
    all
}

fn transformer(frames: usize, positions: usize) -> Vec<(&'static str, Operation)> {
    let (rows, hidden) = (frames * positions, 4 * CHANNELS);
    let linear = |(c_in, c_out), after_norm, then| Operation::Linear {
        batch: frames,
        rows: positions,
        c_in,
        c_out,
        after_norm,
        then,
    };
    let attend = |batch, frames, prepared| Operation::SelfAttention {
        batch,
        frames,
        positions,
        heads: HEADS,
        depth: DEPTH,
        norms: prepared,
        rotations: prepared,
    };
    vec![
        (
            "layer norm",
            Operation::LayerNorm {
                rows,
                channels: CHANNELS,
            },
        ),
        (
            "linear after norm (qkv)",
            linear((CHANNELS, 3 * CHANNELS), true, LinearThen::Bias),
        ),
        (
            "linear and GELU (fc1)",
            linear((CHANNELS, hidden), false, LinearThen::Gelu),
        ),
        (
            "linear and residual (fc2)",
            linear((hidden, CHANNELS), false, LinearThen::Residual),
        ),
        ("attention in frames", attend(frames, 1, true)),
        ("attention across frames", attend(1, frames, true)),
        ("attention, nothing prepared", attend(1, frames, false)),
    ]
}

fn dense(map: MapSize) -> Vec<(&'static str, Operation)> {
    let c = MAP_CHANNELS;
    let conv = |(kernel, padding), fused| Operation::Conv2d {
        batch: 1,
        map,
        c_in: c,
        c_out: c,
        kernel,
        stride: 1,
        padding,
        fused,
    };
    vec![
        (
            "bilinear, positions",
            Operation::Bilinear {
                batch: 1,
                from: map,
                to: MapSize::new(2 * map.height, 2 * map.width),
                channels: c / 2,
                positions: true,
            },
        ),
        ("conv2d 3x3", conv((3, 1), true)),
        ("conv2d 1x1", conv((1, 0), false)),
        (
            "conv_transpose2d 2x2",
            Operation::ConvTranspose2d {
                batch: 1,
                map,
                c_in: c,
                c_out: c,
                kernel: 2,
            },
        ),
    ]
}
