//! Aggregations, and what stands between an operator and its right side: lists of labels.

use lgtm_core::go::{quote, quote_bytes, unquote};

use super::{Node, Operator, Parser, Result, fault};
use crate::promql::ast::{
    Aggregate, AggregateOp, BinaryOp, Cardinality, Expr, Span, VectorMatching,
};
use crate::promql::token::{Keyword, TokenKind};

/// `by (…)` or `without (…)`.
#[derive(Default)]
struct Modifier {
    without: bool,
    labels: Vec<String>,
    /// Behind its last byte.
    end: usize,
}

impl Parser<'_> {
    /// Whether an aggregation follows, rather than a metric that has the name of one.
    pub(super) fn begins_aggregate(&mut self) -> bool {
        matches!(
            self.peek(),
            TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)
        )
    }

    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Result<Node> {
        let start = self.take().span;
        self.contexts.push(("aggregation", ""));
        let mut modifier = self.aggregate_modifier()?;
        let (args, height, close) = self.arguments()?;
        let mut span = start.to(close);
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
            if modifier.is_none() && self.current.kind == TokenKind::Fault {
                // Prometheus has read the next token by now, and says first what is wrong there.
                return Err(self.unexpected());
            }
            span.end = modifier.as_ref().map_or(span.end, |m| m.end);
        }
        self.contexts.pop();
        let (param, expr) = self.aggregate_operands(op, args, span)?;
        let modifier = modifier.unwrap_or_default();
        let expr = Expr::Aggregate(Aggregate {
            op,
            expr,
            param,
            grouping: modifier.labels,
            without: modifier.without,
            span,
        });
        self.above(height, expr)
    }

    /// The parameter, if the operation takes one, and what is aggregated.
    fn aggregate_operands(
        &self,
        op: AggregateOp,
        args: Vec<Expr>,
        span: Span,
    ) -> Result<(Option<Box<Expr>>, Box<Expr>)> {
        if args.is_empty() {
            return Err(fault(
                span,
                "no arguments for aggregate expression provided",
            ));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{op}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            return Err(fault(span, message));
        }
        let (got, takes_param) = (args.len(), op.parameter().is_some());
        let mut args = args.into_iter().map(Box::new);
        match (takes_param, args.next(), args.next(), args.next()) {
            (false, Some(expr), None, _) => Ok((None, expr)),
            (true, Some(param), Some(expr), None) => Ok((Some(param), expr)),
            _ => {
                let wanted = if takes_param { 2 } else { 1 };
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}"
                );
                Err(fault(span, message))
            }
        }
    }

    fn aggregate_modifier(&mut self) -> Result<Option<Modifier>> {
        let without = match self.current.kind {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.take();
        let (labels, end) = self.grouping_labels()?;
        Ok(Some(Modifier {
            without,
            labels,
            end,
        }))
    }

    /// An operator, then `bool`, `on`, `ignoring`, `group_left`, `group_right`, `fill` and its kind, in this order.
    pub(super) fn operator(&mut self, op: BinaryOp) -> Result<Box<Operator>> {
        let span = self.take().span;
        let return_bool = self.accept_keyword(Keyword::Bool);
        let mut matching = VectorMatching {
            card: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        matching.on = self.accept_keyword(Keyword::On);
        if matching.on || self.accept_keyword(Keyword::Ignoring) {
            matching.labels = self.grouping_labels()?.0;
            if self.accept_keyword(Keyword::GroupLeft) {
                matching.card = Cardinality::ManyToOne;
            } else if self.accept_keyword(Keyword::GroupRight) {
                matching.card = Cardinality::OneToMany;
            }
            let grouped = matching.card != Cardinality::OneToOne;
            if grouped && self.current.kind == TokenKind::LeftParen {
                matching.include = self.grouping_labels()?.0;
            }
        }
        if self.accept_keyword(Keyword::Fill) {
            let value = Some(self.fill_value()?);
            (matching.fill_left, matching.fill_right) = (value, value);
        } else if self.accept_keyword(Keyword::FillLeft) {
            matching.fill_left = Some(self.fill_value()?);
            if self.accept_keyword(Keyword::FillRight) {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.accept_keyword(Keyword::FillRight) {
            matching.fill_right = Some(self.fill_value()?);
            if self.accept_keyword(Keyword::FillLeft) {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok(Box::new(Operator {
            op,
            span,
            return_bool,
            matching,
        }))
    }

    fn fill_value(&mut self) -> Result<f64> {
        self.expect(TokenKind::LeftParen)?;
        let value = self.signed_number()?;
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// Labels in parentheses, and where they end.
    fn grouping_labels(&mut self) -> Result<(Vec<String>, usize)> {
        const PLACE: &str = "grouping opts";
        if self.accept(TokenKind::LeftParen).is_none() {
            return Err(self.unexpected_in(PLACE, "\"(\""));
        }
        let mut labels = Vec::new();
        loop {
            if let Some(close) = self.accept(TokenKind::RightParen) {
                return Ok((labels, close.span.end));
            }
            labels.push(self.grouping_label(PLACE)?);
            if self.current.kind == TokenKind::RightParen {
                continue;
            }
            if self.accept(TokenKind::Comma).is_none() {
                return Err(self.unexpected_in(PLACE, "\",\" or \")\""));
            }
        }
    }

    fn grouping_label(&mut self, place: &str) -> Result<String> {
        if self.current.kind == TokenKind::Text {
            let token = self.take();
            let invalid = |shown: String| {
                let message = format!("invalid label name for grouping: {shown}");
                fault(token.span, message)
            };
            let name = String::from_utf8(unquote(self.text(token)))
                .map_err(|e| invalid(quote_bytes(e.as_bytes())))?;
            return if name.is_empty() {
                Err(invalid(quote(&name)))
            } else {
                Ok(name)
            };
        }
        let word = self.text(self.current);
        // `inf` and `nan` are numbers and `a:b` a metric's name, but nothing keeps a label from being called so.
        if !self.current.kind.is_label_name() {
            return Err(self.unexpected_in(place, "label"));
        }
        self.take();
        Ok(word.to_owned())
    }
}
