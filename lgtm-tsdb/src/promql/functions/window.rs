//! The samples of a series, and the part of them that a range function sees at a step.

use std::sync::Arc;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{CounterResetHint, FloatHistogram, TimestampMs};
use lgtm_core::vector::StepGrid;

/// Samples of one series in columns, each in time order. Buffers are kept when it is cleared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    /// Times of the floats, milliseconds.
    pub(crate) times: Vec<i64>,
    pub(crate) floats: Vec<f64>,
    /// Start timestamps of the floats, 0 where unknown; empty when not asked for.
    pub(crate) starts: Vec<i64>,
    /// Times of the histograms.
    pub(crate) h_times: Vec<i64>,
    pub(crate) histograms: Vec<Arc<FloatHistogram>>,
    /// Start timestamps of the histograms, likewise.
    pub(crate) h_starts: Vec<i64>,
}

impl Samples {
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.floats.clear();
        self.starts.clear();
        self.h_times.clear();
        self.histograms.clear();
        self.h_starts.clear();
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.h_times.len()
    }
}

/// Which window belongs to each step of a grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowGrid {
    /// The steps.
    pub(crate) grid: StepGrid,
    /// A time to look at instead of the step's (`@`).
    pub(crate) at_ms: Option<TimestampMs>,
    /// How far back to look.
    pub(crate) offset_ms: i64,
    /// How long a window is.
    pub(crate) range_ms: i64,
}

impl WindowGrid {
    /// Where the window of a step ends (inclusive).
    #[inline]
    pub(crate) fn end_ms(&self, step: usize) -> i64 {
        self.at_ms
            .unwrap_or_else(|| self.grid.at(step))
            .saturating_sub(self.offset_ms)
            .get()
    }

    /// First and last time of all windows: after the first, up to the last.
    pub(crate) fn reach_ms(&self) -> (i64, i64) {
        let first = self.end_ms(0).saturating_sub(self.range_ms);
        (first, self.end_ms(self.grid.len() - 1))
    }
}

/// What a range function sees at a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) floats: &'a [f64],
    /// Place of the first float in the whole run.
    pub(crate) first_float: usize,
    pub(crate) starts: &'a [i64],
    pub(crate) h_times: &'a [i64],
    pub(crate) histograms: &'a [Arc<FloatHistogram>],
    pub(crate) h_starts: &'a [i64],
    /// Where it begins (exclusive).
    pub(crate) start_ms: i64,
    /// Where it ends (inclusive).
    pub(crate) end_ms: i64,
    /// The time of the step.
    pub(crate) eval_ms: i64,
}

impl Window<'_> {
    pub(crate) fn is_mixed(&self) -> bool {
        !self.floats.is_empty() && !self.histograms.is_empty()
    }

    pub(crate) fn range_seconds(&self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }
}

/// Two cursors over ascending times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Cursor {
    /// Moves to the times in `(start_ms, end_ms]`, which never goes back.
    #[inline]
    pub(super) fn move_to(&mut self, times: &[i64], start_ms: i64, end_ms: i64) {
        while self.high < times.len() && times[self.high] <= end_ms {
            self.high += 1;
        }
        while self.low < self.high && times[self.low] <= start_ms {
            self.low += 1;
        }
    }
}

/// Shows `see` the window of each step, until nobody waits for it. `before_ms` and `after_ms` widen what it holds beyond its bounds.
/// Returns how many samples all windows hold.
pub(super) fn for_each_window<'a>(
    samples: &'a Samples,
    windows: &WindowGrid,
    (before_ms, after_ms): (i64, i64),
    cancel: &CancelToken,
    mut see: impl FnMut(usize, &Window<'a>),
) -> u64 {
    let (mut floats, mut histograms) = (Cursor::default(), Cursor::default());
    let mut seen = 0;
    let part = |starts: &'a [i64], c: &Cursor| {
        if starts.is_empty() {
            starts
        } else {
            &starts[c.low..c.high]
        }
    };
    for step in 0..windows.grid.len() {
        // A window may hold a day of samples.
        if step % 64 == 0 && cancel.is_cancelled() {
            break;
        }
        let end_ms = windows.end_ms(step);
        let start_ms = end_ms.saturating_sub(windows.range_ms);
        let (from, to) = (
            start_ms.saturating_sub(before_ms),
            end_ms.saturating_add(after_ms),
        );
        floats.move_to(&samples.times, from, to);
        histograms.move_to(&samples.h_times, from, to);
        let count = floats.high - floats.low + histograms.high - histograms.low;
        if count == 0 {
            continue;
        }
        seen += count as u64;
        see(
            step,
            &Window {
                times: &samples.times[floats.low..floats.high],
                floats: &samples.floats[floats.low..floats.high],
                first_float: floats.low,
                starts: part(&samples.starts, &floats),
                h_times: &samples.h_times[histograms.low..histograms.high],
                histograms: &samples.histograms[histograms.low..histograms.high],
                h_starts: part(&samples.h_starts, &histograms),
                start_ms,
                end_ms,
                eval_ms: windows.grid.at(step).get(),
            },
        );
    }
    seen
}

/// What a range function found at a step.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Nothing,
    Float(f64),
    Histogram(FloatHistogram),
}

/// What a range function noticed in a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RangeNotes(u16);

impl RangeNotes {
    pub(crate) const MIXED: Self = Self(1);
    pub(crate) const NOT_COUNTER: Self = Self(1 << 1);
    pub(crate) const NOT_GAUGE: Self = Self(1 << 2);
    pub(crate) const MIXED_BUCKETS: Self = Self(1 << 3);
    pub(crate) const HISTOGRAMS_IGNORED: Self = Self(1 << 4);
    pub(crate) const RECONCILED_ADD: Self = Self(1 << 5);
    pub(crate) const RECONCILED_SUB: Self = Self(1 << 6);
    pub(crate) const RECONCILED_AGG: Self = Self(1 << 7);
    pub(crate) const HINTS_COLLIDE: Self = Self(1 << 8);
    pub(crate) const STARTS_OVERLAP: Self = Self(1 << 9);

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Resets and their opposites among hints.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HintsSeen {
    reset: bool,
    none: bool,
}

impl HintsSeen {
    pub(crate) fn see(&mut self, hint: CounterResetHint) {
        self.reset |= hint == CounterResetHint::Reset;
        self.none |= hint == CounterResetHint::NotReset;
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.reset |= other.reset;
        self.none |= other.none;
    }

    /// Whether both were seen.
    pub(crate) fn collide(self) -> bool {
        self.reset && self.none
    }
}
