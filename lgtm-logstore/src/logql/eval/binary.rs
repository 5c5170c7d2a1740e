//! Operators between two sides.

use hashbrown::HashMap;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::Labels;
use lgtm_core::vector::{
    GAP, GridSeries, Grouping, MatchGroup, is_gap, match_groups, merge_equal_labels,
};

use super::evaluator::Evaluated;
use super::vector::GridVector;
use crate::logql::arithmetic::{apply, fold};
use crate::logql::ast::{BinaryExpr, BinaryOp, MatchSide, VectorMatching};
use crate::logql::query_error::{QueryError, Result};

/// What an operator needs to know.
pub(super) struct Operator<'a> {
    op: BinaryOp,
    returns_bool: bool,
    matching: Option<&'a VectorMatching>,
}

impl<'a> Operator<'a> {
    pub(super) fn of(expr: &'a BinaryExpr) -> Self {
        Self {
            op: expr.op,
            returns_bool: expr.returns_bool,
            matching: expr.matching.as_ref(),
        }
    }

    /// Joins both sides.
    ///
    /// # Errors
    /// `Execution` when series do not match as they must; `Cancelled`.
    pub(super) fn join(
        &self,
        left: Evaluated,
        right: Evaluated,
        steps: usize,
        cancel: &CancelToken,
    ) -> Result<Evaluated> {
        Ok(match (left, right) {
            (Evaluated::Scalar(a), Evaluated::Scalar(b)) => Evaluated::Scalar(fold(self.op, a, b)),
            (Evaluated::Vector(v), Evaluated::Scalar(b)) => {
                Evaluated::Vector(self.with_number(v, |a| self.value(a, b, a)))
            }
            (Evaluated::Scalar(a), Evaluated::Vector(v)) => {
                Evaluated::Vector(self.with_number(v, |b| self.value(a, b, b)))
            }
            (Evaluated::Vector(a), Evaluated::Vector(b)) => {
                Evaluated::Vector(self.vectors(a, b, steps, cancel)?)
            }
        })
    }

    /// The value of two; a comparison that holds keeps `kept`.
    fn value(&self, left: f64, right: f64, kept: f64) -> f64 {
        match (apply(self.op, left, right), self.op) {
            (result, BinaryOp::Compare(_)) if self.returns_bool => {
                f64::from(u8::from(result.is_some()))
            }
            (Some(_), BinaryOp::Compare(_)) => kept,
            (Some(value), _) => value,
            (None, _) => GAP,
        }
    }

    fn with_number(&self, vector: GridVector, value: impl Fn(f64) -> f64) -> GridVector {
        let change = |mut series: GridSeries<Vec<f64>>| {
            for v in series.cells.iter_mut().filter(|v| !is_gap(**v)) {
                *v = value(*v);
            }
            series
        };
        vector.into_iter().map(change).filter(has_values).collect()
    }

    fn grouping(&self) -> Grouping {
        match self.matching {
            None => Grouping::without(Vec::<String>::new()),
            Some(m) if m.on => Grouping::by(m.labels.clone()),
            Some(m) => Grouping::without(m.labels.clone()),
        }
    }

    fn vectors(
        &self,
        left: GridVector,
        right: GridVector,
        steps: usize,
        cancel: &CancelToken,
    ) -> Result<GridVector> {
        let groups = match_groups(
            self.grouping(),
            left.iter().map(|s| &s.labels),
            right.iter().map(|s| &s.labels),
        );
        if self.op.is_set() {
            return Ok(self.sets(left, right, &groups, steps));
        }
        let mut out = Vec::new();
        for group in groups {
            cancel.check("query")?;
            self.group(&left, &right, &group, steps, &mut out)?;
        }
        let out = merge_equal_labels(out).map_err(|_| {
            QueryError::Execution(
                "multiple matches for labels: grouping labels must ensure unique matches".into(),
            )
        })?;
        Ok(out.into_iter().filter(has_values).collect())
    }

    fn sets(
        &self,
        mut left: GridVector,
        mut right: GridVector,
        groups: &[MatchGroup],
        steps: usize,
    ) -> GridVector {
        let present = |side: &GridVector, places: &[u32]| {
            let mut there = vec![false; steps];
            for place in places {
                for (there, v) in there.iter_mut().zip(&side[*place as usize].cells) {
                    *there |= !is_gap(*v);
                }
            }
            there
        };
        let keep = |side: &mut GridVector, places: &[u32], mask: &[bool], wanted: bool| {
            for place in places {
                for (v, there) in side[*place as usize].cells.iter_mut().zip(mask) {
                    if *there != wanted {
                        *v = GAP;
                    }
                }
            }
        };
        for group in groups {
            match self.op {
                BinaryOp::Or => {
                    let there = present(&left, &group.left);
                    keep(&mut right, &group.right, &there, false);
                }
                op => {
                    let there = present(&right, &group.right);
                    keep(&mut left, &group.left, &there, op == BinaryOp::And);
                }
            }
        }
        if self.op == BinaryOp::Or {
            add_missing(&mut left, right);
        }
        left.into_iter().filter(has_values).collect()
    }

    /// The series of one group against each other.
    fn group(
        &self,
        left: &GridVector,
        right: &GridVector,
        group: &MatchGroup,
        steps: usize,
        out: &mut GridVector,
    ) -> Result<()> {
        let side = self.matching.map_or(MatchSide::OneToOne, |m| m.group);
        let swapped = side == MatchSide::Right;
        let (many, one) = match swapped {
            false => (&group.left, &group.right),
            true => (&group.right, &group.left),
        };
        let (many_side, one_side) = match swapped {
            false => (left, right),
            true => (right, left),
        };
        // The one that has a value, at each step.
        let mut partner: Vec<Option<u32>> = vec![None; steps];
        for place in one {
            for (step, v) in one_side[*place as usize].cells.iter().enumerate() {
                if is_gap(*v) {
                    continue;
                }
                if partner[step].replace(*place).is_some() {
                    let hand = if swapped { "left" } else { "right" };
                    return Err(QueryError::Execution(format!(
                        "found duplicate series on the {hand} hand-side;many-to-many matching not allowed: matching labels must be unique on one side"
                    )));
                }
            }
        }
        let mut taken = vec![false; steps];
        for place in many {
            let series = &many_side[*place as usize];
            // Of several partners each gives the labels of its own steps.
            let mut made: Vec<(u32, Vec<f64>)> = Vec::new();
            for (step, v) in series.cells.iter().enumerate() {
                let (Some(other), false) = (partner[step], is_gap(*v)) else {
                    continue;
                };
                if side == MatchSide::OneToOne && std::mem::replace(&mut taken[step], true) {
                    return Err(QueryError::Execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".into(),
                    ));
                }
                let w = one_side[other as usize].cells[step];
                let (l, r) = if swapped { (w, *v) } else { (*v, w) };
                let cells = match made.iter().position(|m| m.0 == other) {
                    Some(at) => &mut made[at].1,
                    None => {
                        made.push((other, vec![GAP; steps]));
                        let last = made.len() - 1;
                        &mut made[last].1
                    }
                };
                cells[step] = self.value(l, r, l);
            }
            for (other, cells) in made {
                let labels = self.labels(&series.labels, &one_side[other as usize].labels)?;
                out.push(GridSeries { labels, cells });
            }
        }
        Ok(())
    }

    /// The labels of a result.
    fn labels(&self, many: &Labels, one: &Labels) -> Result<Labels> {
        let Some(m) = self.matching else {
            return Ok(many.clone());
        };
        if m.group == MatchSide::OneToOne {
            return Ok(self.grouping().project(many));
        }
        if m.include.is_empty() {
            return Ok(many.clone());
        }
        let mut builder = lgtm_core::model::LabelBuilder::from_labels(many);
        for name in &m.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        Ok(builder.build()?)
    }
}

/// Adds series. One that has equal labels, and values where the other has none, becomes one with it.
fn add_missing(left: &mut GridVector, right: GridVector) {
    let places = left.iter().enumerate().map(|(n, s)| (s.labels.clone(), n));
    let places: HashMap<Labels, usize> = places.collect();
    for series in right {
        let free = |n: &&usize| {
            let pairs = left[**n].cells.iter().zip(&series.cells);
            pairs.into_iter().all(|(l, r)| is_gap(*l) || is_gap(*r))
        };
        match places.get(&series.labels).filter(free).copied() {
            Some(place) => {
                for (l, r) in left[place].cells.iter_mut().zip(series.cells) {
                    if is_gap(*l) {
                        *l = r;
                    }
                }
            }
            None => left.push(series),
        }
    }
}

fn has_values(series: &GridSeries<Vec<f64>>) -> bool {
    series.cells.iter().any(|v| !is_gap(*v))
}
