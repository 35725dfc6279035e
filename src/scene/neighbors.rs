//! The nearest of a set of points, found in a k-d tree.

/// Points of a leaf: so few are compared one by one, since another level of the tree would not be faster.
const LEAF: usize = 8;

/// A point of the tree and its squared distance to the point that was asked for.
pub(crate) type Neighbor = (f64, [f32; 3]);

/// A set of points that answers which of them are nearest to a position. 13 bytes a point.
///
/// The tree is in the order of the points: the one in the middle of a stretch splits it along an axis, those before it lie below,
/// those after it above.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Neighbors {
    points: Vec<[f32; 3]>,
    /// The axis along which each point splits its stretch; 0 in leaves.
    axes: Vec<u8>,
}

impl Neighbors {
    /// Builds the tree of these points, which are finite. Takes time in O(n log n).
    pub(crate) fn new(mut points: Vec<[f32; 3]>) -> Self {
        let mut axes = vec![0; points.len()];
        split(&mut points, &mut axes);
        Self { points, axes }
    }

    /// Returns all points, in the order of the tree.
    pub(crate) fn points(&self) -> &[[f32; 3]] {
        &self.points
    }

    /// Replaces `found` by the `count` points that are nearest to `position`, nearest first, or by all if there are fewer.
    ///
    /// A point at `position` itself is among them. Which of several points at the same distance are found is not defined.
    pub(crate) fn nearest(&self, position: [f32; 3], count: usize, found: &mut Vec<Neighbor>) {
        found.clear();
        if count > 0 {
            self.search(0, self.points.len(), position, count, found);
        }
    }

    fn search(
        &self,
        from: usize,
        to: usize,
        position: [f32; 3],
        count: usize,
        found: &mut Vec<Neighbor>,
    ) {
        if to - from <= LEAF {
            for point in &self.points[from..to] {
                offer(found, count, (squared_distance(position, *point), *point));
            }
            return;
        }
        let middle = from + (to - from) / 2;
        let (point, axis) = (self.points[middle], usize::from(self.axes[middle]));
        offer(found, count, (squared_distance(position, point), point));
        let offset = f64::from(position[axis]) - f64::from(point[axis]);
        let (low, high) = ((from, middle), (middle + 1, to));
        let (near, far) = match offset < 0.0 {
            true => (low, high),
            false => (high, low),
        };
        self.search(near.0, near.1, position, count, found);
        // Everything on the other side is at least as far away as the plane.
        let worst = found.last().map_or(f64::INFINITY, |(squared, _)| *squared);
        if found.len() < count || offset * offset < worst {
            self.search(far.0, far.1, position, count, found);
        }
    }
}

/// Returns the squared distance of two points; in F64, where the square of no F32 overflows.
pub(crate) fn squared_distance(a: [f32; 3], b: [f32; 3]) -> f64 {
    let [x, y, z] = [0, 1, 2].map(|axis| f64::from(a[axis]) - f64::from(b[axis]));
    x * x + y * y + z * z
}

/// Puts a point among the nearest `count`, which are sorted, if it belongs there.
fn offer(found: &mut Vec<Neighbor>, count: usize, neighbor: Neighbor) {
    if found.len() == count {
        match found.last() {
            Some((worst, _)) if neighbor.0 < *worst => found.pop(),
            _ => return,
        };
    }
    let place = found.partition_point(|(squared, _)| *squared <= neighbor.0);
    found.insert(place, neighbor);
}

/// Brings points into the order of the tree.
fn split(points: &mut [[f32; 3]], axes: &mut [u8]) {
    if points.len() <= LEAF {
        return;
    }
    let (axis, middle) = (widest_axis(points), points.len() / 2);
    points.select_nth_unstable_by(middle, |a, b| a[axis].total_cmp(&b[axis]));
    axes[middle] = axis as u8;
    let (low, rest) = points.split_at_mut(middle);
    let (low_axes, rest_axes) = axes.split_at_mut(middle);
    split(low, low_axes);
    split(&mut rest[1..], &mut rest_axes[1..]);
}

/// Returns the axis along which points extend most.
fn widest_axis(points: &[[f32; 3]]) -> usize {
    let mut bounds = [[f32::INFINITY, f32::NEG_INFINITY]; 3];
    for point in points {
        for (axis, [low, high]) in bounds.iter_mut().enumerate() {
            *low = low.min(point[axis]);
            *high = high.max(point[axis]);
        }
    }
    let extent = |axis: &usize| f64::from(bounds[*axis][1]) - f64::from(bounds[*axis][0]);
    (0..3)
        .max_by(|a, b| extent(a).total_cmp(&extent(b)))
        .unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns `count` points of a cube of side 1, the same ones for the same seed.
    pub(crate) fn scattered(count: usize, mut seed: u32) -> Vec<[f32; 3]> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| [next(), next(), next()]).collect()
    }

    /// The definition: squared distances to all points, sorted.
    fn sorted_distances(points: &[[f32; 3]], position: [f32; 3]) -> Vec<f64> {
        let mut all: Vec<f64> = points
            .iter()
            .map(|point| squared_distance(position, *point))
            .collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn the_tree_finds_what_a_search_through_all_points_finds() {
        let flat = scattered(700, 1).into_iter().map(|[x, y, _]| [x, y, 0.5]);
        // Many at the same place, and some very far away.
        let grid = scattered(500, 2)
            .into_iter()
            .map(|p| p.map(|x| (x * 3.0).floor()));
        let far = scattered(300, 3).into_iter().map(|p| p.map(|x| x * 1e30));
        let sets = [
            Vec::new(),
            scattered(1, 4),
            scattered(LEAF + 1, 5),
            scattered(1000, 6),
            flat.collect(),
            grid.chain(far).collect(),
            vec![[2.0; 3]; 400],
        ];
        let mut found = Vec::new();
        for points in sets {
            let tree = Neighbors::new(points.clone());
            let outside = [[-5.0, 0.0, 9.0], [3e38, -3e38, 0.0], [f32::MIN_POSITIVE; 3]];
            let asked = scattered(20, 7).into_iter().chain(outside);
            for position in asked.chain(points.iter().step_by(50).copied()) {
                for count in [0, 1, 3, 21, 2000] {
                    tree.nearest(position, count, &mut found);
                    let squared: Vec<f64> = found.iter().map(|(squared, _)| *squared).collect();
                    let mut expected = sorted_distances(&points, position);
                    expected.truncate(count);
                    assert_eq!(squared, expected, "{count} of {}", points.len());
                    let of_points = |(s, p): &Neighbor| *s == squared_distance(position, *p);
                    assert!(found.iter().all(of_points));
                }
            }
        }
    }
}
