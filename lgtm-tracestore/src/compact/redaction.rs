//! What is to be taken out of stored blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::model::{TimeRangeNs, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::block::TraceSource;
use crate::block_id::BlockId;
use crate::trace::TraceId;
use crate::traceql::RedactionFilter;

/// Which traces are to go.
#[derive(Debug, Clone)]
pub enum RedactedTraces {
    /// Those of these ids.
    Ids(Vec<TraceId>),
    /// Those of which a span passes, as far as they stand in blocks that reach into a range; all parts of such a trace go, in whatever block.
    Query(RedactionFilter, Option<TimeRangeNs>),
}

/// Traces to be taken out of a tenant's blocks.
#[derive(Debug, Clone)]
pub struct RedactionRequest {
    /// Which.
    pub traces: RedactedTraces,
    /// Only counts: nothing is written.
    pub is_dry_run: bool,
}

/// What a redaction did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct RedactionReport {
    /// Its name, under which the bucket keeps it for a while.
    pub batch: BlockId,
    /// Blocks that have or had such traces.
    pub blocks: u64,
    /// Traces that are meant: those given, or those found.
    pub traces: u64,
    /// Blocks that could not be looked into, in words: they may have such traces still, and are tried again.
    pub warnings: Vec<String>,
}

/// A redaction as the bucket keeps it, so that it goes on after a restart and takes in blocks that come late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactionBatch {
    /// When it was ordered, milliseconds.
    pub created_ms: i64,
    /// The ids known so far, 32 hexadecimal digits each.
    pub trace_ids: BTreeSet<String>,
    /// The query, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The range of the query, nanoseconds, the end not in it; both or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_ns: Option<(i64, i64)>,
}

impl RedactionBatch {
    /// Of a request.
    pub fn new(traces: &RedactedTraces, now: TimestampMs) -> Self {
        let mut batch = Self {
            created_ms: now.get(),
            trace_ids: BTreeSet::new(),
            query: None,
            range_ns: None,
        };
        match traces {
            RedactedTraces::Ids(ids) => batch.trace_ids.extend(ids.iter().map(TraceId::to_string)),
            RedactedTraces::Query(filter, range) => {
                batch.query = Some(filter.text().into());
                batch.range_ns = range.map(|r| (r.min_ns.get(), r.max_ns.get()));
            }
        }
        batch
    }

    /// The ids.
    ///
    /// # Errors
    /// `InvalidInput` for texts that are none.
    pub fn ids(&self) -> Result<BTreeSet<TraceId>> {
        let ids = self.trace_ids.iter();
        ids.map(|id| TraceId::from_hex(id)).collect()
    }
}

/// Leaves traces out.
#[derive(Debug)]
pub struct RedactedSource<S> {
    /// All traces.
    pub source: S,
    /// Those that go.
    pub ids: Arc<BTreeSet<TraceId>>,
    /// How many went.
    pub left_out: Arc<AtomicU64>,
}

impl<S: TraceSource> TraceSource for RedactedSource<S> {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        let begin = out.len();
        loop {
            match self.source.next_trace(out)? {
                Some(id) if self.ids.contains(&id) => {
                    out.truncate(begin);
                    self.left_out.fetch_add(1, Ordering::Relaxed);
                }
                next => return Ok(next),
            }
        }
    }
}
