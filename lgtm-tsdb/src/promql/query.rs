//! A query: what is asked, when, and how.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Error;
use lgtm_core::frontend::StepRange;
use lgtm_core::model::TimestampMs;
use lgtm_core::vector::StepGrid;

use super::ast::{Expr, ValueType};
use super::options::ParserOptions;
use super::parser::parse_with;
use super::query_error::{QueryError, Result};
use crate::select::FetchBounds;

/// A query, the same from the door to the engine. Its text was parsed where it came in; who cuts it or writes something out changes the
/// expression. Plain data, cheap to clone.
#[derive(Debug, Clone)]
pub struct Query {
    /// The text as it came: places in warnings are places in it.
    pub(crate) text: Arc<str>,
    pub(crate) expr: Arc<Expr>,
    /// The steps of a range query, or the one of an instant query.
    pub(crate) steps: StepRange,
    pub(crate) kind: QueryKind,
    pub(crate) options: QueryOptions,
}

/// At how many times a query is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// At one.
    Instant,
    /// At the steps of a range.
    Range,
}

/// How a query is run. Plain data.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryOptions {
    /// Another lookback than the engine's, milliseconds.
    pub lookback_ms: Option<i64>,
    /// A shorter timeout than the engine's. Changes no answer.
    pub timeout: Option<Duration>,
    /// The most that it may fetch. Components that know the tenant's limits put those here.
    pub bounds: FetchBounds,
    /// Memory that its values may take where that is less than the engine allows, bytes; 0 is no such limit.
    pub max_memory_bytes: u64,
    /// Whether its answer neither comes from a cache nor goes into one.
    pub no_cache: bool,
}

impl Query {
    /// A query at one time, milliseconds.
    ///
    /// # Errors
    /// `Invalid` for a text that does not parse, with the place.
    pub fn instant(
        text: &str,
        t_ms: impl Into<TimestampMs>,
        parser: &ParserOptions,
    ) -> Result<Self> {
        let steps = StepRange::instant(t_ms);
        Self::new(text, steps, QueryKind::Instant, parser)
    }

    /// A query at the first time of a range and every `step_ms` after it, up to the last time. Milliseconds; a step of 0 or less means
    /// the first time alone.
    ///
    /// # Errors
    /// `Invalid` for a text that does not parse, with the place, and for an expression that has no value at a step.
    pub fn range(
        text: &str,
        range_ms: RangeInclusive<impl Into<TimestampMs>>,
        step_ms: i64,
        parser: &ParserOptions,
    ) -> Result<Self> {
        let (start_ms, end_ms) = range_ms.into_inner();
        let start_ms = start_ms.into();
        let steps = StepRange {
            start_ms,
            end_ms: if step_ms > 0 { end_ms.into() } else { start_ms },
            step_ms: step_ms.max(1),
        };
        let query = Self::new(text, steps, QueryKind::Range, parser)?;
        match query.expr.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(query),
            other => Err(QueryError::Invalid(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.described()
            ))),
        }
    }

    fn new(text: &str, steps: StepRange, kind: QueryKind, parser: &ParserOptions) -> Result<Self> {
        // A fault of the parser must not end who asks.
        let parsed = catch_unwind(AssertUnwindSafe(|| parse_with(text, parser)));
        let parsed =
            parsed.map_err(|_| Error::Internal("the parser of queries panicked".into()))?;
        let expr = parsed.map_err(|e| QueryError::Invalid(e.to_string()))?;
        Ok(Self {
            text: text.into(),
            expr: Arc::new(expr),
            steps,
            kind,
            options: QueryOptions::default(),
        })
    }

    /// The same query, run otherwise.
    #[must_use]
    pub fn options(self, options: QueryOptions) -> Self {
        Self { options, ..self }
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is asked; of a part of a query that was cut, not what its text says.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// When it is asked; of an instant query the one step.
    pub fn steps(&self) -> StepRange {
        self.steps
    }

    /// Whether it is asked at the steps of a range.
    pub fn is_range(&self) -> bool {
        self.kind == QueryKind::Range
    }

    pub(crate) fn with_expr(&self, expr: Expr) -> Self {
        Self {
            expr: Arc::new(expr),
            ..self.clone()
        }
    }

    pub(super) fn grid(&self) -> StepGrid {
        let StepRange {
            start_ms,
            end_ms,
            step_ms,
        } = self.steps;
        if self.is_range() {
            StepGrid::range(start_ms, end_ms, step_ms)
        } else {
            StepGrid::instant(start_ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_parsed_where_it_comes_in() {
        let parser = ParserOptions::default();
        let query = Query::instant("sum(up)", 7, &parser).unwrap();
        assert_eq!((query.text(), query.is_range()), ("sum(up)", false));
        assert_eq!(query.steps(), StepRange::instant(7));
        for (bad, of_range) in [("sum(", false), ("up[5m]", true), ("\"text\"", true)] {
            let asked = if of_range {
                Query::range(bad, 0..=10, 1, &parser)
            } else {
                Query::instant(bad, 0, &parser)
            };
            assert!(matches!(asked, Err(QueryError::Invalid(_))), "{bad}");
        }
        assert!(Query::instant("up[5m]", 0, &parser).is_ok());
    }

    #[test]
    fn without_a_step_there_is_one_time() {
        for (step_ms, times) in [(5, vec![10, 15, 20]), (0, vec![10]), (-5, vec![10])] {
            let query = Query::range("up", 10..=20, step_ms, &ParserOptions::default()).unwrap();
            assert_eq!(query.steps().iter().collect::<Vec<_>>(), times, "{step_ms}");
            assert_eq!(query.grid().times().collect::<Vec<_>>(), times, "{step_ms}");
        }
    }
}
