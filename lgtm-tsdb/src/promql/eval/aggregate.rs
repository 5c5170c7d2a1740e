//! Aggregations that fold as series stream by: `sum avg count group min max stddev stdvar`. Memory follows the number of groups.

use std::sync::Arc;

use lgtm_core::model::Labels;
use lgtm_core::vector::{GAP, GroupTable, StepGrid, is_gap};

use super::cells::{Cells, Series};
use super::context::{Charge, Context};
use super::evaluator::{Vector, feed};
use super::labels::{grouping, is_metadata, metric};
use super::moments::Moments;
use super::pipeline::Fold;
use super::{count_values, ranked, statistics};
use crate::promql::annotations::{Annotations, Note, Operation};
use crate::promql::ast::AggregateOp;
use crate::promql::functions::{HintsSeen, kahan_add};
use crate::promql::histogram;
use crate::promql::plan::Aggregation;
use crate::promql::query_error::Result;

/// Runs an aggregation; `param` has one value per step.
pub(super) async fn run(
    ctx: &Arc<Context>,
    a: &Aggregation,
    param: Vec<f64>,
    pos: usize,
    grid: StepGrid,
) -> Result<Vector> {
    match a.op {
        AggregateOp::Quantile => statistics::quantile(ctx, a, param, grid).await,
        AggregateOp::CountValues => count_values::count_values(ctx, a, grid).await,
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => ranked::run(ctx, a, param, pos, grid).await,
        _ => {
            let fold = Aggregator::new(ctx, a, grid.len());
            let fold = feed(ctx, &a.expr, grid, fold).await?;
            let cost = fold.accumulators.len() * (grid.len() + 16);
            ctx.compute(cost, move |ctx| {
                let mut notes = Annotations::default();
                let (series, charge) = fold.finish(&mut notes);
                ctx.merge_notes(notes);
                Ok(Vector { series, charge })
            })
            .await
        }
    }
}

/// Numbers the groups of an aggregation and remembers what goes with each.
#[derive(Debug)]
pub(super) struct Groups {
    table: GroupTable,
    delayed_names: bool,
    /// By group: whether a member's name is to go.
    drop_names: Vec<bool>,
}

impl Groups {
    pub(super) fn new(ctx: &Context, a: &Aggregation) -> Self {
        Self::of(grouping(&a.names, a.without), ctx.switches.delayed_names)
    }

    pub(super) fn of(grouping: lgtm_core::vector::Grouping, delayed_names: bool) -> Self {
        Self {
            table: GroupTable::new(grouping),
            delayed_names,
            drop_names: Vec::new(),
        }
    }

    /// The same without groups.
    pub(super) fn fork(&self) -> Self {
        Self {
            table: self.table.fresh(),
            delayed_names: self.delayed_names,
            drop_names: Vec::new(),
        }
    }

    /// The group of a series.
    pub(super) fn of_series(&mut self, labels: &Labels, cells: &Cells) -> usize {
        let hidden = cells.drop_name && !self.delayed_names;
        let group = if hidden {
            self.table.index_of_hiding(labels, is_metadata)
        } else {
            self.table.index_of(labels)
        };
        self.mark(group, cells.drop_name && self.delayed_names);
        group
    }

    fn mark(&mut self, group: usize, drop_name: bool) {
        if self.drop_names.len() <= group {
            self.drop_names.resize(group + 1, false);
        }
        self.drop_names[group] |= drop_name;
    }

    /// The group here that is the group of that number there.
    pub(super) fn of_other(&mut self, other: &Self, group: usize) -> usize {
        let here = self.table.index_of(other.table.labels(group));
        self.mark(here, other.drop_names[group]);
        here
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of a group's labels.
    pub(super) fn labels_bytes(&self, group: usize) -> usize {
        self.table.labels(group).size_bytes()
    }

    /// Labels of each group, and whether its name is to go.
    pub(super) fn finish(self) -> impl Iterator<Item = (Labels, bool)> {
        self.table.into_labels().into_iter().zip(self.drop_names)
    }
}

/// What a group has seen of floats, by step.
#[derive(Debug)]
enum Floats {
    Sum {
        sum: Vec<f64>,
        error: Vec<f64>,
        seen: Vec<bool>,
    },
    Moments(Vec<Moments>),
    Best(Vec<f64>),
    Count(Vec<f64>),
}

/// What a group has seen of histograms at a step.
#[derive(Debug)]
enum Histograms {
    Sum(histogram::Sum),
    Average(histogram::Average),
    /// Exponential and custom buckets met.
    Incompatible,
}

impl Histograms {
    fn add(&mut self, h: &lgtm_core::model::FloatHistogram) -> bool {
        let fits = match self {
            Self::Sum(s) => s.add(h).is_ok(),
            Self::Average(a) => a.add(h).is_ok(),
            Self::Incompatible => return true,
        };
        if !fits {
            *self = Self::Incompatible;
        }
        fits
    }
}

#[derive(Debug)]
struct Group {
    floats: Floats,
    /// By step; empty while there is none.
    histograms: Vec<Option<(Histograms, HintsSeen)>>,
    /// The name of the first metric of histograms, for notes.
    metric: String,
}

/// The fold.
#[derive(Debug)]
struct Aggregator {
    op: AggregateOp,
    groups: Groups,
    accumulators: Vec<Group>,
    steps: usize,
    charge: Charge,
    /// Place of what is aggregated.
    pos: usize,
    /// What it groups by, or leaves out.
    names: Vec<String>,
    without: bool,
}

impl Aggregator {
    fn new(ctx: &Context, a: &Aggregation, steps: usize) -> Self {
        Self {
            op: a.op,
            groups: Groups::new(ctx, a),
            accumulators: Vec::new(),
            steps,
            charge: Charge::none(&ctx.usage),
            pos: a.expr.pos,
            names: a.names.clone(),
            without: a.without,
        }
    }

    fn fresh(&mut self) -> Result<()> {
        let n = self.steps;
        let floats = match self.op {
            AggregateOp::Sum => Floats::Sum {
                sum: vec![0.0; n],
                error: vec![0.0; n],
                seen: vec![false; n],
            },
            AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar => {
                Floats::Moments(vec![Moments::default(); n])
            }
            AggregateOp::Min | AggregateOp::Max => Floats::Best(vec![GAP; n]),
            _ => Floats::Count(vec![0.0; n]),
        };
        self.accumulators.push(Group {
            floats,
            histograms: Vec::new(),
            metric: String::new(),
        });
        let labels = self.groups.labels_bytes(self.accumulators.len() - 1) as u64;
        self.charge.grow(n as u64, n as u64 * 24 + labels + 128)
    }

    /// Whether histograms are left out, and under which name.
    fn ignores_histograms(&self) -> Option<&'static str> {
        match self.op {
            AggregateOp::Min | AggregateOp::Max | AggregateOp::Stddev | AggregateOp::Stdvar => {
                Some(self.op.name())
            }
            _ => None,
        }
    }

    fn add_histograms(
        &mut self,
        group: usize,
        labels: &Labels,
        cells: &Cells,
        notes: &mut Annotations,
    ) -> Result<()> {
        if let Some(aggregation) = self.ignores_histograms() {
            notes.add(Note::IgnoredInAggregation { aggregation }, self.pos);
            return Ok(());
        }
        let acc = &mut self.accumulators[group];
        if let Floats::Count(count) = &mut acc.floats {
            for (n, h) in count.iter_mut().zip(&cells.histograms) {
                *n += f64::from(u8::from(h.is_some()));
            }
            return Ok(());
        }
        if acc.histograms.is_empty() {
            let slots = self.steps * size_of::<Option<(Histograms, HintsSeen)>>();
            self.charge.grow(0, slots as u64)?;
            acc.metric = metric(labels);
            acc.histograms.resize_with(self.steps, || None);
        }
        for (state, h) in acc.histograms.iter_mut().zip(&cells.histograms) {
            let Some(h) = h else { continue };
            match state {
                None => {
                    let first = match self.op {
                        AggregateOp::Sum => Histograms::Sum(histogram::Sum::new(h)),
                        _ => Histograms::Average(histogram::Average::new(h)),
                    };
                    let mut hints = HintsSeen::default();
                    hints.see(h.hint);
                    *state = Some((first, hints));
                    let size = 16 * (h.positive_counts.len() + h.negative_counts.len() + 24) as u64;
                    self.charge.grow(size / 16, 2 * size)?;
                }
                Some((all, hints)) => {
                    hints.see(h.hint);
                    if !all.add(h) {
                        let metric = metric(labels);
                        notes.add(Note::MixedExponentialCustom { metric }, self.pos);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self, notes: &mut Annotations) -> (Vec<Series>, Charge) {
        let (op, pos, steps) = (self.op, self.pos, self.steps);
        let mut out = Vec::with_capacity(self.accumulators.len());
        for ((labels, drop_name), acc) in self.groups.finish().zip(self.accumulators) {
            let mut cells = Cells::of_floats(finished(op, acc.floats));
            debug_assert_eq!(cells.steps(), steps);
            for (step, state) in acc.histograms.into_iter().enumerate() {
                let Some((all, hints)) = state else { continue };
                if !is_gap(cells.floats[step]) {
                    notes.add(Note::MixedFloatsHistogramsInAggregation, pos);
                    cells.floats[step] = GAP;
                    continue;
                }
                let (reconciled, mut h) = match all {
                    Histograms::Sum(s) => (s.bounds_reconciled, s.finish()),
                    Histograms::Average(a) => (a.bounds_reconciled(), a.finish()),
                    Histograms::Incompatible => continue,
                };
                if hints.collide() {
                    notes.add(Note::HintCollision(Operation::Aggregation), pos);
                }
                if reconciled {
                    notes.add(Note::BoundsReconciled(Operation::Aggregation), pos);
                }
                histogram::compact(&mut h);
                cells.set_histogram(step, Arc::new(h));
            }
            cells.drop_name = drop_name;
            if !cells.is_empty() {
                out.push(Series { labels, cells });
            }
        }
        // Groups came as their first series did, which is in whatever order the holders found best.
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        (out, self.charge)
    }
}

fn finished(op: AggregateOp, floats: Floats) -> Vec<f64> {
    match floats {
        Floats::Sum { sum, error, seen } => sum
            .into_iter()
            .zip(error)
            .zip(seen)
            .map(|((sum, error), seen)| if seen { sum + error } else { GAP })
            .collect(),
        Floats::Moments(all) => all
            .into_iter()
            .map(|m| match op {
                _ if m.is_empty() => GAP,
                AggregateOp::Avg => m.mean(),
                AggregateOp::Stddev => m.variance().sqrt(),
                _ => m.variance(),
            })
            .collect(),
        Floats::Best(best) => best,
        Floats::Count(count) => count
            .into_iter()
            .map(|n| match n {
                0.0 => GAP,
                _ if op == AggregateOp::Group => 1.0,
                n => n,
            })
            .collect(),
    }
}

/// Whether `v` takes the place of `best`; NaN gives way to anything.
fn is_better(op: AggregateOp, v: f64, best: f64) -> bool {
    is_gap(best)
        || best.is_nan()
        || match op {
            AggregateOp::Max => v > best,
            _ => v < best,
        }
}

impl Fold for Aggregator {
    fn add(
        &mut self,
        _: u64,
        labels: &Labels,
        cells: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<()> {
        let group = self.groups.of_series(labels, cells);
        if group == self.accumulators.len() {
            self.fresh()?;
        }
        if cells.has_histograms() {
            self.add_histograms(group, labels, cells, notes)?;
        }
        let op = self.op;
        match &mut self.accumulators[group].floats {
            Floats::Sum { sum, error, seen } => {
                let slots = sum.iter_mut().zip(error).zip(seen);
                for (((sum, error), seen), v) in slots.zip(&cells.floats) {
                    if !is_gap(*v) {
                        (*sum, *error) = kahan_add(*v, *sum, *error);
                        *seen = true;
                    }
                }
            }
            Floats::Moments(all) => {
                let track = op != AggregateOp::Avg;
                for (m, v) in all.iter_mut().zip(&cells.floats) {
                    if !is_gap(*v) {
                        m.add(*v, track);
                    }
                }
            }
            Floats::Best(all) => {
                for (best, v) in all.iter_mut().zip(&cells.floats) {
                    if !is_gap(*v) && is_better(op, *v, *best) {
                        *best = *v;
                    }
                }
            }
            Floats::Count(all) => {
                for (n, v) in all.iter_mut().zip(&cells.floats) {
                    *n += f64::from(u8::from(!is_gap(*v)));
                }
            }
        }
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            op: self.op,
            groups: self.groups.fork(),
            accumulators: Vec::new(),
            steps: self.steps,
            charge: self.charge.empty(),
            pos: self.pos,
            names: Vec::new(),
            without: self.without,
        }
    }

    fn labels(&self) -> Option<&[String]> {
        (!self.without).then_some(&self.names)
    }

    fn grouping(&self) -> Option<(Vec<String>, bool)> {
        Some((self.names.clone(), self.without))
    }

    fn join(&mut self, other: Self, notes: &mut Annotations) -> Result<()> {
        let (op, pos) = (self.op, self.pos);
        for (theirs, acc) in other.accumulators.into_iter().enumerate() {
            let group = self.groups.of_other(&other.groups, theirs);
            if group == self.accumulators.len() {
                self.accumulators.push(acc);
                continue;
            }
            let mine = &mut self.accumulators[group];
            join_floats(op, &mut mine.floats, acc.floats);
            if mine.histograms.is_empty() {
                (mine.histograms, mine.metric) = (acc.histograms, acc.metric);
                continue;
            }
            for (a, b) in mine.histograms.iter_mut().zip(acc.histograms) {
                match (a, b) {
                    (_, None) => {}
                    (a @ None, b) => *a = b,
                    (Some((a, hints)), Some((b, more))) => {
                        hints.join(more);
                        if !join_histograms(a, b) {
                            let metric = acc.metric.clone();
                            notes.add(Note::MixedExponentialCustom { metric }, pos);
                        }
                    }
                }
            }
        }
        self.charge.join(other.charge);
        Ok(())
    }
}

fn join_floats(op: AggregateOp, mine: &mut Floats, other: Floats) {
    match (mine, other) {
        (
            Floats::Sum { sum, error, seen },
            Floats::Sum {
                sum: s,
                error: e,
                seen: n,
            },
        ) => {
            let slots = sum.iter_mut().zip(error).zip(seen);
            for (((sum, error), seen), ((s, e), n)) in slots.zip(s.into_iter().zip(e).zip(n)) {
                if n {
                    (*sum, *error) = kahan_add(s, *sum, *error);
                    *error += e;
                    *seen = true;
                }
            }
        }
        (Floats::Moments(a), Floats::Moments(b)) => {
            a.iter_mut().zip(b).for_each(|(a, b)| a.join(&b));
        }
        (Floats::Best(a), Floats::Best(b)) => {
            for (best, v) in a.iter_mut().zip(b) {
                if !is_gap(v) && is_better(op, v, *best) {
                    *best = v;
                }
            }
        }
        (Floats::Count(a), Floats::Count(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
        _ => {}
    }
}

fn join_histograms(a: &mut Histograms, b: Histograms) -> bool {
    let fits = match (&mut *a, b) {
        (Histograms::Incompatible, _) => return true,
        (Histograms::Sum(a), Histograms::Sum(b)) => a.join(b).is_ok(),
        (Histograms::Average(a), Histograms::Average(b)) => a.join(b).is_ok(),
        _ => {
            *a = Histograms::Incompatible;
            return true;
        }
    };
    if !fits {
        *a = Histograms::Incompatible;
    }
    fits
}
