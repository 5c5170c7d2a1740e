//! The json parser without expressions, and unpack.

use super::json_scan::{JsonFault, JsonScanner, JsonValue, OBJECT_WITHOUT_END, push_unescaped};
use super::parse_target::{Offer, ParseTarget, spaced};

const JSON_PARSER_ERR: &str = "JSONParserErr";
/// Objects in objects that are looked into.
const MAX_DEPTH: usize = 64;

/// Buffers of the parsers.
#[derive(Debug, Default)]
pub(crate) struct ParseScratch {
    /// Names of the objects around, with `_` behind each.
    prefix: String,
    pub(super) text: String,
    pub(super) name: String,
}

/// Makes labels of all fields of a JSON object, nested ones with the names of their objects before theirs. False: the entry cannot pass.
pub(super) fn parse_json(
    line: &[u8],
    target: &mut ParseTarget<'_>,
    scratch: &mut ParseScratch,
) -> bool {
    if target.needed.is_none() {
        return true;
    }
    scratch.prefix.clear();
    let mut scanner = JsonScanner::new(line);
    let parsed = match scanner.enter(b'{') {
        true => object(&mut scanner, target, scratch, 0),
        false => Err(OBJECT_WITHOUT_END),
    };
    match parsed {
        Ok(offer) => offer != Offer::Refused,
        Err(fault) => {
            target.fail(JSON_PARSER_ERR, fault);
            true
        }
    }
}

fn object(
    scanner: &mut JsonScanner<'_>,
    target: &mut ParseTarget<'_>,
    scratch: &mut ParseScratch,
    depth: usize,
) -> Result<Offer, JsonFault> {
    while let Some((key, key_has_escapes)) = scanner.key()? {
        let value = scanner.value()?;
        let raw_key = scanner.bytes(&key);
        let key_text = match key_has_escapes {
            true => {
                scratch.text.clear();
                push_unescaped(&mut scratch.text, raw_key, ' ')?;
                scratch.text.as_str()
            }
            false => spaced(raw_key, &mut scratch.text),
        };
        let offer = match value {
            JsonValue::Null | JsonValue::Array(_) => continue,
            JsonValue::Object(range) => {
                if depth >= MAX_DEPTH {
                    continue;
                }
                let outer = scratch.prefix.len();
                let mut inner = scanner.inside(&range);
                let prefix = &mut scratch.prefix;
                if super::labels::push_sanitized(prefix, key_text, outer == 0) {
                    prefix.push('_');
                }
                let offer = match target.needed.may_begin(&scratch.prefix) && inner.enter(b'{') {
                    true => object(&mut inner, target, scratch, depth + 1),
                    false => Ok(Offer::Continue),
                };
                scratch.prefix.truncate(outer);
                offer?
            }
            JsonValue::Text { range, has_escapes } => {
                if !wants(target, &scratch.prefix, key_text) {
                    continue;
                }
                let raw = scanner.bytes(&range);
                scratch.text.clear();
                let text = match has_escapes {
                    true => {
                        push_unescaped(&mut scratch.text, raw, ' ')?;
                        scratch.text.as_str()
                    }
                    false => spaced(raw, &mut scratch.text),
                };
                target.add(text)
            }
            JsonValue::Plain(range) => {
                if !wants(target, &scratch.prefix, key_text) {
                    continue;
                }
                target.add(spaced(scanner.bytes(&range), &mut scratch.text))
            }
        };
        if offer != Offer::Continue {
            return Ok(offer);
        }
    }
    Ok(Offer::Continue)
}

fn wants(target: &mut ParseTarget<'_>, prefix: &str, key: &str) -> bool {
    target.name.clear();
    target.name.push_str(prefix);
    super::labels::push_sanitized(target.name, key, prefix.is_empty()) && target.wants_name()
}

/// What came of a packed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// The line stays as it is.
    Untouched,
    /// There is a new line.
    NewLine,
    /// The entry cannot pass.
    Refused,
}

/// Takes apart what promtail packed: an object of strings, of which `_entry` becomes the line, in `line_out`.
pub(super) fn unpack(
    line: &[u8],
    target: &mut ParseTarget<'_>,
    scratch: &mut ParseScratch,
    line_out: &mut Vec<u8>,
) -> Unpacked {
    if target.needed.is_none() || line.is_empty() {
        return Unpacked::Untouched;
    }
    if line[0] != b'{' {
        target.fail(JSON_PARSER_ERR, "expecting json object(6), but it is not");
        return Unpacked::Untouched;
    }
    let unpacked = unpacked(line, target, scratch, line_out);
    unpacked.unwrap_or_else(|fault| {
        target.fail(JSON_PARSER_ERR, fault);
        Unpacked::Untouched
    })
}

fn unpacked(
    line: &[u8],
    target: &mut ParseTarget<'_>,
    scratch: &mut ParseScratch,
    line_out: &mut Vec<u8>,
) -> Result<Unpacked, JsonFault> {
    // The first pass checks all of it and finds the entry: without one nothing is taken.
    let mut has_entry = false;
    let mut scanner = JsonScanner::new(line);
    scanner.enter(b'{');
    while let Some((key, _)) = scanner.key()? {
        if let (b"_entry", JsonValue::Text { range, .. }) = (scanner.bytes(&key), scanner.value()?)
        {
            has_entry = true;
            scratch.text.clear();
            let bad = char::REPLACEMENT_CHARACTER;
            push_unescaped(&mut scratch.text, scanner.bytes(&range), bad)?;
            line_out.clear();
            line_out.extend_from_slice(scratch.text.as_bytes());
        }
    }
    if !has_entry {
        return Ok(Unpacked::Untouched);
    }
    let mut scanner = JsonScanner::new(line);
    scanner.enter(b'{');
    let mut pairs = Vec::new();
    while let Some((key, _)) = scanner.key()? {
        if let JsonValue::Text { range, .. } = scanner.value()?
            && scanner.bytes(&key) != b"_entry"
        {
            pairs.push((key, range));
        }
    }
    // Of equal keys the last counts, but what an earlier stage found stays.
    for (key, value) in pairs.into_iter().rev() {
        scratch.text.clear();
        push_unescaped(&mut scratch.text, scanner.bytes(&key), ' ')?;
        if !target.wants(&scratch.text) {
            continue;
        }
        scratch.text.clear();
        push_unescaped(&mut scratch.text, scanner.bytes(&value), ' ')?;
        if target.add(&scratch.text) == Offer::Refused {
            return Ok(Unpacked::Refused);
        }
    }
    Ok(Unpacked::NewLine)
}
