//! A query cut into tokens.

use std::borrow::Cow;

use lgtm_core::go::unquote;

use super::duration::parse_literal_ns;
use crate::select::{AttributeScope, Field, Intrinsic, Literal, ends_a_name};

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
    /// An attribute or an intrinsic.
    Field(Field),
    /// Something of the span above, which nobody answers; whether it is bare.
    Parent { bare: bool },
    /// A value.
    Literal(Literal),
    /// A word that is none of these; functions too.
    Word(String),
    /// Operators and parentheses.
    Sign(&'static str),
    /// What no token begins with. It is a fault where the parser comes to it.
    Bad(String),
    /// The end of the query.
    End,
}

impl Token {
    /// As errors name it.
    pub(super) fn described(&self) -> Cow<'_, str> {
        match self {
            Self::Field(Field::Attribute(..)) => "IDENTIFIER".into(),
            Self::Field(field) => field.to_string().into(),
            Self::Parent { .. } => "parent".into(),
            Self::Literal(literal) => match literal {
                Literal::Int(_) => "INTEGER".into(),
                Literal::Float(_) => "FLOAT".into(),
                Literal::Text(_) => "STRING".into(),
                Literal::Duration(_) => "DURATION".into(),
                literal => literal.to_string().into(),
            },
            Self::Word(word) => word.as_str().into(),
            Self::Sign(sign) => (*sign).into(),
            Self::Bad(_) => "$unk".into(),
            Self::End => "$end".into(),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 35] = [
    "&>>", "&<<", "!>>", "!<<", "&&", "||", ">>", "<<", ">=", "<=", "!=", "=~", "!~", "!>", "!<",
    "&>", "&<", "&~", "{", "}", "(", ")", ",", "|", "=", ">", "<", "~", "!", "+", "-", "*", "/",
    "%", "^",
];

/// Functions and what else is no value and no field.
const WORDS: [&str; 20] = [
    "count",
    "avg",
    "min",
    "max",
    "sum",
    "by",
    "coalesce",
    "select",
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
    "topk",
    "bottomk",
    "with",
];

/// Cuts a query. What is no token is a [`Token::Bad`], behind which nothing follows.
pub(super) fn tokens(query: &str) -> Vec<PlacedToken> {
    let mut lexer = Lexer {
        query,
        at: 0,
        line: 1,
        line_start: 0,
        in_hints: false,
    };
    let mut out = Vec::new();
    loop {
        let open_comment = lexer.skip_space();
        let place = lexer.place();
        let token = match open_comment {
            Some(bad) => bad,
            None => lexer.next(),
        };
        if token == Token::Word("with".to_owned()) {
            lexer.in_hints = true;
        }
        let is_last = matches!(token, Token::End | Token::Bad(_));
        out.push(PlacedToken { token, place });
        if is_last {
            return out;
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    /// Behind `with` every word may be a name.
    in_hints: bool,
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

    /// White space and comments; a comment without an end is a fault.
    fn skip_space(&mut self) -> Option<Token> {
        loop {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start().len());
            let rest = self.rest();
            if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if let Some(inside) = rest.strip_prefix("/*") {
                let Some(end) = inside.find("*/") else {
                    return Some(Token::Bad("comment not terminated".to_owned()));
                };
                self.advance(end + 4);
            } else {
                return None;
            }
        }
    }

    fn next(&mut self) -> Token {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Token::End;
        };
        match first {
            '"' | '`' => self.text(first),
            '0'..='9' => self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number(),
            '.' => {
                self.advance(1);
                self.attribute(AttributeScope::Any)
            }
            c if c == '_' || c.is_alphabetic() => self.word(),
            '\'' => self.single_quote(),
            _ => match SIGNS.iter().find(|s| rest.starts_with(**s)) {
                Some(sign) => {
                    self.advance(sign.len());
                    Token::Sign(sign)
                }
                None => Token::Bad(format!("syntax error: unexpected {first:?}")),
            },
        }
    }

    fn single_quote(&self) -> Token {
        let inside = &self.rest()[1..];
        let end = inside.find('\'').unwrap_or(inside.len());
        let text = &self.rest()[..(end + 2).min(self.rest().len())];
        Token::Bad(if inside[..end].chars().count() == 1 {
            format!("unknown identifier: {text}")
        } else {
            "invalid char literal".to_owned()
        })
    }

    fn text(&mut self, quote: char) -> Token {
        let Some(token) = quoted(self.rest(), quote) else {
            return Token::Bad("literal not terminated".to_owned());
        };
        if quote == '"'
            && let Err(e) = check_escapes(token)
        {
            return Token::Bad(e.to_owned());
        }
        self.advance(token.len());
        match String::from_utf8(unquote(token)) {
            Ok(text) => Token::Literal(Literal::Text(text)),
            Err(_) => Token::Bad("text is no valid UTF-8".to_owned()),
        }
    }

    fn number(&mut self) -> Token {
        let rest = self.rest();
        let number = &rest[..number_end(rest)];
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | 'µ' | 'μ');
        if rest[number.len()..].starts_with(goes_on) {
            let end = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
            let Some(ns) = parse_literal_ns(&rest[..end]) else {
                return Token::Bad(format!("syntax error: unexpected {}", &rest[..end]));
            };
            self.advance(end);
            return Token::Literal(Literal::Duration(ns));
        }
        let literal = if number.contains(['.', 'e', 'E']) {
            number.parse().ok().map(Literal::Float)
        } else {
            number.parse().ok().map(Literal::Int)
        };
        self.advance(number.len());
        literal.map_or_else(
            || Token::Bad(format!("number out of range: {number}")),
            Token::Literal,
        )
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let is_part = |c: char| c == '_' || c.is_alphanumeric();
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let tail = &rest[word.len()..];
        if self.in_hints && !matches!(word, "true" | "false") {
            self.advance(word.len());
            return Token::Word(word.to_owned());
        }
        if let Some(scope) = scope_of(word)
            && tail.starts_with('.')
        {
            self.advance(word.len() + 1);
            return self.attribute(scope);
        }
        if word == "parent" {
            return self.parent(tail.starts_with('.'));
        }
        if let Some(inside) = tail.strip_prefix(':')
            && matches!(
                word,
                "span" | "trace" | "event" | "link" | "instrumentation"
            )
        {
            let end = inside.find(|c| !is_part(c)).unwrap_or(inside.len());
            let name = &rest[..word.len() + 1 + end];
            return match Intrinsic::of_scoped_name(name) {
                Some(intrinsic) => {
                    self.advance(name.len());
                    Token::Field(intrinsic.into())
                }
                None => Token::Bad(format!("unknown identifier: {name}")),
            };
        }
        self.advance(word.len());
        bare_word(word)
    }

    /// `parent`, `parent.x`, `parent.span.x`
    fn parent(&mut self, has_name: bool) -> Token {
        self.advance("parent".len());
        if !has_name {
            return Token::Parent { bare: true };
        }
        self.advance(1);
        for scope in ["span", "resource"] {
            let of_scope = self.rest().strip_prefix(scope);
            if of_scope.is_some_and(|rest| rest.starts_with('.')) {
                self.advance(scope.len() + 1);
                break;
            }
        }
        match self.attribute(AttributeScope::Any) {
            Token::Field(_) => Token::Parent { bare: false },
            bad => bad,
        }
    }

    /// The name of an attribute, parts of it perhaps in quotes.
    fn attribute(&mut self, scope: AttributeScope) -> Token {
        let mut name = String::new();
        let start = self.at;
        while let Some(c) = self.rest().chars().next() {
            if c == '"' {
                let Some(token) = quoted(self.rest(), '"') else {
                    return Token::Bad("literal not terminated".to_owned());
                };
                let mut inside = token[1..token.len() - 1].chars();
                while let Some(c) = inside.next() {
                    name.push(match c {
                        '\\' => match inside.next() {
                            Some(c @ ('"' | '\\')) => c,
                            _ => return Token::Bad("invalid escape in attribute".to_owned()),
                        },
                        c => c,
                    });
                }
                self.advance(token.len());
            } else if ends_a_name(c) {
                break;
            } else {
                name.push(c);
                self.advance(c.len_utf8());
            }
        }
        if self.at == start {
            return Token::Bad("syntax error: attribute name expected".to_owned());
        }
        Token::Field(Field::Attribute(scope, name))
    }
}

fn scope_of(word: &str) -> Option<AttributeScope> {
    AttributeScope::ALL.into_iter().find(|s| s.name() == word)
}

/// What a word means that is neither a scope nor before a colon.
fn bare_word(word: &str) -> Token {
    use crate::trace::{SpanKind, StatusCode};
    if let Some(code) = StatusCode::of_word(word) {
        return Token::Literal(Literal::Status(code));
    }
    if let Some(kind) = SpanKind::of_word(word) {
        return Token::Literal(Literal::Kind(kind));
    }
    if let Some(intrinsic) = Intrinsic::of_bare_name(word) {
        return Token::Field(intrinsic.into());
    }
    match word {
        "nil" => Token::Literal(Literal::Nil),
        "true" => Token::Literal(Literal::Bool(true)),
        "false" => Token::Literal(Literal::Bool(false)),
        "minInt" => Token::Literal(Literal::Int(i64::MIN)),
        "maxInt" => Token::Literal(Literal::Int(i64::MAX)),
        _ if WORDS.contains(&word) => Token::Word(word.to_owned()),
        _ => Token::Bad(format!("unknown identifier: {word}")),
    }
}

/// The text in quotes that `rest` begins with, quotes included.
fn quoted(rest: &str, quote: char) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            '\n' if quote == '"' => return None,
            c if c == quote => return Some(&rest[..=at]),
            _ => {}
        }
    }
    None
}

/// Where a decimal number ends.
fn number_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

/// Whether the escapes of a quoted text are Go's.
fn check_escapes(token: &str) -> Result<(), &'static str> {
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
            _ => return Err("invalid char escape"),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            let digit = rest.next().and_then(|d| d.to_digit(radix));
            value = (value.wrapping_mul(radix)).wrapping_add(digit.ok_or("invalid char escape")?);
        }
        if digits > 2 && char::from_u32(value).is_none() {
            return Err("escape is invalid Unicode code point");
        }
    }
    Ok(())
}
