//! Functions of Go's template package, and those on any value.

use std::rc::Rc;

use super::call::Arguments;
use super::value::Value;

type Result = std::result::Result<Value, String>;

pub(super) fn not(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::Bool(!a.any().is_true(true)))
}

pub(super) fn len(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let len = match a.any() {
        Value::Text(t) => t.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.len(),
        Value::Labels => a.fields().sorted().len(),
        other => return Err(format!("len of type {}", other.kind())),
    };
    Ok(Value::Int(len as i64))
}

pub(super) fn index(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let mut value = a.any();
    for key in a.rest() {
        value = match (&value, &key) {
            (Value::Map(map), Value::Text(key)) => map.get(&**key).cloned().unwrap_or(Value::Nil),
            (Value::Labels, Value::Text(key)) => Value::text(a.fields().get(key).unwrap_or("")),
            (Value::List(list), Value::Int(n)) => {
                let at = usize::try_from(*n).ok().and_then(|n| list.get(n));
                at.cloned().ok_or_else(|| out_of_range(*n))?
            }
            (Value::Text(text), Value::Int(n)) => {
                let at = usize::try_from(*n)
                    .ok()
                    .and_then(|n| text.as_bytes().get(n));
                Value::Int(i64::from(*at.ok_or_else(|| out_of_range(*n))?))
            }
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (Value::Map(_) | Value::Labels, key) => {
                return Err(format!("value has type {}; should be string", key.kind()));
            }
            (Value::List(_) | Value::Text(_), key) => {
                return Err(format!("cannot index slice/array with type {}", key.kind()));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.kind())),
        };
    }
    Ok(value)
}

fn out_of_range(n: i64) -> String {
    format!("index out of range: {n}")
}

pub(super) fn slice(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let value = a.any();
    let len = match &value {
        Value::Text(t) => t.len(),
        Value::List(l) => l.len(),
        other => return Err(format!("can't slice item of type {}", other.kind())),
    };
    if a.len() > 2 {
        return Err("too many slice indexes: 3".to_owned());
    }
    let mut bounds = [0, len];
    for (n, bound) in a.rest().into_iter().enumerate() {
        let Value::Int(at) = bound else {
            return Err(format!(
                "cannot index slice/array with type {}",
                bound.kind()
            ));
        };
        bounds[n] = usize::try_from(at)
            .ok()
            .filter(|at| *at <= len)
            .ok_or_else(|| out_of_range(at))?;
    }
    let [from, to] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Text(t) => {
            Value::text(String::from_utf8_lossy(&t.as_bytes()[from..to]).into_owned())
        }
        Value::List(l) => Value::List(Rc::from(&l[from..to])),
        other => other,
    })
}

/// There are no values that are functions.
pub(super) fn call(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let value = a.any();
    Err(match value {
        Value::Nil => "call of nil".to_owned(),
        other => format!("non-function of type {}", other.kind()),
    })
}

fn all_shown(a: &mut Arguments<'_, '_>) -> String {
    let values = a.rest();
    values.iter().map(|v| v.shown().into_owned()).collect()
}

pub(super) fn html(a: &mut Arguments<'_, '_>) -> Result {
    let text = all_shown(a);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    Ok(Value::text(out))
}

pub(super) fn js(a: &mut Arguments<'_, '_>) -> Result {
    let text = all_shown(a);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(Value::text(out))
}

/// `default x value`: the value, or `x` if it is empty.
pub(super) fn default(a: &mut Arguments<'_, '_>) -> Result {
    a.at_least(1)?;
    let fallback = a.any();
    let value = a.any();
    Ok(if value.is_true(true) { value } else { fallback })
}

pub(super) fn from_json(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let text = a.text()?;
    let json = serde_json::from_str::<serde_json::Value>(&text);
    Ok(json.map_or(Value::Nil, Value::from))
}
