//! The cases of the dense heads, which compute in F32 whatever the transformers do.

use candle_core::DType;

use super::{
    Target,
    case::{Case, MapSize, Operation},
    judge::Roundings,
};

// Tolerances are three times the largest error that was measured, on the CPU and through the emulated kernels, with errors as
// Case::judge has them, in roundings to F32.

/// Measured 2.5: two interpolations and the position embedding are rounded.
const BILINEAR: Roundings = Roundings::single(7.5);

/// Measured 20 with the products summed up one by one: a sum of up to 288 of them.
const CONVOLUTION: Roundings = Roundings::single(60.0);

/// Measured 295: Winograd's transformation, which the CPU uses for kernels of 3 x 3, takes differences of sums.
const WINOGRAD: Roundings = Roundings::single(900.0);

/// Measured 8.3: sums of 32 products.
const TRANSPOSED: Roundings = Roundings::single(25.0);

/// A frame of 518 x 392 in patches, and a map whose sides are odd.
const FRAME: MapSize = MapSize::new(37, 28);
const ODD: MapSize = MapSize::new(13, 29);

pub(super) fn cases(target: Target) -> Vec<Case> {
    let of_3x3 = match target {
        Target::Processor => WINOGRAD,
        Target::Card => CONVOLUTION,
    };
    let families = [
        (BILINEAR, resamplings()),
        (of_3x3, convolutions_3x3()),
        (CONVOLUTION, other_convolutions()),
        (TRANSPOSED, transposed()),
    ];
    let of_family = |(limit, operations): (Roundings, Vec<(&'static str, Operation)>)| {
        let dtype = DType::F32;
        let tolerance = limit.tolerance(dtype);
        let case = move |(name, operation)| Case::new(name, operation, dtype, tolerance);
        operations.into_iter().map(case)
    };
    families.into_iter().flat_map(of_family).collect()
}

fn resamplings() -> Vec<(&'static str, Operation)> {
    let resample = |batch, from, to, channels, positions| Operation::Bilinear {
        batch,
        from,
        to,
        channels,
        positions,
    };
    vec![
        (
            "bilinear, growing, positions",
            resample(2, ODD, MapSize::new(26, 58), 16, true),
        ),
        (
            "bilinear, to odd sizes, positions",
            resample(1, MapSize::new(7, 5), MapSize::new(19, 23), 34, true),
        ),
        (
            "bilinear, shrinking",
            resample(2, FRAME, MapSize::new(11, 9), 12, false),
        ),
        (
            "bilinear, odd channels",
            resample(1, ODD, MapSize::new(15, 31), 3, false),
        ),
        (
            "bilinear, one position",
            resample(1, MapSize::new(1, 1), MapSize::new(3, 2), 8, true),
        ),
        (
            "bilinear, same size, positions",
            resample(2, FRAME, FRAME, 16, true),
        ),
    ]
}

fn conv(
    batch: usize,
    map: MapSize,
    (c_in, c_out): (usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
    fused: bool,
) -> Operation {
    Operation::Conv2d {
        batch,
        map,
        c_in,
        c_out,
        kernel,
        stride,
        padding,
        fused,
    }
}

fn convolutions_3x3() -> Vec<(&'static str, Operation)> {
    vec![
        (
            "conv2d 3x3, a frame, skips and ReLU",
            conv(1, FRAME, (32, 32), (3, 1, 1), true),
        ),
        (
            "conv2d 3x3, 2 odd maps",
            conv(2, ODD, (24, 20), (3, 1, 1), false),
        ),
        (
            "conv2d 3x3, odd channels, skips and ReLU",
            conv(1, ODD, (7, 5), (3, 1, 1), true),
        ),
    ]
}

fn other_convolutions() -> Vec<(&'static str, Operation)> {
    vec![
        (
            "conv2d 3x3, stride 2",
            conv(2, ODD, (16, 24), (3, 2, 1), false),
        ),
        (
            "conv2d 3x3, stride 2, a frame",
            conv(1, FRAME, (16, 16), (3, 2, 1), false),
        ),
        ("conv2d 1x1", conv(2, ODD, (96, 33), (1, 1, 0), false)),
    ]
}

fn transposed() -> Vec<(&'static str, Operation)> {
    let conv = |batch, map, channels, kernel| Operation::ConvTranspose2d {
        batch,
        map,
        c_in: channels,
        c_out: channels,
        kernel,
    };
    vec![
        ("conv_transpose2d 2x2", conv(2, ODD, 24, 2)),
        ("conv_transpose2d 4x4", conv(1, FRAME, 32, 4)),
    ]
}
