//! The values of one series, folded by segment, and what windows make of them.

use lgtm_core::vector::GAP;

use super::rate_counter::rate_counter;
use super::segments::Segments;
use crate::logql::ast::RangeOp;

/// What a series keeps.
#[derive(Debug, Clone)]
pub(super) enum SeriesFold {
    /// Per segment a count: of entries, or of bytes with a mark that there were some.
    Counts(Vec<u64>),
    /// Per segment a sum and how many.
    Sums(Vec<(f64, u32)>),
    /// Per segment count, mean and sum of squared distances from it.
    Moments(Vec<(f64, f64, f64)>),
    /// Per segment the least or greatest, or a gap.
    Extremes(Vec<f64>),
    /// Per segment the first or last, with its time.
    Edges(Vec<(i64, f64)>),
    /// All values with their times.
    Values(Vec<(i64, f64)>),
}

/// A time that no entry has.
const NO_TIME: i64 = i64::MIN;

impl SeriesFold {
    pub(super) fn new(op: RangeOp, has_values: bool, segments: usize) -> Self {
        match op {
            RangeOp::CountOverTime | RangeOp::AbsentOverTime => Self::Counts(vec![0; segments]),
            RangeOp::Rate if !has_values => Self::Counts(vec![0; segments]),
            RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::Rate | RangeOp::SumOverTime => {
                Self::Sums(vec![(0.0, 0); segments])
            }
            RangeOp::AvgOverTime | RangeOp::StddevOverTime | RangeOp::StdvarOverTime => {
                Self::Moments(vec![(0.0, 0.0, 0.0); segments])
            }
            RangeOp::MinOverTime | RangeOp::MaxOverTime => Self::Extremes(vec![GAP; segments]),
            RangeOp::FirstOverTime | RangeOp::LastOverTime => {
                Self::Edges(vec![(NO_TIME, 0.0); segments])
            }
            RangeOp::QuantileOverTime | RangeOp::RateCounter => Self::Values(Vec::new()),
        }
    }

    /// Bytes that a new one takes per segment.
    pub(super) fn cell_bytes(op: RangeOp, has_values: bool) -> u64 {
        let one = match Self::new(op, has_values, 0) {
            Self::Counts(_) => size_of::<u64>(),
            Self::Sums(_) => size_of::<(f64, u32)>(),
            Self::Moments(_) => size_of::<(f64, f64, f64)>(),
            Self::Extremes(_) => size_of::<f64>(),
            Self::Edges(_) => size_of::<(i64, f64)>(),
            Self::Values(_) => 0,
        };
        one as u64
    }

    /// Bytes that a value more takes.
    pub(super) fn value_bytes(&self) -> u64 {
        match self {
            Self::Values(_) => 2 * size_of::<(i64, f64)>() as u64,
            _ => 0,
        }
    }

    /// Counts entries of a segment whose values do not matter.
    pub(super) fn add_count(&mut self, segment: usize, count: u64, sum: f64) {
        match self {
            Self::Counts(v) => v[segment] += count,
            Self::Sums(v) => {
                v[segment].0 += sum;
                v[segment].1 = v[segment]
                    .1
                    .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            }
            _ => {}
        }
    }

    /// Takes in a value.
    #[inline]
    pub(super) fn add(&mut self, op: RangeOp, segment: usize, t_ns: i64, value: f64) {
        match self {
            Self::Counts(v) => v[segment] += 1,
            Self::Sums(v) => {
                v[segment].0 += value;
                v[segment].1 = v[segment].1.saturating_add(1);
            }
            Self::Moments(v) => {
                v[segment] = joined_moments(v[segment], (1.0, value, 0.0));
            }
            Self::Extremes(v) => v[segment] = extreme(op, v[segment], value),
            Self::Edges(v) => {
                let known = v[segment].0;
                let replaces = match op {
                    RangeOp::FirstOverTime => known == NO_TIME || t_ns < known,
                    _ => known == NO_TIME || t_ns >= known,
                };
                if replaces {
                    v[segment] = (t_ns, value);
                }
            }
            Self::Values(v) => v.push((t_ns, value)),
        }
    }

    /// Takes over what another has.
    pub(super) fn join(&mut self, op: RangeOp, other: Self) {
        match (self, other) {
            (Self::Counts(a), Self::Counts(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
            (Self::Sums(a), Self::Sums(b)) => a.iter_mut().zip(b).for_each(|(a, b)| {
                a.0 += b.0;
                a.1 = a.1.saturating_add(b.1);
            }),
            (Self::Moments(a), Self::Moments(b)) => {
                a.iter_mut()
                    .zip(b)
                    .for_each(|(a, b)| *a = joined_moments(*a, b));
            }
            (Self::Extremes(a), Self::Extremes(b)) => {
                let pairs = a
                    .iter_mut()
                    .zip(b)
                    .filter(|(_, b)| !lgtm_core::vector::is_gap(*b));
                pairs.for_each(|(a, b)| *a = extreme(op, *a, b));
            }
            (Self::Edges(a), Self::Edges(b)) => {
                for (a, b) in a.iter_mut().zip(b) {
                    let replaces = match op {
                        RangeOp::FirstOverTime => a.0 == NO_TIME || b.0 < a.0,
                        _ => b.0 >= a.0,
                    };
                    if b.0 != NO_TIME && replaces {
                        *a = b;
                    }
                }
            }
            (Self::Values(a), Self::Values(b)) => a.extend(b),
            // Both are of one aggregation.
            _ => {}
        }
    }

    /// The value at each step, a gap where a window has no entry.
    pub(super) fn windows(
        self,
        op: RangeOp,
        quantile: f64,
        segments: &Segments,
        range_ns: i64,
    ) -> Vec<f64> {
        let seconds = range_ns as f64 / 1e9;
        let per_second = |v: f64| match op {
            RangeOp::Rate | RangeOp::BytesRate => v / seconds,
            _ => v,
        };
        let windows = segments.windows().iter();
        let runs = windows.map(|(from, to)| *from as usize..*to as usize);
        match self {
            Self::Counts(counts) => {
                let mut before = Vec::with_capacity(counts.len() + 1);
                before.push(0u64);
                for c in counts {
                    before.push(before[before.len() - 1] + c);
                }
                runs.map(|r| match before[r.end] - before[r.start] {
                    0 => GAP,
                    n => per_second(n as f64),
                })
                .collect()
            }
            Self::Sums(sums) => runs
                .map(|r| {
                    let used = sums[r].iter().filter(|s| s.1 > 0);
                    let sum = used.fold(None, |all, s| Some(all.unwrap_or(0.0) + s.0));
                    sum.map_or(GAP, per_second)
                })
                .collect(),
            Self::Moments(moments) => runs
                .map(|r| {
                    let all = moments[r]
                        .iter()
                        .fold((0.0, 0.0, 0.0), |a, b| joined_moments(a, *b));
                    match (all.0 > 0.0, op) {
                        (false, _) => GAP,
                        (true, RangeOp::AvgOverTime) => all.1,
                        (true, RangeOp::StddevOverTime) => (all.2 / all.0).sqrt(),
                        (true, _) => all.2 / all.0,
                    }
                })
                .collect(),
            Self::Extremes(extremes) => runs
                .map(|r| {
                    let used = extremes[r]
                        .iter()
                        .filter(|v| !lgtm_core::vector::is_gap(**v));
                    used.fold(GAP, |all, v| extreme(op, all, *v))
                })
                .collect(),
            Self::Edges(edges) => runs
                .map(|r| {
                    let mut used = edges[r].iter().filter(|e| e.0 != NO_TIME);
                    let edge = match op {
                        RangeOp::FirstOverTime => used.next(),
                        _ => used.next_back(),
                    };
                    edge.map_or(GAP, |e| e.1)
                })
                .collect(),
            Self::Values(mut values) => {
                values.sort_by_key(|v| v.0);
                let mut sorted = Vec::new();
                segments
                    .windows()
                    .iter()
                    .map(|(_, to)| {
                        let end = (*to as usize)
                            .checked_sub(1)
                            .map_or(NO_TIME, |s| segments.end_ns(s).get());
                        let start = end.saturating_sub(range_ns);
                        let from = values.partition_point(|v| v.0 <= start);
                        let to = values.partition_point(|v| v.0 <= end);
                        let window = &values[from..to.max(from)];
                        match (window.is_empty(), op) {
                            (true, _) => GAP,
                            (false, RangeOp::RateCounter) => rate_counter(window, start, end),
                            (false, _) => {
                                sorted.clear();
                                sorted.extend(window.iter().map(|v| v.1));
                                quantile_of(quantile, &mut sorted)
                            }
                        }
                    })
                    .collect()
            }
        }
    }
}

/// Count, mean and squared distances of two parts together.
fn joined_moments(a: (f64, f64, f64), b: (f64, f64, f64)) -> (f64, f64, f64) {
    if a.0 == 0.0 {
        return b;
    }
    if b.0 == 0.0 {
        return a;
    }
    let n = a.0 + b.0;
    if a.1.is_infinite() || b.1.is_infinite() {
        return (n, a.1 + b.1, f64::NAN);
    }
    let distance = b.1 - a.1;
    let mean = a.1 + distance * b.0 / n;
    (n, mean, a.2 + b.2 + distance * distance * a.0 * b.0 / n)
}

/// The lesser or greater of two; a gap and NaN give way.
fn extreme(op: RangeOp, known: f64, value: f64) -> f64 {
    let replaces = match op {
        RangeOp::MinOverTime => value < known,
        _ => value > known,
    };
    if replaces || known.is_nan() {
        value
    } else {
        known
    }
}

/// Linear between the two values around the place; NaN counts as the least.
fn quantile_of(q: f64, values: &mut [f64]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = q * (values.len() as f64 - 1.0);
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}
