//! The transformations of F(4 x 4, 3 x 3), a line at a time: rows first, then columns.
//!
//! They evaluate polynomials at the points 0, 1, -1, 2, -2 and infinity, one for each position along a side.
//! These are the usual ones, because the points come in pairs x and -x, whose even and odd parts are computed once for both
//! (the sums and differences in `of_weights`, `of_inputs` and `of_sums`), and because inputs and sums are multiplied by small
//! integers only, at most 8: fractions appear in the transformation of the weights alone. Rounding errors grow with the
//! powers of the points. F(2 x 2, 3 x 3), with the points 0, 1, -1 and infinity, is more accurate but takes 4
//! multiplications per output instead of 2.25; F(6 x 6, 3 x 3) takes 1.78, but needs two points more, such as 1/2 and -1/2,
//! and fifth powers.

use super::super::simd::Vector;

/// Outputs along a side of a tile.
pub(super) const TILE: usize = 4;
/// Inputs along a side of a tile.
pub(super) const SIDE: usize = 6;

/// Returns a register with `x` in all lanes, where there is a register already.
#[inline(always)]
fn constant<V: Vector>(x: f32, _proof: V) -> V {
    // SAFETY: a vector is proof of the instruction set.
    unsafe { V::splat(x) }
}

/// Returns G g for one line.
#[inline(always)]
pub(super) fn of_weights<V: Vector>(g: [V; 3]) -> [V; SIDE] {
    let c = |x: f32| constant(x, g[0]);
    let ends = (g[0] + g[2]) * c(-1.0 / 6.0);
    let middle = g[1] * c(1.0 / 6.0);
    let far = g[0].mul_add(c(1.0 / 24.0), g[2] * c(1.0 / 6.0));
    let near = g[1] * c(1.0 / 12.0);
    [
        g[0] * c(0.25),
        ends - middle,
        ends + middle,
        far + near,
        far - near,
        g[2],
    ]
}

/// Returns Bᵀ d for one line.
#[inline(always)]
pub(super) fn of_inputs<V: Vector>(d: [V; SIDE]) -> [V; SIDE] {
    let c = |x: f32| constant(x, d[0]);
    let a = d[2].neg_mul_add(c(4.0), d[4]);
    let b = d[1].neg_mul_add(c(4.0), d[3]);
    let e = d[4] - d[2];
    let f = (d[3] - d[1]) * c(2.0);
    [
        d[0].mul_add(c(4.0), d[2].neg_mul_add(c(5.0), d[4])),
        a + b,
        a - b,
        e + f,
        e - f,
        d[1].mul_add(c(4.0), d[3].neg_mul_add(c(5.0), d[5])),
    ]
}

/// Returns Aᵀ m for one line.
#[inline(always)]
pub(super) fn of_sums<V: Vector>(m: [V; SIDE]) -> [V; TILE] {
    let c = |x: f32| constant(x, m[0]);
    let (a, b) = (m[1] + m[2], m[1] - m[2]);
    let (e, f) = (m[3] + m[4], m[3] - m[4]);
    [
        m[0] + a + e,
        f.mul_add(c(2.0), b),
        e.mul_add(c(4.0), a),
        f.mul_add(c(8.0), b) + m[5],
    ]
}
