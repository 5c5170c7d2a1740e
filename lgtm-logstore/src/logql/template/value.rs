//! Values of templates, and how they print.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use lgtm_core::go::format_short;

use super::dates::Moment;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// No value: a missing key of a JSON object, JSON's null.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<[Value]>),
    Map(Rc<BTreeMap<String, Value>>),
    Time(Moment),
    /// The labels of the entry.
    Labels,
}

impl Value {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether `if` takes it for true.
    pub(super) fn is_true(&self, has_labels: bool) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(v) => *v != 0.0,
            Self::Text(t) => !t.is_empty(),
            Self::List(l) => !l.is_empty(),
            Self::Map(m) => !m.is_empty(),
            Self::Time(_) => true,
            Self::Labels => has_labels,
        }
    }

    /// The Go type's name, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Time(_) => "time.Time",
            Self::Labels => "map[string]string",
        }
    }

    /// As `fmt.Print` writes it, for what is no map of labels.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(t) => Cow::Borrowed(t),
            other => {
                let mut out = String::new();
                other.write(&mut out, true);
                Cow::Owned(out)
            }
        }
    }

    fn write(&self, out: &mut String, is_outermost: bool) {
        match self {
            Self::Nil if is_outermost => out.push_str("<no value>"),
            Self::Nil => out.push_str("<nil>"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(n) => out.push_str(&n.to_string()),
            Self::Float(v) => out.push_str(&format_short(*v)),
            Self::Text(t) => out.push_str(t),
            Self::List(l) => {
                out.push('[');
                for (n, v) in l.iter().enumerate() {
                    if n > 0 {
                        out.push(' ');
                    }
                    v.write(out, false);
                }
                out.push(']');
            }
            Self::Map(m) => {
                out.push_str("map[");
                for (n, (k, v)) in m.iter().enumerate() {
                    if n > 0 {
                        out.push(' ');
                    }
                    out.push_str(k);
                    out.push(':');
                    v.write(out, false);
                }
                out.push(']');
            }
            Self::Time(t) => out.push_str(&t.shown()),
            Self::Labels => out.push_str("map[]"),
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(b) => Self::Bool(b),
            serde_json::Value::Number(n) => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(s) => Self::text(s),
            serde_json::Value::Array(a) => Self::List(a.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(o) => {
                let entries = o.into_iter().map(|(k, v)| (k, Self::from(v)));
                Self::Map(Rc::new(entries.collect()))
            }
        }
    }
}
