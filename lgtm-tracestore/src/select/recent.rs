//! Recent traces as they are kept, whole and in the order of their ids: so that what several replicas have of each can be made one.

use async_trait::async_trait;
use lgtm_core::Result;

use super::end::SelectEnd;
use super::request::{SpanFilter, SpanRequest, StartRange, TraceRange};
use crate::trace::TraceId;

/// Which recent traces are wanted. What passes by a part of a trace, in the one who is asked, comes with all that he has of it; of other traces nothing
/// need come.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecentRequest {
    /// Traces that have to do with this time; all if there is none.
    pub range: Option<TraceRange>,
    /// Traces with a span that starts then; all if there is none.
    pub starts: Option<StartRange>,
    /// Traces with a span that passes. It can be told by [a part](SpanFilter::of_parts) of the trace.
    pub filter: SpanFilter,
    /// Only ids behind this one: whoever goes on for another one begins there.
    pub behind: Option<TraceId>,
}

impl RecentRequest {
    /// What to ask each replica for, so that together they have all that `request` wants: a trace that passes has a part with one of its spans.
    pub fn of(request: &SpanRequest) -> Self {
        // Spans that pass may lie in other replicas' parts than those that anchor them: where there is an anchor, every part with one comes.
        let (starts, filter) = match &request.anchor {
            SpanFilter::Everything => (request.starts, &request.filter),
            anchor => (None, anchor),
        };
        Self {
            range: request.traces,
            starts,
            filter: filter.of_parts(),
            behind: None,
        }
    }

    /// Whether every trace is wanted, so that one that does not come is not there.
    pub fn is_for_all(&self) -> bool {
        self.range.is_none() && self.starts.is_none() && self.filter == SpanFilter::Everything
    }
}

/// All that somebody has of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentTrace {
    /// Which.
    pub id: TraceId,
    /// The protobuf message `Trace`, of several parts one after the other; copies of spans may be in it.
    pub bytes: Vec<u8>,
}

/// What somebody has of recent traces, as of one moment, whatever is moved or flushed while it is read.
#[async_trait]
pub trait RecentTraces: std::fmt::Debug + Send {
    /// More traces, ids ascending, each once; none at the end. Not cancel-safe: drop the answer.
    ///
    /// # Errors
    /// `Unavailable` when the answer breaks off. What cannot be read in part is a warning at the end.
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>>;

    /// Of which of these traces there is anything, be it asked for or not.
    ///
    /// # Errors
    /// As [`RecentTraces::next_traces`].
    async fn have(&mut self, ids: &[TraceId]) -> Result<Vec<bool>>;

    /// All that there is of the first of these traces, as many as are about a MiB, at least one: as protobuf, empty where there is nothing.
    ///
    /// # Errors
    /// As [`RecentTraces::next_traces`].
    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>>;

    /// How the answer ended, or stands so far.
    fn end(&mut self) -> SelectEnd;
}

/// Bytes of traces that come at a time, about.
pub const RECENT_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Condition, Field, Intrinsic, Test};

    #[test]
    fn replicas_are_asked_for_what_a_part_can_tell() {
        let test = |i: Intrinsic| {
            SpanFilter::Test(Condition {
                field: Field::Intrinsic(i),
                test: Test::Exists,
            })
        };
        let (own, of_trace) = (test(Intrinsic::Name), test(Intrinsic::RootName));
        let starts = Some(StartRange {
            after_ns: 1,
            until_ns: 2,
        });
        let mut request = SpanRequest {
            starts,
            filter: SpanFilter::all([own.clone(), of_trace.clone()]),
            ..SpanRequest::default()
        };
        let asked = RecentRequest::of(&request);
        assert_eq!((asked.starts, &asked.filter), (starts, &own));
        assert!(!asked.is_for_all());
        request.anchor = test(Intrinsic::Kind);
        let asked = RecentRequest::of(&request);
        assert_eq!((asked.starts, &asked.filter), (None, &request.anchor));
        request.anchor = SpanFilter::Everything;
        (request.filter, request.starts) = (of_trace, None);
        assert!(RecentRequest::of(&request).is_for_all());
    }
}
