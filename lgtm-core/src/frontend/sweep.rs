//! A range of time that is gone through from one end until there is enough.

use crate::timestamp::TimestampNs;

/// Pieces that a range becomes at most; of a longer one they are longer.
const MAX_PIECES: u64 = 2000;

/// A range of time, `[start, end)`, and the end at which a search begins. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepRange {
    /// The first moment.
    pub start_ns: TimestampNs,
    /// The moment behind the last.
    pub end_ns: TimestampNs,
    /// Whether the newest moment comes first.
    pub newest_first: bool,
}

impl SweepRange {
    /// Whether there is no moment in it.
    pub fn is_empty(self) -> bool {
        self.end_ns <= self.start_ns
    }

    /// Cut at multiples of `interval_ns`, in the order of the search. The interval is made a multiple of itself where there would be
    /// thousands of pieces; 0 is one piece.
    pub fn pieces(self, interval_ns: i64) -> SweepPieces {
        let length = self.end_ns.abs_diff(self.start_ns);
        let interval_ns = match interval_ns {
            ..=0 => i64::MAX,
            one => {
                let least = length.div_ceil(MAX_PIECES).div_ceil(one.unsigned_abs());
                one.saturating_mul(i64::try_from(least.max(1)).unwrap_or(i64::MAX))
            }
        };
        SweepPieces {
            rest: self,
            interval_ns,
        }
    }
}

/// See [`SweepRange::pieces`].
#[derive(Debug, Clone)]
pub struct SweepPieces {
    rest: SweepRange,
    interval_ns: i64,
}

impl SweepPieces {
    /// What the pieces are cut at multiples of.
    pub(super) fn interval_ns(&self) -> i64 {
        self.interval_ns
    }
}

impl Iterator for SweepPieces {
    type Item = SweepRange;

    fn next(&mut self) -> Option<SweepRange> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        let interval = i128::from(self.interval_ns);
        // The boundary nearest to the end at which the search is, inside of the rest.
        let clamp = |ns: i128| {
            let (start, end) = (i128::from(rest.start_ns), i128::from(rest.end_ns));
            i64::try_from(ns.clamp(start, end)).map_or(rest.end_ns, TimestampNs::new)
        };
        let piece = if rest.newest_first {
            let last = i128::from(rest.end_ns) - 1;
            let start_ns = clamp(last.div_euclid(interval) * interval);
            self.rest.end_ns = start_ns;
            SweepRange { start_ns, ..rest }
        } else {
            let first = i128::from(rest.start_ns);
            let end_ns = clamp((first.div_euclid(interval) + 1) * interval);
            self.rest.start_ns = end_ns;
            SweepRange { end_ns, ..rest }
        };
        Some(piece)
    }
}

/// What to do about a part of a range.
#[derive(Debug, Clone, PartialEq)]
pub enum SweepStep<R> {
    /// Ask this.
    Ask(R),
    /// There can be nothing of interest in it.
    Skip,
    /// There is enough already.
    Enough,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start_ns: i64, end_ns: i64, newest_first: bool) -> SweepRange {
        SweepRange {
            start_ns: start_ns.into(),
            end_ns: end_ns.into(),
            newest_first,
        }
    }

    #[test]
    fn pieces_begin_at_the_end_of_the_search() {
        let cut = |newest_first| -> Vec<(i64, i64)> {
            let pieces = range(3, 25, newest_first).pieces(10);
            pieces.map(|p| (p.start_ns.get(), p.end_ns.get())).collect()
        };
        assert_eq!(cut(true), [(20, 25), (10, 20), (3, 10)]);
        assert_eq!(cut(false), [(3, 10), (10, 20), (20, 25)]);
        assert_eq!(range(20, 30, true).pieces(10).count(), 1);
        assert_eq!(range(3, 25, true).pieces(0).count(), 1);
        assert_eq!(range(3, 3, true).pieces(10).count(), 0);
        let all = range(i64::MIN, i64::MAX, true).pieces(3_600_000_000_000);
        assert!(all.count() <= 2001);
    }

    proptest! {
        #[test]
        fn pieces_neither_overlap_nor_leave_a_gap(
            start in -1000i64..1000, length in 0i64..3000, interval in 1i64..500, newest_first: bool,
        ) {
            let whole = range(start, start + length, newest_first);
            let mut pieces: Vec<_> = whole.pieces(interval).collect();
            if newest_first {
                pieces.reverse();
            }
            let mut at = whole.start_ns;
            for piece in &pieces {
                prop_assert_eq!(piece.start_ns, at);
                prop_assert!(!piece.is_empty());
                prop_assert!(piece.end_ns == piece.end_ns.floor(interval) || piece.end_ns == whole.end_ns);
                at = piece.end_ns;
            }
            prop_assert_eq!(at, whole.end_ns);
        }
    }
}
