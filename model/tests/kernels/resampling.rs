//! `bilinear.cu`.

use candle_core::{DType, Tensor};
use vggt_model::ops::{
    Positions, bilinear_align_corners,
    cuda::{Address, BilinearCall, bilinear},
};

use super::{Memory, Random, Runner, relative_error};

/// Weights of F32 on both sides, three sums: a few roundings.
const TOLERANCE: f64 = 1e-6;

#[test]
fn resampling_matches_the_reference() {
    let mut random = Random(11);
    // Sizes before and after, channels: vectors, single elements, halves that are no vectors; growing, shrinking, one pixel.
    let shapes = [
        ((3, 5), (6, 10), 3),
        ((7, 1), (3, 4), 20),
        ((1, 1), (2, 2), 16),
        ((5, 4), (1, 9), 34),
        ((6, 9), (4, 5), 12),
        ((4, 4), (9, 7), 136),
        ((37, 28), (5, 74), 2),
    ];
    for ((h, w), (height, width), c) in shapes {
        let batch = random.within(1, 4);
        let x = Memory::new(&random.values(batch * h * w * c), DType::F32);
        let columns = Memory::new(&random.values(width * (c / 2)), DType::F32);
        let rows = Memory::new(&random.values(height * (c / 2)), DType::F32);
        for with_positions in [false, true] {
            if with_positions && c % 2 != 0 {
                continue;
            }
            for &runner in Runner::all() {
                let mut out = Memory::unwritten(batch * height * width * c, DType::F32, 0);
                let call = bilinear(BilinearCall {
                    batch,
                    from: (h, w),
                    to: (height, width),
                    channels: c,
                    x: x.address(),
                    out: out.address(),
                    positions: match with_positions {
                        true => [columns.address(), rows.address()],
                        false => [Address::NULL; 2],
                    },
                })
                .unwrap();
                runner.run(&call, &[&x, &columns, &rows], &mut out);

                let half = |m: &Memory, n: usize| m.tensor((n, c / 2));
                let positions = with_positions
                    .then(|| Positions::new(half(&columns, width), half(&rows, height)));
                let exact: Tensor = bilinear_align_corners(
                    &x.tensor((batch, h, w, c)),
                    (height, width),
                    positions.as_ref(),
                )
                .unwrap();
                let error = relative_error(&out.tensor((batch, height, width, c)), &exact);
                assert!(
                    error < TOLERANCE,
                    "{runner} {h}x{w} {height}x{width} {c} {with_positions}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn nothing_to_resample_is_refused() {
    let none = BilinearCall {
        batch: 1,
        from: (0, 3),
        to: (2, 2),
        channels: 4,
        x: Address::NULL,
        out: Address::NULL,
        positions: [Address::NULL; 2],
    };
    assert!(bilinear(none).is_err());
}
