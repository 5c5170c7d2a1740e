//! The json parser with expressions: `a="x.y[0]"`.

use lgtm_core::go::quote;

use super::json::ParseScratch;
use super::json_scan::{JsonFault, JsonScanner, JsonValue, push_unescaped};
use super::parse_target::{Offer, ParseTarget};
use crate::logql::ast::FieldPath;

/// A label and where its value stands.
#[derive(Debug, Clone)]
pub(crate) struct JsonPath {
    label: String,
    parts: Vec<PathPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathPart {
    Key(String),
    Index(usize),
}

impl JsonPath {
    /// # Errors
    /// For an expression that is none.
    pub(crate) fn new(field: &FieldPath) -> Result<Self, String> {
        let parts = parts(&field.path)
            .map_err(|why| format!("cannot parse expression [{}]: {why}", field.path))?;
        Ok(Self {
            label: field.label.clone(),
            parts,
        })
    }
}

/// Reads `x.y[0]["z"]`.
fn parts(path: &str) -> Result<Vec<PathPart>, String> {
    let mut out = Vec::new();
    let mut rest = path.trim_start();
    loop {
        let after_dot = match rest.strip_prefix('.') {
            Some(after) if !out.is_empty() => Some(after),
            _ => None,
        };
        if let Some(inside) = rest.strip_prefix('[') {
            let inside = inside.trim_start();
            let (part, after) = bracketed(inside)?;
            out.push(part);
            rest = after;
        } else if out.is_empty() || after_dot.is_some() {
            let text = after_dot.unwrap_or(rest).trim_start();
            let len = text
                .find(|c: char| c != '_' && !c.is_alphanumeric())
                .unwrap_or(text.len());
            if len == 0 {
                return Err(match text.chars().next() {
                    None => "syntax error: unexpected $end, expecting LSB or FIELD".to_owned(),
                    Some(c) => format!("unexpected char {c}"),
                });
            }
            out.push(PathPart::Key(text[..len].to_owned()));
            rest = &text[len..];
        } else {
            return match rest.trim().chars().next() {
                None => Ok(out),
                Some(c) => Err(format!("unexpected char {c}")),
            };
        }
    }
}

fn bracketed(inside: &str) -> Result<(PathPart, &str), String> {
    let close = |rest: &'_ str| -> Result<usize, String> {
        let trimmed = rest.trim_start();
        match trimmed.strip_prefix(']') {
            Some(after) => Ok(rest.len() - after.len()),
            None => Err("syntax error: unexpected $end, expecting RSB".to_owned()),
        }
    };
    if let Some(text) = inside.strip_prefix('"') {
        let end = text
            .find('"')
            .ok_or("syntax error: unexpected $end, expecting STRING or INDEX")?;
        let rest = &text[end + 1..];
        let part = PathPart::Key(text[..end].to_owned());
        return Ok((part, &rest[close(rest)?..]));
    }
    let digits = inside.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(match inside.chars().next() {
            None => "syntax error: unexpected $end, expecting STRING or INDEX".to_owned(),
            Some(c) => format!("unexpected char {c}"),
        });
    }
    let index = inside[..digits]
        .parse()
        .map_err(|_| format!("index {} is too large", quote(&inside[..digits])))?;
    let rest = &inside[digits..];
    Ok((PathPart::Index(index), &rest[close(rest)?..]))
}

/// Makes labels of what stands at the paths. False: the entry cannot pass.
pub(super) fn parse_json_paths(
    line: &[u8],
    paths: &[JsonPath],
    target: &mut ParseTarget<'_>,
    scratch: &mut ParseScratch,
) -> bool {
    let Some(first) = line.first() else {
        return true;
    };
    if target.needed.is_none() {
        return true;
    }
    if !matches!(first, b'{' | b'[' | b'"') {
        target.fail("JSONParserErr", super::json_scan::OBJECT_WITHOUT_END);
        return true;
    }
    for path in paths {
        if !target.wants(&path.label) {
            continue;
        }
        scratch.text.clear();
        // What is broken behind the place does not matter; what is not found is empty.
        let found = find(JsonScanner::new(line), &path.parts, &mut scratch.text);
        let offer = match found {
            Ok(true) => target.set(&scratch.text),
            _ if target.labels.has_parsed(target.name) => Offer::Continue,
            _ => target.set(""),
        };
        match offer {
            Offer::Refused => return false,
            Offer::Enough => return true,
            Offer::Continue => {}
        }
    }
    true
}

/// Appends the text at a path; false if nothing stands there.
fn find(
    mut scanner: JsonScanner<'_>,
    parts: &[PathPart],
    out: &mut String,
) -> Result<bool, JsonFault> {
    let mut parts = parts.iter();
    let mut value = None;
    while let Some(part) = parts.next() {
        let found = match part {
            PathPart::Key(key) => find_key(&mut scanner, key)?,
            PathPart::Index(index) => find_index(&mut scanner, *index)?,
        };
        match found {
            None => return Ok(false),
            Some(JsonValue::Object(range)) => {
                scanner = scanner.inside(&range);
                value = Some(JsonValue::Object(range));
            }
            Some(JsonValue::Array(range)) => {
                scanner = scanner.inside(&range);
                value = Some(JsonValue::Array(range));
            }
            Some(other) if parts.len() == 0 => value = Some(other),
            Some(_) => return Ok(false),
        }
    }
    match value {
        None | Some(JsonValue::Null) => return Ok(false),
        Some(JsonValue::Text {
            range,
            has_escapes: true,
        })
        | Some(JsonValue::Array(range)) => {
            push_unescaped(out, scanner.bytes(&range), ' ')?;
        }
        Some(
            JsonValue::Text { range, .. } | JsonValue::Object(range) | JsonValue::Plain(range),
        ) => {
            let raw = scanner.bytes(&range);
            for chunk in raw.utf8_chunks() {
                out.push_str(chunk.valid());
                if !chunk.invalid().is_empty() {
                    out.push(' ');
                }
            }
        }
    }
    Ok(true)
}

fn find_key(scanner: &mut JsonScanner<'_>, wanted: &str) -> Result<Option<JsonValue>, JsonFault> {
    if !scanner.enter(b'{') {
        return Ok(None);
    }
    while let Some((key, has_escapes)) = scanner.key()? {
        let raw = scanner.bytes(&key);
        let is_it = match has_escapes {
            false => raw == wanted.as_bytes(),
            true => {
                let mut text = String::new();
                push_unescaped(&mut text, raw, ' ').is_ok() && text == wanted
            }
        };
        // A value that is cut off is no value.
        let value = scanner.value()?;
        if is_it {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn find_index(
    scanner: &mut JsonScanner<'_>,
    wanted: usize,
) -> Result<Option<JsonValue>, JsonFault> {
    if !scanner.enter(b'[') {
        return Ok(None);
    }
    let mut at = 0;
    while scanner.has_element()? {
        let value = scanner.value()?;
        if at == wanted {
            return Ok(Some(value));
        }
        at += 1;
    }
    Ok(None)
}
