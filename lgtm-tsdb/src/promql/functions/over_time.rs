//! Functions over ranges: which there are, and how each is computed at all steps of one series.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::FloatHistogram;
use lgtm_core::vector::is_gap;

use super::extended;
use super::rate::{self, Slope, started_anew};
use super::sliding::{Fold, MaxFold, MinFold, Sliding, SumFold};
use super::statistics;
use super::window::{Found, HintsSeen, RangeNotes, Samples, Window, WindowGrid, for_each_window};
use crate::promql::ast::Edges;
use crate::promql::histogram;

/// A function over a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Avg,
    Changes,
    Count,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
    TsOfFirst,
    TsOfLast,
    TsOfMax,
    TsOfMin,
}

impl RangeFunction {
    /// The function of a name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "avg_over_time" => Self::Avg,
            "changes" => Self::Changes,
            "count_over_time" => Self::Count,
            "delta" => Self::Delta,
            "deriv" => Self::Deriv,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "first_over_time" => Self::First,
            "idelta" => Self::Idelta,
            "increase" => Self::Increase,
            "irate" => Self::Irate,
            "last_over_time" => Self::Last,
            "mad_over_time" => Self::Mad,
            "max_over_time" => Self::Max,
            "min_over_time" => Self::Min,
            "predict_linear" => Self::PredictLinear,
            "present_over_time" | "absent_over_time" => Self::Present,
            "quantile_over_time" => Self::Quantile,
            "rate" => Self::Rate,
            "resets" => Self::Resets,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "sum_over_time" => Self::Sum,
            "ts_of_first_over_time" => Self::TsOfFirst,
            "ts_of_last_over_time" => Self::TsOfLast,
            "ts_of_max_over_time" => Self::TsOfMax,
            "ts_of_min_over_time" => Self::TsOfMin,
            _ => return None,
        })
    }

    /// Whether the result is still a value of the metric, and so keeps its name.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Whether windows that overlap are mostly computed without looking at each sample again for each of them.
    pub(crate) fn is_linear(self) -> bool {
        use RangeFunction as F;
        let by_ends = matches!(
            self,
            F::Count
                | F::First
                | F::Idelta
                | F::Irate
                | F::Last
                | F::Present
                | F::TsOfFirst
                | F::TsOfLast
        );
        by_ends || self.slope().is_some() || matches!(self, F::Sum | F::Max | F::Min)
    }

    /// Whether start timestamps change the result.
    pub(crate) fn wants_starts(self) -> bool {
        matches!(
            self,
            Self::Rate | Self::Increase | Self::Irate | Self::Resets
        )
    }

    /// Whether it only makes sense of counters, whose names end in a certain way.
    pub(crate) fn expects_counter_name(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }

    fn slope(self) -> Option<Slope> {
        let (is_counter, per_second) = match self {
            Self::Rate => (true, true),
            Self::Increase => (true, false),
            Self::Delta => (false, false),
            _ => return None,
        };
        Some(Slope {
            is_counter,
            per_second,
        })
    }
}

/// Where results go.
pub(crate) trait Cell {
    /// A float at a step.
    fn float(&mut self, step: usize, value: f64);
    /// A histogram at a step.
    fn histogram(&mut self, step: usize, value: FloatHistogram);
}

fn put(out: &mut impl Cell, step: usize, found: Found) {
    match found {
        Found::Nothing => {}
        Found::Float(v) => out.float(step, v),
        Found::Histogram(h) => out.histogram(step, h),
    }
}

/// From how many samples in a window on a sliding fold pays, when windows overlap by as much.
const SLIDING_FROM: i64 = 8;

/// How a function looks at its windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) edges: Edges,
    /// How far an anchored or smoothed edge looks for a sample.
    pub(crate) lookback_ms: i64,
    /// Ends the walk early; what was found is then not all.
    pub(crate) cancel: &'a CancelToken,
}

/// Computes a function at all steps of a series. `params` are its scalar arguments, each with a value per step.
///
/// Returns how many samples the windows hold in all.
///
/// # Errors
/// A message when a parameter is out of bounds.
pub(crate) fn evaluate(
    function: RangeFunction,
    samples: &Samples,
    windows: &WindowGrid,
    look: Look<'_>,
    params: &[Vec<f64>],
    out: &mut impl Cell,
    notes: &mut RangeNotes,
) -> Result<u64, String> {
    let Look {
        edges,
        lookback_ms,
        cancel,
    } = look;
    let widened = match edges {
        Edges::Plain => (0, 0),
        Edges::Anchored => (lookback_ms, 0),
        Edges::Smoothed => (lookback_ms, lookback_ms),
    };
    if function == RangeFunction::DoubleExponentialSmoothing {
        check_factors(params)?;
    }
    if let Some(slope) = function.slope() {
        if edges == Edges::Plain && samples.h_times.is_empty() && samples.starts.is_empty() {
            return Ok(slope.of_floats(samples, windows, |step, v| out.float(step, v)));
        }
        return Ok(for_each_window(
            samples,
            windows,
            widened,
            cancel,
            |step, w| {
                let found = match edges {
                    Edges::Plain => slope.of_window(w, notes),
                    Edges::Anchored => extended::slope(slope, false, w, notes),
                    Edges::Smoothed => extended::slope(slope, true, w, notes),
                };
                put(out, step, found);
            },
        ));
    }
    if samples.h_times.is_empty() && overlap_far(windows) {
        match function {
            RangeFunction::Sum => {
                return Ok(slide::<SumFold>(samples, windows, cancel, out, |f| {
                    if f.0.is_infinite() { f.0 } else { f.0 + f.1 }
                }));
            }
            RangeFunction::Max => {
                return Ok(slide::<MaxFold>(samples, windows, cancel, out, |f| f.0));
            }
            RangeFunction::Min => {
                return Ok(slide::<MinFold>(samples, windows, cancel, out, |f| f.0));
            }
            _ => {}
        }
    }
    let mut scratch = Vec::new();
    let is_anchored = edges == Edges::Anchored;
    Ok(for_each_window(
        samples,
        windows,
        widened,
        cancel,
        |step, w| {
            let param = |n: usize| params.get(n).map_or(f64::NAN, |p| p[step.min(p.len() - 1)]);
            let found = at_window(function, w, is_anchored, &param, &mut scratch, notes);
            put(out, step, found);
        },
    ))
}

fn overlap_far(windows: &WindowGrid) -> bool {
    windows.grid.len() >= 16
        && windows.at_ms.is_none()
        && windows.range_ms >= windows.grid.step_ms().saturating_mul(SLIDING_FROM)
}

fn slide<F: Fold>(
    samples: &Samples,
    windows: &WindowGrid,
    cancel: &CancelToken,
    out: &mut impl Cell,
    result: impl Fn(F) -> f64,
) -> u64 {
    let mut fold = Sliding::<F>::new();
    for_each_window(samples, windows, (0, 0), cancel, |step, w| {
        let high = w.first_float + w.floats.len();
        out.float(
            step,
            result(fold.fold(&samples.floats, w.first_float, high)),
        );
    })
}

fn check_factors(params: &[Vec<f64>]) -> Result<(), String> {
    for (values, name) in params.iter().zip(["smoothing", "trend"]) {
        let letter = &name[..1];
        let bad = values
            .iter()
            .find(|v| !is_gap(**v) && (**v <= 0.0 || **v >= 1.0));
        if let Some(v) = bad {
            return Err(format!(
                "invalid {name} factor. Expected: 0 < {letter}f < 1, got: {v:.6}"
            ));
        }
    }
    Ok(())
}

fn at_window(
    function: RangeFunction,
    w: &Window<'_>,
    is_anchored: bool,
    param: &impl Fn(usize) -> f64,
    scratch: &mut Vec<f64>,
    notes: &mut RangeNotes,
) -> Found {
    use RangeFunction as F;
    match function {
        F::Count => Found::Float((w.floats.len() + w.histograms.len()) as f64),
        F::Present => Found::Float(1.0),
        F::First => first(w),
        F::Last => last(w),
        F::TsOfFirst => {
            let times = [w.times.first(), w.h_times.first()];
            seconds(times.into_iter().flatten().min())
        }
        F::TsOfLast => {
            let times = [w.times.last(), w.h_times.last()];
            seconds(times.into_iter().flatten().max())
        }
        F::Irate => rate::instant(true, w, notes),
        F::Idelta => rate::instant(false, w, notes),
        F::Changes | F::Resets => transitions(function == F::Resets, is_anchored, w),
        F::Sum | F::Avg => total(function == F::Avg, w, notes),
        _ => of_floats(function, w, param, scratch, notes),
    }
}

fn seconds(t_ms: Option<&i64>) -> Found {
    t_ms.map_or(Found::Nothing, |t| Found::Float(*t as f64 / 1000.0))
}

fn first(w: &Window<'_>) -> Found {
    match (w.times.first(), w.h_times.first()) {
        (Some(f), h) if h.is_none_or(|h| f < h) => Found::Float(w.floats[0]),
        (_, Some(_)) => Found::Histogram((*w.histograms[0]).clone()),
        _ => Found::Nothing,
    }
}

fn last(w: &Window<'_>) -> Found {
    match (w.times.last(), w.h_times.last()) {
        (Some(f), h) if h.is_none_or(|h| h < f) => Found::Float(w.floats[w.floats.len() - 1]),
        (_, Some(_)) => Found::Histogram((*w.histograms[w.histograms.len() - 1]).clone()),
        _ => Found::Nothing,
    }
}

/// Functions that know floats only; histograms beside them are left out and noted.
fn of_floats(
    function: RangeFunction,
    w: &Window<'_>,
    param: &impl Fn(usize) -> f64,
    scratch: &mut Vec<f64>,
    notes: &mut RangeNotes,
) -> Found {
    use RangeFunction as F;
    if w.floats.is_empty() {
        return Found::Nothing;
    }
    if !w.histograms.is_empty() {
        notes.add(RangeNotes::HISTOGRAMS_IGNORED);
    }
    let two = matches!(
        function,
        F::Deriv | F::PredictLinear | F::DoubleExponentialSmoothing
    );
    if two && w.floats.len() < 2 {
        return Found::Nothing;
    }
    scratch.clear();
    scratch.extend_from_slice(w.floats);
    Found::Float(match function {
        F::Max => extreme(w, |v, best| v > best).1,
        F::Min => extreme(w, |v, best| v < best).1,
        F::TsOfMax => extreme(w, |v, best| v >= best).0 as f64 / 1000.0,
        F::TsOfMin => extreme(w, |v, best| v <= best).0 as f64 / 1000.0,
        F::Stddev => statistics::variance(w.floats).sqrt(),
        F::Stdvar => statistics::variance(w.floats),
        F::Mad => statistics::median_deviation(scratch),
        F::Quantile => statistics::quantile(param(0), scratch),
        F::Deriv => statistics::regression(w.times, w.floats, w.times[0]).0,
        F::PredictLinear => {
            let (slope, now) = statistics::regression(w.times, w.floats, w.eval_ms);
            slope * param(0) + now
        }
        F::DoubleExponentialSmoothing => statistics::smooth(w.floats, param(0), param(1)),
        _ => return Found::Nothing,
    })
}

/// Time and value of the best; a NaN gives way to anything.
fn extreme(w: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> (i64, f64) {
    let mut best = (w.times[0], w.floats[0]);
    for (t, v) in w.times.iter().zip(w.floats) {
        if better(*v, best.1) || best.1.is_nan() {
            best = (*t, *v);
        }
    }
    best
}

fn total(average: bool, w: &Window<'_>, notes: &mut RangeNotes) -> Found {
    if w.is_mixed() {
        notes.add(RangeNotes::MIXED);
        return Found::Nothing;
    }
    let Some((first, rest)) = w.histograms.split_first() else {
        return Found::Float(if average {
            statistics::average(w.floats)
        } else {
            let mut sum = SumFold(0.0, 0.0);
            w.floats
                .iter()
                .for_each(|v| sum = sum.join(SumFold::of(*v)));
            if sum.0.is_infinite() {
                sum.0
            } else {
                sum.0 + sum.1
            }
        });
    };
    let mut hints = HintsSeen::default();
    w.histograms.iter().for_each(|h| hints.see(h.hint));
    if hints.collide() {
        notes.add(RangeNotes::HINTS_COLLIDE);
    }
    let result = if average {
        let mut all = histogram::Average::new(first);
        let fits = rest.iter().all(|h| all.add(h).is_ok());
        fits.then(|| (all.bounds_reconciled(), all.finish()))
    } else {
        let mut all = histogram::Sum::new(first);
        let fits = rest.iter().all(|h| all.add(h).is_ok());
        fits.then(|| (all.bounds_reconciled, all.finish()))
    };
    let Some((reconciled, h)) = result else {
        notes.add(RangeNotes::MIXED_BUCKETS);
        return Found::Nothing;
    };
    if reconciled {
        notes.add(RangeNotes::RECONCILED_AGG);
    }
    Found::Histogram(h)
}

/// `changes` and `resets`: how often a sample differs from the one before, or begins anew.
fn transitions(resets: bool, is_anchored: bool, w: &Window<'_>) -> Found {
    let first = if is_anchored {
        super::extended::anchored_first(w)
    } else {
        Some((0, 0))
    };
    let Some((mut f, mut h)) = first else {
        return Found::Nothing;
    };
    let mut count = 0u32;
    let mut before: Option<(bool, usize)> = None;
    while f < w.times.len() || h < w.h_times.len() {
        let is_float = match (w.times.get(f), w.h_times.get(h)) {
            (Some(a), Some(b)) => a < b,
            (a, _) => a.is_some(),
        };
        let now = (is_float, if is_float { f } else { h });
        if let Some((was_float, i)) = before {
            let differs = match (was_float, is_float) {
                (true, true) if resets => {
                    w.floats[f] < w.floats[i] || i + 1 == f && started_anew(w.starts, w.times, f)
                }
                (true, true) => {
                    let (a, b) = (w.floats[i], w.floats[f]);
                    a != b && !(a.is_nan() && b.is_nan())
                }
                (false, false) if resets => {
                    started_anew(w.h_starts, w.h_times, h)
                        || histogram::is_reset(&w.histograms[h], &w.histograms[i])
                }
                (false, false) => !histogram::equals(&w.histograms[h], &w.histograms[i]),
                _ => true,
            };
            count += u32::from(differs);
        }
        before = Some(now);
        if is_float { f += 1 } else { h += 1 }
    }
    Found::Float(f64::from(count))
}
