//! JSON as Go's encoder writes it, for files that other programs made are to come back byte for byte; and strings of answers that are
//! printed by hand.

use std::fmt::Write;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::error::{DecodeError, Error, Result};

/// `value` indented with tabs, no newline at the end.
///
/// # Errors
/// `Internal` for what JSON cannot hold.
pub fn encode_indented<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(|e| internal(&e))?;
    escape(out)
}

/// `value` without any space.
///
/// # Errors
/// `Internal` for what JSON cannot hold.
pub fn encode_compact<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    escape(serde_json::to_vec(value).map_err(|e| internal(&e))?)
}

/// Go escapes these for the sake of HTML and JavaScript. Outside of strings none of them occurs in JSON.
fn escape(json: Vec<u8>) -> Result<Vec<u8>> {
    const ESCAPES: [(char, &str); 5] = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    let mut text = String::from_utf8(json).map_err(|e| internal(&e))?;
    for (from, to) in ESCAPES {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    Ok(text.into_bytes())
}

fn internal(error: &dyn std::error::Error) -> Error {
    Error::Internal(format!("cannot write JSON: {error}"))
}

/// Reads `what`; the offset of an error is that of its line.
///
/// # Errors
/// For bytes that are no such JSON.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let lines = bytes.split_inclusive(|&b| b == b'\n');
        let before = lines
            .take(e.line().saturating_sub(1))
            .map(<[u8]>::len)
            .sum::<usize>();
        DecodeError::new(what, (before + e.column()) as u64, e.to_string())
    })
}

/// Go writes a nil slice or map as `null`: read it as the empty one. For `serde(deserialize_with)`.
///
/// # Errors
/// Those of the value.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a member that Go marks `omitempty` is left out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends a JSON string: what must be escaped is, and nothing else.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    // Bytes of longer characters are above all of those that need care.
    let needs_care = |b: u8| b < b' ' || b == b'"' || b == b'\\';
    let mut rest = text;
    // Most texts need none: all bytes are looked at, many at a time.
    let is_plain = !text.bytes().fold(false, |any, b| any | needs_care(b));
    while !is_plain && let Some(at) = rest.bytes().position(needs_care) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b => {
                let _ = write!(out, "\\u{b:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_demands_is_escaped() {
        assert_eq!(quoted("a\"\\\n\u{1}ä"), "\"a\\\"\\\\\\n\\u0001ä\"");
        assert_eq!(quoted("\r\t\u{1f}<"), "\"\\r\\t\\u001f<\"");
    }
}
