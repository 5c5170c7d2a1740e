//! Windows over time, cut into segments that no window's edge crosses.
//!
//! An entry belongs to one segment, and a window is a run of segments: so an entry costs the same however many windows it lies in.

use lgtm_core::vector::StepGrid;

/// The segments of the windows of a range aggregation: `(end - range, end]` at each step.
#[derive(Debug)]
pub(super) struct Segments {
    /// Segment `n` is `(edges[n], edges[n + 1]]`, nanoseconds.
    edges: Vec<i64>,
    /// Of each segment whether a window has it.
    used: Vec<bool>,
    /// Of each step the first segment of its window, and the one behind the last.
    windows: Vec<(u32, u32)>,
}

impl Segments {
    pub(super) fn new(grid: StepGrid, range_ns: i64, offset_ns: i64) -> Self {
        let end_ns = |t_ms: i64| t_ms.saturating_mul(1_000_000).saturating_sub(offset_ns);
        let ends: Vec<i64> = grid.times().map(end_ns).collect();
        let mut edges: Vec<i64> = Vec::with_capacity(2 * ends.len());
        edges.extend(ends.iter().map(|e| e.saturating_sub(range_ns)));
        edges.extend(&ends);
        edges.sort_unstable();
        edges.dedup();
        let mut used = vec![false; edges.len().saturating_sub(1)];
        let place = |edge: i64| edges.partition_point(|e| *e < edge) as u32;
        let windows: Vec<(u32, u32)> = ends
            .iter()
            .map(|e| (place(e.saturating_sub(range_ns)), place(*e)))
            .collect();
        // Both ends of the windows ascend.
        let mut marked = 0;
        for (from, to) in &windows {
            let from = (*from as usize).max(marked);
            for u in used.iter_mut().take(*to as usize).skip(from) {
                *u = true;
            }
            marked = marked.max(*to as usize);
        }
        Self {
            edges,
            used,
            windows,
        }
    }

    /// Number of segments.
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// First and last edge: entries of interest lie behind the first, and not behind the last.
    pub(super) fn bounds_ns(&self) -> (i64, i64) {
        let first = self.edges.first().copied().unwrap_or(0);
        (first, self.edges.last().copied().unwrap_or(first))
    }

    /// All edges, ascending.
    pub(super) fn edges_ns(&self) -> &[i64] {
        &self.edges
    }

    /// The windows: of each step its first segment and the one behind its last.
    pub(super) fn windows(&self) -> &[(u32, u32)] {
        &self.windows
    }

    /// Where a segment ends.
    pub(super) fn end_ns(&self, segment: usize) -> i64 {
        self.edges[segment + 1]
    }

    /// The segment of a time, whether a window has it or not. `near` is where a neighbour was found: looked at first.
    pub(super) fn locate(&self, t_ns: i64, near: usize) -> Option<usize> {
        let is_in = |n: usize| n < self.len() && self.edges[n] < t_ns && t_ns <= self.edges[n + 1];
        if is_in(near) {
            return Some(near);
        }
        let behind = self.edges.partition_point(|e| *e < t_ns);
        behind.checked_sub(1).filter(|n| is_in(*n))
    }

    /// Whether a window has a segment.
    pub(super) fn is_used(&self, segment: usize) -> bool {
        self.used[segment]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_time_is_in_the_windows_that_have_its_segment(
            start in 0i64..50, step in 1i64..20, steps in 1i64..10, range in 1i64..60, offset in -20i64..20,
            t in -100i64..300,
        ) {
            let grid = StepGrid::range(start, start + step * (steps - 1), step);
            const MS: i64 = 1_000_000;
            let segments = Segments::new(grid, range * MS, offset * MS);
            let near = (t.unsigned_abs() % 7) as usize;
            let found = segments.locate(t * MS, near).filter(|n| segments.is_used(*n));
            for (n, (from, to)) in segments.windows().iter().enumerate() {
                let end = grid.at(n) - offset;
                let inside = end - range < t && t <= end;
                let has = found.is_some_and(|s| (*from as usize..*to as usize).contains(&s));
                proptest::prop_assert_eq!(inside, has, "step {} of {:?}", n, grid);
            }
        }
    }
}
