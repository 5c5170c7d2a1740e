//! Label filters.

use super::super::ast::LabelFilter;
use super::super::error::ParseError;
use super::super::lexer::Token;
use super::{Parser, Result, compare_op};

/// How tightly `and` binds; `or` is 1. A comma and white space have no place in that order: what follows them goes to the right.
const AND: u8 = 2;

impl Parser<'_> {
    /// Whether a label filter begins here.
    pub(super) fn begins_filter(&self) -> bool {
        matches!(self.peek(), Token::Name(_) | Token::Sign("("))
    }

    /// A filter whose `and` and `or` bind more tightly than `min`.
    pub(super) fn label_filter(&mut self, min: u8) -> Result<LabelFilter> {
        let mut left = self.deeper(Self::one_filter)?;
        let mut levels = 0;
        loop {
            let is_and = self.is_word("and");
            let (binds, is_or) = if self.is_word("or") {
                (1, true)
            } else {
                (AND, false)
            };
            let (below, skips) = match (is_and || is_or, self.is_sign(",")) {
                (true, _) if binds > min => (binds, 1),
                (true, _) => break,
                (false, true) => (0, 1),
                (false, false) if self.begins_filter() => (0, 0),
                (false, false) => break,
            };
            levels += 1;
            if levels + self.depth > self.settings.max_depth {
                return Err(ParseError::new("label filter has too many parts"));
            }
            self.at += skips;
            let right = self.deeper(|p| p.label_filter(below))?;
            left = if is_or {
                LabelFilter::Or(Box::new(left), Box::new(right))
            } else {
                LabelFilter::And(Box::new(left), Box::new(right))
            };
        }
        Ok(left)
    }

    fn one_filter(&mut self) -> Result<LabelFilter> {
        if self.take_sign("(") {
            let inner = self.label_filter(0)?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        let Token::Sign(sign) = *self.peek() else {
            return Err(self.unexpected(&[]));
        };
        let value = self.peek_behind(1).clone();
        match (&value, sign) {
            (Token::Text(_), "=" | "!=" | "=~" | "!~") => {
                return self.matcher(&name).map(LabelFilter::Text);
            }
            (Token::Word(w), "=" | "!=") if w == "ip" => {
                self.at += 2;
                self.expect_sign("(")?;
                let range = self.text()?;
                self.expect_sign(")")?;
                return Ok(LabelFilter::Ip {
                    name,
                    is_negated: sign == "!=",
                    range,
                });
            }
            _ => {}
        }
        let Some(op) = compare_op(sign) else {
            return Err(self.unexpected(&[]));
        };
        self.at += 1;
        let filter = match value {
            Token::Duration(ns, _) => LabelFilter::Duration { name, op, ns },
            Token::Bytes(bytes) => LabelFilter::Bytes { name, op, bytes },
            Token::Number(_) => {
                let value = self.number()?;
                return Ok(LabelFilter::Number { name, op, value });
            }
            Token::Sign("+" | "-") => {
                self.at += 1;
                let negative = value == Token::Sign("-");
                let value = self.number()?;
                let value = if negative { -value } else { value };
                return Ok(LabelFilter::Number { name, op, value });
            }
            _ => return Err(self.unexpected(&[])),
        };
        self.at += 1;
        Ok(filter)
    }
}
