//! What stands behind an expression: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use lgtm_core::model::TimestampMs;

use super::{Node, Parser, Result, fault};
use crate::promql::ast::{AtModifier, DurationExpr, Edges, Expr, Length, MatrixSelector, Subquery};
use crate::promql::number::seconds_to_ms;
use crate::promql::token::{Keyword, TokenKind, Word};

const ANY_DURATION: &str = "number, duration, step(), or range()";
const RANGE: (&str, &str) = ("subquery or range selector", ANY_DURATION);
const STEP: (&str, &str) = (
    "subquery selector",
    "number, duration, step(), range(), or \"]\"",
);
const OFFSET: (&str, &str) = ("offset", ANY_DURATION);
const AT: (&str, &str) = ("@", "timestamp");

/// Where a modifier is noted: offset, `@`, and the end of the whole.
type Modified<'e> = (&'e mut Length, &'e mut Option<AtModifier>, &'e mut usize);

impl Parser<'_> {
    pub(super) fn postfix(&mut self, mut node: Node) -> Result<Node> {
        loop {
            match self.current.kind {
                TokenKind::LeftBracket => node = self.brackets(node)?,
                TokenKind::Keyword(Keyword::Offset) => self.offset(&mut node.expr)?,
                TokenKind::At => self.at(&mut node.expr)?,
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.edges(&mut node.expr, Edges::Anchored, "anchored")?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.edges(&mut node.expr, Edges::Smoothed, "smoothed")?;
                }
                _ => return Ok(node),
            }
        }
    }

    fn brackets(&mut self, node: Node) -> Result<Node> {
        let open = self.take();
        let range = self.within(RANGE, Self::positive_duration)?;
        let mut step = None;
        if self.accept(TokenKind::Colon).is_none() {
            let Some(close) = self.accept(TokenKind::RightBracket) else {
                return Err(self.unexpected_in("subquery or range", "\":\" or \"]\""));
            };
            return matrix(*node.expr, length(range), close.span.end)
                .map_err(|message| fault(open.span.to(close.span), message));
        }
        if self.current.kind != TokenKind::RightBracket {
            step = Some(length(self.within(STEP, Self::positive_duration)?));
        }
        let Some(close) = self.accept(TokenKind::RightBracket) else {
            return Err(self.unexpected_in("subquery selector", "\"]\""));
        };
        let expr = Expr::Subquery(Subquery {
            span: node.expr.span().to(close.span),
            expr: node.expr,
            range: length(range),
            step,
            offset: Length::ZERO,
            at: None,
        });
        self.above(node.height, expr)
    }

    fn offset(&mut self, expr: &mut Expr) -> Result<()> {
        self.take();
        let duration = self.within(OFFSET, Self::offset_duration)?;
        let span = expr.span();
        let Some((offset, _, end)) = modified(expr) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(fault(span, message));
        };
        if !offset.is_zero() {
            return Err(fault(span, "offset may not be set multiple times"));
        }
        *end = duration.span().end;
        *offset = length(duration);
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<()> {
        self.take();
        let (time, at_end) = self.within(AT, Self::at_time)?;
        let span = expr.span();
        let time = match time {
            Ok(time) => time,
            // Such a time has no milliseconds.
            Err(seconds) => {
                let shown = match seconds {
                    f64::INFINITY => "+Inf".to_owned(),
                    f64::NEG_INFINITY => "-Inf".to_owned(),
                    _ => format!("{seconds:.6}"),
                };
                let message = format!("timestamp out of bounds for @ modifier: {shown}");
                return Err(fault(span, message));
            }
        };
        let Some((_, at, end)) = modified(expr) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(fault(span, message));
        };
        if at.is_some() {
            let message = "@ <timestamp> may not be set multiple times";
            return Err(fault(span, message));
        }
        (*at, *end) = (Some(time), at_end);
        Ok(())
    }

    /// The time behind `@`, or the seconds that are none, and where it ends.
    fn at_time(&mut self) -> Result<(std::result::Result<AtModifier, f64>, usize)> {
        let named = match self.current.kind {
            TokenKind::Word(Word::Start) => Some(AtModifier::Start),
            TokenKind::Word(Word::End) => Some(AtModifier::End),
            _ => None,
        };
        if let Some(named) = named {
            self.take();
            self.expect(TokenKind::LeftParen)?;
            let close = self.expect(TokenKind::RightParen)?;
            return Ok((Ok(named), close.span.end));
        }
        let sign = self.current.kind;
        let end = match sign {
            TokenKind::Number | TokenKind::Duration => self.current.span.end,
            _ => {
                self.peek();
                self.ahead.map_or(0, |token| token.span.end)
            }
        };
        let seconds = self.signed_number()?;
        let bound = i64::MAX as f64;
        if !(seconds > -bound && seconds < bound) {
            return Ok((Err(seconds), end));
        }
        let t_ms = TimestampMs::new((seconds * 1000.0).round() as i64);
        Ok((Ok(AtModifier::Time(t_ms)), end))
    }

    fn edges(&mut self, expr: &mut Expr, edges: Edges, word: &str) -> Result<()> {
        let token = self.take();
        let span = expr.span();
        let wrong = |message: String| Err(fault(span, message));
        if !self.options.extended_range_selectors {
            return wrong(format!("{word} modifier is experimental and not enabled"));
        }
        let selector = match expr {
            Expr::Vector(selector) => {
                selector.span.end = token.span.end;
                selector
            }
            Expr::Matrix(matrix) => {
                matrix.span.end = token.span.end;
                &mut matrix.vector
            }
            Expr::Subquery(_) => {
                return wrong(format!("{word} modifier is not supported for subqueries"));
            }
            _ => return wrong(format!("{word} modifier not implemented")),
        };
        if selector.edges != Edges::Plain && selector.edges != edges {
            return wrong("anchored and smoothed modifiers cannot be used together".into());
        }
        selector.edges = edges;
        Ok(())
    }
}

fn matrix(expr: Expr, range: Length, end: usize) -> std::result::Result<Node, &'static str> {
    let Expr::Vector(vector) = expr else {
        return Err("ranges only allowed for vector selectors");
    };
    if !vector.offset.is_zero() {
        return Err("no offset modifiers allowed before range");
    }
    if matches!(vector.at, Some(AtModifier::Time(_))) {
        return Err("no @ modifiers allowed before range");
    }
    let mut span = vector.span;
    span.end = end;
    Ok(Node::leaf(Expr::Matrix(MatrixSelector {
        vector,
        range,
        span,
    })))
}

fn modified(expr: &mut Expr) -> Option<Modified<'_>> {
    Some(match expr {
        Expr::Vector(e) => (&mut e.offset, &mut e.at, &mut e.span.end),
        Expr::Matrix(e) => (&mut e.vector.offset, &mut e.vector.at, &mut e.span.end),
        Expr::Subquery(e) => (&mut e.offset, &mut e.at, &mut e.span.end),
        _ => return None,
    })
}

fn length(duration: DurationExpr) -> Length {
    match duration {
        DurationExpr::Number(n) => Length::Ms(seconds_to_ms(n.value)),
        computed => Length::Computed(Box::new(computed)),
    }
}
