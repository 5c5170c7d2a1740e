//! Evaluating selectors: the newest sample at or before each step, no older than the lookback, and no stale marker.

use lgtm_core::model::{FloatHistogram, Labels, TimeRange, is_stale_nan};
use lgtm_core::{DecodeError, Result};

use crate::chunk::SampleValue;
use crate::select::{SeriesChunks, samples};

/// A value at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<T> {
    /// When, milliseconds.
    pub t_ms: i64,
    /// What.
    pub value: T,
}

/// A series of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Labels.
    pub labels: Labels,
    /// Floats, in time order.
    pub floats: Vec<Point<f64>>,
    /// Native histograms, in time order.
    pub histograms: Vec<Point<FloatHistogram>>,
}

impl Series {
    fn push(&mut self, t_ms: i64, value: &SampleValue) {
        match value {
            SampleValue::Float(v) => self.floats.push(Point { t_ms, value: *v }),
            SampleValue::Histogram(h) => self.histograms.push(Point {
                t_ms,
                value: h.to_float(),
            }),
            SampleValue::FloatHistogram(h) => self.histograms.push(Point {
                t_ms,
                value: (**h).clone(),
            }),
        }
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }
}

/// The times at which a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: i64,
}

fn is_stale(value: &SampleValue) -> bool {
    match value {
        SampleValue::Float(v) => is_stale_nan(*v),
        SampleValue::Histogram(h) => h.is_stale(),
        SampleValue::FloatHistogram(h) => h.is_stale(),
    }
}

/// One series at all steps.
pub(super) fn vector(
    series: &SeriesChunks,
    steps: Steps,
    offset_ms: i64,
    lookback_ms: i64,
) -> Result<Series, DecodeError> {
    // The lookback is open to the left: a sample exactly that old is too old.
    let range = TimeRange::inclusive(
        steps
            .start_ms
            .saturating_sub(offset_ms)
            .saturating_sub(lookback_ms)
            .saturating_add(1),
        steps.end_ms.saturating_sub(offset_ms),
    );
    let all = samples(&series.chunks, range)?;
    let mut out = Series {
        labels: series.labels.clone(),
        ..Series::default()
    };
    let mut next = 0;
    let mut t_ms = steps.start_ms;
    loop {
        let at = t_ms.saturating_sub(offset_ms);
        while next < all.len() && all[next].0 <= at {
            next += 1;
        }
        if let Some((sample_ms, value)) = next.checked_sub(1).map(|i| &all[i])
            && at.saturating_sub(*sample_ms) < lookback_ms
            && !is_stale(value)
        {
            out.push(t_ms, value);
        }
        match t_ms.checked_add(steps.step_ms) {
            Some(t) if t <= steps.end_ms && steps.step_ms > 0 => t_ms = t,
            _ => return Ok(out),
        }
    }
}

/// The raw samples of one series in the range before `t_ms`, open to the left.
pub(super) fn matrix(
    series: &SeriesChunks,
    t_ms: i64,
    offset_ms: i64,
    range_ms: i64,
) -> Result<Series, DecodeError> {
    let at = t_ms.saturating_sub(offset_ms);
    let range = TimeRange::inclusive(at.saturating_sub(range_ms).saturating_add(1), at);
    let mut out = Series {
        labels: series.labels.clone(),
        ..Series::default()
    };
    for (sample_ms, value) in samples(&series.chunks, range)? {
        if !is_stale(&value) {
            out.push(sample_ms, &value);
        }
    }
    Ok(out)
}
