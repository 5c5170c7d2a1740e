//! Intervals of time.

use lgtm_core::{Error, Result};

/// Intervals that a range may have.
pub(super) const MAX_INTERVALS: u64 = 1 << 20;

/// Adjoining intervals, each without its left edge and with its right one, which names it. Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalGrid {
    /// Left edge of the first interval; spans that start then are in none.
    pub after_ns: u64,
    /// Length of an interval.
    pub step_ns: u64,
    /// How many there are.
    pub len: usize,
}

impl IntervalGrid {
    /// Of a range query: the range is widened to whole multiples of the step since the epoch, and by one step at its beginning.
    ///
    /// # Errors
    /// `InvalidInput` for an empty range, a step of 0, or more than a million intervals.
    pub fn range(start_ns: u64, end_ns: u64, step_ns: u64) -> Result<Self> {
        if step_ns == 0 || end_ns <= start_ns {
            return Err(Error::InvalidInput(
                "end must be greater than start, and step positive".to_owned(),
            ));
        }
        let first = (start_ns / step_ns).saturating_sub(1);
        let intervals = end_ns.div_ceil(step_ns).saturating_sub(first);
        if intervals > MAX_INTERVALS {
            return Err(Error::InvalidInput(format!(
                "step of {step_ns} ns is too small: it makes {intervals} intervals, the most is {MAX_INTERVALS}"
            )));
        }
        Ok(Self {
            after_ns: first * step_ns,
            step_ns,
            len: intervals as usize,
        })
    }

    /// Of an instant query: the whole range as one interval.
    ///
    /// # Errors
    /// `InvalidInput` for an empty range.
    pub fn instant(start_ns: u64, end_ns: u64) -> Result<Self> {
        if end_ns <= start_ns {
            return Err(Error::InvalidInput(
                "end must be greater than start".to_owned(),
            ));
        }
        Ok(Self {
            after_ns: start_ns,
            step_ns: end_ns - start_ns,
            len: 1,
        })
    }

    /// The interval that a time lies in.
    #[inline]
    pub fn index_of(&self, t_ns: u64) -> Option<usize> {
        let passed = t_ns.checked_sub(self.after_ns)?.checked_sub(1)?;
        let index = (passed / self.step_ns) as usize;
        (index < self.len).then_some(index)
    }

    /// Looks up the intervals of times that come in no order, but lie close to each other.
    pub(super) fn cursor(&self) -> IntervalCursor {
        IntervalCursor {
            grid: *self,
            after_ns: 0,
            until_ns: 0,
            index: None,
        }
    }

    /// Right edge of an interval.
    pub fn edge_ns(&self, index: usize) -> u64 {
        self.after_ns + (index as u64 + 1) * self.step_ns
    }

    /// Right edge of the last interval.
    pub fn until_ns(&self) -> u64 {
        self.after_ns + self.len as u64 * self.step_ns
    }

    /// Length of an interval in seconds.
    pub fn step_seconds(&self) -> f64 {
        self.step_ns as f64 / 1e9
    }

    /// The least grid that holds both; `None` when their edges do not fall together.
    pub(super) fn joined(&self, other: &Self) -> Option<Self> {
        let aligned = self.step_ns == other.step_ns
            && self
                .after_ns
                .abs_diff(other.after_ns)
                .is_multiple_of(self.step_ns);
        let after_ns = self.after_ns.min(other.after_ns);
        let until_ns = self.until_ns().max(other.until_ns());
        let len = (until_ns - after_ns) / self.step_ns.max(1);
        (aligned && len <= MAX_INTERVALS).then_some(Self {
            after_ns,
            step_ns: self.step_ns,
            len: len as usize,
        })
    }

    /// Where the intervals of `part` begin among these.
    pub(super) fn offset_of(&self, part: &Self) -> usize {
        (part.after_ns.saturating_sub(self.after_ns) / self.step_ns) as usize
    }
}

/// The interval that was looked up last.
#[derive(Debug)]
pub(super) struct IntervalCursor {
    grid: IntervalGrid,
    after_ns: u64,
    until_ns: u64,
    index: Option<usize>,
}

impl IntervalCursor {
    /// As [`IntervalGrid::index_of`].
    #[inline]
    pub(super) fn index_of(&mut self, t_ns: u64) -> Option<usize> {
        if self.after_ns < t_ns && t_ns <= self.until_ns {
            return self.index;
        }
        let index = self.grid.index_of(t_ns)?;
        self.until_ns = self.grid.edge_ns(index);
        self.after_ns = self.until_ns - self.grid.step_ns;
        self.index = Some(index);
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_finds_the_intervals_that_the_grid_has() {
        let grid = IntervalGrid::range(95, 200, 10).unwrap();
        let mut cursor = grid.cursor();
        for t in (0..250).chain((0..250).rev()).chain([95, 200, 95, 80, 81]) {
            assert_eq!(cursor.index_of(t), grid.index_of(t), "{t}");
        }
    }
}
