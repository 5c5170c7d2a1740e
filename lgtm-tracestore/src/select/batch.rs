//! Spans as they pass from a holder to whoever asked: columns, grouped by trace.

use std::ops::Range;

use super::column::Column;
use super::field::{Field, Level};
use crate::trace::TraceId;

/// Some spans, as columns. The rows of a trace stand together; a trace may be in several batches when its spans lie in several places.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanBatch {
    /// The traces, in the order of their rows.
    pub traces: Vec<TraceRow>,
    /// For each span what its holder finds it by again; empty when it has no such thing.
    pub row_ids: Vec<u64>,
    /// For each span where its events end among the rows of event columns; empty when nothing of events was asked for.
    pub event_ends: Vec<u32>,
    /// The same of links.
    pub link_ends: Vec<u32>,
    /// The columns that were asked for. One that is missing has no value in any row.
    pub columns: Vec<(Field, Column)>,
}

/// A trace of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceRow {
    /// Which.
    pub id: TraceId,
    /// Behind its last row.
    pub end_row: u32,
    /// Its first start, nanoseconds since the epoch: of all its spans that the holder has in that place, in the batch or not.
    pub start_ns: u64,
    /// From there to its last end.
    pub duration_ns: u64,
    /// Name of its root span; empty when not known or not asked for.
    pub root_name: Vec<u8>,
    /// Service of its root span; likewise.
    pub root_service: Vec<u8>,
    /// Its services, by name; empty when not asked for.
    pub services: Vec<ServiceCount>,
}

/// What a service has to do with a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceCount {
    /// Its name; may be empty.
    pub name: Vec<u8>,
    /// Spans of it.
    pub spans: u32,
    /// Those of them that ended in error.
    pub errors: u32,
}

impl SpanBatch {
    /// Number of spans.
    pub fn len(&self) -> usize {
        self.traces.last().map_or(0, |t| t.end_row as usize)
    }

    /// Whether there is no span.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A column; `None` when no row has a value.
    pub fn column(&self, field: &Field) -> Option<&Column> {
        let (_, column) = self.columns.iter().find(|(f, _)| f == field)?;
        Some(column)
    }

    /// The rows of the `n`th trace.
    pub fn rows_of(&self, n: usize) -> Range<usize> {
        range_of(n, |n| self.traces[n].end_row)
    }

    /// Each trace and its rows.
    pub fn traces_and_rows(&self) -> impl Iterator<Item = (&TraceRow, Range<usize>)> {
        (self.traces.iter().enumerate()).map(|(n, trace)| (trace, self.rows_of(n)))
    }

    /// The trace of a row.
    pub fn trace_of(&self, row: usize) -> &TraceRow {
        &self.traces[self.traces.partition_point(|t| t.end_row as usize <= row)]
    }

    /// The rows below a span: its events' or its links'.
    pub fn below(&self, level: Level, row: usize) -> Range<usize> {
        let ends = self.ends(level);
        if ends.is_empty() {
            return 0..0;
        }
        range_of(row, |n| ends[n])
    }

    /// Where the rows below each span end.
    pub fn ends(&self, level: Level) -> &[u32] {
        match level {
            Level::Event => &self.event_ends,
            Level::Link => &self.link_ends,
            Level::Span | Level::Trace => &[],
        }
    }

    /// Rows that the columns of a level have.
    pub fn rows_at(&self, level: Level) -> usize {
        match level {
            Level::Trace => self.traces.len(),
            Level::Span => self.len(),
            level => self.ends(level).last().map_or(0, |end| *end as usize),
        }
    }

    /// Bytes that it takes, about.
    pub fn size_bytes(&self) -> usize {
        let traces = self.traces.iter().map(|t| {
            let services = t.services.iter().map(|s| s.name.len() + size_of_val(s));
            size_of_val(t) + t.root_name.len() + t.root_service.len() + services.sum::<usize>()
        });
        let columns = self.columns.iter().map(|(_, c)| c.size_bytes());
        traces.sum::<usize>()
            + columns.sum::<usize>()
            + self.row_ids.len() * 8
            + (self.event_ends.len() + self.link_ends.len()) * 4
    }
}

fn range_of(n: usize, end: impl Fn(usize) -> u32) -> Range<usize> {
    let start = n.checked_sub(1).map_or(0, &end);
    start as usize..end(n) as usize
}
