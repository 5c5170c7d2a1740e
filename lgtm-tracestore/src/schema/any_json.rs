//! Values that have no column, as the JSON of protobuf that blocks keep of them: `{"kvlistValue":{"values":[...]}}`.
//!
//! 64-bit integers are texts and bytes are base64 there, as protobuf's JSON mapping has it. Texts are bytes with us; what is not UTF-8 in
//! them becomes U+FFFD, since JSON cannot hold it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::codec::{Allowance, DecodeFail, SizeBound};
use lgtm_core::error::DecodeError;
use lgtm_core::go::json::push_quoted;
use lgtm_core::otlp::json_to_protobuf;
use lgtm_core::otlp::schema::ANY_VALUE;

use crate::trace::{Attribute, Value, Values};

/// Lists in lists that are written; what lies deeper is left out. Readers of JSON, ours too, stop at 128 brackets, of which a map takes four.
const MAX_DEPTH: usize = 30;

/// Appends an `AnyValue` as JSON. Where the bytes of a list break off, the list ends.
pub(crate) fn push_json(out: &mut String, value: &Value<'_>) {
    push_value(out, value, 0);
}

/// An `AnyValue` as protobuf out of JSON, in place of what is in `out`. `scratch` is memory that is used meanwhile.
///
/// # Errors
/// `InvalidInput` for JSON that is none; what `allowance` refuses.
pub(crate) fn parse_json(
    json: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    out.clear();
    let bound = SizeBound::new(json.len().saturating_mul(8).saturating_add(64));
    json_to_protobuf(&ANY_VALUE, json, bound, scratch, allowance)?;
    // What comes of JSON has longer lengths than it needs. With the shortest, equal values are equal bytes.
    push_shortest(out, &Value::decode(scratch)?)?;
    Ok(())
}

fn push_shortest(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), DecodeError> {
    let mut inner = Vec::new();
    let mut one = Vec::new();
    match *value {
        Value::List(list) => {
            for value in Values::new(list) {
                one.clear();
                push_shortest(&mut one, &value?)?;
                put_bytes_field(&mut inner, 1, &one);
            }
            Value::List(&inner).encode(out);
        }
        Value::Map(map) => {
            for entry in Attribute::in_map(map) {
                let Attribute { key, value } = entry?;
                one.clear();
                push_shortest(&mut one, &value)?;
                put_message(&mut inner, 1, |out| {
                    if !key.is_empty() {
                        put_bytes_field(out, 1, key);
                    }
                    put_bytes_field(out, 2, &one);
                });
            }
            Value::Map(&inner).encode(out);
        }
        value => value.encode(out),
    }
    Ok(())
}

fn push_value(out: &mut String, value: &Value<'_>, depth: usize) {
    out.push('{');
    match *value {
        Value::Empty => {}
        Value::Text(text) => {
            out.push_str("\"stringValue\":");
            push_quoted(out, &String::from_utf8_lossy(text));
        }
        Value::Bool(v) => {
            let _ = write!(out, "\"boolValue\":{v}");
        }
        Value::Int(v) => {
            let _ = write!(out, "\"intValue\":\"{v}\"");
        }
        Value::Double(v) => {
            out.push_str("\"doubleValue\":");
            push_double(out, v);
        }
        Value::Bytes(bytes) => {
            out.push_str("\"bytesValue\":\"");
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
        Value::List(list) => {
            out.push_str("\"arrayValue\":{");
            if depth < MAX_DEPTH {
                let values = Values::new(list).map_while(|v| v.ok());
                push_list(out, values, |out, v| push_value(out, &v, depth + 1));
            }
            out.push('}');
        }
        Value::Map(map) => {
            out.push_str("\"kvlistValue\":{");
            if depth < MAX_DEPTH {
                let entries = Attribute::in_map(map).map_while(|e| e.ok());
                push_list(out, entries, |out, e| push_entry(out, &e, depth + 1));
            }
            out.push('}');
        }
    }
    out.push('}');
}

fn push_entry(out: &mut String, entry: &Attribute<'_>, depth: usize) {
    out.push('{');
    if !entry.key.is_empty() {
        out.push_str("\"key\":");
        push_quoted(out, &String::from_utf8_lossy(entry.key));
        out.push(',');
    }
    out.push_str("\"value\":");
    push_value(out, &entry.value, depth);
    out.push('}');
}

/// Appends `"values":[..]`, or nothing where there is none.
fn push_list<T>(
    out: &mut String,
    values: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    let mut any = false;
    for value in values {
        out.push_str(if any { "," } else { "\"values\":[" });
        any = true;
        push(out, value);
    }
    if any {
        out.push(']');
    }
}

/// A float: what JSON has no number for is a text.
fn push_double(out: &mut String, v: f64) {
    if v.is_nan() {
        out.push_str("\"NaN\"");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    } else {
        lgtm_core::go::push_json_float(out, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Value;

    fn json(value: &Value<'_>) -> String {
        let mut out = String::new();
        push_json(&mut out, value);
        out
    }

    fn back(json: &str) -> Vec<u8> {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let mut out = Vec::new();
        let mut scratch = Vec::new();
        parse_json(json.as_bytes(), &mut out, &mut scratch, &mut allowance).unwrap();
        out
    }

    fn encoded(value: &Value<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    fn list(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            lgtm_core::codec::protobuf::put_message(&mut out, 1, |out| value.encode(out));
        }
        out
    }

    #[test]
    fn values_of_all_shapes_come_back() {
        let inner = list(&[Value::Int(i64::MIN), Value::Double(0.5), Value::Bool(false)]);
        let mut map = Vec::new();
        let entry = Attribute {
            key: b"k\"\n",
            value: Value::List(&inner),
        };
        lgtm_core::codec::protobuf::put_message(&mut map, 1, |out| entry.encode(out));
        let mixed = list(&[
            Value::Map(&map),
            Value::Text("ä<".as_bytes()),
            Value::Bytes(&[0, 1, 254, 255]),
            Value::Double(f64::INFINITY),
            Value::Double(1e300),
            Value::Empty,
            Value::List(&[]),
        ]);
        let value = Value::List(&mixed);
        assert_eq!(back(&json(&value)), encoded(&value));
        let text = json(&Value::Bytes(&[0, 1, 254, 255]));
        assert_eq!(text, r#"{"bytesValue":"AAH+/w=="}"#);
        assert_eq!(json(&Value::List(&[])), r#"{"arrayValue":{}}"#);
    }

    #[test]
    fn lists_in_lists_without_end_end() {
        let mut list = Vec::new();
        for _ in 0..10_000 {
            let mut outer = Vec::new();
            lgtm_core::codec::protobuf::put_message(&mut outer, 1, |out| {
                Value::List(&list).encode(out);
            });
            list = outer;
        }
        let text = json(&Value::List(&list));
        assert_eq!(text.matches("arrayValue").count(), MAX_DEPTH + 1);
        back(&text);
    }

    #[test]
    fn a_list_that_breaks_off_ends_there() {
        let mut broken = list(&[Value::Int(1)]);
        broken.extend([10, 200]);
        assert_eq!(
            json(&Value::List(&broken)),
            r#"{"arrayValue":{"values":[{"intValue":"1"}]}}"#
        );
    }
}
