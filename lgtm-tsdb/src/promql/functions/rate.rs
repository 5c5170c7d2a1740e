//! `rate`, `increase`, `delta`, `irate`, `idelta`: slopes of counters and gauges.

use std::sync::Arc;

use lgtm_core::model::{CounterResetHint, FloatHistogram};

use super::window::{Cursor, Found, RangeNotes, Samples, Window, WindowGrid};
use crate::promql::histogram::{self, IncompatibleBuckets};

/// Which slope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slope {
    /// Whether values only fall when the counter begins anew.
    pub(crate) is_counter: bool,
    /// Whether the result is per second.
    pub(crate) per_second: bool,
}

/// How much a series rose inside a window, seen at its samples.
struct Rise {
    first_ms: i64,
    last_ms: i64,
    /// Number of samples.
    count: usize,
    /// The first value, or the first histogram's count.
    first: f64,
    /// The rise, or the histogram's count of it.
    value: f64,
}

/// A factor, and for which place of a rise in its window it holds: milliseconds before it, after it and of it, and its samples.
struct Stretched {
    place: (i64, i64, i64, usize),
    factor: f64,
}

impl Slope {
    /// The factor that stretches a rise between samples to the whole window. Samples close to an edge are taken to go on to it;
    /// farther away, half a distance of samples; a counter never below zero.
    fn stretch(self, r: &Rise, start_ms: i64, end_ms: i64) -> f64 {
        let mut to_start = (r.first_ms - start_ms) as f64 / 1000.0;
        let mut to_end = (end_ms - r.last_ms) as f64 / 1000.0;
        let sampled = (r.last_ms - r.first_ms) as f64 / 1000.0;
        let distance = sampled / (r.count - 1) as f64;
        let threshold = distance * 1.1;
        if to_start >= threshold {
            to_start = distance / 2.0;
        }
        if self.is_counter && r.value > 0.0 && r.first >= 0.0 {
            to_start = to_start.min(sampled * (r.first / r.value));
        }
        if to_end >= threshold {
            to_end = distance / 2.0;
        }
        self.per_window((sampled + to_start + to_end) / sampled, start_ms, end_ms)
    }

    /// As [`Slope::stretch`]. Scrapes are regular, so that from step to step most rises lie alike in their windows; for those the
    /// factor stays what it was, and its divisions are most of the cost of a slope.
    #[inline]
    fn stretch_again(self, r: &Rise, start_ms: i64, end_ms: i64, last: &mut Stretched) -> f64 {
        let place = (
            r.first_ms - start_ms,
            end_ms - r.last_ms,
            r.last_ms - r.first_ms,
            r.count,
        );
        if last.place != place {
            // Far above zero: a factor that only the place decides.
            let far = Rise {
                first: f64::INFINITY,
                value: 1.0,
                ..*r
            };
            *last = Stretched {
                place,
                factor: self.stretch(&far, start_ms, end_ms),
            };
        }
        // Whether the counter would reach zero before the window's start, with room for rounding. NaN and infinities say yes.
        let (to_start, sampled) = (place.0 as f64 / 1000.0, place.2 as f64 / 1000.0);
        let is_far = sampled * r.first > to_start * r.value * 1.000_001;
        if !self.is_counter || is_far || r.value <= 0.0 || r.first < 0.0 {
            last.factor
        } else {
            self.stretch(r, start_ms, end_ms)
        }
    }

    fn per_window(self, factor: f64, start_ms: i64, end_ms: i64) -> f64 {
        if self.per_second {
            factor / ((end_ms - start_ms) as f64 / 1000.0)
        } else {
            factor
        }
    }

    /// The slope at each step of a series of floats without start timestamps. Resets are looked for once, so that the cost does
    /// not depend on how far windows overlap. Returns how many samples all windows hold.
    pub(super) fn of_floats(
        self,
        samples: &Samples,
        windows: &WindowGrid,
        mut give: impl FnMut(usize, f64),
    ) -> u64 {
        let (times, floats) = (&samples.times, &samples.floats);
        let resets: Vec<usize> = if self.is_counter {
            (1..floats.len())
                .filter(|i| floats[*i] < floats[*i - 1])
                .collect()
        } else {
            Vec::new()
        };
        let (mut cursor, mut next_reset, mut seen) = (Cursor::default(), 0, 0);
        let mut stretched = Stretched {
            place: (0, 0, 0, 0),
            factor: f64::NAN,
        };
        for step in 0..windows.grid.len() {
            let end_ms = windows.end_ms(step);
            let start_ms = end_ms.saturating_sub(windows.range_ms);
            cursor.move_to(times, start_ms, end_ms);
            let (low, high) = (cursor.low, cursor.high);
            seen += (high - low) as u64;
            if high - low < 2 {
                continue;
            }
            let mut value = floats[high - 1] - floats[low];
            while resets.get(next_reset).is_some_and(|r| *r <= low) {
                next_reset += 1;
            }
            for reset in resets[next_reset..].iter().take_while(|r| **r < high) {
                value += floats[reset - 1];
            }
            let rise = Rise {
                first_ms: times[low],
                last_ms: times[high - 1],
                count: high - low,
                first: floats[low],
                value,
            };
            // Equal times cannot be: each time is held once.
            let factor = self.stretch_again(&rise, start_ms, end_ms, &mut stretched);
            give(step, value * factor);
        }
        seen
    }

    /// The slope of one window of any kind.
    pub(super) fn of_window(self, w: &Window<'_>, notes: &mut RangeNotes) -> Found {
        if w.is_mixed() {
            notes.add(RangeNotes::MIXED);
            return Found::Nothing;
        }
        if w.histograms.is_empty() {
            self.float_window(w, notes)
                .map_or(Found::Nothing, Found::Float)
        } else {
            self.histogram_window(w, notes)
                .map_or(Found::Nothing, Found::Histogram)
        }
    }

    fn float_window(self, w: &Window<'_>, notes: &mut RangeNotes) -> Option<f64> {
        let last = w.floats.len().checked_sub(1)?;
        let mut value = w.floats[last] - w.floats[0];
        if self.is_counter {
            note_overlap(w.starts, w.times, notes);
            for i in 1..=last {
                if w.floats[i] < w.floats[i - 1] || started_anew(w.starts, w.times, i) {
                    value += w.floats[i - 1];
                }
            }
        }
        let rise = Rise {
            first_ms: w.times[0],
            last_ms: w.times[last],
            count: last + 1,
            first: w.floats[0],
            value,
        };
        if let Some(factor) = self.since_start(w.starts, &rise, w) {
            return Some((value + w.floats[0]) * factor);
        }
        (last > 0).then(|| value * self.stretch(&rise, w.start_ms, w.end_ms))
    }

    /// When the first sample tells that its counter started inside the window: from there on, not from the first sample.
    fn since_start(self, starts: &[i64], r: &Rise, w: &Window<'_>) -> Option<f64> {
        let start = *starts.first()?;
        if !self.is_counter || start == 0 || start <= w.start_ms || start >= r.first_ms {
            return None;
        }
        let distance = match r.count {
            1 => 0.0,
            n => (r.last_ms - r.first_ms) as f64 / 1000.0 / (n - 1) as f64,
        };
        let sampled = (r.last_ms - start) as f64 / 1000.0;
        let mut to_end = (w.end_ms - r.last_ms) as f64 / 1000.0;
        if to_end >= distance * 1.1 {
            to_end = distance / 2.0;
        }
        Some(self.per_window((sampled + to_end) / sampled, w.start_ms, w.end_ms))
    }

    fn histogram_window(self, w: &Window<'_>, notes: &mut RangeNotes) -> Option<FloatHistogram> {
        let last = w.histograms.len() - 1;
        let mut value = match last {
            0 => None,
            _ => Some(self.histogram_rise(w, notes)?),
        };
        let first = &w.histograms[0];
        let rise = Rise {
            first_ms: w.h_times[0],
            last_ms: w.h_times[last],
            count: last + 1,
            first: first.count,
            value: value.as_ref().map_or(0.0, |v| v.count),
        };
        let factor = match self.since_start(w.h_starts, &rise, w) {
            Some(factor) => {
                match &mut value {
                    Some(v) => add(v, first, notes)?,
                    None => value = Some((**first).clone()),
                }
                factor
            }
            None if last == 0 => return None,
            None => self.stretch(&rise, w.start_ms, w.end_ms),
        };
        let mut value = value?;
        histogram::multiply(&mut value, factor);
        Some(value)
    }

    /// Last minus first, plus what was there before each reset.
    fn histogram_rise(self, w: &Window<'_>, notes: &mut RangeNotes) -> Option<FloatHistogram> {
        let all = w.histograms;
        let last = &all[all.len() - 1];
        let is_gauge = |h: &FloatHistogram| h.hint == CounterResetHint::Gauge;
        if self.is_counter && (is_gauge(&all[0]) || is_gauge(last)) {
            notes.add(RangeNotes::NOT_COUNTER);
        }
        // After a reset the first does not matter, nor whether its buckets fit.
        let mut before = Arc::clone(&all[0]);
        if self.is_counter
            && (started_anew(w.h_starts, w.h_times, 1) || histogram::is_reset(&all[1], &before))
        {
            before = Arc::new(FloatHistogram {
                schema: all[1].schema,
                custom_values: all[1].custom_values.clone(),
                ..FloatHistogram::default()
            });
        }
        let custom = before.uses_custom_buckets();
        let mut schema = before.schema.min(last.schema);
        for h in &all[1..all.len() - 1] {
            if self.is_counter {
                if is_gauge(h) {
                    notes.add(RangeNotes::NOT_COUNTER);
                }
                schema = schema.min(h.schema);
            }
        }
        let fits = |h: &FloatHistogram| h.uses_custom_buckets() == custom;
        if !fits(last) || self.is_counter && !all[1..].iter().all(|h| fits(h)) {
            notes.add(RangeNotes::MIXED_BUCKETS);
            return None;
        }
        let mut value = histogram::copy_to_schema(last, schema);
        subtract(&mut value, &before, notes)?;
        if self.is_counter {
            note_overlap(w.h_starts, w.h_times, notes);
            for (i, h) in all.iter().enumerate().skip(1) {
                if started_anew(w.h_starts, w.h_times, i) || histogram::is_reset(h, &before) {
                    add(&mut value, &before, notes)?;
                }
                before = Arc::clone(h);
            }
        } else if !is_gauge(&all[0]) || !is_gauge(last) {
            notes.add(RangeNotes::NOT_GAUGE);
        }
        value.hint = CounterResetHint::Gauge;
        histogram::compact(&mut value);
        Some(value)
    }
}

/// Adds and notes what happened; `None` when the buckets do not fit.
pub(super) fn add(
    h: &mut FloatHistogram,
    other: &FloatHistogram,
    notes: &mut RangeNotes,
) -> Option<()> {
    note_merge(histogram::add(h, other), RangeNotes::RECONCILED_ADD, notes)
}

/// Subtracts, likewise.
pub(super) fn subtract(
    h: &mut FloatHistogram,
    other: &FloatHistogram,
    notes: &mut RangeNotes,
) -> Option<()> {
    note_merge(
        histogram::subtract(h, other),
        RangeNotes::RECONCILED_SUB,
        notes,
    )
}

fn note_merge(
    merged: Result<histogram::Merged, IncompatibleBuckets>,
    reconciled: RangeNotes,
    notes: &mut RangeNotes,
) -> Option<()> {
    match merged {
        Ok(m) => {
            if m.bounds_reconciled {
                notes.add(reconciled);
            }
            Some(())
        }
        Err(IncompatibleBuckets) => {
            notes.add(RangeNotes::MIXED_BUCKETS);
            None
        }
    }
}

/// Whether sample `i` says that its counter started after the sample before it.
pub(super) fn started_anew(starts: &[i64], times: &[i64], i: usize) -> bool {
    let (Some(start), Some(start_before)) = (starts.get(i), starts.get(i - 1)) else {
        return false;
    };
    let before = times[i - 1];
    if *start == 0 || *start >= times[i] || *start < before {
        return false;
    }
    // A start at the sample before is a delta's way to count, unless that sample says that it knows no start.
    *start > before || *start_before != 0 && *start_before < before
}

fn note_overlap(starts: &[i64], times: &[i64], notes: &mut RangeNotes) {
    let overlaps = starts
        .windows(2)
        .zip(times)
        .any(|(s, before)| s[1] != 0 && s[1] < *before && s[1] != s[0]);
    if overlaps {
        notes.add(RangeNotes::STARTS_OVERLAP);
    }
}

/// `irate` and `idelta`: the slope between the last two samples.
pub(super) fn instant(per_second: bool, w: &Window<'_>, notes: &mut RangeNotes) -> Found {
    let floats = w.times.len();
    let histograms = w.h_times.len();
    let newest = |times: &[i64], n: usize| n.checked_sub(1).map(|i| times[i]);
    // The last two of both kinds together, newest first.
    let (mut f, mut h, mut kinds) = (floats, histograms, Vec::with_capacity(2));
    while kinds.len() < 2 {
        match (newest(w.times, f), newest(w.h_times, h)) {
            (None, None) => return Found::Nothing,
            (Some(t), other) if other.is_none_or(|o| t > o) => {
                f -= 1;
                kinds.push(false);
            }
            _ => {
                h -= 1;
                kinds.push(true);
            }
        }
    }
    if kinds[0] != kinds[1] {
        notes.add(RangeNotes::MIXED);
        return Found::Nothing;
    }
    if kinds[0] {
        return instant_histogram(per_second, w, notes);
    }
    let (a, b) = (floats - 2, floats - 1);
    let seconds = (w.times[b] - w.times[a]) as f64 / 1000.0;
    let (before, now) = (w.floats[a], w.floats[b]);
    if !per_second {
        return Found::Float(now - before);
    }
    let reset = now < before || started_anew(w.starts, w.times, b);
    Found::Float(if reset { now } else { now - before } / seconds)
}

fn instant_histogram(per_second: bool, w: &Window<'_>, notes: &mut RangeNotes) -> Found {
    let (a, b) = (w.h_times.len() - 2, w.h_times.len() - 1);
    let (before, now) = (&w.histograms[a], &w.histograms[b]);
    let gauges = [before, now].map(|h| h.hint == CounterResetHint::Gauge);
    if per_second && gauges.contains(&true) {
        notes.add(RangeNotes::NOT_COUNTER);
    }
    if !per_second && gauges.contains(&false) {
        notes.add(RangeNotes::NOT_GAUGE);
    }
    let mut value = (**now).clone();
    let reset =
        per_second && (started_anew(w.h_starts, w.h_times, b) || histogram::is_reset(now, before));
    if !reset && subtract(&mut value, before, notes).is_none() {
        return Found::Nothing;
    }
    value.hint = CounterResetHint::Gauge;
    histogram::compact(&mut value);
    if per_second {
        histogram::divide(&mut value, (w.h_times[b] - w.h_times[a]) as f64 / 1000.0);
    }
    Found::Histogram(value)
}

#[cfg(test)]
mod tests {
    use lgtm_core::exec::CancelToken;
    use lgtm_core::vector::StepGrid;
    use proptest::prelude::*;

    use super::super::window::for_each_window;
    use super::*;

    proptest! {
        #[test]
        fn the_run_over_all_windows_gives_the_bits_of_each_window_alone(
            gaps in proptest::collection::vec(prop_oneof![8 => Just(15_000i64), 1 => 14_990i64..15_010, 1 => 1i64..90_000], 2..80),
            values in proptest::collection::vec(prop_oneof![
                6 => 0.0f64..20.0, 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => -5.0f64..0.0], 80),
            is_growing: bool, is_counter: bool, per_second: bool,
            (start_ms, step_ms, range_ms) in (0i64..100_000, prop_oneof![Just(15_000i64), Just(60_000), 1i64..70_000], 1i64..300_000),
        ) {
            let mut samples = Samples::default();
            let (mut t_ms, mut sum) = (0, 0.0);
            for (gap, v) in gaps.iter().zip(&values) {
                t_ms += gap;
                sum += v;
                samples.times.push(t_ms);
                samples.floats.push(if is_growing { sum } else { *v });
            }
            let windows = WindowGrid {
                grid: StepGrid::range(start_ms, start_ms + 40 * step_ms, step_ms),
                at_ms: None,
                offset_ms: 0,
                range_ms,
            };
            let slope = Slope { is_counter, per_second };
            let mut alone = Vec::new();
            let mut notes = RangeNotes::default();
            let seen = for_each_window(&samples, &windows, (0, 0), &CancelToken::new(), |step, w| {
                if let Found::Float(v) = slope.of_window(w, &mut notes) {
                    alone.push((step, v.to_bits()));
                }
            });
            let mut run = Vec::new();
            let read = slope.of_floats(&samples, &windows, |step, v| run.push((step, v.to_bits())));
            prop_assert_eq!(run, alone);
            prop_assert_eq!(read, seen);
        }
    }
}
