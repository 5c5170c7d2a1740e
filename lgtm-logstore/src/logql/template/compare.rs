//! Comparisons.

use std::cmp::Ordering;

use super::call::Arguments;
use super::value::Value;

type Result<T = Value> = std::result::Result<T, String>;

const INCOMPATIBLE: &str = "incompatible types for comparison";

fn are_equal(left: &Value, right: &Value) -> Result<bool> {
    Ok(match (left, right) {
        (Value::Nil, other) | (other, Value::Nil) => *other == Value::Nil,
        (Value::List(_) | Value::Map(_) | Value::Labels, _) => {
            return Err(format!("non-comparable type {}", left.kind()));
        }
        (l, r) if l.kind() == r.kind() => l == r,
        _ => return Err(INCOMPATIBLE.to_owned()),
    })
}

fn is_less(left: &Value, right: &Value) -> Result<bool> {
    let order = match (left, right) {
        (Value::Int(l), Value::Int(r)) => Some(l.cmp(r)),
        (Value::Float(l), Value::Float(r)) => l.partial_cmp(r),
        (Value::Text(l), Value::Text(r)) => Some(l.cmp(r)),
        (Value::Int(_) | Value::Float(_) | Value::Text(_), _) => {
            return Err(INCOMPATIBLE.to_owned());
        }
        _ => return Err("invalid type for comparison".to_owned()),
    };
    Ok(order == Some(Ordering::Less))
}

/// Whether the first equals any of the others.
pub(super) fn eq(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(2)
        .map_err(|_| "missing argument for comparison".to_owned())?;
    let first = a.any();
    for other in a.rest() {
        if are_equal(&first, &other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn two(a: &mut Arguments<'_, '_>, holds: fn(&Value, &Value) -> Result<bool>) -> Result {
    a.exactly(2)?;
    let (left, right) = (a.any(), a.any());
    holds(&left, &right).map(Value::Bool)
}

pub(super) fn ne(a: &mut Arguments<'_, '_>) -> Result {
    two(a, |l, r| are_equal(l, r).map(|e| !e))
}

pub(super) fn lt(a: &mut Arguments<'_, '_>) -> Result {
    two(a, is_less)
}

pub(super) fn le(a: &mut Arguments<'_, '_>) -> Result {
    two(a, |l, r| Ok(is_less(l, r)? || are_equal(l, r)?))
}

pub(super) fn gt(a: &mut Arguments<'_, '_>) -> Result {
    two(a, |l, r| Ok(!(is_less(l, r)? || are_equal(l, r)?)))
}

pub(super) fn ge(a: &mut Arguments<'_, '_>) -> Result {
    two(a, |l, r| Ok(!is_less(l, r)?))
}
