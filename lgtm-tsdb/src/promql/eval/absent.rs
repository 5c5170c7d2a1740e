//! `absent` and `absent_over_time`: 1 where nothing is.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::model::{LabelBuilder, Labels, METRIC_NAME, MatchOp, Matcher};
use lgtm_core::vector::{GAP, StepGrid};

use super::cells::{Cells, Series};
use super::context::Context;
use super::evaluator::{Vector, call_of, feed};
use super::pipeline::{Fold, Pipeline, PipelineSource};
use super::subquery;
use crate::promql::annotations::Annotations;
use crate::promql::functions::RangeFunction;
use crate::promql::plan::{Kind, Node, RangeSource};
use crate::promql::query_error::Result;
use crate::select::SelectHints;

/// What `absent_over_time` asks of each series. It keeps the name: series of several metrics that are alike but for it are no conflict,
/// as there is one answer for all.
const PRESENT: RangeFunction = RangeFunction::Last;

/// Remembers at which steps there is something.
#[derive(Debug)]
struct Present(Vec<bool>);

impl Fold for Present {
    fn add(&mut self, _: u64, _: &Labels, cells: &mut Cells, _: &mut Annotations) -> Result<()> {
        for (step, seen) in self.0.iter_mut().enumerate() {
            *seen = *seen || cells.has(step);
        }
        Ok(())
    }

    fn fork(&self) -> Self {
        Self(vec![false; self.0.len()])
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        Ok(())
    }
}

pub(super) async fn absent(
    ctx: &Arc<Context>,
    name: &'static str,
    arg: &Arc<Node>,
    grid: StepGrid,
) -> Result<Vector> {
    let fold = Present(vec![false; grid.len()]);
    let inner = arg.unwrapped();
    let (seen, labels) = match &inner.kind {
        Kind::Matrix {
            source: RangeSource::Selector(selector),
            range_ms,
        } => {
            let args = std::slice::from_ref(arg);
            let source = PipelineSource::Range {
                selector: selector.clone(),
                range_ms: *range_ms,
                call: call_of(ctx, PRESENT, args, grid).await?,
            };
            let chain = Pipeline {
                source,
                maps: Vec::new(),
                grid,
                hints: SelectHints {
                    step_ms: grid.step_ms(),
                    range_ms: *range_ms,
                    function: name.to_owned(),
                    ..SelectHints::default()
                },
                pos: inner.pos,
            };
            (
                Arc::new(chain).run(ctx, fold).await?,
                named(&selector.matchers),
            )
        }
        Kind::Matrix {
            source: RangeSource::Subquery(s),
            range_ms,
        } => {
            let call = call_of(ctx, PRESENT, std::slice::from_ref(arg), grid).await?;
            let v = subquery::over_time(ctx, s, *range_ms, call, grid).await?;
            let mut seen = fold;
            let mut notes = Annotations::default();
            for mut s in v.series {
                seen.add(0, &s.labels, &mut s.cells, &mut notes)?;
            }
            (seen, Labels::empty())
        }
        Kind::Vector(selector) => (feed(ctx, arg, grid, fold).await?, named(&selector.matchers)),
        _ => (feed(ctx, arg, grid, fold).await?, Labels::empty()),
    };
    if seen.0.iter().all(|s| *s) {
        return Ok(Vector::empty(ctx));
    }
    let floats = seen.0.iter().map(|seen| if *seen { GAP } else { 1.0 });
    let cells = Cells::of_floats(floats.collect());
    Vector::new(ctx, vec![Series { labels, cells }])
}

/// The labels that a selector pins down: those whose first `=` no other matcher of that label follows. That one before it does not
/// count is Prometheus' way.
fn named(matchers: &[Matcher]) -> Labels {
    let mut pinned: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for m in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if m.op() == MatchOp::Equal && !pinned.contains_key(m.name()) {
            pinned.insert(m.name(), Some(m.value()));
        } else if let Some(value) = pinned.get_mut(m.name()) {
            *value = None;
        }
    }
    let mut builder = LabelBuilder::default();
    for (name, value) in pinned {
        builder.set(name, value.unwrap_or(""));
    }
    builder.build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::{ParserOptions, parse_selector};

    #[test]
    fn labels_are_those_that_prometheus_gives() {
        for (selector, wanted) in [
            (r#"x{job="a"}"#, r#"{job="a"}"#),
            (r#"x{job="a",env!="b"}"#, r#"{job="a"}"#),
            (r#"x{job="a",job="b"}"#, "{}"),
            (r#"x{job="a",job!="b"}"#, "{}"),
            (r#"x{job!="b",job="a"}"#, r#"{job="a"}"#),
            (r#"x{job="a",job="b",job="c"}"#, "{}"),
        ] {
            let matchers = parse_selector(selector, &ParserOptions::default()).unwrap();
            assert_eq!(named(&matchers).to_string(), wanted, "{selector}");
        }
    }
}
