//! What was compiled of a query, kept for all pieces that it is cut into.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::ast::{LogExpr, RangeAggregation, VectorAggregation};
use super::eval::QueryContext;
use super::plan::{LogPlan, RangePlan};
use super::query_error::Result;

/// Plans of one query; a query of more range aggregations has the others compiled by each piece.
const MAX_PLANS: usize = 64;

/// Something that is made once, by whoever comes first; who comes meanwhile waits for it.
type Once<T> = Arc<OnceCell<Arc<T>>>;

/// Compiled parts of one expression. Compiling may take long: it is done on the compute pool.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    log: Mutex<Option<(usize, Once<LogPlan>)>>,
    ranges: Mutex<Vec<(RangeKey, Once<RangePlan>)>>,
}

/// All that a plan depends on.
#[derive(Debug, PartialEq)]
struct RangeKey {
    range: RangeAggregation,
    /// The aggregation right around it, without what it is over.
    outer: Option<VectorAggregation>,
    max_template_bytes: usize,
}

impl PlanCache {
    /// The plan of the query's own log expression.
    pub(crate) async fn of_log(&self, ctx: &QueryContext, log: &LogExpr) -> Result<Arc<LogPlan>> {
        let max = ctx.max_template_bytes;
        let cell = {
            let mut known = self.log.lock();
            match &*known {
                Some((of, cell)) if *of == max => Arc::clone(cell),
                _ => Arc::clone(&known.insert((max, Once::default())).1),
            }
        };
        let make = || async {
            let log = log.clone();
            let made = move |_: &_| Ok(Arc::new(LogPlan::new(&log, max)));
            ctx.compute(made).await
        };
        Ok(Arc::clone(cell.get_or_try_init(make).await?))
    }

    /// The plan of one of its range aggregations.
    pub(crate) async fn of_range(
        &self,
        ctx: &QueryContext,
        range: &RangeAggregation,
        outer: Option<VectorAggregation>,
    ) -> Result<Arc<RangePlan>> {
        let key = RangeKey {
            range: range.clone(),
            outer: outer.clone(),
            max_template_bytes: ctx.max_template_bytes,
        };
        let cell = {
            let mut known = self.ranges.lock();
            match known.iter().find(|(of, _)| *of == key) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Once::default();
                    if known.len() < MAX_PLANS {
                        known.push((key, Arc::clone(&cell)));
                    }
                    cell
                }
            }
        };
        let make = || async {
            let (range, max) = (range.clone(), ctx.max_template_bytes);
            let made = move |_: &_| Ok(Arc::new(RangePlan::new(&range, outer.as_ref(), max)));
            ctx.compute(made).await
        };
        Ok(Arc::clone(cell.get_or_try_init(make).await?))
    }

    /// How many plans were made.
    #[cfg(test)]
    fn made(&self) -> usize {
        let log = self.log.lock();
        let log = log.iter().filter(|(_, cell)| cell.initialized()).count();
        let ranges = self.ranges.lock();
        log + ranges.iter().filter(|(_, cell)| cell.initialized()).count()
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::clock::ManualClock;
    use lgtm_core::exec::{Executor, ExecutorSettings};
    use lgtm_core::model::TenantId;

    use super::*;
    use crate::logql::{Engine, EngineSettings, ParserSettings, Query, QueryRange};
    use crate::select::MemorySelect;

    fn cell(query: &Query) -> Option<Arc<RangePlan>> {
        let ranges = query.plans.ranges.lock();
        ranges.first().and_then(|(_, cell)| cell.get().cloned())
    }

    #[tokio::test]
    async fn pieces_of_a_query_are_compiled_once() {
        let runtime = tokio::runtime::Handle::current();
        let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
        let engine = Engine::new(
            Arc::new(MemorySelect::default()),
            executor,
            Arc::new(ManualClock::at_ms(0)),
            EngineSettings::default(),
        )
        .unwrap();
        let tenant = TenantId::anonymous();
        let parser = ParserSettings::default();
        let range = |n: i64| QueryRange::new(n * 1_000_000_000, (n + 60) * 1_000_000_000);
        let twice = "rate({a=\"b\"} | json [1m]) / rate({a=\"b\"} | json [1m])";
        for (text, plans) in [
            ("{a=\"b\"} |~ \"x+\"", 1),
            ("sum(rate({a=\"b\"} |~ \"x+\" [1m]))", 1),
            (twice, 1),
            // The aggregation around it decides how samples are grouped.
            ("sum(rate({a=\"b\"}[1m])) / rate({a=\"b\"}[1m])", 2),
        ] {
            let query = Query::range(text, range(0), &parser).unwrap();
            engine.query(&tenant, &query).await.unwrap();
            assert_eq!(query.plans.made(), plans, "{text}");
            let before = cell(&query);
            let piece = query.with_range(range(600));
            engine.query(&tenant, &piece).await.unwrap();
            assert_eq!(query.plans.made(), plans, "{text}");
            let is_same = match (before, cell(&query)) {
                (Some(before), Some(after)) => Arc::ptr_eq(&before, &after),
                (before, after) => before.is_none() && after.is_none(),
            };
            assert!(is_same, "{text}");
        }
    }
}
