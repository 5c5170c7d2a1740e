//! Answers.

use std::time::Duration;

use lgtm_core::limits::AnswerMemory;
use lgtm_core::model::{FloatHistogram, Labels, TimestampMs};
use lgtm_core::vector::{StepGrid, is_gap};
use smallvec::SmallVec;

use super::eval;
use crate::select::FetchStats;

/// A value at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<T> {
    /// When, milliseconds.
    pub t_ms: TimestampMs,
    /// What.
    pub value: T,
}

/// Floats of a series: one alone, as vectors have it, takes no memory of its own.
pub type FloatPoints = SmallVec<[Point<f64>; 1]>;

/// A series of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Labels.
    pub labels: Labels,
    /// Floats, in time order.
    pub floats: FloatPoints,
    /// Native histograms, in time order.
    pub histograms: Vec<Point<FloatHistogram>>,
}

impl Series {
    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Bytes of memory, about.
    pub(crate) fn size_bytes(&self) -> u64 {
        let histograms = self.histograms.iter();
        let buckets = histograms.map(|h| 16 * eval::histogram_points(&h.value));
        let own = size_of::<Self>() + size_of::<Point<f64>>() * self.floats.len();
        own as u64 + self.labels.size_bytes() as u64 + buckets.sum::<u64>()
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// A series of the evaluator with the times of its steps.
    pub(super) fn of(series: eval::Series, grid: &StepGrid) -> Self {
        let cells = series.cells;
        let values = cells.floats.iter().enumerate().filter(|v| !is_gap(*v.1));
        let mut floats = FloatPoints::with_capacity(values.clone().count());
        floats.extend(values.map(|(step, value)| Point {
            t_ms: grid.at(step),
            value: *value,
        }));
        let histograms = cells.histograms.iter().enumerate();
        let histograms = histograms.filter_map(|(step, h)| {
            Some(Point {
                t_ms: grid.at(step),
                value: (**h.as_ref()?).clone(),
            })
        });
        Self {
            labels: series.labels,
            floats,
            histograms: histograms.collect(),
        }
    }
}

/// What a query gave.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// One point a series.
    Vector(Vec<Series>),
    /// Many points a series.
    Matrix(Vec<Series>),
    /// A number.
    Scalar(Point<f64>),
    /// A string.
    Text(Point<String>),
}

impl QueryValue {
    /// Bytes of memory, about, with room for the longest labels as text.
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Vector(all) | Self::Matrix(all) => {
                let longest = all.iter().map(|s| s.labels.size_bytes() as u64).max();
                longest.unwrap_or(0) + all.iter().map(Series::size_bytes).sum::<u64>()
            }
            Self::Scalar(_) => 0,
            Self::Text(point) => point.value.len() as u64,
        }
    }
}

/// What a query cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Samples that windows and instants looked at, each as often as one did.
    pub samples_read: u64,
    /// Most values held in memory at a time.
    pub peak_samples: u64,
    /// Most bytes of values held in memory at a time.
    pub peak_bytes: u64,
    /// What was fetched from the store.
    pub fetched: FetchStats,
    /// How long it took.
    pub elapsed: Duration,
}

impl QueryStats {
    /// What two parts of a query cost together. They may run at the same time, so their peaks are added too.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            samples_read: self.samples_read + other.samples_read,
            peak_samples: self.peak_samples + other.peak_samples,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            fetched: self.fetched.plus(other.fetched),
            elapsed: self.elapsed + other.elapsed,
        }
    }
}

/// An answer, with what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// Warnings: the value may not be what was meant. With the place in the query.
    pub warnings: Vec<String>,
    /// Things worth knowing.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// Counts what it takes for the process, as long as it is there.
    pub memory: AnswerMemory,
}
