//! Numbers of the language and how they are computed with.

use std::cmp::Ordering;

use super::ast::ArithmeticOp;
use crate::select::{CompareOp, Literal};

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
}

impl Number {
    pub(crate) fn of(literal: &Literal) -> Option<Self> {
        match literal {
            Literal::Int(v) => Some(Self::Int(*v)),
            Literal::Float(v) => Some(Self::Float(*v)),
            Literal::Duration(v) => Some(Self::Duration(*v)),
            _ => None,
        }
    }

    pub(crate) fn literal(self) -> Literal {
        match self {
            Self::Int(v) => Literal::Int(v),
            Self::Float(v) => Literal::Float(v),
            Self::Duration(v) => Literal::Duration(v),
        }
    }

    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Int(v) | Self::Duration(v) => v as f64,
            Self::Float(v) => v,
        }
    }

    /// Whether it stands so to another one. Integers and durations are compared exactly.
    pub(crate) fn stands(self, op: CompareOp, other: Self) -> bool {
        match (self, other) {
            (Self::Int(a) | Self::Duration(a), Self::Int(b) | Self::Duration(b)) => op.holds(a, b),
            (a, b) => op.holds(a.as_f64(), b.as_f64()),
        }
    }

    pub(crate) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a) | Self::Duration(a), Self::Int(b) | Self::Duration(b)) => a.cmp(&b),
            (a, b) => a.as_f64().total_cmp(&b.as_f64()),
        }
    }

    /// `-self`
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Int(v) => Self::Int(v.wrapping_neg()),
            Self::Float(v) => Self::Float(-v),
            Self::Duration(v) => Self::Duration(v.wrapping_neg()),
        }
    }

    /// `self op other`; `None` for integers divided by zero. A duration stays one where that makes sense and no part of a nanosecond would be lost.
    pub(crate) fn computed(self, op: ArithmeticOp, other: Self) -> Option<Self> {
        use Number::{Duration, Float, Int};
        if let (Int(a), Int(b)) = (self, other) {
            return on_ints(op, a, b);
        }
        if let (Duration(a), Int(b) | Duration(b)) | (Int(a), Duration(b)) = (self, other) {
            match op {
                ArithmeticOp::Add => return Some(Duration(a.wrapping_add(b))),
                ArithmeticOp::Subtract => return Some(Duration(a.wrapping_sub(b))),
                _ => {}
            }
        }
        let result = op.on_floats(self.as_f64(), other.as_f64());
        let keeps_duration = match (self, other, op) {
            (_, _, ArithmeticOp::Power) => false,
            (Duration(_), Duration(_), op) => {
                matches!(op, ArithmeticOp::Modulo | ArithmeticOp::Add)
            }
            (Duration(_), _, _) => true,
            (_, Duration(_), op) => !matches!(op, ArithmeticOp::Divide | ArithmeticOp::Modulo),
            _ => false,
        };
        Some(if keeps_duration && result.fract() == 0.0 {
            Duration(result as i64)
        } else {
            Float(result)
        })
    }
}

fn on_ints(op: ArithmeticOp, a: i64, b: i64) -> Option<Number> {
    Some(Number::Int(match op {
        ArithmeticOp::Add => a.wrapping_add(b),
        ArithmeticOp::Subtract => a.wrapping_sub(b),
        ArithmeticOp::Multiply => a.wrapping_mul(b),
        ArithmeticOp::Divide if b == 0 => return None,
        ArithmeticOp::Divide => a.wrapping_div(b),
        ArithmeticOp::Modulo if b == 0 => return None,
        ArithmeticOp::Modulo => a.wrapping_rem(b),
        ArithmeticOp::Power => {
            let exact = u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
            match exact {
                Some(v) => v,
                None => return Some(Number::Float((a as f64).powf(b as f64))),
            }
        }
    }))
}
