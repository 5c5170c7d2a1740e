//! What of a range is known already: extents of answers, sorted and disjoint.

use crate::frontend::steps::StepRange;
use crate::timestamp::TimestampMs;

/// An answer and the steps it is of. All extents under one key have the same step and phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent<A> {
    /// First step, milliseconds.
    pub start_ms: TimestampMs,
    /// Last step, milliseconds.
    pub end_ms: TimestampMs,
    /// When it was computed: of what was joined, the oldest. Milliseconds.
    pub query_ms: TimestampMs,
    /// The answer.
    pub answer: A,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    /// Known: which extent has it, and the steps to take from it.
    Known(usize, StepRange),
    /// To be asked for.
    Missing(StepRange),
}

/// What of `request` the extents know, and what is missing, in time order: every step stands in exactly one part.
///
/// Extents shorter than `min_extent_ms` are passed over when the request is longer than that: many tiny requests cost more than one.
/// `extents` are sorted by start; they may overlap.
pub fn cover<A>(request: StepRange, extents: &[Extent<A>], min_extent_ms: i64) -> Vec<Cover> {
    let mut parts = Vec::new();
    let mut rest = request;
    let is_long = request.last_ms().since(request.start_ms) > min_extent_ms;
    for (n, extent) in extents.iter().enumerate() {
        let known = rest.clip(extent.start_ms, extent.end_ms);
        let is_tiny = extent.end_ms.since(extent.start_ms) < min_extent_ms;
        if known.is_empty() || (is_long && is_tiny) {
            continue;
        }
        if known.start_ms > rest.start_ms {
            let before = rest.floor(known.start_ms.saturating_sub(1));
            parts.push(Cover::Missing(StepRange {
                end_ms: before,
                ..rest
            }));
        }
        rest.start_ms = known.last_ms().saturating_add(rest.step_ms.max(1));
        parts.push(Cover::Known(n, known));
    }
    if !rest.is_empty() {
        parts.push(Cover::Missing(rest));
    }
    parts
}

/// Joins extents that overlap or touch, so that what is left is sorted, disjoint and apart by more than a step.
///
/// `join` puts two answers together: all of the first, and of the second the steps after the first's end (the range that it gets).
///
/// # Errors
/// Those of `join`.
pub fn merge_extents<A, E>(
    mut extents: Vec<Extent<A>>,
    step_ms: i64,
    mut join: impl FnMut(A, A, StepRange) -> Result<A, E>,
) -> Result<Vec<Extent<A>>, E> {
    // The longer of two that begin together comes first and swallows the other.
    extents.sort_by_key(|e| (e.start_ms, std::cmp::Reverse(e.end_ms)));
    let mut out: Vec<Extent<A>> = Vec::with_capacity(extents.len());
    for next in extents {
        let Some(last) = out.pop() else {
            out.push(next);
            continue;
        };
        if next.start_ms > last.end_ms.saturating_add(step_ms.max(1)) {
            out.extend([last, next]);
        } else if next.end_ms <= last.end_ms {
            out.push(last);
        } else {
            let after = StepRange {
                start_ms: last.end_ms.saturating_add(step_ms.max(1)),
                end_ms: next.end_ms,
                step_ms,
            };
            out.push(Extent {
                start_ms: last.start_ms,
                end_ms: next.end_ms,
                query_ms: last.query_ms.min(next.query_ms),
                answer: join(last.answer, next.answer, after)?,
            });
        }
    }
    Ok(out)
}

/// Cuts extents so that none has a step after `until_ms`, which may still change; one with no step left is dropped.
///
/// `extract` takes the steps of a range out of an answer.
pub fn trim_extents<A>(
    extents: Vec<Extent<A>>,
    step_ms: i64,
    until_ms: TimestampMs,
    mut extract: impl FnMut(&A, StepRange) -> A,
) -> Vec<Extent<A>> {
    let trimmed = extents.into_iter().filter_map(|extent| {
        let steps = StepRange {
            start_ms: extent.start_ms,
            end_ms: extent.end_ms,
            step_ms,
        };
        if extent.end_ms <= until_ms {
            return Some(extent);
        }
        let kept = steps.clip(extent.start_ms, until_ms);
        if kept.is_empty() {
            return None;
        }
        let end_ms = kept.last_ms();
        Some(Extent {
            end_ms,
            answer: extract(&extent.answer, StepRange { end_ms, ..kept }),
            ..extent
        })
    });
    trimmed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer is the list of its steps.
    fn extent(start: i64, count: i64, step: i64) -> Extent<Vec<TimestampMs>> {
        let steps = (0..count).map(|n| TimestampMs::new(start + n * step));
        Extent {
            start_ms: TimestampMs::new(start),
            end_ms: TimestampMs::new(start + (count - 1) * step),
            query_ms: TimestampMs::new(start),
            answer: steps.collect(),
        }
    }

    fn join(
        mut a: Vec<TimestampMs>,
        b: Vec<TimestampMs>,
        after: StepRange,
    ) -> Result<Vec<TimestampMs>, ()> {
        a.extend(after.iter().filter(|t| b.contains(t)));
        Ok(a)
    }

    fn extents() -> impl Strategy<Value = (i64, Vec<Extent<Vec<TimestampMs>>>)> {
        (1i64..20).prop_flat_map(|step| {
            let one =
                (0i64..60, 1i64..15).prop_map(move |(n, count)| extent(7 + n * step, count, step));
            (Just(step), prop::collection::vec(one, 0..6))
        })
    }

    #[test]
    fn tiny_extents_are_passed_over_by_long_requests() {
        let known = [extent(10, 2, 10), extent(100, 40, 10)];
        let request = StepRange {
            start_ms: TimestampMs::EPOCH,
            end_ms: TimestampMs::new(500),
            step_ms: 10,
        };
        let parts = cover(request, &known, 50);
        let missing = |start_ms: i64, end_ms: i64| {
            Cover::Missing(StepRange {
                start_ms: start_ms.into(),
                end_ms: end_ms.into(),
                step_ms: 10,
            })
        };
        let taken = StepRange {
            start_ms: TimestampMs::new(100),
            end_ms: TimestampMs::new(490),
            step_ms: 10,
        };
        assert_eq!(
            parts,
            [missing(0, 90), Cover::Known(1, taken), missing(500, 500)]
        );
        let short = StepRange {
            end_ms: TimestampMs::new(30),
            ..request
        };
        assert_eq!(cover(short, &known, 50).len(), 3);
    }

    proptest! {
        #[test]
        fn every_step_is_known_or_missing_once(
            (step, mut all) in extents(), first in 0i64..40, count in 1i64..60, min in 0i64..100,
        ) {
            all.sort_by_key(|e| e.start_ms);
            let request = StepRange { start_ms: TimestampMs::new(7 + first * step), end_ms: TimestampMs::new(7 + (first + count) * step - 1), step_ms: step };
            let mut steps = Vec::new();
            for part in cover(request, &all, min) {
                match part {
                    Cover::Missing(range) => steps.extend(range.iter()),
                    Cover::Known(n, range) => {
                        prop_assert!(range.iter().all(|t| all[n].answer.contains(&t)));
                        steps.extend(range.iter());
                    }
                }
            }
            prop_assert_eq!(steps, request.iter().collect::<Vec<_>>());
        }

        #[test]
        fn merged_extents_are_disjoint_and_lose_nothing((step, all) in extents()) {
            let mut wanted: Vec<TimestampMs> = all.iter().flat_map(|e| e.answer.clone()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let merged = merge_extents(all, step, join).unwrap();
            for pair in merged.windows(2) {
                prop_assert!(pair[0].end_ms + step < pair[1].start_ms);
            }
            let got: Vec<TimestampMs> = merged.iter().flat_map(|e| e.answer.clone()).collect();
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn nothing_fresh_is_kept((step, all) in extents(), until in -50i64..1500) {
            let extract = |a: &Vec<TimestampMs>, r: StepRange| a.iter().copied().filter(|t| (r.start_ms..=r.end_ms).contains(t)).collect();
            let mut wanted: Vec<TimestampMs> = all.iter().flat_map(|e| e.answer.clone()).filter(|t| *t <= until).collect();
            let trimmed = trim_extents(all, step, TimestampMs::new(until), extract);
            let mut got: Vec<TimestampMs> = trimmed.iter().flat_map(|e: &Extent<Vec<TimestampMs>>| e.answer.clone()).collect();
            got.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(got, wanted);
            prop_assert!(trimmed.iter().all(|e| e.end_ms <= TimestampMs::new(until) && e.start_ms <= e.end_ms));
        }
    }
}
