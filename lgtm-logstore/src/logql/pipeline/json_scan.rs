//! Walking JSON text without building anything.
//!
//! It is as lenient as Loki's: what stands behind the outermost brace is not looked at, a comma may stand before a closing brace.

use std::ops::Range;

use memchr::memchr2;

/// Why a text is no JSON, in the words of Loki.
pub(super) type JsonFault = &'static str;

pub(super) const OBJECT_WITHOUT_END: JsonFault =
    "Value looks like object, but can't find closing '}' symbol";
const ARRAY_WITHOUT_END: JsonFault = "Value is array, but can't find closing ']' symbol";
const STRING_WITHOUT_END: JsonFault = "Value is string, but can't find closing '\"' symbol";
const MALFORMED: JsonFault = "Malformed JSON error";
const BAD_VALUE: JsonFault = "Unknown value type";
pub(super) const BAD_ESCAPE: JsonFault = "Encountered an invalid escape sequence in a string";

/// A value and where it stands; a text without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonValue {
    Text {
        range: Range<usize>,
        has_escapes: bool,
    },
    Object(Range<usize>),
    Array(Range<usize>),
    /// A number or a truth.
    Plain(Range<usize>),
    Null,
}

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct JsonScanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> JsonScanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// A scanner inside of an object or array of this text.
    pub(super) fn inside(&self, range: &Range<usize>) -> Self {
        Self {
            text: &self.text[..range.end],
            at: range.start,
        }
    }

    pub(super) fn bytes(&self, range: &Range<usize>) -> &'a [u8] {
        &self.text[range.clone()]
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    /// Steps into an object or array whose opening sign stands here.
    pub(super) fn enter(&mut self, open: u8) -> bool {
        let found = self.peek() == Some(open);
        self.at += usize::from(found);
        found
    }

    /// The next key of the object that it is in; `None` at its end.
    pub(super) fn key(&mut self) -> Result<Option<(Range<usize>, bool)>, JsonFault> {
        loop {
            match self.peek() {
                None => return Err(OBJECT_WITHOUT_END),
                Some(b'}') => return Ok(None),
                Some(b',') => self.at += 1,
                Some(b'"') => break,
                Some(_) => return Err(MALFORMED),
            }
        }
        let key = self.string()?;
        match self.peek() {
            Some(b':') => self.at += 1,
            _ => return Err(MALFORMED),
        }
        Ok(Some(key))
    }

    /// Whether another element of the array follows that it is in.
    pub(super) fn has_element(&mut self) -> Result<bool, JsonFault> {
        loop {
            match self.peek() {
                None => return Err(ARRAY_WITHOUT_END),
                Some(b']') => return Ok(false),
                Some(b',') => self.at += 1,
                Some(_) => return Ok(true),
            }
        }
    }

    /// A string whose first quote stands here: what is between the quotes, and whether it has escapes.
    fn string(&mut self) -> Result<(Range<usize>, bool), JsonFault> {
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        while let Some(found) = self.text.get(at..).and_then(|t| memchr2(b'"', b'\\', t)) {
            at += found;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Ok((start..at, has_escapes));
            }
            has_escapes = true;
            at += 2;
        }
        Err(STRING_WITHOUT_END)
    }

    /// The value that begins here; of an object or array, all of it is passed over.
    pub(super) fn value(&mut self) -> Result<JsonValue, JsonFault> {
        match self.peek() {
            None => Err(MALFORMED),
            Some(b'"') => {
                let (range, has_escapes) = self.string()?;
                Ok(JsonValue::Text { range, has_escapes })
            }
            Some(b'{') => {
                let range = self.block(b'{', b'}').ok_or(OBJECT_WITHOUT_END)?;
                Ok(JsonValue::Object(range))
            }
            Some(b'[') => {
                let range = self.block(b'[', b']').ok_or(ARRAY_WITHOUT_END)?;
                Ok(JsonValue::Array(range))
            }
            Some(first) => {
                let start = self.at;
                let is_end =
                    |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let rest = &self.text[start..];
                let len = rest.iter().position(is_end).unwrap_or(rest.len());
                self.at = start + len;
                match (&rest[..len], first) {
                    (b"null", _) => Ok(JsonValue::Null),
                    (b"true" | b"false", _) => Ok(JsonValue::Plain(start..start + len)),
                    (_, b'-' | b'0'..=b'9') => Ok(JsonValue::Plain(start..start + len)),
                    _ => Err(BAD_VALUE),
                }
            }
        }
    }

    /// An object or array that begins here, with its signs.
    fn block(&mut self, open: u8, close: u8) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0usize;
        let mut at = start;
        loop {
            let rest = self.text.get(at..)?;
            let is_sign = |b: &u8| *b == b'"' || *b == open || *b == close;
            at += rest.iter().position(is_sign)?;
            match self.text[at] {
                b'"' => {
                    self.at = at;
                    self.string().ok()?;
                    at = self.at;
                    continue;
                }
                b if b == open => depth += 1,
                _ => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = at + 1;
                        return Some(start..at + 1);
                    }
                }
            }
            at += 1;
        }
    }
}

/// Appends a string's text with its escapes resolved; what is no UTF-8 becomes `bad`.
///
/// # Errors
/// For an escape that JSON has not.
pub(super) fn push_unescaped(out: &mut String, raw: &[u8], bad: char) -> Result<(), JsonFault> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push_valid(out, &rest[..at], bad);
        let escape = *rest.get(at + 1).ok_or(BAD_ESCAPE)?;
        rest = &rest[at + 2..];
        let c = match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, used) = code_point(rest).ok_or(BAD_ESCAPE)?;
                rest = &rest[used..];
                c
            }
            _ => return Err(BAD_ESCAPE),
        };
        out.push(c);
    }
    push_valid(out, rest, bad);
    Ok(())
}

fn push_valid(out: &mut String, bytes: &[u8], bad: char) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(bad);
        }
    }
}

/// The character behind `\u`, and how many bytes tell it; two escapes may make one.
fn code_point(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(text.get(at..at + 4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Some((c, 4));
    }
    if text.get(4..6) == Some(b"\\u")
        && let Some(second) = unit(6)
        && let Some(Ok(c)) = char::decode_utf16([first, second]).next()
    {
        return Some((c, 10));
    }
    Some((char::REPLACEMENT_CHARACTER, 4))
}
