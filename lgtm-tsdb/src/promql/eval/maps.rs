//! Steps of a chain that change the values of one series and know no other.

use std::sync::Arc;

use lgtm_core::model::FloatHistogram;
use lgtm_core::vector::{GAP, StepGrid, is_gap};

use super::cells::{Cells, Element};
use super::elements::{Outcome, arithmetic, changes_meaning, combine, comparison};
use crate::promql::annotations::Annotations;
use crate::promql::ast::BinaryOp;
use crate::promql::functions::{FloatMap, maximum, minimum};
use crate::promql::histogram;

/// A step of a chain: changes the values of one series, knows no other.
#[derive(Debug)]
pub(super) enum Map {
    Float(FloatMap),
    Negate,
    /// A float of each histogram.
    Statistic(fn(&FloatHistogram) -> f64),
    /// Lowest and highest value, per step.
    Clamp(Vec<f64>, Vec<f64>),
    /// Distance of the values to round to, per step.
    Round(Vec<f64>),
    /// The time of the step, seconds.
    StepTime(StepGrid),
    Scalar(ScalarOperation),
    /// Has no value: `start_timestamp` of something computed.
    Nothing,
}

/// An operator with a scalar on one side.
#[derive(Debug)]
pub(super) struct ScalarOperation {
    pub(super) op: BinaryOp,
    /// One value per step.
    pub(super) values: Vec<f64>,
    /// Whether the scalar stands on the left.
    pub(super) scalar_first: bool,
    pub(super) return_bool: bool,
    pub(super) pos: usize,
}

/// How many steps of a chain it takes until the first one that drops names is done; `None` if none drops them.
pub(super) fn name_drop(maps: &[Map]) -> Option<usize> {
    let at = maps.iter().position(Map::drops_name)?;
    Some(at + 1)
}

impl Map {
    /// Whether what it gives is no value of the metric any more. A comparison that filters gives what was there.
    fn drops_name(&self) -> bool {
        match self {
            Self::Scalar(o) => o.return_bool || changes_meaning(o.op),
            _ => true,
        }
    }

    /// Applies it to the values of a series.
    pub(super) fn apply(&self, cells: &mut Cells, notes: &mut Annotations) {
        match self {
            Self::Float(f) => floats_only(cells, |_, v| f(v)),
            Self::Clamp(min, max) => {
                floats_only(cells, |step, v| maximum(min[step], minimum(max[step], v)));
                for step in 0..cells.steps() {
                    if max[step] < min[step] {
                        cells.unset(step);
                    }
                }
            }
            Self::Round(to) => floats_only(cells, |step, v| {
                let inverse = 1.0 / to[step];
                (v * inverse + 0.5).floor() / inverse
            }),
            Self::StepTime(grid) => {
                for step in 0..cells.steps() {
                    if cells.has(step) {
                        cells.set(step, Element::Float(grid.at(step).get() as f64 / 1000.0));
                    }
                }
            }
            Self::Statistic(f) => {
                let histograms = std::mem::take(&mut cells.histograms);
                cells.floats.fill(GAP);
                for (out, h) in cells.floats.iter_mut().zip(&histograms) {
                    if let Some(h) = h {
                        *out = f(h);
                    }
                }
            }
            Self::Negate => negate(cells),
            Self::Nothing => {
                let steps = cells.steps();
                cells.reset(steps);
            }
            Self::Scalar(o) => o.apply(cells, notes),
        }
        cells.drop_name |= self.drops_name();
    }
}

fn floats_only(cells: &mut Cells, f: impl Fn(usize, f64) -> f64) {
    cells.histograms.clear();
    for (step, v) in cells.floats.iter_mut().enumerate() {
        if !is_gap(*v) {
            *v = f(step, *v);
        }
    }
}

fn negate(cells: &mut Cells) {
    for v in cells.floats.iter_mut().filter(|v| !is_gap(**v)) {
        *v = -*v;
    }
    for h in cells.histograms.iter_mut().flatten() {
        let mut out = (**h).clone();
        histogram::multiply(&mut out, -1.0);
        *h = Arc::new(out);
    }
}

impl ScalarOperation {
    fn apply(&self, cells: &mut Cells, notes: &mut Annotations) {
        if !cells.has_histograms() {
            if let Some(f) = arithmetic(self.op) {
                let values = cells.floats.iter_mut().zip(&self.values);
                for (v, s) in values.filter(|(v, _)| !is_gap(**v)) {
                    *v = if self.scalar_first {
                        f(*s, *v)
                    } else {
                        f(*v, *s)
                    };
                }
                return;
            }
            if let Some(holds) = comparison(self.op) {
                let values = cells.floats.iter_mut().zip(&self.values);
                for (v, s) in values.filter(|(v, _)| !is_gap(**v)) {
                    let holds = if self.scalar_first {
                        holds(s, v)
                    } else {
                        holds(v, s)
                    };
                    *v = match (self.return_bool, holds) {
                        (true, holds) => f64::from(u8::from(holds)),
                        (false, true) => *v,
                        (false, false) => GAP,
                    };
                }
                return;
            }
        }
        for step in 0..cells.steps() {
            let Some(vector) = cells.get(step) else {
                continue;
            };
            let scalar = Element::Float(self.values[step]);
            let (lhs, rhs) = if self.scalar_first {
                (&scalar, &vector)
            } else {
                (&vector, &scalar)
            };
            match combine(self.op, lhs, rhs, self.pos, notes) {
                Outcome::Value(value) => {
                    let value = if self.return_bool {
                        Element::Float(1.0)
                    } else if self.op.is_comparison() {
                        // What passes is the vector's value, on whichever side it stands.
                        vector
                    } else {
                        value
                    };
                    cells.set(step, value);
                }
                Outcome::Filtered if self.return_bool => cells.set(step, Element::Float(0.0)),
                Outcome::Filtered | Outcome::Failed => cells.unset(step),
            }
        }
    }
}
