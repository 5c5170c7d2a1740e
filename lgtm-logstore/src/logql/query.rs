//! A query: what is asked, when, and how.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Error;
use lgtm_core::model::{TimeRangeNs, TimestampNs};
use lgtm_core::vector::StepGrid;

use super::ast::{Expr, MetricExpr};
use super::parser::parse_with;
use super::plan_cache::PlanCache;
use super::query_error::{QueryError, Result};
use super::settings::ParserSettings;
use crate::limits::RequestLimits;
use crate::select::{FetchBounds, StreamShard};

/// A query, the same from the door to the engine. Its text was parsed where it came in; who cuts it changes the expression. Plain data,
/// cheap to clone, but for what was compiled of it in this process, which its clones share.
#[derive(Debug, Clone)]
pub struct Query {
    /// The text as it came.
    pub(crate) text: Arc<str>,
    pub(crate) expr: Arc<Expr>,
    pub(crate) time: QueryTime,
    pub(crate) options: QueryOptions,
    /// What was compiled of the expression.
    pub(crate) plans: Arc<PlanCache>,
}

/// When a query is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryTime {
    /// At one time, nanoseconds: windows of a metric query end there.
    Instant(TimestampNs),
    /// Over a range.
    Range(QueryRange),
}

/// Which entries come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The newest.
    #[default]
    Backward,
    /// The oldest.
    Forward,
}

/// A range of time, and how much of it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryRange {
    /// Entries from here on; first step, of which a metric query takes the millisecond.
    pub start_ns: TimestampNs,
    /// Entries before; last step, itself included.
    pub end_ns: TimestampNs,
    /// Distance of two steps, milliseconds, more than 0. Log queries take no notice.
    pub step_ms: i64,
    /// Least distance of two entries, nanoseconds; 0: none. Metric queries take no notice.
    pub interval_ns: i64,
    /// Entries that are wanted. Metric queries take no notice.
    pub limit: usize,
    /// Which entries are wanted if there are more.
    pub direction: Direction,
}

impl QueryRange {
    /// A range with what Loki takes where a request says no more: the newest 100 entries, or about 250 steps of whole seconds.
    pub fn new(start_ns: impl Into<TimestampNs>, end_ns: impl Into<TimestampNs>) -> Self {
        let (start_ns, end_ns) = (start_ns.into(), end_ns.into());
        let seconds = end_ns.since(start_ns) / 1_000_000_000;
        Self {
            start_ns,
            end_ns,
            step_ms: (seconds / 250).max(1) * 1000,
            interval_ns: 0,
            limit: 100,
            direction: Direction::default(),
        }
    }

    /// The steps of a metric query as Loki's frontend places them: start and end moved to multiples of the step, outwards.
    #[must_use]
    pub fn aligned(self) -> Self {
        let step_ns = self.step_ms.saturating_mul(1_000_000).max(1);
        let end_ns = match self.end_ns.floor(step_ns) {
            end_ns if end_ns == self.end_ns => end_ns,
            before => before.saturating_add(step_ns),
        };
        Self {
            start_ns: self.start_ns.floor(step_ns),
            end_ns,
            ..self
        }
    }

    /// The times of the entries.
    pub fn entries(self) -> TimeRangeNs {
        TimeRangeNs::new(self.start_ns, self.end_ns)
    }

    fn check(self) -> Result<()> {
        let fault = if self.end_ns < self.start_ns {
            "end timestamp must not be before or equal to start time"
        } else if self.step_ms <= 0 {
            "zero or negative query resolution step widths are not accepted. Try a positive integer"
        } else if self.interval_ns < 0 {
            "interval must be >= 0"
        } else if self.limit == 0 {
            "limit must be a positive value"
        } else {
            return Ok(());
        };
        Err(QueryError::Invalid(fault.into()))
    }
}

/// How a query is run. Plain data.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// What one holder may bring. Components that know the tenant's limits put those here.
    pub bounds: FetchBounds,
    /// The part of the streams that is asked for; all if there is none.
    pub shard: Option<StreamShard>,
    /// Series that the answer may have.
    pub max_series: MaxSeries,
    /// A shorter timeout than the engine's. Changes no answer.
    pub timeout: Option<Duration>,
    /// Whether its answer neither comes from a cache nor goes into one.
    pub no_cache: bool,
    /// Whether an answer with too many series is cut, with a warning, rather than refused: what Logs Drilldown asks for.
    pub cuts_series: bool,
    /// Whether a log query is asked piece by piece, none ahead.
    pub one_piece_at_a_time: bool,
    /// Limits that came with the request; they can only be tighter than the tenant's.
    pub limits: Option<Arc<RequestLimits>>,
    /// What hides entries from this query, as far as it tells its answer from those of other times: answers are remembered for one epoch.
    pub epoch: Arc<str>,
    /// The query that this one is a part of, cut by the client: what it would read counts if it is more.
    pub part_of: Option<Arc<Query>>,
}

/// How many series an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxSeries {
    /// As many as the engine's settings say.
    #[default]
    Engine,
    /// So many, and no more than the engine's settings say.
    AtMost(usize),
    /// Any number: it is a part of an answer, and who joins the parts counts.
    Any,
}

impl Query {
    /// A query at one time, nanoseconds.
    ///
    /// # Errors
    /// `Parse`; `Source` for a fault of this program. Of a log query the engine says that it cannot be asked so.
    pub fn instant(
        text: &str,
        t_ns: impl Into<TimestampNs>,
        parser: &ParserSettings,
    ) -> Result<Self> {
        Self::new(text, QueryTime::Instant(t_ns.into()), parser)
    }

    /// A query over a range. Takes a moment for a long text: see [`lgtm_core::exec::move_if_heavy`].
    ///
    /// # Errors
    /// `Invalid` for a range that makes no sense, `Parse`; `Source` for a fault of this program.
    pub fn range(text: &str, range: QueryRange, parser: &ParserSettings) -> Result<Self> {
        range.check()?;
        Self::new(text, QueryTime::Range(range), parser)
    }

    fn new(text: &str, time: QueryTime, parser: &ParserSettings) -> Result<Self> {
        // A fault of the parser must not end who asks.
        let parsed = catch_unwind(AssertUnwindSafe(|| parse_with(text, parser)));
        let parsed =
            parsed.map_err(|_| Error::Internal("the parser of queries panicked".into()))?;
        Ok(Self {
            text: text.into(),
            expr: Arc::new(parsed?),
            time,
            options: QueryOptions::default(),
            plans: Arc::default(),
        })
    }

    /// The same query, run otherwise.
    #[must_use]
    pub fn with_options(self, options: QueryOptions) -> Self {
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

    /// When it is asked.
    pub fn time(&self) -> QueryTime {
        self.time
    }

    /// How it is run.
    pub fn options(&self) -> &QueryOptions {
        &self.options
    }

    /// Whether it is asked over a range.
    pub fn is_range(&self) -> bool {
        matches!(self.time, QueryTime::Range(_))
    }

    /// Whether it asks for entries.
    pub fn is_log(&self) -> bool {
        matches!(*self.expr, Expr::Log(_))
    }

    pub(crate) fn with_range(&self, range: QueryRange) -> Self {
        Self {
            time: QueryTime::Range(range),
            ..self.clone()
        }
    }

    pub(crate) fn with_metric(&self, expr: MetricExpr) -> Self {
        Self {
            expr: Arc::new(Expr::Metric(expr)),
            plans: Arc::default(),
            ..self.clone()
        }
    }

    /// What the grid leaves of the time of an instant query. Windows end at the nanosecond; the sample of the answer has its millisecond.
    pub(crate) fn below_ms_ns(&self) -> i64 {
        match self.time {
            QueryTime::Instant(t_ns) => t_ns.since(t_ns.to_ms().to_ns()),
            QueryTime::Range(_) => 0,
        }
    }

    /// The steps of a metric query, in whole milliseconds.
    pub(crate) fn grid(&self) -> StepGrid {
        match self.time {
            QueryTime::Instant(t_ns) => StepGrid::instant(t_ns.to_ms()),
            QueryTime::Range(r) => StepGrid::range(r.start_ns.to_ms(), r.end_ns.to_ms(), r.step_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_parsed_where_it_comes_in() {
        let parser = ParserSettings::default();
        let query = Query::instant("rate({a=\"b\"}[5m])", 7, &parser).unwrap();
        assert_eq!(
            (query.text(), query.is_range(), query.is_log()),
            ("rate({a=\"b\"}[5m])", false, false)
        );
        assert!(matches!(
            Query::instant("rate(", 7, &parser),
            Err(QueryError::Parse(_))
        ));
        for bad in [
            QueryRange::new(10, 9),
            QueryRange {
                step_ms: 0,
                ..QueryRange::new(0, 1)
            },
            QueryRange {
                interval_ns: -1,
                ..QueryRange::new(0, 1)
            },
            QueryRange {
                limit: 0,
                ..QueryRange::new(0, 1)
            },
        ] {
            let asked = Query::range("{a=\"b\"}", bad, &parser);
            assert!(matches!(asked, Err(QueryError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn steps_are_moved_outwards_to_multiples_of_the_step() {
        const S: i64 = 1_000_000_000;
        for (start, end, wanted) in [
            (61 * S, 119 * S, (60 * S, 120 * S)),
            (60 * S, 120 * S, (60 * S, 120 * S)),
            (61 * S, 61 * S, (60 * S, 120 * S)),
            (-1, 1, (-60 * S, 60 * S)),
        ] {
            let range = QueryRange {
                step_ms: 60_000,
                ..QueryRange::new(start, end)
            };
            let got = range.aligned();
            assert_eq!((got.start_ns.get(), got.end_ns.get()), wanted);
        }
        assert_eq!(QueryRange::new(0, 3600 * S).step_ms, 14_000);
    }
}
