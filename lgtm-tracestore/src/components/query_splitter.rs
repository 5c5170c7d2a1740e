//! TraceQL's [`Splitter`]: what the query-frontend needs to know of the language.

use std::sync::Arc;

use lgtm_core::frontend::{ShardPlan, Splitter, StepRange};
use lgtm_core::model::{TimestampMs, TimestampNs};
use lgtm_core::{DecodeError, Error, Result};

use super::clients::{Heard, MetricsWindow, SearchListener};
use super::requests::{
    Answered, FoundTrace, MetricsRequest, QueryEnd, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use crate::traceql::{IntervalGrid, MetricsPartial, MetricsSettings, TraceHit};

const NS_PER_MS: u64 = 1_000_000;

/// A query, whole or a piece of it.
#[derive(Debug, Clone)]
pub enum TraceQuery {
    /// The newest traces; who listens hears of them.
    Search(SearchRequest, Option<Arc<dyn SearchListener>>),
    /// Series of the spans of a range; who listens hears of its pieces.
    Metrics(MetricsRequest, Heard<MetricsWindow>),
    /// Names of attributes; who listens hears of them.
    TagNames(TagNamesRequest, Heard<TagNamesAnswer>),
    /// Values of attributes; who listens hears of them.
    TagValues(TagValuesRequest, Heard<TagValuesAnswer>),
    /// A trace.
    Trace(TraceRequest),
}

/// Its answer. Cheap to clone.
#[derive(Debug, Clone)]
pub enum TraceAnswer {
    /// To a search.
    Search(Arc<Answered<Vec<TraceHit>>>),
    /// To a metrics query.
    Metrics(Arc<Answered<MetricsPartial>>),
    /// To a question for names.
    TagNames(Arc<Answered<TagNamesAnswer>>),
    /// To a question for values.
    TagValues(Arc<Answered<TagValuesAnswer>>),
    /// To a question for a trace.
    Trace(Arc<FoundTrace>),
}

/// How TraceQL is cut and joined: metrics queries over a range at their intervals, where these are whole milliseconds. Counts and sums are joined
/// before anything is computed of them, so that an answer in pieces is the whole answer. Nothing else is cut.
#[derive(Debug, Clone)]
pub struct TraceqlSplitter {
    /// Answers that take more bytes are not kept.
    pub max_stored_bytes: usize,
}

/// The right edges of a grid as steps; `None` when they are no whole milliseconds.
fn steps_of(grid: &IntervalGrid) -> Option<StepRange> {
    let is_whole =
        grid.step_ns.is_multiple_of(NS_PER_MS) && grid.after_ns.is_multiple_of(NS_PER_MS);
    let edge = |index: usize| {
        let ns = i64::try_from(grid.edge_ns(index)).ok()?;
        Some(TimestampNs::new(ns).to_ms())
    };
    if !is_whole || grid.len == 0 {
        return None;
    }
    Some(StepRange {
        start_ms: edge(0)?,
        end_ms: edge(grid.len - 1)?,
        step_ms: i64::try_from(grid.step_ns / NS_PER_MS).ok()?,
    })
}

/// The grid of which these are the right edges.
fn grid_of(steps: StepRange) -> IntervalGrid {
    let ns = |ms: i64| u64::try_from(ms).unwrap_or(0).saturating_mul(NS_PER_MS);
    let step_ns = ns(steps.step_ms);
    IntervalGrid {
        after_ns: ns(steps.start_ms.get()).saturating_sub(step_ns),
        step_ns,
        len: usize::try_from(steps.len()).unwrap_or(usize::MAX),
    }
}

impl Splitter for TraceqlSplitter {
    type Request = TraceQuery;
    type Answer = TraceAnswer;

    fn times(&self, query: &TraceQuery) -> StepRange {
        let steps = match query {
            TraceQuery::Metrics(request, _) => steps_of(&request.settings.grid),
            _ => None,
        };
        steps.unwrap_or_else(|| StepRange::instant(TimestampMs::EPOCH))
    }

    fn steps(&self, query: &TraceQuery) -> Option<StepRange> {
        match query {
            // One interval is one answer: nothing to cut, and nobody asks for the same again a moment later.
            TraceQuery::Metrics(request, _) if request.settings.grid.len > 1 => {
                steps_of(&request.settings.grid)
            }
            _ => None,
        }
    }

    fn with_steps(&self, query: &TraceQuery, steps: StepRange) -> TraceQuery {
        match query {
            TraceQuery::Metrics(request, listener) => {
                let settings = MetricsSettings {
                    grid: grid_of(steps),
                    ..request.settings
                };
                let query = Arc::clone(&request.query);
                TraceQuery::Metrics(MetricsRequest { query, settings }, listener.clone())
            }
            other => other.clone(),
        }
    }

    fn key(&self, query: &TraceQuery) -> String {
        match query {
            TraceQuery::Metrics(request, _) => {
                let exemplars = request.settings.exemplars;
                format!("{};exemplars={exemplars}", request.query)
            }
            // Neither kept nor asked together with its like.
            _ => String::new(),
        }
    }

    fn is_cacheable(&self, _: &TraceQuery, _: TimestampMs) -> bool {
        true
    }

    fn is_storable(&self, answer: &TraceAnswer) -> bool {
        match answer {
            TraceAnswer::Metrics(answer) => {
                answer.end.warnings.is_empty() && answer.value.size_bytes() <= self.max_stored_bytes
            }
            _ => false,
        }
    }

    fn extract(&self, answer: &TraceAnswer, steps: StepRange) -> TraceAnswer {
        match answer {
            TraceAnswer::Metrics(answer) => TraceAnswer::Metrics(Arc::new(Answered {
                value: answer.value.part(grid_of(steps)),
                // What it cost was told when it was made.
                end: QueryEnd::default(),
            })),
            other => other.clone(),
        }
    }

    fn merge(&self, parts: Vec<TraceAnswer>) -> Result<TraceAnswer> {
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else {
            return Err(Error::Internal("a query without pieces".into()));
        };
        let mut rest = parts.peekable();
        if rest.peek().is_none() {
            return Ok(first);
        }
        let mut whole = metrics_of(first)?;
        for part in rest {
            let part = metrics_of(part)?;
            whole.value.merge(part.value)?;
            whole.end.merge(part.end);
        }
        Ok(TraceAnswer::Metrics(Arc::new(whole)))
    }

    fn piece_answered(&self, query: &TraceQuery, answer: &TraceAnswer) {
        if let (TraceQuery::Metrics(_, Some(listener)), TraceAnswer::Metrics(answer)) =
            (query, answer)
        {
            listener.hear(answer);
        }
    }

    fn encode(&self, answer: &TraceAnswer) -> Vec<u8> {
        let mut out = Vec::new();
        if let TraceAnswer::Metrics(answer) = answer {
            answer.value.encode(&mut out);
        }
        out
    }

    fn decode(&self, bytes: &[u8]) -> Result<TraceAnswer, DecodeError> {
        let value = MetricsPartial::decode(bytes)?;
        let end = QueryEnd::default();
        Ok(TraceAnswer::Metrics(Arc::new(Answered { value, end })))
    }

    fn shard(&self, _: &TraceQuery, _: u32) -> Option<ShardPlan<TraceQuery>> {
        None
    }
}

fn metrics_of(answer: TraceAnswer) -> Result<Answered<MetricsPartial>> {
    match answer {
        TraceAnswer::Metrics(answer) => Ok(Arc::unwrap_or_clone(answer)),
        other => Err(Error::Internal(format!(
            "{other:?} came as a part of a metrics query"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_and_its_steps_are_the_same() {
        let grid = IntervalGrid::range(60_000_000_000, 660_000_000_000, 60_000_000_000).unwrap();
        let steps = steps_of(&grid).unwrap();
        assert_eq!(steps.len(), grid.len as u64);
        assert_eq!(grid_of(steps), grid);
        let piece = StepRange {
            start_ms: steps.start_ms + 60_000,
            ..steps
        };
        let part = grid_of(piece);
        assert_eq!((part.after_ns, part.len), (60_000_000_000, grid.len - 1));
        let odd = IntervalGrid::range(1, 100_000, 1_500).unwrap();
        assert_eq!(steps_of(&odd), None);
    }
}
