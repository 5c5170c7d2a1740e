//! Series as they are answered, and what is done with whole series.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::super::ast::{ArithmeticOp, SecondStage};
use super::super::value::AnswerValue;
use super::grid::IntervalGrid;
use super::partial::SeriesLabels;
use crate::select::CompareOp;

/// Name of the label of a series that has no other.
pub(super) const NAME: &str = "__name__";

/// A series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: SeriesLabels,
    /// For each interval its value; not a number where there is none.
    pub values: Vec<f64>,
    /// Spans that stand for others.
    pub exemplars: Vec<Exemplar>,
}

/// A span that stands for others.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its trace, and what the query names.
    pub labels: SeriesLabels,
    /// The field's value, or the series' where spans are only counted.
    pub value: f64,
    /// When it began, nanoseconds since the epoch.
    pub start_ns: u64,
    /// Whether `value` is the series', to be taken when that is known.
    pub(super) is_counted: bool,
}

impl Series {
    /// Its points: right edges of intervals, and values.
    pub fn points(&self, grid: &IntervalGrid) -> impl Iterator<Item = (u64, f64)> {
        let points = self.values.iter().enumerate();
        points.filter_map(|(n, v)| (!v.is_nan()).then_some((grid.edge_ns(n), *v)))
    }

    fn is_empty(&self) -> bool {
        self.values.iter().all(|v| v.is_nan())
    }

    fn label_order(&self, other: &Self) -> Ordering {
        (self.labels.len().cmp(&other.labels.len())).then_with(|| self.labels.cmp(&other.labels))
    }
}

/// Several series, and what they are called where they have no labels.
#[derive(Debug, Clone)]
pub(super) struct SeriesSet {
    pub(super) series: Vec<Series>,
    pub(super) name: String,
}

impl SeriesSet {
    /// In the order of answers; without those that have no point, and exemplars that have none.
    pub(super) fn settle(&mut self, grid: &IntervalGrid) {
        for series in &mut self.series {
            let values = &series.values;
            series.exemplars.retain_mut(|exemplar| {
                let interval = grid.index_of(exemplar.start_ns);
                let value = interval.map_or(f64::NAN, |n| values[n]);
                if exemplar.is_counted {
                    exemplar.value = value;
                }
                !value.is_nan()
            });
        }
        self.series.retain(|s| !s.is_empty());
        self.series.sort_by(Series::label_order);
    }

    pub(super) fn staged(mut self, stage: &SecondStage, grid: &IntervalGrid) -> Self {
        match stage {
            SecondStage::TopK(k) => self.best(usize::try_from(*k).unwrap_or(0), true),
            SecondStage::BottomK(k) => self.best(usize::try_from(*k).unwrap_or(0), false),
            SecondStage::Filter(op, literal) => self.filter(*op, *literal),
        }
        self.settle(grid);
        self
    }

    fn filter(&mut self, op: CompareOp, literal: f64) {
        for series in &mut self.series {
            for value in &mut series.values {
                if !op.holds(*value, literal) {
                    *value = f64::NAN;
                }
            }
            series
                .exemplars
                .retain(|e| e.is_counted || op.holds(e.value, literal));
        }
    }

    /// Keeps the greatest (or the least) `k` of each interval. Of equal ones those with the smaller (or the larger) labels.
    fn best(&mut self, k: usize, greatest: bool) {
        self.series.sort_by(Series::label_order);
        if self.series.len() <= k {
            return;
        }
        let intervals = self.series.iter().map(|s| s.values.len()).max();
        for n in 0..intervals.unwrap_or(0) {
            let mut order: Vec<usize> = (0..self.series.len())
                .filter(|s| !self.series[*s].values[n].is_nan())
                .collect();
            order.sort_by(|a, b| {
                let (x, y) = (self.series[*a].values[n], self.series[*b].values[n]);
                if greatest {
                    y.total_cmp(&x).then(a.cmp(b))
                } else {
                    x.total_cmp(&y).then(b.cmp(a))
                }
            });
            for at in order.into_iter().skip(k) {
                self.series[at].values[n] = f64::NAN;
            }
        }
    }

    /// Each value computed with a number.
    pub(super) fn with_number(mut self, op: ArithmeticOp, n: f64, is_left: bool) -> Self {
        for series in &mut self.series {
            for value in &mut series.values {
                *value = if is_left {
                    computed(op, n, *value)
                } else {
                    computed(op, *value, n)
                };
            }
            series.exemplars.retain(|e| e.is_counted);
        }
        self
    }

    /// Series with equal labels computed with each other.
    pub(super) fn with(self, op: ArithmeticOp, other: Self) -> Self {
        let name = format!("({} {} {})", self.name, op.sign(), other.name);
        let (left_alone, right_alone) = (self.only_unlabelled(), other.only_unlabelled());
        let mut out = Vec::new();
        let pair = |labels: &SeriesLabels, a: &Series, b: &Series| {
            let mut labels = labels.clone();
            if labels.is_empty() {
                labels = vec![(NAME.to_owned(), AnswerValue::Text(name.clone()))];
            }
            let values = a.values.iter().zip(&b.values);
            Series {
                labels,
                values: values.map(|(a, b)| computed(op, *a, *b)).collect(),
                exemplars: Vec::new(),
            }
        };
        match (left_alone, right_alone) {
            (Some(a), None) => {
                out.extend(other.series.iter().map(|b| pair(&nameless(b), a, b)));
            }
            (None, Some(b)) => {
                out.extend(self.series.iter().map(|a| pair(&nameless(a), a, b)));
            }
            _ => {
                let right = other.series.iter().map(|s| (nameless(s), s));
                let right: BTreeMap<SeriesLabels, &Series> = right.collect();
                for a in &self.series {
                    let labels = nameless(a);
                    if let Some(b) = right.get(&labels) {
                        out.push(pair(&labels, a, b));
                    }
                }
            }
        }
        Self { series: out, name }
    }

    fn only_unlabelled(&self) -> Option<&Series> {
        match self.series.as_slice() {
            [one] if nameless(one).is_empty() => Some(one),
            _ => None,
        }
    }
}

fn nameless(series: &Series) -> SeriesLabels {
    let labels = series.labels.iter().filter(|(name, _)| name != NAME);
    labels.cloned().collect()
}

/// What is divided by zero is missing.
fn computed(op: ArithmeticOp, a: f64, b: f64) -> f64 {
    if op == ArithmeticOp::Divide && b == 0.0 {
        return f64::NAN;
    }
    op.on_floats(a, b)
}
