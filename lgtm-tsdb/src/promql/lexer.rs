//! Tokens.

use super::parser::ParseError;

/// A token and where it begins, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Identifier(String),
    /// Digits and letters that begin with a digit: a number or a duration, which the parser tells apart.
    Number(String),
    Text(String),
    /// One of `{ } [ ] ( ) , + -`, `= != =~ !~`, or a sign that the parser does not know.
    Sign(&'static str),
    Unknown(char),
    End,
}

const SIGNS: [&str; 13] = [
    "=~", "!~", "!=", "{", "}", "[", "]", "(", ")", ",", "=", "+", "-",
];

/// Cuts a query into tokens.
pub(super) fn tokens(query: &str) -> Result<Vec<Token>, ParseError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = query[at..].chars().next() {
        let rest = &query[at..];
        let (kind, len) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '#' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '"' | '\'' | '`' => text(rest, c, at)?,
            c if c.is_ascii_digit()
                || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) =>
            {
                let len = number_len(rest);
                (TokenKind::Number(rest[..len].to_owned()), len)
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                let len = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .unwrap_or(rest.len());
                (TokenKind::Identifier(rest[..len].to_owned()), len)
            }
            c => match SIGNS.iter().find(|s| rest.starts_with(**s)) {
                Some(sign) => (TokenKind::Sign(sign), sign.len()),
                None => (TokenKind::Unknown(c), c.len_utf8()),
            },
        };
        out.push(Token { kind, at });
        at += len;
    }
    out.push(Token {
        kind: TokenKind::End,
        at,
    });
    Ok(out)
}

fn number_len(rest: &str) -> usize {
    let mut last = ' ';
    let hex = rest.starts_with("0x") || rest.starts_with("0X");
    let part = |c: char| {
        let exponent_sign = (c == '+' || c == '-') && (last == 'e' || last == 'E') && !hex;
        last = c;
        c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign
    };
    rest.find({
        let mut part = part;
        move |c: char| !part(c)
    })
    .unwrap_or(rest.len())
}

/// A quoted string; gives it without quotes and escapes, and its length with them.
fn text(rest: &str, quote: char, at: usize) -> Result<(TokenKind, usize), ParseError> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            c if c == quote => {
                let text = String::from_utf8(bytes).map_err(|_| {
                    ParseError::new(at, "string is not UTF-8 once its escapes are resolved")
                })?;
                return Ok((TokenKind::Text(text), i + quote.len_utf8()));
            }
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => escape(&mut chars, quote, at + i, &mut bytes)?,
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(ParseError::new(at, "unterminated quoted string"))
}

fn escape(
    chars: &mut impl Iterator<Item = (usize, char)>,
    quote: char,
    at: usize,
    out: &mut Vec<u8>,
) -> Result<(), ParseError> {
    let bad = || ParseError::new(at, "unknown escape sequence");
    let c = chars.next().ok_or_else(bad)?.1;
    let mut digits = |n: usize, radix: u32, first: Option<char>| {
        let mut value = 0u32;
        for d in first.into_iter().chain(chars.by_ref().map(|c| c.1)).take(n) {
            value = value * radix + d.to_digit(radix)?;
        }
        Some(value)
    };
    let byte = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        c if c == quote => c as u8,
        'x' => digits(2, 16, None)
            .and_then(|v| u8::try_from(v).ok())
            .ok_or_else(bad)?,
        '0'..='7' => digits(3, 8, Some(c))
            .and_then(|v| u8::try_from(v).ok())
            .ok_or_else(bad)?,
        'u' | 'U' => {
            let value = digits(if c == 'u' { 4 } else { 8 }, 16, None)
                .and_then(char::from_u32)
                .ok_or_else(bad)?;
            out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        _ => return Err(bad()),
    };
    out.push(byte);
    Ok(())
}
