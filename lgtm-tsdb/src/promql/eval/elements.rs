//! Operators between two values.

use std::sync::Arc;

use lgtm_core::model::{CounterResetHint, FloatHistogram};

use super::cells::Element;
use crate::promql::annotations::{Annotations, Note, Operation};
use crate::promql::ast::BinaryOp;
use crate::promql::histogram::{self, Keep};

/// What came out of an operator.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A value.
    Value(Element),
    /// A comparison that does not hold.
    Filtered,
    /// The two cannot be computed with each other; the reason is noted.
    Failed,
}

/// A float from two, for operators that give one.
pub(super) fn arithmetic(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Atan2 => f64::atan2,
        _ => return None,
    })
}

/// Whether two floats compare as an operator says.
pub(super) fn comparison(op: BinaryOp) -> Option<fn(&f64, &f64) -> bool> {
    Some(match op {
        BinaryOp::Equal => |a, b| a == b,
        BinaryOp::NotEqual => |a, b| a != b,
        BinaryOp::Greater => |a, b| a > b,
        BinaryOp::Less => |a, b| a < b,
        BinaryOp::GreaterEqual => |a, b| a >= b,
        BinaryOp::LessEqual => |a, b| a <= b,
        _ => return None,
    })
}

/// Whether what comes out of an operator is another thing than what went in, and so loses the metric's name.
pub(super) fn changes_meaning(op: BinaryOp) -> bool {
    arithmetic(op).is_some()
}

/// Applies an operator; a comparison that holds gives the left value.
pub(super) fn combine(
    op: BinaryOp,
    lhs: &Element,
    rhs: &Element,
    pos: usize,
    notes: &mut Annotations,
) -> Outcome {
    use Element::{Float, Histogram};
    let word = |e: &Element| match e {
        Float(_) => "float",
        Histogram(_) => "histogram",
    };
    match (lhs, rhs) {
        (Float(a), Float(b)) => {
            if let Some(f) = arithmetic(op) {
                return Outcome::Value(Float(f(*a, *b)));
            }
            if let Some(holds) = comparison(op) {
                return if holds(a, b) {
                    Outcome::Value(Float(*a))
                } else {
                    Outcome::Filtered
                };
            }
        }
        (Float(a), Histogram(h)) | (Histogram(h), Float(a)) if op == BinaryOp::Mul => {
            return scaled(h, |h| histogram::multiply(h, *a));
        }
        (Histogram(h), Float(b)) => match op {
            BinaryOp::Div => return scaled(h, |h| histogram::divide(h, *b)),
            BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                let keep = if op == BinaryOp::TrimUpper {
                    Keep::Below
                } else {
                    Keep::Above
                };
                return Outcome::Value(Histogram(Arc::new(histogram::trim(h, *b, keep))));
            }
            _ => {}
        },
        (Histogram(a), Histogram(b)) => {
            if let Some(outcome) = of_histograms(op, a, b, pos, notes) {
                return outcome;
            }
        }
        (Float(_), Histogram(_)) => {}
    }
    let types = Note::IncompatibleTypes {
        lhs: word(lhs),
        op: op.name(),
        rhs: word(rhs),
    };
    notes.add(types, pos);
    Outcome::Failed
}

fn scaled(h: &FloatHistogram, scale: impl FnOnce(&mut FloatHistogram)) -> Outcome {
    let mut out = h.clone();
    scale(&mut out);
    histogram::compact(&mut out);
    Outcome::Value(Element::Histogram(Arc::new(out)))
}

fn of_histograms(
    op: BinaryOp,
    a: &Arc<FloatHistogram>,
    b: &FloatHistogram,
    pos: usize,
    notes: &mut Annotations,
) -> Option<Outcome> {
    let add = match op {
        BinaryOp::Equal | BinaryOp::NotEqual => {
            return Some(if histogram::equals(a, b) == (op == BinaryOp::Equal) {
                Outcome::Value(Element::Histogram(Arc::clone(a)))
            } else {
                Outcome::Filtered
            });
        }
        BinaryOp::Add => true,
        BinaryOp::Sub => false,
        _ => return None,
    };
    let mut out = (**a).clone();
    let (merged, operation) = if add {
        (histogram::add(&mut out, b), Operation::Addition)
    } else {
        (histogram::subtract(&mut out, b), Operation::Subtraction)
    };
    let Ok(merged) = merged else {
        notes.add(Note::IncompatibleBucketLayout { op: op.name() }, pos);
        return Some(Outcome::Failed);
    };
    if !add {
        out.hint = CounterResetHint::Gauge;
    }
    if merged.bounds_reconciled {
        notes.add(Note::BoundsReconciled(operation), pos);
    }
    if merged.hints_collide {
        notes.add(Note::HintCollision(operation), pos);
    }
    histogram::compact(&mut out);
    Some(Outcome::Value(Element::Histogram(Arc::new(out))))
}
