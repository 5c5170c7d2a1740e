//! `print`, `println`, `printf`.

use std::fmt::Write;

use lgtm_core::go::{format_short, quote};

use super::call::Arguments;
use super::value::Value;

type Result = std::result::Result<Value, String>;

/// Widths and precisions beyond it are taken for it.
const MAX_WIDTH: usize = 10_000;

/// Spaces stand between values neither of which is a text.
pub(super) fn print(a: &mut Arguments<'_, '_>) -> Result {
    let values = a.rest();
    let mut out = String::new();
    for (n, v) in values.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::Text(_));
        if n > 0 && !is_text(v) && !is_text(&values[n - 1]) {
            out.push(' ');
        }
        out.push_str(&in_print(v));
        a.room_for(out.len())?;
    }
    Ok(Value::text(out))
}

pub(super) fn println(a: &mut Arguments<'_, '_>) -> Result {
    let mut out = String::new();
    for (n, v) in a.rest().iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        out.push_str(&in_print(v));
        a.room_for(out.len())?;
    }
    out.push('\n');
    Ok(Value::text(out))
}

fn in_print(v: &Value) -> std::borrow::Cow<'_, str> {
    match v {
        Value::Nil => "<nil>".into(),
        v => v.shown(),
    }
}

/// Flags, width and precision of a verb.
#[derive(Debug, Default, Clone, Copy)]
struct Form {
    left: bool,
    plus: bool,
    zero: bool,
    sharp: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn printf(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let format = a.text()?;
    let values = a.rest();
    let mut next = 0;
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        a.room_for(out.len())?;
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut form = Form::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => form.left = true,
                '+' => form.plus = true,
                '0' => form.zero = true,
                '#' => form.sharp = true,
                ' ' => form.space = true,
                _ => break,
            }
            chars.next();
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| {
            if chars.next_if_eq(&'*').is_some() {
                let value = values.get(*next);
                *next += 1;
                return match value {
                    Some(Value::Int(n)) => Some(*n),
                    _ => None,
                };
            }
            let mut n = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = Some((n.unwrap_or(0i64) * 10 + i64::from(digit)).min(MAX_WIDTH as i64));
                chars.next();
            }
            n
        };
        let bounded = |n: i64| {
            usize::try_from(n.unsigned_abs())
                .unwrap_or(MAX_WIDTH)
                .min(MAX_WIDTH)
        };
        if let Some(width) = number(&mut chars, &mut next) {
            form.left |= width < 0;
            form.width = bounded(width);
        }
        if chars.next_if_eq(&'.').is_some() {
            form.precision = Some(bounded(number(&mut chars, &mut next).unwrap_or(0)));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.get(next) else {
            let _ = write!(out, "%!{verb}(MISSING)");
            continue;
        };
        next += 1;
        write_verb(&mut out, verb, form, value);
    }
    if next < values.len() {
        out.push_str("%!(EXTRA ");
        for (n, v) in values[next..].iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            let _ = write!(out, "{comma}{}={}", v.kind(), in_print(v));
        }
        out.push(')');
    }
    a.room_for(out.len())?;
    Ok(Value::text(out))
}

fn write_verb(out: &mut String, verb: char, form: Form, value: &Value) {
    let text = match (verb, value) {
        ('v' | 's', Value::Text(t)) => cut(t, form),
        ('v', Value::Int(n)) => whole(&n.unsigned_abs().to_string(), *n < 0, form),
        ('v' | 'g' | 'G', Value::Float(v)) => {
            let shown = format_short(v.abs());
            signed(&shown, v.is_sign_negative(), form)
        }
        ('v', v) => in_print(v).into_owned(),
        ('s', Value::List(_) | Value::Map(_) | Value::Time(_) | Value::Labels) => {
            value.shown().into_owned()
        }
        ('d', Value::Int(n)) => whole(&n.unsigned_abs().to_string(), *n < 0, form),
        ('x', Value::Int(n)) => {
            let prefix = if form.sharp { "0x" } else { "" };
            whole(&format!("{prefix}{:x}", n.unsigned_abs()), *n < 0, form)
        }
        ('X', Value::Int(n)) => {
            let prefix = if form.sharp { "0X" } else { "" };
            whole(&format!("{prefix}{:X}", n.unsigned_abs()), *n < 0, form)
        }
        ('o', Value::Int(n)) => whole(&format!("{:o}", n.unsigned_abs()), *n < 0, form),
        ('b', Value::Int(n)) => whole(&format!("{:b}", n.unsigned_abs()), *n < 0, form),
        ('c', Value::Int(n)) => {
            let c = u32::try_from(*n).ok().and_then(char::from_u32);
            c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('q', Value::Text(t)) => quote(&cut(t, form)),
        ('q', Value::Int(n)) => {
            let c = u32::try_from(*n).ok().and_then(char::from_u32);
            lgtm_core::go::quote_char(c)
        }
        ('U', Value::Int(n)) => format!("U+{n:04X}"),
        ('x', Value::Text(t)) => t.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Text(t)) => t.bytes().map(|b| format!("{b:02X}")).collect(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('f' | 'F', Value::Float(v)) if v.is_finite() => {
            let digits = form.precision.unwrap_or(6);
            signed(&format!("{:.digits$}", v.abs()), v.is_sign_negative(), form)
        }
        ('f' | 'F' | 'e' | 'E', Value::Float(v)) if !v.is_finite() => value.shown().into_owned(),
        ('e' | 'E', Value::Float(v)) => {
            let digits = form.precision.unwrap_or(6);
            let text = format!("{:.digits$e}", v.abs());
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(e) => ('-', e),
                None => ('+', exponent),
            };
            let mark = if verb == 'e' { 'e' } else { 'E' };
            let shown = format!("{mantissa}{mark}{sign}{exponent:0>2}");
            signed(&shown, v.is_sign_negative(), form)
        }
        ('T', v) => v.kind().to_owned(),
        (verb, Value::Nil) => format!("%!{verb}(<nil>)"),
        (verb, v) => format!("%!{verb}({}={})", v.kind(), v.shown()),
    };
    let pads = form.width.saturating_sub(text.chars().count());
    let zeros = form.zero
        && !form.left
        && matches!(value, Value::Int(_) | Value::Float(_) | Value::Text(_));
    if form.left {
        out.push_str(&text);
        out.extend(std::iter::repeat_n(' ', pads));
    } else if zeros {
        let sign = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
        let sign = if matches!(value, Value::Text(_)) {
            0
        } else {
            sign
        };
        out.push_str(&text[..sign]);
        out.extend(std::iter::repeat_n('0', pads));
        out.push_str(&text[sign..]);
    } else {
        out.extend(std::iter::repeat_n(' ', pads));
        out.push_str(&text);
    }
}

fn cut(text: &str, form: Form) -> String {
    match form.precision {
        Some(n) => text.chars().take(n).collect(),
        None => text.to_owned(),
    }
}

fn signed(digits: &str, negative: bool, form: Form) -> String {
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let sign = match (negative, form.plus, form.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    format!("{sign}{digits}")
}

fn whole(digits: &str, negative: bool, form: Form) -> String {
    let zeros = form.precision.unwrap_or(0).saturating_sub(digits.len());
    signed(&format!("{}{digits}", "0".repeat(zeros)), negative, form)
}
