//! Arithmetic.

use super::call::Arguments;
use super::value::Value;
use crate::logql::units::{parse_bytes, parse_float, parse_go_duration};

type Result = std::result::Result<Value, String>;

/// A whole number out of anything: 0 if it is none; decimals are cut off.
fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Float(v) => *v as i64,
        Value::Bool(b) => i64::from(*b),
        Value::Text(t) => text_to_int(t),
        _ => 0,
    }
}

fn text_to_int(text: &str) -> i64 {
    let (negative, plain) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    // Decimals are cut off where there are digits alone.
    let plain = match plain.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) => whole,
        _ => plain,
    };
    let prefixed = |prefix: &str, radix| {
        let digits = plain.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let value = prefixed("0x", 16)
        .or_else(|| prefixed("0X", 16))
        .or_else(|| prefixed("0b", 2))
        .or_else(|| prefixed("0o", 8))
        .or_else(|| prefixed("0", 8))
        .or_else(|| {
            if plain.starts_with('0') {
                None
            } else {
                plain.parse().ok()
            }
        });
    let value = value.unwrap_or(0);
    if negative { -value } else { value }
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(n) => *n as f64,
        Value::Float(v) => *v,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Text(t) => parse_float(t).unwrap_or(0.0),
        _ => 0.0,
    }
}

pub(super) fn int(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::Int(to_int(&a.any())))
}

pub(super) fn float64(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::Float(to_float(&a.any())))
}

fn fold_int(a: &mut Arguments<'_, '_>, start: Option<i64>, op: fn(i64, i64) -> i64) -> Result {
    let values = a.rest();
    let mut ints = values.iter().map(to_int);
    let first = match start {
        Some(start) => start,
        None => ints.next().unwrap_or(0),
    };
    Ok(Value::Int(ints.fold(first, op)))
}

pub(super) fn add(a: &mut Arguments<'_, '_>) -> Result {
    fold_int(a, Some(0), i64::wrapping_add)
}

pub(super) fn mul(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_int(a, Some(1), i64::wrapping_mul)
}

pub(super) fn max(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_int(a, None, i64::max)
}

pub(super) fn min(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_int(a, None, i64::min)
}

pub(super) fn sub(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    fold_int(a, None, i64::wrapping_sub)
}

fn divided(a: &mut Arguments<'_, '_>, op: fn(i64, i64) -> i64) -> Result {
    a.exactly(2)?;
    let (left, right) = (to_int(&a.any()), to_int(&a.any()));
    match right {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        right => Ok(Value::Int(op(left, right))),
    }
}

pub(super) fn div(a: &mut Arguments<'_, '_>) -> Result {
    divided(a, i64::wrapping_div)
}

pub(super) fn modulo(a: &mut Arguments<'_, '_>) -> Result {
    divided(a, i64::wrapping_rem)
}

fn fold_float(a: &mut Arguments<'_, '_>, start: Option<f64>, op: fn(f64, f64) -> f64) -> Result {
    let values = a.rest();
    let mut floats = values.iter().map(to_float);
    let first = match start {
        Some(start) => start,
        None => floats.next().unwrap_or(0.0),
    };
    Ok(Value::Float(floats.fold(first, op)))
}

pub(super) fn addf(a: &mut Arguments<'_, '_>) -> Result {
    fold_float(a, Some(0.0), |l, r| l + r)
}

pub(super) fn subf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_float(a, None, |l, r| l - r)
}

pub(super) fn mulf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_float(a, Some(1.0), |l, r| l * r)
}

pub(super) fn divf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let values = a.rest();
    if values.iter().skip(1).any(|v| to_float(v) == 0.0) {
        return Err("division by 0".to_owned());
    }
    let mut floats = values.iter().map(to_float);
    let first = floats.next().unwrap_or(0.0);
    Ok(Value::Float(floats.fold(first, |l, r| l / r)))
}

pub(super) fn maxf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_float(a, None, f64::max)
}

pub(super) fn minf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    fold_float(a, None, f64::min)
}

pub(super) fn ceil(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::Float(to_float(&a.any()).ceil()))
}

pub(super) fn floor(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::Float(to_float(&a.any()).floor()))
}

/// `round value places`: halves go away from zero.
pub(super) fn round(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(2)?;
    let value = to_float(&a.any());
    let scale = 10f64.powi(to_int(&a.any()).clamp(-400, 400) as i32);
    let scaled = value * scale;
    let rounded = scaled.trunc()
        + if scaled.fract().abs() >= 0.5 {
            scaled.signum()
        } else {
            0.0
        };
    Ok(Value::Float(rounded / scale))
}

pub(super) fn bytes(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let text = a.text()?;
    parse_bytes(&text).map(|b| Value::Float(b as f64))
}

pub(super) fn duration_seconds(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let text = a.text()?;
    parse_go_duration(&text).map(|ns| Value::Float(ns as f64 / 1e9))
}
