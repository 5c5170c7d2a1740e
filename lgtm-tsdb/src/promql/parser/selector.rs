//! Vector selectors: a name, matchers in braces, or both.

use lgtm_core::go::{quote_bytes, unquote};
use lgtm_core::model::{METRIC_NAME, MatchOp, Matcher};

use super::{Parser, Result, fault};
use crate::promql::ast::{BinaryOp, Edges, Length, Span, VectorSelector};
use crate::promql::token::{Token, TokenKind};

/// Where a fault in braces is.
const PLACE: &str = "label matching";

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector> {
        let mut name = String::new();
        let mut span = self.current.span;
        if self.current.kind.is_metric_name() {
            let token = self.take();
            name = self.text(token).to_owned();
        } else if self.current.kind != TokenKind::LeftBrace {
            return Err(self.unexpected());
        }
        let mut matchers = Vec::new();
        if self.current.kind == TokenKind::LeftBrace {
            span.end = self.matchers(&mut matchers)?;
        }
        if !name.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, &name));
        }
        Ok(VectorSelector {
            name,
            matchers,
            offset: Length::ZERO,
            at: None,
            edges: Edges::Plain,
            bypass_empty_check: false,
            span,
        })
    }

    /// Reads matchers in braces; gives where the braces end.
    fn matchers(&mut self, out: &mut Vec<Matcher>) -> Result<usize> {
        self.take();
        loop {
            if let Some(close) = self.accept(TokenKind::RightBrace) {
                return Ok(close.span.end);
            }
            let checked = self.options.check_matchers(out.len() + 1);
            checked.map_err(|e| fault(self.current.span, e.to_string()))?;
            out.push(self.matcher()?);
            if self.current.kind == TokenKind::RightBrace {
                continue;
            }
            if self.accept(TokenKind::Comma).is_none() {
                return Err(self.unexpected_in(PLACE, "\",\" or \"}\""));
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher> {
        let label = self.current;
        let name = match label.kind {
            TokenKind::Identifier => self.text(label).to_owned(),
            TokenKind::Text => self.utf8(label)?,
            _ => return Err(self.unexpected_in(PLACE, "identifier or \"}\"")),
        };
        self.take();
        let op = match self.current.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Binary(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::MatchRegex => MatchOp::Regex,
            TokenKind::MatchNotRegex => MatchOp::NotRegex,
            // A quoted name alone is the metric's.
            _ if label.kind == TokenKind::Text => return Ok(Matcher::equal(METRIC_NAME, &name)),
            _ => return Err(self.unexpected_in(PLACE, "label matching operator")),
        };
        self.take();
        if self.current.kind != TokenKind::Text {
            return Err(self.unexpected_in(PLACE, "string"));
        }
        let token = self.take();
        let value = self.utf8(token)?;
        let span = label.span.to(token.span);
        self.check_regex(op, &name, &value, span)?;
        Matcher::new(op, &name, &value).map_err(|e| fault(span, e.to_string()))
    }

    fn check_regex(&self, op: MatchOp, name: &str, value: &str, span: Span) -> Result<()> {
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        if !is_regex || value.len() <= self.options.max_regex_bytes {
            return Ok(());
        }
        let message = format!(
            "regular expression of {} bytes for label {name:?} exceeds the {} allowed (max_regex_bytes)",
            value.len(),
            self.options.max_regex_bytes
        );
        Err(fault(span, message))
    }

    /// A string that names or matches labels. Ours are UTF-8, so nothing could match other bytes.
    fn utf8(&self, token: Token) -> Result<String> {
        String::from_utf8(unquote(self.text(token))).map_err(|e| {
            let message = format!("string {} is not UTF-8", quote_bytes(e.as_bytes()));
            fault(token.span, message)
        })
    }
}
