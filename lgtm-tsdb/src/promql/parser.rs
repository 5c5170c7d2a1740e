//! From tokens to expressions.

use std::fmt;

use lgtm_core::model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Edges, Expr, Length, MatrixSelector, NumberLiteral, Span, StringLiteral, VectorSelector,
};
use super::lexer::{Token, TokenKind, tokens};

/// Queries longer than this are refused before they are looked at.
const MAX_QUERY_BYTES: usize = 1 << 20;

/// Why a query does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Byte at which the fault lies.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// Line and column, from 1, once the query is known.
    place: (usize, usize),
}

impl ParseError {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            place: (1, at + 1),
        }
    }

    fn located(mut self, query: &str) -> Self {
        let before = &query[..self.at.min(query.len())];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        self.place = (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        );
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: parse error: {}",
            self.place.0, self.place.1, self.message
        )
    }
}

impl std::error::Error for ParseError {}

/// Parses a query.
///
/// # Errors
/// With line and column of the fault.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(ParseError::new(
            0,
            format!(
                "query of {} bytes exceeds the {MAX_QUERY_BYTES} allowed",
                query.len()
            ),
        ));
    }
    let parsed = tokens(query).and_then(|tokens| {
        let mut p = Parser { tokens, next: 0 };
        let expr = p.expression()?;
        match p.peek() {
            TokenKind::End => Ok(expr),
            _ => Err(p.unexpected("after the expression")),
        }
    });
    parsed.map_err(|e| e.located(query))
}

/// A duration as PromQL spells it (`1h30m`), or seconds as a number, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Ok(d) = lgtm_core::units::duration::parse(text) {
        return i64::try_from(d.as_millis()).ok();
    }
    let seconds: f64 = text.parse().ok()?;
    let ms = (seconds * 1000.0).round();
    (ms.abs() < 9e15).then_some(ms as i64)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn take(&mut self) -> TokenKind {
        let kind = self.tokens[self.next].kind.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        kind
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let hit = *self.peek() == TokenKind::Sign(sign);
        if hit {
            self.take();
        }
        hit
    }

    fn expect(&mut self, sign: &'static str, place: &str) -> Result<(), ParseError> {
        if self.accept(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{place}, expected {sign:?}")))
        }
    }

    fn unexpected(&self, place: &str) -> ParseError {
        let what = match self.peek() {
            TokenKind::Identifier(s) => format!("identifier {s:?}"),
            TokenKind::Number(s) => format!("number {s:?}"),
            TokenKind::Text(s) => format!("string {s:?}"),
            TokenKind::Sign(s) => format!("{s:?}"),
            TokenKind::Unknown(c) => format!("character {c:?}"),
            TokenKind::End => "end of input".to_owned(),
        };
        ParseError::new(self.at(), format!("unexpected {what} {place}"))
    }

    fn expression(&mut self) -> Result<Expr, ParseError> {
        let at = self.at();
        match self.peek().clone() {
            TokenKind::Number(text) => {
                self.take();
                number(&text)
                    .map(|value| self.number_literal(at, value))
                    .ok_or_else(|| {
                        ParseError::new(at, format!("bad number or duration syntax: {text:?}"))
                    })
            }
            TokenKind::Sign(sign @ ("+" | "-")) => {
                self.take();
                match self.expression()? {
                    Expr::Number(n) => {
                        let value = if sign == "-" { -n.value } else { n.value };
                        Ok(self.number_literal(at, value))
                    }
                    _ => Err(ParseError::new(
                        at,
                        "arithmetic on vectors is not supported yet",
                    )),
                }
            }
            TokenKind::Text(text) => {
                self.take();
                Ok(Expr::Text(StringLiteral {
                    value: text,
                    span: Span::new(at, self.at()),
                }))
            }
            TokenKind::Sign("(") => {
                self.take();
                let inner = self.expression()?;
                self.expect(")", "in parentheses")?;
                Ok(inner)
            }
            TokenKind::Identifier(name)
                if matches!(name.to_ascii_lowercase().as_str(), "inf" | "nan") =>
            {
                self.take();
                let value = if name.eq_ignore_ascii_case("inf") {
                    f64::INFINITY
                } else {
                    f64::NAN
                };
                Ok(self.number_literal(at, value))
            }
            TokenKind::Identifier(name) => {
                self.take();
                if *self.peek() == TokenKind::Sign("(")
                    || matches!(self.peek(), TokenKind::Identifier(w) if w == "by" || w == "without")
                {
                    return Err(ParseError::new(
                        at,
                        format!("function or aggregation {name:?} is not supported yet"),
                    ));
                }
                self.selector(at, Some(name))
            }
            TokenKind::Sign("{") => self.selector(at, None),
            _ => Err(self.unexpected("at the start of an expression")),
        }
    }

    fn selector(&mut self, at: usize, name: Option<String>) -> Result<Expr, ParseError> {
        let mut matchers = Vec::new();
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        if self.accept("{") {
            while !self.accept("}") {
                self.matcher(&mut matchers, name.is_some())?;
                if !self.accept(",") {
                    self.expect("}", "in label matching")?;
                    break;
                }
            }
        }
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(ParseError::new(
                at,
                "vector selector must contain at least one non-empty matcher",
            ));
        }
        let mut range_ms = None;
        if self.accept("[") {
            range_ms = Some(self.duration("in range")?);
            self.expect("]", "in range")?;
        }
        let mut offset_ms = 0;
        if *self.peek() == TokenKind::Identifier("offset".into()) {
            self.take();
            let back = self.accept("-");
            let length = self.duration("in offset")?;
            offset_ms = if back { -length } else { length };
        }
        let span = Span::new(at, self.at());
        let vector = VectorSelector {
            name: name.unwrap_or_default(),
            matchers,
            offset: Length::Ms(offset_ms),
            at: None,
            edges: Edges::Plain,
            bypass_empty_check: false,
            span,
        };
        match range_ms {
            Some(0) => Err(ParseError::new(at, "duration must be greater than 0")),
            Some(range_ms) => Ok(Expr::Matrix(MatrixSelector {
                vector,
                range: Length::Ms(range_ms),
                span,
            })),
            None => Ok(Expr::Vector(vector)),
        }
    }

    fn number_literal(&self, at: usize, value: f64) -> Expr {
        Expr::Number(NumberLiteral {
            value,
            duration: false,
            span: Span::new(at, self.at()),
        })
    }

    fn matcher(&mut self, matchers: &mut Vec<Matcher>, named: bool) -> Result<(), ParseError> {
        let at = self.at();
        let (name, quoted) = match self.take() {
            TokenKind::Identifier(name) => (name, false),
            TokenKind::Text(name) => (name, true),
            _ => {
                return Err(ParseError::new(
                    at,
                    "unexpected token in label matching, expected a label name",
                ));
            }
        };
        let op = match self.peek() {
            TokenKind::Sign("=") => MatchOp::Equal,
            TokenKind::Sign("!=") => MatchOp::NotEqual,
            TokenKind::Sign("=~") => MatchOp::Regex,
            TokenKind::Sign("!~") => MatchOp::NotRegex,
            TokenKind::Sign("," | "}") if quoted => {
                if named {
                    return Err(ParseError::new(
                        at,
                        format!("metric name must not be set twice: {name:?}"),
                    ));
                }
                matchers.push(Matcher::equal(METRIC_NAME, &name));
                return Ok(());
            }
            _ => return Err(self.unexpected("in label matching, expected one of = != =~ !~")),
        };
        self.take();
        let value_at = self.at();
        let TokenKind::Text(value) = self.take() else {
            return Err(ParseError::new(
                value_at,
                "unexpected token in label matching, expected a string",
            ));
        };
        if named && name == METRIC_NAME {
            return Err(ParseError::new(at, "metric name must not be set twice"));
        }
        matchers.push(
            Matcher::new(op, &name, &value)
                .map_err(|e| ParseError::new(value_at, e.to_string()))?,
        );
        Ok(())
    }

    fn duration(&mut self, place: &str) -> Result<i64, ParseError> {
        let at = self.at();
        match self.take() {
            TokenKind::Number(text) => parse_duration_ms(&text)
                .ok_or_else(|| ParseError::new(at, format!("bad duration syntax: {text:?}"))),
            _ => Err(ParseError::new(
                at,
                format!("unexpected token {place}, expected a duration"),
            )),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    if let Ok(d) = lgtm_core::units::duration::parse(text)
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
    {
        return Some(d.as_secs_f64());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selectors_parse() {
        let Expr::Vector(s) = parse(r#"up{job=~"a|b",x!='y',} offset 5m"#).unwrap() else {
            panic!()
        };
        let words: Vec<_> = s.matchers.iter().map(ToString::to_string).collect();
        assert_eq!(words, [r#"__name__="up""#, r#"job=~"a|b""#, r#"x!="y""#]);
        assert_eq!(s.offset, Length::Ms(300_000));
        assert!(matches!(parse("up[5m]"), Ok(Expr::Matrix(m)) if m.range == Length::Ms(300_000)));
        assert!(
            matches!(parse(r#"{"my.metric", "a.b"="c"}"#), Ok(Expr::Vector(s)) if s.matchers.len() == 2)
        );
        assert!(matches!(parse("-1.5e3"), Ok(Expr::Number(n)) if n.value == -1500.0));
        assert!(matches!(parse(r#""a\n\x41\u00e4""#), Ok(Expr::Text(t)) if t.value == "a\nAä"));
    }

    #[test]
    fn faults_have_a_place() {
        for (query, words) in [
            ("", "1:1: parse error: unexpected end of input"),
            ("up{", "1:4: parse error: unexpected"),
            ("up{a=}", "1:6: parse error"),
            ("up\n{a=\"b\"} x", "2:9: parse error: unexpected identifier"),
            (
                "{}",
                "1:1: parse error: vector selector must contain at least one non-empty matcher",
            ),
            (
                r#"up{a=~"("}"#,
                "1:7: parse error: matcher a: invalid regular expression",
            ),
            (
                "rate(x[5m])",
                "1:1: parse error: function or aggregation \"rate\" is not supported yet",
            ),
        ] {
            let error = parse(query).unwrap_err().to_string();
            assert!(error.starts_with(words), "{query:?}: {error}");
        }
        assert!(parse(&"x".repeat(2 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*|[a-z{}\\[\\]\"=~!, 0-9.m]*") {
            let _ = parse(&text);
        }
    }
}
