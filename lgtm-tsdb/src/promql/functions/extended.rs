//! Slopes over ranges with `anchored` or `smoothed` edges: no extrapolation; the value at an edge is that of the last sample before
//! it, or what lies on the line between the samples around it.

use std::sync::Arc;

use lgtm_core::model::{CounterResetHint, FloatHistogram};

use super::rate::{Slope, add, subtract};
use super::window::{Found, RangeNotes, Samples, Window};
use crate::promql::histogram;

/// Samples around the edges of a window: the first one used, and the last.
fn edges(times: &[i64], w: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last]
        .partition_point(|t| *t <= w.start_ms)
        .saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|t| *t < w.end_ms);
    }
    let outside = times[last] <= w.start_ms || smoothed && times[first] > w.end_ms;
    (!outside).then_some((first, last))
}

/// The slope of a window that holds samples around it too.
pub(super) fn slope(slope: Slope, smoothed: bool, w: &Window<'_>, notes: &mut RangeNotes) -> Found {
    if w.is_mixed() {
        notes.add(RangeNotes::MIXED);
        return Found::Nothing;
    }
    if w.histograms.is_empty() {
        floats(slope, smoothed, w).map_or(Found::Nothing, Found::Float)
    } else {
        histograms(slope, smoothed, w, notes).map_or(Found::Nothing, Found::Histogram)
    }
}

fn floats(slope: Slope, smoothed: bool, w: &Window<'_>) -> Option<f64> {
    let (mut first, mut last) = edges(w.times, w, smoothed)?;
    let (left, right) = edge_values(w, (first, last), smoothed, slope.is_counter);
    let mut value = right - left;
    if slope.is_counter {
        // The edges have accounted for resets across them; what lies between them remains.
        if w.times[first] <= w.start_ms {
            first += 1;
        }
        if w.times[last] >= w.end_ms {
            last = last.saturating_sub(1);
        }
        let inner = w.floats.get(first..=last).unwrap_or_default();
        let mut before = left;
        for v in inner.iter().chain([&right]) {
            if *v < before {
                value += before;
            }
            before = *v;
        }
    }
    Some(if slope.per_second {
        value / w.range_seconds()
    } else {
        value
    })
}

/// The values at the edges of a window.
fn edge_values(
    w: &Window<'_>,
    (first, last): (usize, usize),
    smoothed: bool,
    is_counter: bool,
) -> (f64, f64) {
    let at = |i: usize| (w.times[i], w.floats[i]);
    let left = if smoothed && w.times[first] < w.start_ms {
        between(at(first), at(first + 1), w.start_ms, is_counter)
    } else {
        w.floats[first]
    };
    let right = if smoothed && last > 0 && w.times[last] > w.end_ms {
        between(at(last - 1), at(last), w.end_ms, is_counter)
    } else {
        w.floats[last]
    };
    (left, right)
}

/// The value at a time on the line between two samples; a counter that was reset between them rises from 0.
pub(crate) fn between((t1, v1): (i64, f64), (t2, v2): (i64, f64), t: i64, is_counter: bool) -> f64 {
    let from = if is_counter && v2 < v1 { 0.0 } else { v1 };
    from + (v2 - from) * (t - t1) as f64 / (t2 - t1) as f64
}

/// The same for histograms; `None` when their buckets do not fit.
pub(crate) fn between_histograms(
    (t1, h1): (i64, &FloatHistogram),
    (t2, h2): (i64, &FloatHistogram),
    t: i64,
    is_counter: bool,
    notes: &mut RangeNotes,
) -> Option<FloatHistogram> {
    if t == t1 {
        return Some(h1.clone());
    }
    let mut out = h2.clone();
    if t == t2 {
        return Some(out);
    }
    let fraction = (t - t1) as f64 / (t2 - t1) as f64;
    if is_counter && histogram::is_reset(h2, h1) {
        histogram::multiply(&mut out, fraction);
        return Some(out);
    }
    subtract(&mut out, h1, notes)?;
    histogram::multiply(&mut out, fraction);
    add(&mut out, h1, notes)?;
    Some(out)
}

fn histograms(
    slope: Slope,
    smoothed: bool,
    w: &Window<'_>,
    notes: &mut RangeNotes,
) -> Option<FloatHistogram> {
    let (first, last) = edges(w.h_times, w, smoothed)?;
    let all = w.histograms;
    let used = &all[first..=last];
    let custom = used[0].uses_custom_buckets();
    for h in used {
        if h.uses_custom_buckets() != custom {
            notes.add(RangeNotes::MIXED_BUCKETS);
            return None;
        }
        if slope.is_counter && h.hint == CounterResetHint::Gauge {
            notes.add(RangeNotes::NOT_COUNTER);
        }
    }
    let at = |i: usize| (w.h_times[i], &*all[i]);
    let left = if smoothed && w.h_times[first] < w.start_ms {
        between_histograms(
            at(first),
            at(first + 1),
            w.start_ms,
            slope.is_counter,
            notes,
        )?
    } else {
        (*all[first]).clone()
    };
    let right = if smoothed && last > 0 && w.h_times[last] > w.end_ms {
        between_histograms(at(last - 1), at(last), w.end_ms, slope.is_counter, notes)?
    } else {
        (*all[last]).clone()
    };
    let is_gauge = |h: &FloatHistogram| h.hint == CounterResetHint::Gauge;
    let gauges = is_gauge(&left) && is_gauge(&right);
    if !slope.is_counter && !gauges {
        notes.add(RangeNotes::NOT_GAUGE);
    }
    let mut value = right.clone();
    subtract(&mut value, &left, notes)?;
    if slope.is_counter {
        // Where the left edge lies in a reset, what follows compares with the sample after it.
        let crossed = smoothed
            && w.h_times[first] < w.start_ms
            && histogram::is_reset(&all[first + 1], &all[first]);
        let (from, before) = if crossed {
            (first + 2, Arc::clone(&all[first + 1]))
        } else {
            (first + 1, Arc::new(left))
        };
        if from <= last {
            correct(&mut value, before, &all[from..last], &right, notes)?;
        }
    }
    if slope.per_second {
        histogram::divide(&mut value, w.range_seconds());
    }
    value.hint = CounterResetHint::Gauge;
    histogram::compact(&mut value);
    Some(value)
}

/// Adds what was there before each reset.
fn correct(
    value: &mut FloatHistogram,
    mut before: Arc<FloatHistogram>,
    inner: &[Arc<FloatHistogram>],
    right: &FloatHistogram,
    notes: &mut RangeNotes,
) -> Option<()> {
    for h in inner {
        if histogram::is_reset(h, &before) {
            add(value, &before, notes)?;
        }
        before = Arc::clone(h);
    }
    if histogram::is_reset(right, &before) {
        add(value, &before, notes)?;
    }
    Some(())
}

/// First float and first histogram that count in an anchored window: the last sample of either kind at its start or before, and
/// all after it. `None` when nothing lies inside.
pub(super) fn anchored_first(w: &Window<'_>) -> Option<(usize, usize)> {
    let f = w.times.partition_point(|t| *t <= w.start_ms);
    let h = w.h_times.partition_point(|t| *t <= w.start_ms);
    if f == w.times.len() && h == w.h_times.len() {
        return None;
    }
    let before = |times: &[i64], n: usize| n.checked_sub(1).map(|i| times[i]);
    Some(match (before(w.times, f), before(w.h_times, h)) {
        (None, None) => (f, h),
        (Some(t), other) if other.is_none_or(|o| t >= o) => (f - 1, h),
        _ => (f, h - 1),
    })
}

/// Cuts samples to a range, with a float at each of its edges: that of the last sample before it, or what is on the line between
/// the samples around it. Histograms outside are left out.
pub(crate) fn cut_to_range(samples: &mut Samples, start_ms: i64, end_ms: i64, smoothed: bool) {
    let inside = |t: i64| t > start_ms && t <= end_ms;
    let kept: Vec<bool> = samples.h_times.iter().map(|t| inside(*t)).collect();
    let mut keep = kept.iter();
    samples
        .histograms
        .retain(|_| *keep.next().unwrap_or(&false));
    samples.h_times.retain(|t| inside(*t));
    let whole = std::mem::take(&mut samples.times);
    let floats = std::mem::take(&mut samples.floats);
    let w = Window {
        times: &whole,
        floats: &floats,
        first_float: 0,
        starts: &[],
        h_times: &[],
        histograms: &[],
        h_starts: &[],
        start_ms,
        end_ms,
        eval_ms: end_ms,
    };
    let Some((first, last)) = edges(&whole, &w, smoothed) else {
        return;
    };
    let (left, right) = edge_values(&w, (first, last), smoothed, false);
    samples.times.push(start_ms);
    samples.floats.push(left);
    for i in first..=last {
        if whole[i] > start_ms && whole[i] < end_ms {
            samples.times.push(whole[i]);
            samples.floats.push(floats[i]);
        }
    }
    samples.times.push(end_ms);
    samples.floats.push(right);
}
