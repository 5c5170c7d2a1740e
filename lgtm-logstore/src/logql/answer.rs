//! Answers.

use std::time::Duration;

use bytes::Bytes;
use lgtm_core::limits::AnswerMemory;
use lgtm_core::model::{Labels, TimestampMs, TimestampNs};

use crate::select::FetchStats;

/// An entry of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerEntry {
    /// Its time, nanoseconds.
    pub t_ns: TimestampNs,
    /// Its line, as the query leaves it; any bytes.
    pub line: Bytes,
}

/// Entries of equal labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerStream {
    /// What is left of the labels of the stream.
    pub stream: Labels,
    /// Structured metadata that are left.
    pub metadata: Labels,
    /// Labels that the query made; some may be empty.
    pub parsed: Labels,
    /// The entries, in the direction of the query.
    pub entries: Vec<AnswerEntry>,
}

impl AnswerStream {
    /// Puts streams in the order of their labels.
    pub(super) fn sort(streams: &mut [Self]) {
        streams.sort_by_cached_key(|s| (s.labels(), s.stream.clone(), s.metadata.clone()));
    }

    /// All its labels together.
    pub fn labels(&self) -> Labels {
        let all = [&self.stream, &self.metadata, &self.parsed];
        let mut pairs: Vec<(&str, &str)> = all.iter().flat_map(|l| l.iter()).collect();
        pairs.sort_by_key(|p| p.0);
        pairs.dedup_by_key(|p| p.0);
        Labels::from_sorted_keeping_empty(pairs).unwrap_or_default()
    }
}

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When, milliseconds.
    pub t_ms: TimestampMs,
    /// What.
    pub value: f64,
}

/// A series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels; some may be empty.
    pub labels: Labels,
    /// Its values, in time order.
    pub points: Vec<Point>,
}

/// What a query gave.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// Entries, in the order of their labels.
    Streams(Vec<AnswerStream>),
    /// Many points a series, in the order of their labels.
    Matrix(Vec<Series>),
    /// One point a series.
    Vector(Vec<Series>),
    /// A number.
    Scalar(Point),
}

impl QueryValue {
    /// About what it takes in memory.
    pub fn size_bytes(&self) -> u64 {
        let entry = |e: &AnswerEntry| e.line.len() + size_of::<AnswerEntry>();
        let stream = |s: &AnswerStream| {
            let labels = [&s.stream, &s.metadata, &s.parsed];
            let labels: usize = labels.iter().map(|l| l.size_bytes()).sum();
            labels + s.entries.iter().map(entry).sum::<usize>()
        };
        let series = |s: &Series| s.labels.size_bytes() + s.points.len() * size_of::<Point>();
        let bytes: usize = match self {
            Self::Streams(all) => all.iter().map(stream).sum(),
            Self::Matrix(all) | Self::Vector(all) => all.iter().map(series).sum(),
            Self::Scalar(_) => size_of::<Point>(),
        };
        bytes as u64
    }

    /// Entries, or series.
    pub fn len(&self) -> usize {
        match self {
            Self::Streams(streams) => streams.iter().map(|s| s.entries.len()).sum(),
            Self::Matrix(all) | Self::Vector(all) => all.len(),
            Self::Scalar(_) => 1,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for QueryValue {
    /// No entries.
    fn default() -> Self {
        Self::Streams(Vec::new())
    }
}

/// What a query cost. Fields of the same meaning have the names that Loki's statistics give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// What holders read.
    pub fetched: FetchStats,
    /// Lines that passed the pipeline.
    pub post_filter_lines: u64,
    /// Entries of the answer.
    pub entries_returned: u64,
    /// Most bytes held in memory at a time.
    pub peak_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl QueryStats {
    /// What two parts of a query cost together. They may run at the same time, so their peaks are added too.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            fetched: self.fetched.plus(other.fetched),
            post_filter_lines: self.post_filter_lines + other.post_filter_lines,
            entries_returned: self.entries_returned + other.entries_returned,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            elapsed: self.elapsed + other.elapsed,
        }
    }
}

/// An answer, with what was noticed on the way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// What the answer lacks, in words.
    pub warnings: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// Counts what it takes for the process, as long as it is there.
    pub memory: AnswerMemory,
}
