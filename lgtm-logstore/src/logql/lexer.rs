//! A query cut into tokens.

use std::borrow::Cow;

use lgtm_core::go::{parse_duration_ns, unquote};

use super::error::ParseError;
use super::units::{parse_bytes, parse_go_duration, parse_literal_duration};

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlacedToken {
    pub(super) token: Token,
    /// Line and column, from 1.
    pub(super) place: (usize, usize),
}

/// What a query is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name.
    Name(String),
    /// A reserved word, or a function's name before what makes it one; in lower case.
    Word(String),
    /// A text in quotes, unquoted.
    Text(String),
    /// A number, as written.
    Number(String),
    /// Nanoseconds, and whether Go reads the text too (it has no days, weeks and years).
    Duration(i64, bool),
    /// Bytes.
    Bytes(u64),
    /// `[5m]`, in nanoseconds.
    Range(i64),
    /// `--strict`
    Flag(&'static str),
    /// Operators and parentheses.
    Sign(&'static str),
    /// The end of the query.
    End,
}

impl Token {
    /// As errors name it.
    pub(super) fn described(&self) -> Cow<'_, str> {
        match self {
            Self::Name(_) => "IDENTIFIER".into(),
            Self::Word(word) => match word.as_str() {
                "json" | "logfmt" | "regexp" | "unpack" | "by" | "ip" => word.as_str().into(),
                _ => word.to_ascii_uppercase().into(),
            },
            Self::Text(_) => "STRING".into(),
            Self::Number(_) => "NUMBER".into(),
            Self::Duration(..) => "DURATION".into(),
            Self::Bytes(_) => "BYTES".into(),
            Self::Range(_) => "RANGE".into(),
            Self::Flag(_) => "PARSER_FLAG".into(),
            Self::Sign(sign) => (*sign).into(),
            Self::End => "$end".into(),
        }
    }
}

/// Words that are no names anywhere.
const RESERVED: [&str; 21] = [
    "json",
    "logfmt",
    "regexp",
    "pattern",
    "unpack",
    "drop",
    "keep",
    "line_format",
    "label_format",
    "decolorize",
    "unwrap",
    "by",
    "without",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "or",
    "and",
];

/// Words that are names unless a parenthesis follows, or a grouping.
const FUNCTIONS: [&str; 33] = [
    "rate",
    "rate_counter",
    "count_over_time",
    "bytes_over_time",
    "bytes_rate",
    "absent_over_time",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "sort",
    "sort_desc",
    "approx_topk",
    "ip",
    "bytes",
    "duration",
    "duration_seconds",
    "vector",
    "label_replace",
];

/// Longer ones first.
const SIGNS: [&str; 30] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", ",", "|", "=",
    ">", "<", "+", "-", "*", "/", "%", "^", ".", ":", ";", "@", "]",
];

/// Cuts a query.
///
/// # Errors
/// At what no token begins with, at texts and ranges without an end, at numbers that Go would not read.
pub(super) fn tokens(query: &str) -> Result<Vec<PlacedToken>, ParseError> {
    let mut lexer = Lexer {
        query,
        at: 0,
        line: 1,
        line_start: 0,
    };
    let mut out = Vec::new();
    loop {
        lexer.skip_space();
        let place = lexer.place();
        let token = lexer.next(place)?;
        let is_end = token == Token::End;
        out.push(PlacedToken { token, place });
        if is_end {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    fn place(&self) -> (usize, usize) {
        (self.line, self.at - self.line_start + 1)
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.query[self.at..self.at + bytes];
        if let Some(last) = passed.rfind('\n') {
            self.line += passed.matches('\n').count();
            self.line_start = self.at + last + 1;
        }
        self.at += bytes;
    }

    /// White space and comments.
    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            self.advance(space);
            if !self.rest().starts_with('#') {
                return;
            }
            let comment = self.rest().find('\n').unwrap_or(self.rest().len());
            self.advance(comment);
        }
    }

    fn next(&mut self, place: (usize, usize)) -> Result<Token, ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        match first {
            '"' | '`' => self.text(first, place),
            '[' => self.range(),
            '0'..='9' => self.number(place),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(place),
            c if c == '_' || c.is_alphabetic() => Ok(self.word()),
            _ => {
                for flag in ["--strict", "--keep-empty"] {
                    if rest.starts_with(flag) {
                        self.advance(flag.len());
                        return Ok(Token::Flag(flag));
                    }
                }
                let sign = SIGNS.iter().find(|s| rest.starts_with(**s));
                let sign = sign.ok_or_else(|| {
                    ParseError::at(place, format!("syntax error: unexpected {first:?}"))
                })?;
                self.advance(sign.len());
                Ok(Token::Sign(sign))
            }
        }
    }

    fn text(&mut self, quote: char, place: (usize, usize)) -> Result<Token, ParseError> {
        let unterminated = || ParseError::at(place, "literal not terminated");
        let rest = self.rest();
        let mut escaped = false;
        let mut end = None;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote == '"' => escaped = true,
                '\n' if quote == '"' => return Err(unterminated()),
                c if c == quote => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        let token = &rest[..end.ok_or_else(unterminated)?];
        if quote == '"' {
            check_escapes(token).map_err(|e| ParseError::at(place, e))?;
        }
        self.advance(token.len());
        let text = String::from_utf8(unquote(token));
        let text = text.map_err(|_| ParseError::at(place, "text is no valid UTF-8"))?;
        Ok(Token::Text(text))
    }

    fn range(&mut self) -> Result<Token, ParseError> {
        let place = (0, self.place().1);
        let rest = self.rest();
        let end = rest
            .find(']')
            .ok_or_else(|| ParseError::at(place, "missing closing ']' in duration"))?;
        let text = &rest[1..end];
        if text.is_empty() {
            return Err(ParseError::at(place, "empty duration string"));
        }
        let ns = parse_duration_ns(text).map_err(|e| ParseError::at(place, e))?;
        if ns == 0 {
            return Err(ParseError::at(place, "duration must be greater than 0"));
        }
        let ns = i64::try_from(ns).map_err(|e| ParseError::at(place, e.to_string()))?;
        self.advance(end + 1);
        Ok(Token::Range(ns))
    }

    /// A number; with units behind it a duration or a size.
    fn number(&mut self, place: (usize, usize)) -> Result<Token, ParseError> {
        let rest = self.rest();
        let number = scan_number(rest).map_err(|e| ParseError::at(place, e))?;
        let tail = &rest[number.len()..];
        let upto = |is_part: fn(char) -> bool| {
            number.len() + tail.find(|c| !is_part(c)).unwrap_or(tail.len())
        };
        let end = upto(|c| c.is_ascii_digit() || ".yMwdhmnsuµ".contains(c));
        if end > number.len()
            && let Ok(ns) = parse_literal_duration(&rest[..end])
        {
            self.advance(end);
            return Ok(Token::Duration(ns, parse_go_duration(&rest[..end]).is_ok()));
        }
        let end = upto(|c| c.is_ascii_digit() || ".BikKMGTP".contains(c));
        if end > number.len()
            && let Ok(bytes) = parse_bytes(&rest[..end])
        {
            self.advance(end);
            return Ok(Token::Bytes(bytes));
        }
        let is_based =
            number.len() > 1 && number.starts_with('0') && !number.contains(['.', 'e', 'E']);
        if is_based && number.contains(|c: char| c.is_ascii_alphabetic()) {
            return Err(ParseError::at(
                place,
                format!(
                    "unable to parse literal as a float: strconv.ParseFloat: parsing \"{number}\": invalid syntax"
                ),
            ));
        }
        self.advance(number.len());
        Ok(Token::Number(number.to_owned()))
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(rest.len());
        let name = &rest[..end];
        self.advance(end);
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower == "unless" {
            return Token::Word(lower);
        }
        if FUNCTIONS.contains(&lower.as_str()) && self.makes_a_function() {
            return Token::Word(lower);
        }
        Token::Name(name.to_owned())
    }

    /// Whether a parenthesis follows, or `by (`, `without (`.
    fn makes_a_function(&self) -> bool {
        let rest = self.rest().trim_start();
        if rest.starts_with('(') {
            return true;
        }
        ["by", "without"].iter().any(|word| {
            rest.get(..word.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(word))
                && rest[word.len()..].trim_start().starts_with('(')
        })
    }
}

/// A number as Go's scanner reads it.
fn scan_number(text: &str) -> Result<&str, String> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let is_digit = |b: &&u8| b.is_ascii_digit() || **b == b'_';
        from + bytes[from..].iter().take_while(is_digit).count()
    };
    if bytes[0] == b'0'
        && let Some(b'x' | b'X' | b'b' | b'o' | b'O') = bytes.get(1)
        && bytes.get(2).is_some_and(u8::is_ascii_hexdigit)
    {
        let rest = bytes[2..].iter();
        let end = 2 + rest
            .take_while(|b| b.is_ascii_hexdigit() || **b == b'_')
            .count();
        return Ok(&text[..end]);
    }
    let mut end = digits(0);
    let mut is_float = false;
    if bytes.get(end) == Some(&b'.') {
        is_float = true;
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        is_float = true;
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent == end + 1 + sign {
            return Err("exponent has no digits".to_owned());
        }
        end = exponent;
    }
    let number = &text[..end];
    if !is_float
        && end > 1
        && bytes[0] == b'0'
        && let Some(bad) = number.chars().find(|c| matches!(c, '8' | '9'))
    {
        return Err(format!("invalid digit '{bad}' in octal literal"));
    }
    Ok(number)
}

/// Whether the escapes of a quoted text are Go's.
fn check_escapes(token: &str) -> Result<(), String> {
    let mut rest = token[1..token.len() - 1].chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            continue;
        }
        let (digits, radix) = match rest.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '"') => continue,
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            Some('0'..='7') => (2, 8),
            _ => return Err("invalid char escape".to_owned()),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let digit = rest.next().and_then(|d| d.to_digit(radix));
            let digit = digit.ok_or("invalid char escape")?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        if digits > 2 && char::from_u32(value).is_none() {
            return Err("escape is invalid Unicode code point".to_owned());
        }
    }
    Ok(())
}
