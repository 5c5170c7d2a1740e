//! Ranges as answers: the samples themselves.

use std::sync::Arc;

use lgtm_core::model::TimestampMs;
use lgtm_core::vector::StepGrid;

use super::cells::histogram_points;
use super::context::{Charge, Context};
use super::decode::{Wanted, decode};
use super::evaluator::vector_of;
use super::{labels, subquery};
use crate::promql::answer::{Point, Series};
use crate::promql::ast::Edges;
use crate::promql::functions::{Samples, cut_to_range};
use crate::promql::plan::{Kind, Node, RangeSource, Selector};
use crate::promql::query_error::{QueryError, Result};
use crate::select::SelectHints;

/// The samples of a range at the only step of a grid, sorted by labels.
pub(crate) async fn raw_range(
    ctx: &Arc<Context>,
    node: &Node,
    grid: StepGrid,
) -> Result<Vec<Series>> {
    let Kind::Matrix { source, range_ms } = &node.kind else {
        return Err(QueryError::Invalid("not a range vector".into()));
    };
    let mut out = match source {
        RangeSource::Selector(s) => of_selector(ctx, s, *range_ms, grid).await?,
        RangeSource::Subquery(s) => {
            let windows = s.windows(grid, *range_ms);
            let Some(steps) = subquery::steps(&windows, s.step_ms) else {
                return Ok(Vec::new());
            };
            let _room = ctx.room_for(&s.inner, steps).await?;
            let v = vector_of(ctx, &s.inner, steps).await?;
            ctx.compute(v.cost(), move |_| {
                let mut points = v.charge.empty();
                let mut out = Vec::with_capacity(v.series.len());
                for s in labels::drop_marked_names(v.series)? {
                    let s = Series::of(s, &steps);
                    points.grow(0, s.size_bytes())?;
                    out.push(s);
                }
                Ok(out)
            })
            .await?
        }
    };
    out.retain(|s| !s.is_empty());
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(out)
}

async fn of_selector(
    ctx: &Arc<Context>,
    selector: &Selector,
    range_ms: i64,
    grid: StepGrid,
) -> Result<Vec<Series>> {
    let windows = selector.windows(grid, range_ms);
    let range = selector.time_range(&windows, ctx.switches.lookback_ms);
    let hints = SelectHints {
        range_ms,
        ..SelectHints::default()
    };
    let mut batches = ctx.select(selector, range, hints, None).await?;
    let (edges, end_ms) = (selector.edges, windows.end_ms(0));
    let start_ms = end_ms.saturating_sub(range_ms);
    let mut out = Vec::new();
    let mut charge = Charge::none(&ctx.usage);
    while let Some(batch) = batches.next_batch().await? {
        ctx.cancel.check("query")?;
        let cost = batch
            .iter()
            .flat_map(|s| &s.chunks)
            .map(|c| c.data.len())
            .sum();
        let mut taken = charge.empty();
        let part = ctx.compute(cost, move |ctx| {
            let mut samples = Samples::default();
            let wanted = Wanted {
                range,
                stale: false,
                starts: false,
            };
            let mut part = Vec::with_capacity(batch.len());
            for s in batch {
                decode(&s.chunks, wanted, &mut samples).map_err(|e| ctx.corrupt(&s.labels, e))?;
                ctx.usage.note_read(samples.len() as u64);
                let histograms = samples.histograms.iter();
                let points = samples.times.len() as u64
                    + histograms.map(|h| histogram_points(h)).sum::<u64>();
                taken.grow(points, points * 16 + s.labels.size_bytes() as u64)?;
                if edges != Edges::Plain {
                    cut_to_range(&mut samples, start_ms, end_ms, edges == Edges::Smoothed);
                }
                let floats = samples.times.iter().zip(&samples.floats);
                let histograms = samples.h_times.iter().zip(&samples.histograms);
                part.push(Series {
                    labels: s.labels,
                    floats: floats
                        .map(|(t, v)| Point {
                            t_ms: TimestampMs::new(*t),
                            value: *v,
                        })
                        .collect(),
                    histograms: histograms
                        .map(|(t, h)| Point {
                            t_ms: TimestampMs::new(*t),
                            value: (**h).clone(),
                        })
                        .collect(),
                });
            }
            Ok((part, taken))
        });
        let (part, taken) = part.await?;
        charge.join(taken);
        out.extend(part);
    }
    Ok(out)
}
