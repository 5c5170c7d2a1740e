//! The aggregation `quantile`, which needs all values of a step together.

use std::sync::Arc;

use lgtm_core::model::Labels;
use lgtm_core::vector::{StepGrid, is_gap};

use super::aggregate::Groups;
use super::cells::{Cells, Series};
use super::context::{Charge, Context};
use super::evaluator::{Vector, feed};
use super::pipeline::Fold;
use crate::promql::annotations::{Annotations, Note};
use crate::promql::functions::quantile as quantile_of;
use crate::promql::plan::Aggregation;
use crate::promql::query_error::Result;

/// All floats by group and step.
#[derive(Debug)]
struct Values {
    groups: Groups,
    values: Vec<Vec<Vec<f64>>>,
    steps: usize,
    charge: Charge,
    pos: usize,
}

impl Fold for Values {
    fn add(
        &mut self,
        _: u64,
        labels: &Labels,
        cells: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<()> {
        let group = self.groups.of_series(labels, cells);
        if group == self.values.len() {
            let lists = self.steps * size_of::<Vec<f64>>();
            self.charge.grow(0, lists as u64)?;
            self.values.push(vec![Vec::new(); self.steps]);
        }
        if cells.has_histograms() {
            let aggregation = "quantile";
            notes.add(Note::IgnoredInAggregation { aggregation }, self.pos);
        }
        let mut points = 0;
        for (list, v) in self.values[group].iter_mut().zip(&cells.floats) {
            if !is_gap(*v) {
                list.push(*v);
                points += 1;
            }
        }
        self.charge.grow(points, points * 8)
    }

    fn fork(&self) -> Self {
        Self {
            groups: self.groups.fork(),
            values: Vec::new(),
            steps: self.steps,
            charge: self.charge.empty(),
            pos: self.pos,
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        for (theirs, values) in other.values.into_iter().enumerate() {
            let group = self.groups.of_other(&other.groups, theirs);
            match self.values.get_mut(group) {
                None => self.values.push(values),
                Some(mine) => mine.iter_mut().zip(values).for_each(|(a, b)| a.extend(b)),
            }
        }
        self.charge.join(other.charge);
        Ok(())
    }
}

pub(super) async fn quantile(
    ctx: &Arc<Context>,
    a: &Aggregation,
    q: Vec<f64>,
    grid: StepGrid,
) -> Result<Vector> {
    let param_pos = a.param.as_ref().map_or(0, |p| p.pos);
    if let Some(bad) = q.iter().find(|q| !(0.0..=1.0).contains(*q)) {
        ctx.note(Note::InvalidQuantile(*bad), param_pos);
    }
    let fold = Values {
        groups: Groups::new(ctx, a),
        values: Vec::new(),
        steps: grid.len(),
        charge: Charge::none(&ctx.usage),
        pos: a.expr.pos,
    };
    let all = feed(ctx, &a.expr, grid, fold).await?;
    let cost = all.values.iter().flatten().map(|v| 8 * v.len()).sum();
    ctx.compute(cost, move |ctx| {
        let mut out = Vec::with_capacity(all.values.len());
        for ((labels, drop_name), mut lists) in all.groups.finish().zip(all.values) {
            let mut cells = Cells::gaps(lists.len());
            for (step, list) in lists.iter_mut().enumerate().filter(|l| !l.1.is_empty()) {
                cells.floats[step] = quantile_of(q[step], list);
            }
            cells.drop_name = drop_name;
            if !cells.is_empty() {
                out.push(Series { labels, cells });
            }
        }
        drop(all.charge);
        Vector::new(ctx, out)
    })
    .await
}
