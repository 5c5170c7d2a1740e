//! What is asked of components, and how they answer: plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lgtm_core::model::merge_warnings;

use crate::select::{AttributeScope, FetchStats, Field, SelectEnd, TraceRange};
use crate::trace::TraceId;
use crate::traceql::{MetricsSettings, Query, SearchSettings, TagScope, TagValue};

/// A trace that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRequest {
    /// Which.
    pub id: TraceId,
    /// Blocks and live traces that have to do with this time are looked at; all if there is none.
    pub range: Option<TraceRange>,
    /// Bytes, as protobuf, beyond which no more parts are added: what is there by then comes, as a part.
    pub max_bytes: usize,
}

/// What is known of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundTrace {
    /// The protobuf message `Trace`, in parts that stand one after the other: to be decoded as one, copies of spans in it. Empty: there is no such trace.
    pub bytes: Vec<u8>,
    /// Whether parts were left out since the trace is larger than was asked for.
    pub is_cut: bool,
    /// How the answer ended.
    pub end: SelectEnd,
}

impl FoundTrace {
    /// Adds what another holder has, unless there is enough already.
    pub fn merge(&mut self, other: Self, max_bytes: usize) {
        self.end.merge(other.end);
        self.is_cut |= other.is_cut;
        if self.bytes.len() > max_bytes {
            self.is_cut |= !other.bytes.is_empty();
        } else if self.bytes.is_empty() {
            self.bytes = other.bytes;
        } else {
            self.bytes.extend_from_slice(&other.bytes);
        }
        self.is_cut |= self.bytes.len() > max_bytes;
    }
}

/// A search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What to look for.
    pub query: Arc<Query>,
    /// How much of it.
    pub settings: SearchSettings,
}

/// A metrics query.
#[derive(Debug, Clone)]
pub struct MetricsRequest {
    /// What to count.
    pub query: Arc<Query>,
    /// In which intervals, and how much may come of it.
    pub settings: MetricsSettings,
}

/// Which names of attributes are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct TagNamesRequest {
    /// Of which scope.
    pub scope: TagScope,
    /// Only of the spans that pass; what of it makes no filter is left out.
    pub filter: Option<String>,
    /// Of traces that have to do with this time; all if there is none.
    pub range: Option<TraceRange>,
    /// Names a scope; 0: all.
    pub limit: usize,
}

/// Names of attributes by scope.
pub type TagNamesAnswer = BTreeMap<AttributeScope, BTreeSet<String>>;

/// Which values are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct TagValuesRequest {
    /// Of these fields together.
    pub fields: Vec<Field>,
    /// Only of the spans that pass; what of it makes no filter is left out.
    pub filter: Option<String>,
    /// Of traces that have to do with this time; all if there is none.
    pub range: Option<TraceRange>,
    /// Values; 0: all.
    pub limit: usize,
}

/// Values, each once.
pub type TagValuesAnswer = BTreeSet<TagValue>;

/// How a query ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryEnd {
    /// What the answer lacks and why, in words for the user. None: the answer is whole.
    pub warnings: Vec<String>,
    /// What was read.
    pub stats: FetchStats,
    /// Pieces that the query was cut into.
    pub total_jobs: u64,
    /// Those of them that were answered.
    pub completed_jobs: u64,
}

impl QueryEnd {
    /// The end of a query that one holder answered.
    pub fn of(end: SelectEnd) -> Self {
        Self {
            warnings: end.warnings,
            stats: end.stats,
            total_jobs: 1,
            completed_jobs: 1,
        }
    }

    /// Adds another piece.
    pub fn merge(&mut self, other: Self) {
        merge_warnings(&mut self.warnings, other.warnings);
        self.stats = self.stats.plus(other.stats);
        self.total_jobs += other.total_jobs;
        self.completed_jobs += other.completed_jobs;
    }
}

/// An answer, and how it ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered<T> {
    /// What was found.
    pub value: T,
    /// How whole it is, and what it cost.
    pub end: QueryEnd,
}

impl<T> Answered<T> {
    /// Makes something else of the answer.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answered<U> {
        Answered {
            value: make(self.value),
            end: self.end,
        }
    }
}
