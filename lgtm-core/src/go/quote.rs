//! Strings in quotes, as Go writes them and the query languages read them.
//! Source: <https://go.dev/ref/spec#String_literals> and the documentation of Go's `strconv.Quote`.

use std::fmt::Write;

/// `"text"` with what does not print escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// As [`quote`], for bytes of which some may be no UTF-8: those become `\x..`.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// `'c'`; nothing at all, as at the end of input, is the replacement character.
pub fn quote_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

/// `U+0071 'q'`, without the second part for what does not print.
pub fn code_point(c: char) -> String {
    let mut out = format!("U+{:04X}", u32::from(c));
    if is_printable(c) {
        let _ = write!(out, " '{c}'");
    }
    out
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_printable(c) => out.push(c),
        c => {
            let _ = match u32::from(c) {
                n @ (0..0x20 | 0x7f) => write!(out, "\\x{n:02x}"),
                n @ 0..0x1_0000 => write!(out, "\\u{n:04x}"),
                n => write!(out, "\\U{n:08x}"),
            };
        }
    }
}

/// Letters, marks, numbers, punctuation, symbols, and the ASCII space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library's `Debug` of a string escapes what does not print. It also escapes a mark at the beginning, so it is
    // asked about the character behind another one.
    let mut pair = String::from("a");
    pair.push(c);
    pair.escape_debug().nth(1) == Some(c)
}

/// What a string token stands for: without quotes, escapes resolved. The lexer has checked it.
pub fn unquote(token: &str) -> Vec<u8> {
    let inner = token.get(1..token.len().max(2) - 1).unwrap_or_default();
    if token.starts_with('`') || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some(escape) = rest.next() else { break };
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0'..='7' => 2,
            _ => 0,
        };
        let radix = if escape.is_ascii_digit() { 8 } else { 16 };
        let mut value = escape.to_digit(8).unwrap_or(0);
        for _ in 0..digits {
            let digit = rest.next().and_then(|d| d.to_digit(radix)).unwrap_or(0);
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        match escape {
            'a' => out.push(0x07),
            'b' => out.push(0x08),
            'f' => out.push(0x0c),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0x0b),
            'x' | '0'..='7' => out.push(value.to_le_bytes()[0]),
            'u' | 'U' => {
                let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            quote => out.extend_from_slice(quote.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_print_is_escaped_as_in_go() {
        for (text, quoted) in [
            ("a\"b'\\", r#""a\"b'\\""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("ä日\u{1f600}", "\"ä日\u{1f600}\""),
            ("\u{200b}\u{a0}\u{e000}", r#""\u200b\u00a0\ue000""#),
            ("\u{10ffff}", r#""\U0010ffff""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
        assert_eq!(quote_bytes(b"a\xc5z"), r#""a\xc5z""#);
        assert_eq!(quote_char(Some('\'')), r"'\''");
        assert_eq!(code_point('q'), "U+0071 'q'");
    }

    proptest! {
        #[test]
        fn quoted_text_reads_as_it_was(text in "\\PC*|[\\x00-\\x7f]*", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(unquote(&quote(&text)), text.as_bytes());
            prop_assert_eq!(unquote(&quote_bytes(&bytes)), bytes);
        }
    }
}
