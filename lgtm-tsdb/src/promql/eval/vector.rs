//! Functions of whole vectors: labels rewritten, series sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use lgtm_core::model::METRIC_NAME;
use lgtm_core::vector::StepGrid;

use super::cells::Series;
use super::context::{Charge, Context};
use super::evaluator::{Vector, vector_of};
use super::labels::{merge_equal, with};
use super::natural;
use super::replacement::Replacement;
use crate::promql::plan::Node;
use crate::promql::query_error::{QueryError, Result};

fn name_of<'a>(arg: &'a Node, what: &str, function: &str) -> Result<&'a str> {
    arg.label_name().map_err(|quoted| {
        QueryError::execution(format!(
            "invalid {what} label name in {function}(): {quoted}"
        ))
    })
}

/// Bytes of a series' labels with a new value, while they are made: the value, and the labels with it.
fn labels_bytes(s: &Series, value: usize) -> u64 {
    (2 * s.labels.size_bytes() + 2 * value + 64) as u64
}

fn rewritten(mut s: Series, name: &str, value: &str) -> Series {
    s.labels = with(&s.labels, name, value);
    if name == METRIC_NAME {
        s.cells.drop_name = false;
    }
    s
}

pub(super) async fn label_replace(
    ctx: &Arc<Context>,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let (template, source, pattern) = (args[2].text(), args[3].text(), args[4].text());
    let replacement = Replacement::new(pattern, template).map_err(|_| {
        QueryError::execution(format!(
            "invalid regular expression in label_replace(): {pattern}"
        ))
    })?;
    let target = name_of(&args[1], "destination", "label_replace")?.to_owned();
    let source = source.to_owned();
    let rewrite = move |s: Series, made: &mut Charge| {
        let room = |bytes| made.grow(0, labels_bytes(&s, bytes));
        let value = replacement.of(s.labels.get(&source).unwrap_or(""), room)?;
        Ok(match value {
            Some(value) => rewritten(s, &target, &value),
            None => s,
        })
    };
    rewrite_all(ctx, vector_of(ctx, &args[0], grid).await?, rewrite).await
}

pub(super) async fn label_join(
    ctx: &Arc<Context>,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let separator = args[2].text().to_owned();
    let sources: Vec<String> = args[3..]
        .iter()
        .map(|a| name_of(a, "source", "label_join").map(str::to_owned))
        .collect::<Result<_>>()?;
    let target = name_of(&args[1], "destination", "label_join")?.to_owned();
    let rewrite = move |s: Series, made: &mut Charge| {
        let parts = || sources.iter().map(|n| s.labels.get(n).unwrap_or(""));
        let separators = separator.len() * sources.len();
        let bytes = separators + parts().map(str::len).sum::<usize>();
        made.grow(0, labels_bytes(&s, bytes))?;
        let mut value = String::with_capacity(bytes);
        for (n, part) in parts().enumerate() {
            if n > 0 {
                value.push_str(&separator);
            }
            value.push_str(part);
        }
        Ok(rewritten(s, &target, &value))
    };
    rewrite_all(ctx, vector_of(ctx, &args[0], grid).await?, rewrite).await
}

/// Changes each series, and joins those that become equal.
async fn rewrite_all(
    ctx: &Arc<Context>,
    v: Vector,
    rewrite: impl Fn(Series, &mut Charge) -> Result<Series> + Send + 'static,
) -> Result<Vector> {
    ctx.compute(v.cost(), move |ctx| {
        let mut made = v.charge.empty();
        let mut out = Vec::with_capacity(v.series.len());
        for (place, s) in v.series.into_iter().enumerate() {
            if place % 64 == 0 {
                ctx.cancel.check("query")?;
            }
            out.push(rewrite(s, &mut made)?);
        }
        drop((v.charge, made));
        Vector::new(ctx, merge_equal(out)?)
    })
    .await
}

/// Sorts by the values at the first step, or by labels. In a range query the answer is sorted by labels anyway.
pub(super) async fn sort(
    ctx: &Arc<Context>,
    name: &str,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let v = vector_of(ctx, &args[0], grid).await?;
    let names: Vec<String> = args[1..].iter().map(|a| a.text().to_owned()).collect();
    let (by_label, down) = (name.starts_with("sort_by_label"), name.ends_with("desc"));
    // Each series is compared some twenty times.
    ctx.compute(20 * v.cost(), move |_| {
        let Vector { mut series, charge } = v;
        if by_label {
            series.sort_by(|a, b| by_labels(a, b, &names));
            if down {
                series.reverse();
            }
        } else {
            for s in &mut series {
                s.cells.histograms.clear();
            }
            series.retain(|s| !s.cells.is_empty());
            series.sort_by(|a, b| by_value(a.cells.floats[0], b.cells.floats[0], down));
        }
        Ok(Vector { series, charge })
    })
    .await
}

fn by_labels(a: &Series, b: &Series, names: &[String]) -> Ordering {
    names
        .iter()
        .map(|n| {
            let (a, b) = (a.labels.get(n), b.labels.get(n));
            natural::compare(a.unwrap_or(""), b.unwrap_or(""))
        })
        .find(|o| o.is_ne())
        .unwrap_or_else(|| a.labels.cmp(&b.labels))
}

/// NaN comes last either way.
fn by_value(a: f64, b: f64, down: bool) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| {
        let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        if down { order.reverse() } else { order }
    })
}
