//! Selectors: the sample that counts at each step, and the raw samples of a range.

use std::sync::Arc;

use lgtm_core::model::{CounterResetHint, Labels, TimeRange, is_stale_nan};
use lgtm_core::vector::StepGrid;

use super::cells::{Cells, Element};
use super::context::Context;
use crate::promql::ast::Edges;
use crate::promql::functions::{RangeNotes, Samples, WindowGrid, between, between_histograms};
use crate::promql::plan::Selector;
use crate::promql::query_error::{QueryError, Result};
use crate::select::{FetchStats, SelectHints, SelectRequest, SeriesBatches, SeriesChunks};

/// What of the sample that it finds an instant selector gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleField {
    Value,
    /// Its time, seconds.
    Time,
    /// Its start timestamp, seconds.
    StartTime,
}

impl Selector {
    /// The steps as this selector looks at them; a window reaches `range_ms` back.
    pub(super) fn windows(&self, grid: StepGrid, range_ms: i64) -> WindowGrid {
        WindowGrid {
            grid,
            at_ms: self.at_ms,
            offset_ms: self.offset_ms,
            range_ms,
        }
    }

    /// All times that matter, the lookback at the edges included.
    pub(super) fn time_range(&self, windows: &WindowGrid, lookback_ms: i64) -> TimeRange {
        let (mut after, mut last) = windows.reach_ms();
        if self.edges != Edges::Plain {
            after = after.saturating_sub(lookback_ms);
        }
        if self.edges == Edges::Smoothed {
            last = last.saturating_add(lookback_ms);
        }
        TimeRange::inclusive(after.saturating_add(1), last.min(i64::MAX - 1))
    }
}

impl Context {
    /// Asks the store.
    pub(super) async fn select(
        self: &Arc<Self>,
        selector: &Selector,
        range: TimeRange,
        hints: SelectHints,
        labels: Option<Vec<String>>,
    ) -> Result<QuerySeries> {
        let request = SelectRequest::new(selector.matchers.clone(), range)?;
        let request = request.hints(hints).looking_at(labels);
        let request = request.bounds(self.budget.bounds());
        let batches = self.source.select(&self.tenant, &request).await?;
        Ok(QuerySeries {
            batches,
            ctx: Arc::clone(self),
            is_over: false,
        })
    }

    /// Where a broken chunk was found.
    pub(super) fn corrupt(&self, labels: &Labels, e: lgtm_core::DecodeError) -> QueryError {
        let place = format!("tenant {}, series {labels}", self.tenant);
        QueryError::Source(lgtm_core::Error::corrupt(place, e))
    }
}

/// The series of a selector: counted against the query's budget, and what is missing from them noted.
#[derive(Debug)]
pub(super) struct QuerySeries {
    batches: Box<dyn SeriesBatches>,
    ctx: Arc<Context>,
    is_over: bool,
}

impl QuerySeries {
    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// Those of the holders, and `LimitExceeded` when the budget is spent.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        if self.is_over {
            return Ok(None);
        }
        match self.batches.next_batch().await? {
            Some(batch) => {
                self.ctx.budget.spend(FetchStats::of(&batch))?;
                Ok(Some(batch))
            }
            None => {
                self.is_over = true;
                self.ctx.note_missing(self.batches.end().warnings);
                Ok(None)
            }
        }
    }
}

/// The newest sample at or before each step, not older than the window and not stale. Returns how many were found.
pub(super) fn instants(
    samples: &Samples,
    windows: &WindowGrid,
    field: SampleField,
    out: &mut Cells,
) -> u64 {
    let (mut f, mut h, mut found) = (0, 0, 0);
    let times = &samples.times;
    if samples.h_times.is_empty() && field == SampleField::Value {
        for step in 0..windows.grid.len() {
            let t = windows.end_ms(step);
            while f < times.len() && times[f] <= t {
                f += 1;
            }
            if f > 0 && t.saturating_sub(times[f - 1]) < windows.range_ms {
                // A stale marker is a gap already.
                out.floats[step] = samples.floats[f - 1];
                found += 1;
            }
        }
        return found;
    }
    for step in 0..windows.grid.len() {
        let t = windows.end_ms(step);
        while f < times.len() && times[f] <= t {
            f += 1;
        }
        while h < samples.h_times.len() && samples.h_times[h] <= t {
            h += 1;
        }
        let float = f.checked_sub(1).map(|i| (times[i], i));
        let histogram = h.checked_sub(1).map(|i| (samples.h_times[i], i));
        let is_float = match (float, histogram) {
            (Some(a), Some(b)) => a.0 >= b.0,
            (a, _) => a.is_some(),
        };
        let Some((sample_ms, i)) = (if is_float { float } else { histogram }) else {
            continue;
        };
        let stale = if is_float {
            is_stale_nan(samples.floats[i])
        } else {
            samples.histograms[i].is_stale()
        };
        if stale || t.saturating_sub(sample_ms) >= windows.range_ms {
            continue;
        }
        found += 1;
        let starts = if is_float {
            &samples.starts
        } else {
            &samples.h_starts
        };
        match field {
            SampleField::Time => out.floats[step] = sample_ms as f64 / 1000.0,
            SampleField::StartTime => {
                if let Some(start) = starts.get(i) {
                    out.floats[step] = *start as f64 / 1000.0;
                }
            }
            SampleField::Value if is_float => out.floats[step] = samples.floats[i],
            SampleField::Value => out.set_histogram(step, Arc::clone(&samples.histograms[i])),
        }
    }
    found
}

/// The value at each step on the line between the samples around it; past the last sample its value. Neither may be farther away
/// than the lookback.
pub(super) fn smoothed(
    samples: &Samples,
    windows: &WindowGrid,
    lookback_ms: i64,
    out: &mut Cells,
    notes: &mut RangeNotes,
) {
    for step in 0..windows.grid.len() {
        let t = windows.end_ms(step);
        let part = |times: &[i64]| {
            let low = times.partition_point(|x| *x <= t.saturating_sub(lookback_ms));
            let high = times.partition_point(|x| *x <= t.saturating_add(lookback_ms));
            (
                low,
                low + times[low..high].partition_point(|x| *x < t),
                high,
            )
        };
        let (f_low, f, f_high) = part(&samples.times);
        let (h_low, h, h_high) = part(&samples.h_times);
        if f_low < f_high && h_low < h_high {
            notes.add(RangeNotes::MIXED);
        } else if f_low < f_high {
            let at = |i: usize| (samples.times[i], samples.floats[i]);
            let value = match f {
                f if f < f_high && samples.times[f] == t => samples.floats[f],
                f if f == f_low => continue,
                f if f == f_high => samples.floats[f - 1],
                f => between(at(f - 1), at(f), t, false),
            };
            out.floats[step] = value;
        } else if h_low < h_high {
            let at = |i: usize| (samples.h_times[i], &*samples.histograms[i]);
            let value = match h {
                h if h < h_high && samples.h_times[h] == t => Arc::clone(&samples.histograms[h]),
                h if h == h_low => continue,
                h if h == h_high => Arc::clone(&samples.histograms[h - 1]),
                h => {
                    let (before, after) = (&samples.histograms[h - 1], &samples.histograms[h]);
                    if before.uses_custom_buckets() != after.uses_custom_buckets() {
                        notes.add(RangeNotes::MIXED_BUCKETS);
                        continue;
                    }
                    let is_counter = after.hint != CounterResetHint::Gauge;
                    match between_histograms(at(h - 1), at(h), t, is_counter, notes) {
                        Some(value) => Arc::new(value),
                        None => continue,
                    }
                }
            };
            out.set(step, Element::Histogram(value));
        }
    }
}
