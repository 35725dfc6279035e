//! Values of given ranks over all frames, without holding all values.
//!
//! The definition is [`Held`]: keep everything, select. More values than [`HELD`] are counted instead, in two passes over the
//! upper and the lower half of their bits, which finds the same values.

use super::{SceneError, filter};

/// Values that are held at once, 16 MiB: above, two passes over the frames take the place of the memory.
const HELD: usize = 4 << 20;

/// Bins of a histogram: one for each value of 16 bits.
const BINS: usize = 1 << 16;

/// Passes one row after the other to its argument, the same rows each time.
pub(crate) type Pass<'a, const N: usize> =
    dyn FnMut(&mut dyn FnMut(&[[f32; N]])) -> Result<(), SceneError> + 'a;

/// Values of ranks.
pub(crate) struct Ranked<const N: usize> {
    /// Number of rows.
    pub(crate) count: usize,
    /// For each column the values of the ranks, in the order in which the ranks were named.
    pub(crate) columns: [Vec<f32>; N],
}

/// Returns for each of `N` columns the percentiles `percents`, as `filter::percentile` finds them; `None` without rows.
///
/// `most` is an upper bound of the number of rows. No value may be NaN.
///
/// # Errors
/// When `pass` fails, or passes other values the second time.
pub(crate) fn percentiles<const N: usize, const P: usize>(
    percents: [f64; P],
    most: usize,
    pass: &mut Pass<'_, N>,
) -> Result<Option<[[f32; P]; N]>, SceneError> {
    percentiles_within(HELD, percents, most, pass)
}

fn percentiles_within<const N: usize, const P: usize>(
    held: usize,
    percents: [f64; P],
    most: usize,
    pass: &mut Pass<'_, N>,
) -> Result<Option<[[f32; P]; N]>, SceneError> {
    let of_count = |count: usize| -> Vec<usize> {
        let last = count - 1;
        let pair = |percent: &f64| {
            let rank = filter::rank(last, *percent) as usize;
            [rank, (rank + 1).min(last)]
        };
        percents.iter().flat_map(pair).collect()
    };
    let Some(Ranked { count, columns }) = at_ranks_within(held, of_count, most, pass)? else {
        return Ok(None);
    };
    let found = columns.map(|values| {
        std::array::from_fn(|i| {
            let rank = filter::rank(count - 1, percents[i]);
            filter::interpolate(values[2 * i], values[2 * i + 1], rank)
        })
    });
    Ok(Some(found))
}

/// Returns for each of `N` columns the values of the ranks that `ranks` names for the number of rows; rank 0 is the smallest
/// value in the order of [`f32::total_cmp`]. `None` without rows.
///
/// `most` is an upper bound of the number of rows; ranks must be below the number of rows.
///
/// # Errors
/// When `pass` fails, or passes other values the second time.
pub(crate) fn at_ranks<const N: usize>(
    ranks: impl Fn(usize) -> Vec<usize>,
    most: usize,
    pass: &mut Pass<'_, N>,
) -> Result<Option<Ranked<N>>, SceneError> {
    at_ranks_within(HELD, ranks, most, pass)
}

fn at_ranks_within<const N: usize>(
    held: usize,
    ranks: impl Fn(usize) -> Vec<usize>,
    most: usize,
    pass: &mut Pass<'_, N>,
) -> Result<Option<Ranked<N>>, SceneError> {
    match most.saturating_mul(N) <= held {
        true => Held::read(most, pass)?.at(ranks),
        false => Counted::read(pass)?.at(ranks, pass),
    }
}

/// All values, by columns.
struct Held<const N: usize>([Vec<f32>; N]);

impl<const N: usize> Held<N> {
    fn read(most: usize, pass: &mut Pass<'_, N>) -> Result<Self, SceneError> {
        let mut columns = std::array::from_fn(|_| Vec::with_capacity(most));
        pass(&mut |rows| {
            for (axis, column) in columns.iter_mut().enumerate() {
                column.extend(rows.iter().map(|row| row[axis]));
            }
        })?;
        Ok(Self(columns))
    }

    fn at(self, ranks: impl Fn(usize) -> Vec<usize>) -> Result<Option<Ranked<N>>, SceneError> {
        let count = self.0.first().map_or(0, Vec::len);
        if count == 0 {
            return Ok(None);
        }
        let ranks = ranks(count);
        let columns = self.0.map(|mut column| selected(&mut column, &ranks));
        Ok(Some(Ranked { count, columns }))
    }
}

/// Returns the values of `ranks`. Selects in O(n) instead of sorting; reorders `values`.
fn selected(values: &mut [f32], ranks: &[usize]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|i| ranks[*i]);
    let mut found = vec![0.0; ranks.len()];
    // Everything before this position is at its place and not larger than what follows.
    let mut start = 0;
    for i in order {
        let rank = ranks[i];
        if rank >= start {
            values[start..].select_nth_unstable_by(rank - start, f32::total_cmp);
            start = rank + 1;
        }
        found[i] = values[rank];
    }
    found
}

/// A histogram of the upper 16 bits of each column.
struct Counted<const N: usize> {
    count: usize,
    upper: [Vec<u64>; N],
}

impl<const N: usize> Counted<N> {
    fn read(pass: &mut Pass<'_, N>) -> Result<Self, SceneError> {
        let mut upper = std::array::from_fn(|_| vec![0; BINS]);
        let mut count = 0;
        pass(&mut |rows| {
            count += rows.len();
            for (axis, bins) in upper.iter_mut().enumerate() {
                for row in rows {
                    bins[(ordered(row[axis]) >> 16) as usize] += 1;
                }
            }
        })?;
        Ok(Self { count, upper })
    }

    fn at(
        self,
        ranks: impl Fn(usize) -> Vec<usize>,
        pass: &mut Pass<'_, N>,
    ) -> Result<Option<Ranked<N>>, SceneError> {
        if self.count == 0 {
            return Ok(None);
        }
        let ranks = ranks(self.count);
        let mut wanted = self.upper.map(|bins| Wanted::of(&bins, &ranks));
        pass(&mut |rows| {
            for (axis, wanted) in wanted.iter_mut().enumerate() {
                rows.iter().for_each(|row| wanted.count(ordered(row[axis])));
            }
        })?;
        let mut columns = std::array::from_fn(|_| Vec::with_capacity(ranks.len()));
        for (column, wanted) in columns.iter_mut().zip(&wanted) {
            if !wanted.is_complete() {
                return Err(SceneError::Unstable);
            }
            for place in &wanted.places {
                column.push(wanted.value(*place).ok_or(SceneError::Unstable)?);
            }
        }
        Ok(Some(Ranked {
            count: self.count,
            columns,
        }))
    }
}

/// The bins of one column that hold the wanted ranks, and histograms of the lower 16 bits of what falls into them.
struct Wanted {
    bins: Vec<u32>,
    /// Values in each of these bins in the first pass.
    expected: Vec<u64>,
    lower: Vec<Vec<u64>>,
    /// Index in `bins` and rank in the bin, for each wanted rank; no bin where the ranks are out of range.
    places: Vec<(usize, u64)>,
}

impl Wanted {
    fn of(upper: &[u64], ranks: &[usize]) -> Self {
        let mut wanted = Self {
            bins: Vec::new(),
            expected: Vec::new(),
            lower: Vec::new(),
            places: Vec::with_capacity(ranks.len()),
        };
        for rank in ranks {
            let (bin, rank) = position(upper, *rank as u64).unwrap_or((0, u64::MAX));
            let bin = bin as u32;
            let known = wanted.bins.iter().position(|known| *known == bin);
            let index = known.unwrap_or_else(|| {
                wanted.bins.push(bin);
                wanted.expected.push(upper[bin as usize]);
                wanted.lower.push(vec![0; BINS]);
                wanted.bins.len() - 1
            });
            wanted.places.push((index, rank));
        }
        wanted
    }

    fn count(&mut self, bits: u32) {
        if let Some(index) = self.bins.iter().position(|bin| *bin == bits >> 16) {
            self.lower[index][bits as usize % BINS] += 1;
        }
    }

    /// Returns true when as many values were met as in the first pass.
    fn is_complete(&self) -> bool {
        let found = self.lower.iter().map(|lower| lower.iter().sum::<u64>());
        found.eq(self.expected.iter().copied())
    }

    fn value(&self, (index, rank): (usize, u64)) -> Option<f32> {
        let (lower, _) = position(&self.lower[index], rank)?;
        Some(value_of(self.bins[index] << 16 | lower as u32))
    }
}

/// Returns the bin that holds the value of this rank, and its rank in the bin.
fn position(bins: &[u64], mut rank: u64) -> Option<(usize, u64)> {
    for (bin, count) in bins.iter().enumerate() {
        if rank < *count {
            return Some((bin, rank));
        }
        rank -= count;
    }
    None
}

/// Returns bits that compare as integers like the values in the order of [`f32::total_cmp`].
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    // Negative values run backwards and come first.
    match bits >> 31 {
        0 => bits | 1 << 31,
        _ => !bits,
    }
}

/// Undoes [`ordered`].
fn value_of(ordered: u32) -> f32 {
    f32::from_bits(match ordered >> 31 {
        0 => !ordered,
        _ => ordered & !(1 << 31),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, from a linear congruential generator (Numerical Recipes' constants).
    struct Random(u32);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            self.0 >> 8
        }
    }

    /// Percentiles with everything held, and with everything counted, in rows of 7.
    fn both<const N: usize>(rows: &[[f32; N]], percents: [f64; 4]) -> [Option<[[u32; 4]; N]>; 2] {
        [usize::MAX, 0].map(|held| {
            let pass: &mut Pass<'_, N> = &mut |each| {
                rows.chunks(7).for_each(each);
                Ok(())
            };
            let found = percentiles_within(held, percents, rows.len().max(1), pass).unwrap();
            found.map(|columns| columns.map(|values| values.map(f32::to_bits)))
        })
    }

    fn assert_same(values: &[f32]) {
        let percents = [0.0, 3.0, 37.5, 100.0];
        let rows: Vec<[f32; 1]> = values.iter().map(|x| [*x]).collect();
        let [held, counted] = both(&rows, percents);
        assert_eq!(held, counted, "{values:?}");
        let mut values = values.to_vec();
        let defined = percents.map(|p| filter::percentile(&mut values, p).map(f32::to_bits));
        let found = held.map(|[column]| column);
        for (i, defined) in defined.into_iter().enumerate() {
            assert_eq!(found.map(|column| column[i]), defined);
        }
    }

    #[test]
    fn counting_finds_what_selecting_finds_bit_for_bit() {
        assert_same(&[]);
        assert_same(&[7.5]);
        assert_same(&[-0.0]);
        assert_same(&[0.0, -0.0, 0.0, -0.0]);
        assert_same(&[-1.0, -1.0, -1.0, 2.0]);
        assert_same(&[
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            -f32::MIN_POSITIVE,
            1e-45,
        ]);
        let mut random = Random(1);
        for length in [2, 3, 10, 101, 5000] {
            // Many ties, both signs; then neighbors that differ in the lowest bits only; then any finite bits.
            let ties: Vec<f32> = (0..length)
                .map(|_| (random.next() % 9) as f32 - 4.0)
                .collect();
            assert_same(&ties);
            let near = |x: u32| f32::from_bits(0x3F80_0000 + x % 500);
            let near: Vec<f32> = (0..length).map(|_| near(random.next())).collect();
            assert_same(&near);
            let bits: Vec<f32> = (0..length)
                .map(|_| f32::from_bits(random.next() << 8 ^ random.next()))
                .filter(|x| x.is_finite())
                .collect();
            assert_same(&bits);
        }
    }

    #[test]
    fn columns_do_not_mix() {
        let mut random = Random(7);
        let rows: Vec<[f32; 3]> = (0..1000)
            .map(|i| [i as f32, -(i as f32) / 3.0, (random.next() % 100) as f32])
            .collect();
        let [held, counted] = both(&rows, [5.0, 50.0, 95.0, 100.0]);
        assert_eq!(held, counted);
        let first = held.unwrap()[0].map(f32::from_bits);
        assert_eq!(first, [49.95, 499.5, 949.05, 999.0]);
    }

    #[test]
    fn order_is_kept_by_the_bits() {
        let sorted = [f32::MIN, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, f32::MAX];
        let bits = sorted.map(ordered);
        assert!(bits.is_sorted(), "{bits:?}");
        assert_eq!(
            bits.map(value_of).map(f32::to_bits),
            sorted.map(f32::to_bits)
        );
    }

    #[test]
    fn values_that_change_between_passes_are_an_error() {
        let mut calls = 0;
        let pass: &mut Pass<'_, 1> = &mut |each| {
            calls += 1;
            each(&[[calls as f32]; 3]);
            Ok(())
        };
        let found = percentiles_within(0, [50.0], 3, pass);
        assert!(matches!(found, Err(SceneError::Unstable)), "{found:?}");
    }
}
