//! Aggregations that choose among the series: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;
use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::model::Labels;
use lgtm_core::vector::{StepGrid, TopK, is_gap};

use super::aggregate::Groups;
use super::cells::{Cells, Element, Series};
use super::context::{Charge, Context};
use super::evaluator::{Vector, feed};
use super::labels::{merge_equal, without_metadata};
use super::pipeline::Fold;
use crate::promql::annotations::{Annotations, Note};
use crate::promql::ast::AggregateOp;
use crate::promql::plan::Aggregation;
use crate::promql::query_error::{QueryError, Result};

/// By value, then by place: of equal ones the first in the order of the store.
type Rank = (f64, u64);

/// What stands behind a rank.
#[derive(Debug, Clone)]
struct Chosen {
    labels: Labels,
    drop_name: bool,
    value: Element,
}

fn larger_first(a: &Rank, b: &Rank) -> Ordering {
    rank(a, b, |x, y| x.partial_cmp(&y))
}

fn smaller_first(a: &Rank, b: &Rank) -> Ordering {
    rank(a, b, |x, y| y.partial_cmp(&x))
}

/// NaN ranks below everything.
fn rank(a: &Rank, b: &Rank, by: impl Fn(f64, f64) -> Option<Ordering>) -> Ordering {
    b.0.is_nan()
        .cmp(&a.0.is_nan())
        .then_with(|| by(a.0, b.0).unwrap_or(Ordering::Equal))
        .then_with(|| b.1.cmp(&a.1))
}

fn first_first(a: &Rank, b: &Rank) -> Ordering {
    b.1.cmp(&a.1)
}

/// The best of each group at each step.
#[derive(Debug)]
struct Ranked {
    op: AggregateOp,
    /// How many, by step.
    k: Arc<[usize]>,
    groups: Groups,
    best: Vec<Vec<TopK<Rank, Chosen>>>,
    charge: Charge,
    delayed_names: bool,
    pos: usize,
}

impl Ranked {
    fn fresh(&mut self) -> Result<()> {
        let order = match self.op {
            AggregateOp::Topk => larger_first,
            AggregateOp::Bottomk => smaller_first,
            _ => first_first,
        };
        self.best
            .push(self.k.iter().map(|k| TopK::new(*k, order)).collect());
        let steps = self.k.len() as u64;
        self.charge.grow(steps, steps * 64)
    }
}

impl Fold for Ranked {
    fn add(
        &mut self,
        place: u64,
        labels: &Labels,
        cells: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<()> {
        let group = self.groups.of_series(labels, cells);
        if group == self.best.len() {
            self.fresh()?;
        }
        let limits = self.op == AggregateOp::Limitk;
        if cells.has_histograms() && !limits {
            let aggregation = self.op.name();
            notes.add(Note::IgnoredInAggregation { aggregation }, self.pos);
        }
        let mut shown: Option<Labels> = None;
        for (step, best) in self.best[group].iter_mut().enumerate() {
            let v = cells.floats[step];
            let value = match cells.histogram(step) {
                None if is_gap(v) => continue,
                None => Element::Float(v),
                Some(h) if limits => Element::Histogram(Arc::clone(h)),
                Some(_) => continue,
            };
            let rank = (v, place);
            if !best.would_take(&rank) {
                continue;
            }
            if best.len() < self.k[step] {
                self.charge.grow(1, 64)?;
            }
            if shown.is_none() {
                self.charge.grow(0, labels.size_bytes() as u64 + 64)?;
            }
            let labels = shown.get_or_insert_with(|| {
                if cells.drop_name && !self.delayed_names {
                    without_metadata(labels)
                } else {
                    labels.detached()
                }
            });
            let chosen = Chosen {
                labels: labels.clone(),
                drop_name: cells.drop_name && self.delayed_names,
                value,
            };
            best.offer(rank, chosen);
        }
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            op: self.op,
            k: Arc::clone(&self.k),
            groups: self.groups.fork(),
            best: Vec::new(),
            charge: self.charge.empty(),
            delayed_names: self.delayed_names,
            pos: self.pos,
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        for (theirs, best) in other.best.into_iter().enumerate() {
            let group = self.groups.of_other(&other.groups, theirs);
            match self.best.get_mut(group) {
                None => self.best.push(best),
                Some(mine) => {
                    for (a, b) in mine.iter_mut().zip(best) {
                        b.into_sorted()
                            .into_iter()
                            .for_each(|(rank, c)| a.offer(rank, c));
                    }
                }
            }
        }
        self.charge.join(other.charge);
        Ok(())
    }
}

/// Keeps nothing.
#[derive(Debug)]
struct Nobody;

impl Fold for Nobody {
    fn add(&mut self, _: u64, _: &Labels, _: &mut Cells, _: &mut Annotations) -> Result<()> {
        Ok(())
    }

    fn fork(&self) -> Self {
        Self
    }

    fn join(&mut self, _: Self, _: &mut Annotations) -> Result<()> {
        Ok(())
    }
}

/// Keeps a part of the series, chosen by the hash of their labels.
#[derive(Debug)]
struct Sampled {
    /// By step, from -1 to 1.
    ratio: Arc<[f64]>,
    delayed_names: bool,
    kept: super::collect::Collect,
}

impl Fold for Sampled {
    fn add(
        &mut self,
        place: u64,
        labels: &Labels,
        cells: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<()> {
        let hash = if cells.drop_name && !self.delayed_names {
            without_metadata(labels).stable_hash()
        } else {
            labels.stable_hash()
        };
        // Of 64 bits a float holds 53: the largest hash rounds up to 1.
        let offset = hash as f64 / u64::MAX as f64;
        for (step, ratio) in self.ratio.iter().enumerate() {
            let kept = if *ratio >= 0.0 {
                offset < *ratio
            } else {
                offset >= 1.0 + ratio
            };
            if !kept {
                cells.unset(step);
            }
        }
        if cells.is_empty() {
            Ok(())
        } else {
            self.kept.add(place, labels, cells, notes)
        }
    }

    fn fork(&self) -> Self {
        Self {
            ratio: Arc::clone(&self.ratio),
            delayed_names: self.delayed_names,
            kept: self.kept.fork(),
        }
    }

    fn join(&mut self, other: Self, notes: &mut Annotations) -> Result<()> {
        self.kept.join(other.kept, notes)
    }
}

/// Runs one of the four; `param` has one value per step.
pub(super) async fn run(
    ctx: &Arc<Context>,
    a: &Aggregation,
    param: Vec<f64>,
    pos: usize,
    grid: StepGrid,
) -> Result<Vector> {
    if a.op == AggregateOp::LimitRatio {
        let fold = Sampled {
            ratio: ratios(ctx, a, param)?,
            delayed_names: ctx.switches.delayed_names,
            kept: super::collect::Collect::new(ctx),
        };
        let (series, charge) = feed(ctx, &a.expr, grid, fold).await?.kept.finish()?;
        return Ok(Vector { series, charge });
    }
    let k = counts(param)?;
    if k.iter().all(|k| *k == 0) {
        // Nothing is chosen, but what is wrong with the input is told.
        feed(ctx, &a.expr, grid, Nobody).await?;
        return Ok(Vector::empty(ctx));
    }
    let fold = Ranked {
        op: a.op,
        k,
        groups: Groups::new(ctx, a),
        best: Vec::new(),
        charge: Charge::none(&ctx.usage),
        delayed_names: ctx.switches.delayed_names,
        pos,
    };
    let all = feed(ctx, &a.expr, grid, fold).await?;
    let cost = 10
        * all
            .best
            .iter()
            .flatten()
            .map(|b| b.len() + 1)
            .sum::<usize>();
    ctx.compute(cost, move |ctx| rows(ctx, all, grid)).await
}

/// The chosen ones as series.
fn rows(ctx: &Context, all: Ranked, grid: StepGrid) -> Result<Vector> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut series: Vec<Series> = Vec::new();
    // Each series that is chosen once gets a row of all steps.
    let mut rows = all.charge.empty();
    let row_bytes = (grid.len() * size_of::<f64>()) as u64;
    let mut groups: Vec<_> = all.groups.finish().zip(all.best).collect();
    groups.sort_by(|((a, _), _), ((b, _), _)| a.cmp(b));
    for (_, group) in groups {
        ctx.cancel.check("query")?;
        for (step, best) in group.into_iter().enumerate() {
            for (_, c) in best.into_sorted() {
                let place = match places.get(&c.labels) {
                    Some(place) => *place,
                    None => {
                        rows.grow(0, row_bytes + 128)?;
                        places.insert(c.labels.clone(), series.len());
                        series.push(Series {
                            labels: c.labels.clone(),
                            cells: Cells::gaps(grid.len()),
                        });
                        series.len() - 1
                    }
                };
                let cells = &mut series[place].cells;
                cells.drop_name |= c.drop_name;
                cells.set(step, c.value);
            }
        }
    }
    drop((all.charge, rows));
    Vector::new(ctx, merge_equal(series)?)
}

fn counts(param: Vec<f64>) -> Result<Arc<[usize]>> {
    param
        .into_iter()
        .map(|k| {
            if k.is_nan() {
                return Err(QueryError::execution("Parameter value is NaN"));
            }
            if k <= i64::MIN as f64 {
                return Err(QueryError::execution(format!(
                    "Scalar value {k} underflows int64"
                )));
            }
            if k >= i64::MAX as f64 {
                return Err(QueryError::execution(format!(
                    "Scalar value {k} overflows int64"
                )));
            }
            Ok(if k < 1.0 { 0 } else { k as usize })
        })
        .collect()
}

fn ratios(ctx: &Context, a: &Aggregation, param: Vec<f64>) -> Result<Arc<[f64]>> {
    let pos = a.param.as_ref().map_or(0, |p| p.pos);
    param
        .into_iter()
        .map(|given| {
            if given.is_nan() {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            let capped = given.clamp(-1.0, 1.0);
            if capped != given {
                ctx.note(Note::InvalidRatio { given, capped }, pos);
            }
            Ok(capped)
        })
        .collect()
}
