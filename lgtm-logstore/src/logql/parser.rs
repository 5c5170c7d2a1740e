//! From text to tree.

mod filter;
mod metric;
mod pipeline;

use lgtm_core::model::{MatchOp, Matcher};

use super::ast::{BinaryOp, CompareOp, Expr, LogExpr};
use super::error::ParseError;
use super::lexer::{PlacedToken, Token, tokens};
use super::settings::ParserSettings;

type Result<T> = std::result::Result<T, ParseError>;

/// Parses a query with the default bounds.
///
/// # Errors
/// In the words of Loki where they are known.
pub fn parse(query: &str) -> Result<Expr> {
    parse_with(query, &ParserSettings::default())
}

/// Parses a query.
///
/// # Errors
/// In the words of Loki where they are known; for what is longer or deeper than the settings allow.
pub fn parse_with(query: &str, settings: &ParserSettings) -> Result<Expr> {
    let mut parser = Parser::new(query, settings)?;
    let expr = parser.expr(0)?;
    parser.end()?;
    Ok(expr)
}

/// Parses a stream selector, as calls for labels and series take it; `{}` is one too.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>> {
    let settings = ParserSettings::default();
    let mut parser = Parser::new(query, &settings)?;
    let matchers = parser.selector()?;
    parser.end()?;
    Ok(matchers)
}

struct Parser<'s> {
    tokens: Vec<PlacedToken>,
    at: usize,
    depth: usize,
    settings: &'s ParserSettings,
}

impl<'s> Parser<'s> {
    fn new(query: &str, settings: &'s ParserSettings) -> Result<Self> {
        if query.len() >= settings.max_query_bytes {
            return Err(ParseError::new(format!(
                "input size too long ({} > {})",
                query.len(),
                settings.max_query_bytes
            )));
        }
        if query.is_empty() {
            return Err(ParseError::new("syntax error: unexpected $end"));
        }
        Ok(Self {
            tokens: tokens(query)?,
            at: 0,
            depth: 0,
            settings,
        })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn peek_behind(&self, n: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + n).min(last)].token
    }

    /// Takes the next token; the end stays.
    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w == word)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &str) -> Result<()> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&[sign]))
        }
    }

    /// That something else was expected here.
    fn unexpected(&self, expected: &[&str]) -> ParseError {
        let placed = &self.tokens[self.at];
        let mut message = format!("syntax error: unexpected {}", placed.token.described());
        if !expected.is_empty() {
            message.push_str(", expecting ");
            message.push_str(&expected.join(" or "));
        }
        ParseError::at(placed.place, message)
    }

    fn end(&self) -> Result<()> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.unexpected(&[])),
        }
    }

    fn name(&mut self) -> Result<String> {
        match self.peek() {
            Token::Name(_) => match self.next() {
                Token::Name(name) => Ok(name),
                _ => unreachable_token(),
            },
            _ => Err(self.unexpected(&["IDENTIFIER"])),
        }
    }

    fn text(&mut self) -> Result<String> {
        match self.peek() {
            Token::Text(_) => match self.next() {
                Token::Text(text) => Ok(text),
                _ => unreachable_token(),
            },
            _ => Err(self.unexpected(&["STRING"])),
        }
    }

    /// An unsigned number.
    fn number(&mut self) -> Result<f64> {
        let Token::Number(text) = self.peek() else {
            return Err(self.unexpected(&["NUMBER"]));
        };
        let value = literal(text).map_err(|e| ParseError::at(self.tokens[self.at].place, e))?;
        self.at += 1;
        Ok(value)
    }

    /// One level further down the tree.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= self.settings.max_depth {
            return Err(ParseError::at(
                self.tokens[self.at].place,
                format!(
                    "query nests deeper than {} levels (querier.parser.max_depth)",
                    self.settings.max_depth
                ),
            ));
        }
        self.depth += 1;
        let parsed = lgtm_core::exec::with_room(|| parse(self));
        self.depth -= 1;
        parsed
    }

    /// An expression whose operators bind more tightly than `min`.
    fn expr(&mut self, min: u8) -> Result<Expr> {
        let mut left = self.deeper(Self::primary)?;
        let mut levels = 0;
        while let Some(op) = self.binary_op() {
            let binds = op.precedence();
            if binds <= min {
                break;
            }
            self.at += 1;
            levels += 1;
            if levels + self.depth > self.settings.max_depth {
                return Err(ParseError::new(format!(
                    "query has more than {} operators in a row (querier.parser.max_depth)",
                    self.settings.max_depth
                )));
            }
            let returns_bool = self.take_word("bool");
            let matching = self.matching()?;
            // The power binds to the right.
            let below = if op == BinaryOp::Pow {
                binds - 1
            } else {
                binds
            };
            let right = self.deeper(|p| p.expr(below))?;
            let metric = metric::binary(op, returns_bool, matching, left, right)?;
            left = Expr::Metric(metric);
        }
        Ok(left)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Word(w) => match w.as_str() {
                "or" => BinaryOp::Or,
                "and" => BinaryOp::And,
                "unless" => BinaryOp::Unless,
                _ => return None,
            },
            Token::Sign(sign) => match *sign {
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                "/" => BinaryOp::Div,
                "%" => BinaryOp::Mod,
                "^" => BinaryOp::Pow,
                "=" => return None,
                sign => BinaryOp::Compare(compare_op(sign)?),
            },
            _ => return None,
        })
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.peek() {
            Token::Sign("{") => self.log_expr().map(Expr::Log),
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.expr(0)?;
                self.expect_sign(")")?;
                Ok(inner)
            }
            _ => self.metric().map(Expr::Metric),
        }
    }

    fn log_expr(&mut self) -> Result<LogExpr> {
        let matchers = self.checked_selector()?;
        let stages = self.stages()?;
        Ok(LogExpr { matchers, stages })
    }

    /// A selector that cannot select all streams.
    fn checked_selector(&mut self) -> Result<Vec<Matcher>> {
        let matchers = self.selector()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(ParseError::not_selective());
        }
        Ok(matchers)
    }

    fn selector(&mut self) -> Result<Vec<Matcher>> {
        self.expect_sign("{")?;
        let mut matchers = Vec::new();
        if self.take_sign("}") {
            return Ok(matchers);
        }
        loop {
            if matchers.is_empty() && !matches!(self.peek(), Token::Name(_)) {
                return Err(self.unexpected(&["IDENTIFIER", "}"]));
            }
            let name = self.name()?;
            matchers.push(self.matcher(&name)?);
            if self.take_sign("}") {
                return Ok(matchers);
            }
            if !self.take_sign(",") {
                return Err(self.unexpected(&["}", ","]));
            }
        }
    }

    /// What follows the name in a matcher.
    fn matcher(&mut self, name: &str) -> Result<Matcher> {
        let op = match self.peek() {
            Token::Sign("=") => MatchOp::Equal,
            Token::Sign("!=") => MatchOp::NotEqual,
            Token::Sign("=~") => MatchOp::Regex,
            Token::Sign("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(&["=", "!=", "=~", "!~"])),
        };
        self.at += 1;
        let value = self.text()?;
        Matcher::new(op, name, &value).map_err(|e| ParseError::new(e.to_string()))
    }

    fn names(&mut self) -> Result<Vec<String>> {
        self.expect_sign("(")?;
        let mut names = Vec::new();
        if self.take_sign(")") {
            return Ok(names);
        }
        loop {
            names.push(self.name()?);
            if self.take_sign(")") {
                return Ok(names);
            }
            self.expect_sign(",")?;
        }
    }
}

fn compare_op(sign: &str) -> Option<CompareOp> {
    Some(match sign {
        "==" | "=" => CompareOp::Equal,
        "!=" => CompareOp::NotEqual,
        "<" => CompareOp::Less,
        "<=" => CompareOp::LessOrEqual,
        ">" => CompareOp::Greater,
        ">=" => CompareOp::GreaterOrEqual,
        _ => return None,
    })
}

fn literal(text: &str) -> std::result::Result<f64, String> {
    let plain = text.replace('_', "");
    plain.parse().map_err(|_| {
        format!("unable to parse literal as a float: strconv.ParseFloat: parsing {text:?}: invalid syntax")
    })
}

/// The token was looked at before it was taken.
fn unreachable_token<T>() -> Result<T> {
    Err(ParseError::new("syntax error"))
}

#[cfg(test)]
mod tests;
