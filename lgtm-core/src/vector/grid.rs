//! The times at which a query is evaluated.

/// Evenly spaced times, milliseconds: `start`, `start + step`, … Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepGrid {
    start_ms: i64,
    step_ms: i64,
    len: usize,
}

impl StepGrid {
    /// One time.
    pub fn instant(t_ms: i64) -> Self {
        Self {
            start_ms: t_ms,
            step_ms: 0,
            len: 1,
        }
    }

    /// From `start_ms` to at most `end_ms`. A step of 0 or less, or an end before the start, gives the start alone.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        if step_ms <= 0 || end_ms <= start_ms {
            return Self {
                start_ms,
                step_ms: step_ms.max(0),
                len: 1,
            };
        }
        let steps = end_ms.saturating_sub(start_ms) / step_ms;
        Self {
            start_ms,
            step_ms,
            len: usize::try_from(steps).map_or(usize::MAX, |n| n.saturating_add(1)),
        }
    }

    /// Number of times; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a grid is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The time at place `i`. Saturates beyond the range of `i64`.
    #[inline]
    pub fn at(&self, i: usize) -> i64 {
        let steps = i64::try_from(i).unwrap_or(i64::MAX);
        self.start_ms
            .saturating_add(self.step_ms.saturating_mul(steps))
    }

    /// The place of a time, if it is one of them.
    pub fn index_of(&self, t_ms: i64) -> Option<usize> {
        let past = i128::from(t_ms) - i128::from(self.start_ms);
        let step = i128::from(self.step_ms.max(1));
        let place = usize::try_from(past / step).ok()?;
        (past % step == 0 && place < self.len).then_some(place)
    }

    /// The first time.
    pub fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// The last time.
    pub fn end_ms(&self) -> i64 {
        self.at(self.len - 1)
    }

    /// Distance of two times; 0 for a single time.
    pub fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// All times in order.
    pub fn times(&self) -> impl Iterator<Item = i64> + use<> {
        let grid = *self;
        (0..grid.len).map(move |i| grid.at(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_reached_but_never_passed() {
        let g = StepGrid::range(10, 45, 10);
        assert_eq!(g.times().collect::<Vec<_>>(), [10, 20, 30, 40]);
        assert_eq!(g.end_ms(), 40);
        assert_eq!(StepGrid::range(10, 40, 10).len(), 4);
    }

    #[test]
    fn odd_bounds_give_the_start_alone() {
        for g in [
            StepGrid::instant(5),
            StepGrid::range(5, 5, 1),
            StepGrid::range(5, 1, 1),
            StepGrid::range(5, 9, 0),
        ] {
            assert_eq!((g.len(), g.at(0), g.end_ms()), (1, 5, 5));
        }
        let huge = StepGrid::range(i64::MAX - 5, i64::MAX, 3);
        assert_eq!((huge.len(), huge.at(9)), (2, i64::MAX));
    }
}
