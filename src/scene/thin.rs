//! Which points are left when a scene is thinned: decided by rank, before any point is read.

/// (sqrt(5) - 1) / 2 as a fraction of 2^32.
const GOLDEN_RATIO: u32 = 0x9E37_79B9;

/// `limit` of `len` ranks: one of each of `limit` equal stretches.
// A fixed position in each stretch would leave stripes in the image wherever a row is a multiple of the stretch; the
// multiples of the golden ratio visit the positions as evenly as possible without repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thinning {
    len: usize,
    limit: usize,
}

impl Thinning {
    /// Returns the thinning of `len` points to `limit`, of which there are fewer and at least 1.
    pub(crate) fn new(len: usize, limit: usize) -> Self {
        Self { len, limit }
    }

    /// Returns the taken ranks from `from` on, in rising order.
    pub(crate) fn ranks(self, from: usize) -> impl Iterator<Item = usize> {
        // The stretch of `from`: its rank may lie before or after it.
        let first = (from as u128 * self.limit as u128 / self.len as u128) as usize;
        let ranks = (first..self.limit).map(move |i| self.rank(i));
        ranks.skip_while(move |rank| *rank < from)
    }

    /// Returns the number of taken ranks in `from..to`.
    pub(crate) fn count(self, from: usize, to: usize) -> usize {
        self.before(to) - self.before(from)
    }

    /// Returns the number of taken ranks below `end`.
    fn before(self, end: usize) -> usize {
        if end >= self.len {
            return self.limit;
        }
        // Rounded down, or one less than that: `end` lies in the stretch of this number or at its start.
        let stretch = (end as u128 * self.limit as u128 / self.len as u128) as usize;
        let mut count = stretch;
        while count < self.limit && self.rank(count) < end {
            count += 1;
        }
        while count > 0 && self.rank(count - 1) >= end {
            count -= 1;
        }
        count
    }

    /// Returns the taken rank of stretch `i`.
    fn rank(self, i: usize) -> usize {
        let start = |i: usize| (i as u128 * self.len as u128 / self.limit as u128) as usize;
        let (from, to) = (start(i), start(i + 1));
        let share = u64::from((i as u32).wrapping_mul(GOLDEN_RATIO));
        // A stretch may be longer than 32 bits.
        from + ((u128::from(share) * (to - from) as u128) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(len: usize, limit: usize) -> Vec<usize> {
        Thinning::new(len, limit).ranks(0).collect()
    }

    /// The definition: thins a column in place.
    fn thin_column<T: Copy>(column: &mut Vec<T>, limit: usize) {
        let len = column.len() as u128;
        let start = |i: usize| (i as u128 * len / limit as u128) as usize;
        for i in 0..limit {
            let (from, to) = (start(i), start(i + 1));
            let share = (i as u32).wrapping_mul(GOLDEN_RATIO) as u64;
            let offset = (share * (to - from) as u64) >> 32;
            column[i] = column[from + offset as usize];
        }
        column.truncate(limit);
    }

    #[test]
    fn ranks_are_those_of_a_thinned_column_wherever_they_start() {
        for (len, limit) in [
            (2, 1),
            (10, 3),
            (10, 9),
            (7, 1),
            (1000, 333),
            (997, 996),
            (5000, 7),
        ] {
            let mut column: Vec<usize> = (0..len).collect();
            thin_column(&mut column, limit);
            assert_eq!(all(len, limit), column, "{len} to {limit}");
            let thinning = Thinning::new(len, limit);
            for from in 0..=len {
                let rest: Vec<usize> = thinning.ranks(from).collect();
                let expected: Vec<usize> = column.iter().copied().filter(|i| *i >= from).collect();
                assert_eq!(rest, expected, "{len} to {limit} from {from}");
                assert_eq!(thinning.count(from, len), expected.len());
                assert_eq!(thinning.count(0, from), limit - expected.len());
            }
        }
    }

    #[test]
    fn more_ranks_than_32_bits_are_counted() {
        let thinning = Thinning::new(6_000_000_000, 20_000_000);
        let first = thinning.ranks(5_900_000_000).next().unwrap();
        assert!((5_900_000_000..5_900_000_300).contains(&first), "{first}");
        assert_eq!(thinning.count(0, 3_000_000_000), 10_000_000);
        let single = Thinning::new(6_000_000_000, 1);
        assert_eq!(single.ranks(0).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn thinning_leaves_no_stripes() {
        // Half of the pixels of rows of even length: both columns of each pair must be met equally often.
        let odd = all(100_000, 50_000).iter().filter(|i| *i % 2 == 1).count();
        assert!((24_000..26_000).contains(&odd), "{odd}");
    }

    #[test]
    fn thinning_keeps_one_of_each_equal_stretch() {
        for (len, limit) in [(10, 3), (10, 9), (7, 1), (1000, 333)] {
            let ranks = all(len, limit);
            let stretch = |rank: usize| (rank * limit + limit - 1) / len;
            let stretches: Vec<usize> = ranks.into_iter().map(stretch).collect();
            let each: Vec<usize> = (0..limit).collect();
            assert_eq!(stretches, each, "{len} to {limit}");
        }
    }
}
