//! The steps of a range query, and how they are cut at the boundaries of an interval.

use crate::timestamp::TimestampMs;

/// At most this long a step lets one last step ride with the piece before it: 5 minutes.
const SHORT_STEP_MS: i64 = 300_000;

/// `start`, `start + step`, … up to `end`. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepRange {
    /// First step.
    pub start_ms: TimestampMs,
    /// No step is later; it need not be one itself.
    pub end_ms: TimestampMs,
    /// Distance of two steps, more than 0. Whatever it is, a range whose end is its start has one step.
    pub step_ms: i64,
}

impl StepRange {
    /// One step.
    pub fn instant(t_ms: impl Into<TimestampMs>) -> Self {
        let t_ms = t_ms.into();
        Self {
            start_ms: t_ms,
            end_ms: t_ms,
            step_ms: 1,
        }
    }

    /// The step, never less than 1.
    fn step(self) -> i64 {
        self.step_ms.max(1)
    }

    /// Whether there is no step.
    pub fn is_empty(self) -> bool {
        self.end_ms < self.start_ms
    }

    /// The last step; before `start_ms` if there is none.
    pub fn last_ms(self) -> TimestampMs {
        self.floor(self.end_ms)
    }

    /// Number of steps.
    pub fn len(self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        self.end_ms.abs_diff(self.start_ms) / self.step().unsigned_abs() + 1
    }

    /// The steps.
    pub fn iter(self) -> impl Iterator<Item = TimestampMs> {
        let step = self.step();
        let first = (!self.is_empty()).then_some(self.start_ms);
        std::iter::successors(first, move |t| {
            t.checked_add(step).filter(|t| *t <= self.end_ms)
        })
    }

    /// The latest time at or before `t_ms` that has the steps' phase.
    pub fn floor(self, t_ms: TimestampMs) -> TimestampMs {
        let past = i128::from(t_ms.get()) - i128::from(self.start_ms.get());
        let beyond = past.rem_euclid(i128::from(self.step()));
        let floor = i64::try_from(i128::from(t_ms.get()) - beyond);
        floor.map_or(TimestampMs::MIN, TimestampMs::new)
    }

    /// The earliest time at or after `t_ms` that has the steps' phase.
    pub fn ceil(self, t_ms: TimestampMs) -> TimestampMs {
        let floor = self.floor(t_ms);
        if floor == t_ms {
            floor
        } else {
            floor.saturating_add(self.step())
        }
    }

    /// The steps from `from_ms` to `to_ms`, both inclusive, that this range has too.
    #[must_use]
    pub fn clip(self, from_ms: TimestampMs, to_ms: TimestampMs) -> Self {
        Self {
            start_ms: self.ceil(from_ms.max(self.start_ms)),
            end_ms: to_ms.min(self.end_ms),
            ..self
        }
    }

    /// With start and end moved down to multiples of the step, so that equal queries a little later ask for the same steps. The
    /// answer then is of other times than asked for: an option, and not what Prometheus does.
    #[must_use]
    pub fn aligned(self) -> Self {
        let step = self.step();
        Self {
            start_ms: self.start_ms.floor(step),
            end_ms: self.end_ms.floor(step),
            ..self
        }
    }

    /// Whether start and end are multiples of the step.
    pub fn is_aligned(self) -> bool {
        self.aligned() == self
    }

    /// Cut at multiples of `interval_ms` since the epoch: no piece has a step on both sides of a boundary, and a step on a boundary
    /// begins a piece. Each piece ends with a step, but the last ends as this range does. If exactly one step would remain for a
    /// piece of its own and steps are short, it stays with the piece before.
    pub fn pieces(self, interval_ms: i64) -> Pieces {
        Pieces {
            rest: (!self.is_empty()).then_some(self),
            interval_ms: interval_ms.max(1),
        }
    }
}

/// See [`StepRange::pieces`].
#[derive(Debug, Clone)]
pub struct Pieces {
    rest: Option<StepRange>,
    interval_ms: i64,
}

impl Iterator for Pieces {
    type Item = StepRange;

    fn next(&mut self) -> Option<StepRange> {
        let rest = self.rest.take()?;
        let step = rest.step();
        // The last moment before the next boundary.
        let boundary = (i128::from(rest.start_ms.get().div_euclid(self.interval_ms)) + 1)
            * i128::from(self.interval_ms);
        let last = i64::try_from(boundary - 1).map_or(TimestampMs::MAX, TimestampMs::new);
        let end_ms = rest.floor(last);
        let next_ms = end_ms.saturating_add(step);
        let last_ms = rest.last_ms();
        let one_remains = next_ms == last_ms && step <= SHORT_STEP_MS;
        if next_ms > last_ms || one_remains {
            return Some(rest);
        }
        self.rest = Some(StepRange {
            start_ms: next_ms,
            ..rest
        });
        Some(StepRange { end_ms, ..rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: i64 = 86_400_000;

    fn range(
        start_ms: impl Into<TimestampMs>,
        end_ms: impl Into<TimestampMs>,
        step_ms: i64,
    ) -> StepRange {
        StepRange {
            start_ms: start_ms.into(),
            end_ms: end_ms.into(),
            step_ms,
        }
    }

    #[test]
    fn pieces_end_before_the_boundary() {
        let pieces: Vec<_> = range(0, 21, 5).pieces(10).collect();
        // The step at 20 would be alone.
        assert_eq!(pieces, [range(0, 5, 5), range(10, 21, 5)]);
        let pieces: Vec<_> = range(3, 33, 4).pieces(10).collect();
        assert_eq!(pieces, [range(3, 7, 4), range(11, 19, 4), range(23, 33, 4)]);
        let hours = |n: i64| n * 3_600_000;
        let pieces: Vec<_> = range(hours(0), hours(24), hours(1))
            .pieces(DAY_MS)
            .collect();
        // An hour is no short step, so the last one has a piece.
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[1], range(hours(24), hours(24), hours(1)));
        let one: Vec<_> = range(5, 5, 0).pieces(DAY_MS).collect();
        assert_eq!(one, [range(5, 5, 0)]);
        assert_eq!(range(5, 4, 1).pieces(DAY_MS).count(), 0);
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for r in [
            range(i64::MIN, i64::MIN + 5, 1),
            range(i64::MAX - 5, i64::MAX, 2),
            range(i64::MIN, i64::MAX, i64::MAX),
        ] {
            let steps: Vec<_> = r.pieces(DAY_MS).flat_map(StepRange::iter).collect();
            assert_eq!(steps, r.iter().collect::<Vec<_>>());
            let _ = (
                r.aligned(),
                r.len(),
                r.last_ms(),
                r.clip(0.into(), 1.into()),
            );
        }
    }

    proptest! {
        #[test]
        fn pieces_neither_overlap_nor_miss_a_step(
            start in -100_000i64..100_000,
            length in 0i64..50_000,
            step in 1i64..3000,
            interval in 1i64..10_000,
        ) {
            let whole = range(start, start + length, step);
            let pieces: Vec<_> = whole.pieces(interval).collect();
            let steps: Vec<_> = pieces.iter().flat_map(|p| p.iter()).collect();
            prop_assert_eq!(steps, whole.iter().collect::<Vec<_>>());
            prop_assert_eq!(pieces.last().map(|p| p.end_ms), Some(whole.end_ms));
            for (n, piece) in pieces.iter().enumerate() {
                // One of short steps may ride behind the boundary.
                let behind = piece.iter().filter(|t| t.get().div_euclid(interval) > piece.start_ms.get().div_euclid(interval)).count();
                prop_assert!(behind == 0 || (behind == 1 && n + 1 == pieces.len()), "{:?}", pieces);
            }
        }

        #[test]
        fn clipping_keeps_the_steps_between(
            start in -1000i64..1000, length in 0i64..1000, step in 1i64..50,
            from in -1500i64..2500, to in -1500i64..2500,
        ) {
            let whole = range(start, start + length, step);
            let got: Vec<_> = whole.clip(from.into(), to.into()).iter().collect();
            let wanted: Vec<_> = whole.iter().filter(|t| *t >= from && *t <= to).collect();
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(whole.len(), whole.iter().count() as u64);
        }
    }
}
