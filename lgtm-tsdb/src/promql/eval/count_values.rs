//! The aggregation `count_values`: how many series have each value.

use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::go::format_plain;
use lgtm_core::model::Labels;
use lgtm_core::vector::{GAP, Grouping, StepGrid};

use super::aggregate::Groups;
use super::cells::{Cells, Element, Series};
use super::context::{Charge, Context};
use super::evaluator::{Vector, feed};
use super::labels::{merge_equal, with};
use super::pipeline::Fold;
use crate::promql::annotations::Annotations;
use crate::promql::histogram;
use crate::promql::plan::Aggregation;
use crate::promql::query_error::{QueryError, Result};

/// Counts by group and value.
#[derive(Debug)]
struct Counts {
    groups: Groups,
    counts: HashMap<(usize, String), Vec<f64>>,
    steps: usize,
    charge: Charge,
}

impl Counts {
    fn slot(&mut self, group: usize, value: String) -> Result<&mut Vec<f64>> {
        let key = (group, value);
        if !self.counts.contains_key(&key) {
            // The value twice: here, and in the labels of the series that it becomes.
            let labels = self.groups.labels_bytes(group);
            let bytes = self.steps * 8 + 2 * key.1.len() + labels + 64;
            self.charge.grow(self.steps as u64, bytes as u64)?;
        }
        let steps = self.steps;
        Ok(self.counts.entry(key).or_insert_with(|| vec![0.0; steps]))
    }
}

impl Fold for Counts {
    fn add(
        &mut self,
        _: u64,
        labels: &Labels,
        cells: &mut Cells,
        _: &mut Annotations,
    ) -> Result<()> {
        let group = self.groups.of_series(labels, cells);
        for step in 0..self.steps {
            let text = match cells.get(step) {
                None => continue,
                Some(Element::Float(v)) => format_plain(v),
                Some(Element::Histogram(h)) => histogram::describe(&h),
            };
            self.slot(group, text)?[step] += 1.0;
        }
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            groups: self.groups.fork(),
            counts: HashMap::new(),
            steps: self.steps,
            charge: self.charge.empty(),
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        let here: Vec<usize> = (0..other.groups.len())
            .map(|g| self.groups.of_other(&other.groups, g))
            .collect();
        for ((group, value), counts) in other.counts {
            let mine = self.slot(here[group], value)?;
            mine.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
        }
        Ok(())
    }
}

pub(super) async fn count_values(
    ctx: &Arc<Context>,
    a: &Aggregation,
    grid: StepGrid,
) -> Result<Vector> {
    let name = a.param.as_ref().map_or(Ok(""), |p| p.label_name());
    let name = name
        .map_err(|quoted| QueryError::execution(format!("invalid label name {quoted}")))?
        .to_owned();
    // The value's label replaces one of that name before series are grouped.
    let others = a.names.iter().filter(|n| **n != name).cloned();
    let (grouping, keeps_value) = if a.without {
        let all: Vec<String> = others.chain([name.clone()]).collect();
        let keeps = !a.names.contains(&name);
        (super::labels::grouping(&all, true), keeps)
    } else {
        (Grouping::by(others), true)
    };
    let fold = Counts {
        groups: Groups::of(grouping, ctx.switches.delayed_names),
        counts: HashMap::new(),
        steps: grid.len(),
        charge: Charge::none(&ctx.usage),
    };
    let all = feed(ctx, &a.expr, grid, fold).await?;
    let cost = all.counts.len() * (grid.len() + 64);
    ctx.compute(cost, move |ctx| {
        let groups: Vec<Labels> = all.groups.finish().map(|g| g.0).collect();
        let mut series: Vec<Series> = all
            .counts
            .into_iter()
            .map(|((group, value), counts)| Series {
                labels: if keeps_value {
                    with(&groups[group], &name, &value)
                } else {
                    groups[group].clone()
                },
                cells: Cells::of_floats(
                    counts
                        .into_iter()
                        .map(|n| if n == 0.0 { GAP } else { n })
                        .collect(),
                ),
            })
            .collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let series = if keeps_value {
            series
        } else {
            merge_equal(series)?
        };
        drop(all.charge);
        Vector::new(ctx, series)
    })
    .await
}
