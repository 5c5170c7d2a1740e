//! Operators between two numbers.

use super::ast::BinaryOp;

/// What an operator gives for two numbers; `None` where a comparison does not hold. Division by zero is NaN, never infinite.
pub(super) fn apply(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div if right == 0.0 => f64::NAN,
        BinaryOp::Div => left / right,
        BinaryOp::Mod if right == 0.0 => f64::NAN,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Compare(op) => return op.holds(&left, &right).then_some(left),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => return None,
    })
}

/// What it gives for two numbers of the query itself: a comparison gives 0 or 1.
pub(super) fn fold(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Compare(op) => f64::from(u8::from(op.holds(&left, &right))),
        op => apply(op, left, right).unwrap_or(f64::NAN),
    }
}
