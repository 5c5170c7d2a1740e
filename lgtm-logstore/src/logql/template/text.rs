//! Functions on texts. Lengths count bytes unless it says otherwise.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use lgtm_core::re2::Template as Replacement;

use super::call::Arguments;
use super::value::Value;

type Result<T = Value> = std::result::Result<T, String>;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn map(a: &mut Arguments<'_, '_>, change: impl FnOnce(&str) -> String) -> Result {
    a.exactly(1)?;
    Ok(Value::text(change(&a.text()?)))
}

/// A piece of a text, cut at bytes: a character that is cut apart becomes the replacement character.
fn piece(text: &str, range: std::ops::Range<usize>) -> Value {
    Value::text(String::from_utf8_lossy(&text.as_bytes()[range]).into_owned())
}

pub(super) fn lower(a: &mut Arguments<'_, '_>) -> Result {
    map(a, str::to_lowercase)
}

pub(super) fn upper(a: &mut Arguments<'_, '_>) -> Result {
    map(a, str::to_uppercase)
}

/// Raises the first letter after anything that is no letter, digit or `_`.
pub(super) fn title(a: &mut Arguments<'_, '_>) -> Result {
    map(a, |text| {
        let mut out = String::with_capacity(text.len());
        let mut after_word = false;
        for c in text.chars() {
            if after_word {
                out.push(c)
            } else {
                out.extend(c.to_uppercase())
            }
            after_word = c == '_' || c.is_alphanumeric();
        }
        out
    })
}

pub(super) fn trunc(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (count, text) = (a.int()?, a.text()?);
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let len = text.len();
    Ok(match count {
        _ if size >= len => Value::Text(text),
        n if n < 0 => piece(&text, len - size..len),
        _ => piece(&text, 0..size),
    })
}

pub(super) fn substr(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(3)?;
    let (from, to, text) = (a.int()?, a.int()?, a.text()?);
    let len = text.len();
    let from = usize::try_from(from).unwrap_or(0);
    let to = usize::try_from(to)
        .ok()
        .filter(|to| *to <= len)
        .unwrap_or(len);
    if from > to {
        return Err(format!(
            "runtime error: slice bounds out of range [{from}:{to}]"
        ));
    }
    Ok(piece(&text, from..to))
}

fn test(a: &mut Arguments<'_, '_>, holds: fn(&str, &str) -> bool) -> Result {
    a.exactly(2)?;
    let (part, text) = (a.text()?, a.text()?);
    Ok(Value::Bool(holds(&text, &part)))
}

pub(super) fn contains(a: &mut Arguments<'_, '_>) -> Result {
    test(a, |text, part| text.contains(part))
}

pub(super) fn has_prefix(a: &mut Arguments<'_, '_>) -> Result {
    test(a, |text, part| text.starts_with(part))
}

pub(super) fn has_suffix(a: &mut Arguments<'_, '_>) -> Result {
    test(a, |text, part| text.ends_with(part))
}

fn indented(a: &mut Arguments<'_, '_>, start: &str) -> Result {
    a.exactly(2)?;
    let (count, text) = (a.int()?, a.text()?);
    let count = usize::try_from(count).map_err(|_| "strings: negative Repeat count".to_owned())?;
    let lines = 1 + text.matches('\n').count();
    a.room_for(count.saturating_mul(lines).saturating_add(text.len() + 1))?;
    let pad = " ".repeat(count);
    let text = text.replace('\n', &format!("\n{pad}"));
    Ok(Value::text(format!("{start}{pad}{text}")))
}

pub(super) fn indent(a: &mut Arguments<'_, '_>) -> Result {
    indented(a, "")
}

pub(super) fn nindent(a: &mut Arguments<'_, '_>) -> Result {
    indented(a, "\n")
}

fn replaced(a: &Arguments<'_, '_>, text: &str, old: &str, new: &str, most: usize) -> Result {
    let places = if old.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(old).count()
    };
    let grown = places.min(most).saturating_mul(new.len());
    a.room_for(grown.saturating_add(text.len()))?;
    Ok(Value::text(text.replacen(old, new, most)))
}

/// `replace old new text`
pub(super) fn replace(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(3)?;
    let (old, new, text) = (a.text()?, a.text()?, a.text()?);
    replaced(a, &text, &old, &new, usize::MAX)
}

/// `Replace text old new count`
pub(super) fn replace_some(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(4)?;
    let (text, old, new, count) = (a.text()?, a.text()?, a.text()?, a.int()?);
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    replaced(a, &text, &old, &new, most)
}

pub(super) fn repeat(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (count, text) = (a.int()?, a.text()?);
    let count = usize::try_from(count).map_err(|_| "strings: negative Repeat count".to_owned())?;
    a.room_for(count.saturating_mul(text.len()))?;
    Ok(Value::text(text.repeat(count)))
}

pub(super) fn trim(a: &mut Arguments<'_, '_>) -> Result {
    map(a, |t| t.trim().to_owned())
}

/// `trimAll set text`
pub(super) fn trim_all(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (set, text) = (a.text()?, a.text()?);
    Ok(Value::text(text.trim_matches(|c| set.contains(c))))
}

/// `Trim text set`
pub(super) fn trim_set(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (text, set) = (a.text()?, a.text()?);
    Ok(Value::text(text.trim_matches(|c| set.contains(c))))
}

pub(super) fn trim_left(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (text, set) = (a.text()?, a.text()?);
    Ok(Value::text(text.trim_start_matches(|c| set.contains(c))))
}

pub(super) fn trim_right(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (text, set) = (a.text()?, a.text()?);
    Ok(Value::text(text.trim_end_matches(|c| set.contains(c))))
}

fn without(text: &str, part: Option<&str>) -> Result {
    Ok(Value::text(part.unwrap_or(text)))
}

pub(super) fn trim_prefix(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (part, text) = (a.text()?, a.text()?);
    without(&text, text.strip_prefix(&*part))
}

pub(super) fn trim_suffix(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (part, text) = (a.text()?, a.text()?);
    without(&text, text.strip_suffix(&*part))
}

pub(super) fn old_trim_prefix(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (text, part) = (a.text()?, a.text()?);
    without(&text, text.strip_prefix(&*part))
}

pub(super) fn old_trim_suffix(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (text, part) = (a.text()?, a.text()?);
    without(&text, text.strip_suffix(&*part))
}

/// Characters to add (positive) or to take away (negative), if any.
fn width_change(a: &mut Arguments<'_, '_>) -> Result<Option<(usize, bool, std::rc::Rc<str>)>> {
    a.exactly(2)?;
    let (count, text) = (a.int()?, a.text()?);
    let len = text.chars().count();
    let Ok(count) = usize::try_from(count) else {
        return Ok(Some((0, true, text)));
    };
    a.room_for(text.len() + count.saturating_sub(len))?;
    Ok(Some(if count >= len {
        (count - len, true, text)
    } else {
        (len - count, false, text)
    }))
}

/// Counts characters.
pub(super) fn align_left(a: &mut Arguments<'_, '_>) -> Result {
    Ok(match width_change(a)? {
        Some((more, true, text)) => Value::text(format!("{text}{}", " ".repeat(more))),
        Some((fewer, false, text)) => {
            let keep = text.chars().count() - fewer;
            Value::text(text.chars().take(keep).collect::<String>())
        }
        None => Value::Nil,
    })
}

/// Counts characters.
pub(super) fn align_right(a: &mut Arguments<'_, '_>) -> Result {
    Ok(match width_change(a)? {
        Some((more, true, text)) => Value::text(format!("{}{text}", " ".repeat(more))),
        Some((fewer, false, text)) => Value::text(text.chars().skip(fewer).collect::<String>()),
        None => Value::Nil,
    })
}

pub(super) fn b64_encode(a: &mut Arguments<'_, '_>) -> Result {
    map(a, |t| BASE64.encode(t))
}

/// What does not decode gives the error as its value.
pub(super) fn b64_decode(a: &mut Arguments<'_, '_>) -> Result {
    map(a, |t| match BASE64.decode(t) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => t.len(),
            };
            format!("illegal base64 data at input byte {at}")
        }
    })
}

fn push_url_encoded(out: &mut String, text: &str) {
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(b));
            }
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
}

pub(super) fn url_encode(a: &mut Arguments<'_, '_>) -> Result {
    map(a, |t| {
        let mut out = String::new();
        push_url_encoded(&mut out, t);
        out
    })
}

/// Of all its arguments as they print.
pub(super) fn url_encode_shown(a: &mut Arguments<'_, '_>) -> Result {
    let mut out = String::new();
    for value in a.rest() {
        push_url_encoded(&mut out, &value.shown());
    }
    Ok(Value::text(out))
}

pub(super) fn url_decode(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let text = a.text()?;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = text.get(at + 1..at + 3);
                let value = digits
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(value) = value else {
                    let end = text.len().min(at + 3);
                    let shown = String::from_utf8_lossy(&bytes[at..end]);
                    return Err(format!("invalid URL escape {shown:?}"));
                };
                out.push(value);
                at += 2;
            }
            b => out.push(b),
        }
        at += 1;
    }
    Ok(Value::text(String::from_utf8_lossy(&out).into_owned()))
}

/// `regexReplaceAll regex text replacement`, with references to groups in the latter.
pub(super) fn regex_replace_all(a: &mut Arguments<'_, '_>) -> Result {
    regex_replace(a, true)
}

pub(super) fn regex_replace_literal(a: &mut Arguments<'_, '_>) -> Result {
    regex_replace(a, false)
}

fn regex_replace(a: &mut Arguments<'_, '_>, has_references: bool) -> Result {
    a.exactly(3)?;
    let (regex, text, by) = (a.text()?, a.text()?, a.text()?);
    let regex = a.scratch().pattern(&regex)?;
    let references = has_references.then(|| Replacement::new(&by, &regex));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for found in regex.find_all(&text) {
        let range = found.range(0).unwrap_or(0..0);
        out.push_str(&text[at..range.start]);
        at = range.end;
        match &references {
            Some(references) => references.expand(&found).for_each(|p| out.push_str(p)),
            None => out.push_str(&by),
        }
        a.room_for(out.len())?;
    }
    out.push_str(&text[at..]);
    Ok(Value::text(out))
}

/// How often a regular expression matches.
pub(super) fn count(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (regex, text) = (a.text()?, a.text()?);
    let regex = a.scratch().pattern(&regex)?;
    Ok(Value::Int(regex.find_all(&text).count() as i64))
}
