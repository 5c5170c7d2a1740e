//! Range functions over expressions that are evaluated at steps of their own.

use std::sync::Arc;

use lgtm_core::model::CounterResetHint;
use lgtm_core::vector::{StepGrid, is_gap};

use super::cells::{Cells, Series};
use super::collect::Collect;
use super::context::Context;
use super::distinct::{Distinct, Found, Scope};
use super::evaluator::{Vector, vector_of};
use super::pipeline::Fold;
use super::range_call::RangeCall;
use crate::promql::annotations::Annotations;
use crate::promql::ast::Edges;
use crate::promql::functions::{Samples, WindowGrid};
use crate::promql::plan::Subquery;
use crate::promql::query_error::Result;

/// The steps of a subquery: multiples of its step that lie after the first window's start, up to the last one's end.
pub(super) fn steps(windows: &WindowGrid, step_ms: i64) -> Option<StepGrid> {
    let (after, last) = windows.reach_ms();
    let first = after
        .div_euclid(step_ms)
        .saturating_add(1)
        .saturating_mul(step_ms);
    (first <= last).then(|| StepGrid::range(first, last, step_ms))
}

impl Subquery {
    /// The outer steps as this subquery looks at them.
    pub(super) fn windows(&self, grid: StepGrid, range_ms: i64) -> WindowGrid {
        WindowGrid {
            grid,
            at_ms: self.at_ms,
            offset_ms: self.offset_ms,
            range_ms,
        }
    }
}

/// The values of a series at the steps of a subquery, as samples.
pub(super) fn samples(cells: &Cells, steps: StepGrid, out: &mut Samples) {
    out.clear();
    for (step, v) in cells.floats.iter().enumerate() {
        if !is_gap(*v) {
            out.times.push(steps.at(step).get());
            out.floats.push(*v);
        } else if let Some(h) = cells.histogram(step) {
            out.h_times.push(steps.at(step).get());
            out.histograms.push(match h.hint {
                CounterResetHint::Unknown | CounterResetHint::Gauge => Arc::clone(h),
                // It told of the sample before in the store, which is not the one at the step before.
                CounterResetHint::Reset | CounterResetHint::NotReset => {
                    let mut h = (**h).clone();
                    h.hint = CounterResetHint::Unknown;
                    Arc::new(h)
                }
            });
        }
    }
}

/// A range function over a subquery.
pub(super) async fn over_time(
    ctx: &Arc<Context>,
    subquery: &Subquery,
    range_ms: i64,
    call: RangeCall,
    grid: StepGrid,
) -> Result<Vector> {
    let windows = subquery.windows(grid, range_ms);
    let Some(steps) = steps(&windows, subquery.step_ms) else {
        return Ok(Vector::empty(ctx));
    };
    let room = ctx.room_for(&subquery.inner, steps).await?;
    let inner = vector_of(ctx, &subquery.inner, steps).await?;
    let cost = inner.cost() + inner.series.len() * grid.len();
    ctx.compute(cost, move |ctx| {
        let mut notes = Annotations::default();
        let mut buffer = Samples::default();
        let mut out = Collect::new(ctx);
        let mut read = 0;
        let drops_name = !call.function.keeps_name();
        let distinct = drops_name
            .then(|| Distinct::of_series(ctx, &inner.series, Scope::Series))
            .flatten();
        let mut found = distinct.map(|distinct| Found::of(Arc::new(distinct)));
        for (place, Series { labels, cells }) in inner.series.into_iter().enumerate() {
            ctx.cancel.check("query")?;
            samples(&cells, steps, &mut buffer);
            let mut result = Cells::gaps(grid.len());
            result.drop_name = cells.drop_name;
            let (out_cells, notes) = (&mut result, &mut notes);
            let plain = Edges::Plain;
            read += call.apply(&buffer, &windows, plain, ctx, &labels, out_cells, notes)?;
            if let Some(found) = &mut found {
                found.add(&labels, &result);
            }
            if !result.is_empty() {
                out.add(place as u64, &labels, &mut result, notes)?;
            }
        }
        if let Some(found) = found {
            found.finish()?;
        }
        drop((inner.charge, room));
        ctx.usage.note_read(read);
        ctx.merge_notes(notes);
        let (series, charge) = out.finish()?;
        Ok(Vector { series, charge })
    })
    .await
}
