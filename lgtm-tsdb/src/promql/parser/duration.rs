//! Lengths of time: `5m`, and with the option for it also `2 * step() - 5m`.

use super::{Parser, Result, fault, tightness};
use crate::promql::ast::{BinaryOp, DurationExpr, Span, UnaryOp};
use crate::promql::number::is_out_of_range;
use crate::promql::token::{TokenKind, Word};

/// A duration and the height of its tree.
struct Node {
    expr: Box<DurationExpr>,
    height: usize,
}

impl Parser<'_> {
    /// In brackets: any arithmetic; what is known may not be zero or less.
    pub(super) fn positive_duration(&mut self) -> Result<DurationExpr> {
        match *self.duration(0)?.expr {
            DurationExpr::Number(n) if n.value <= 0.0 => {
                Err(fault(n.span, "duration must be greater than 0"))
            }
            expr => Ok(expr),
        }
    }

    /// Behind `offset`: one operand only, so that `x offset 5m + y` adds `y` to the vector.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr> {
        let Some((op, sign)) = self.sign() else {
            return Ok(*self.duration_operand()?.expr);
        };
        let operand = match self.current.kind {
            TokenKind::LeftParen => self.duration_paren()?,
            _ => self.duration_operand()?,
        };
        Ok(*self.signed_duration(op, sign, operand)?.expr)
    }

    fn sign(&mut self) -> Option<(UnaryOp, Span)> {
        let op = match self.current.kind {
            TokenKind::Binary(BinaryOp::Add) => UnaryOp::Plus,
            TokenKind::Binary(BinaryOp::Sub) => UnaryOp::Minus,
            _ => return None,
        };
        Some((op, self.take().span))
    }

    /// A node over others of which the highest is `below`.
    fn duration_above(&self, below: usize, expr: DurationExpr) -> Result<Node> {
        let height = below + 1;
        self.check_depth(height, expr.span())?;
        Ok(Node {
            expr: Box::new(expr),
            height,
        })
    }

    fn duration(&mut self, min: u8) -> Result<Node> {
        self.depth += 1;
        self.check_depth(self.depth, self.current.span)?;
        let mut lhs = match self.sign() {
            Some((op, span)) => {
                let operand = self.duration(tightness(BinaryOp::Mul) + 1)?;
                self.signed_duration(op, span, operand)?
            }
            None => self.duration_operand()?,
        };
        while let TokenKind::Binary(op) = self.current.kind {
            let tightness = tightness(op);
            if !is_arithmetic(op) || tightness < min {
                break;
            }
            let span = self.take().span;
            let right = if op == BinaryOp::Pow { 0 } else { 1 };
            let rhs = self.duration(tightness + right)?;
            lhs = self.duration_operation(lhs, op, span, rhs)?;
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn duration_operation(&self, lhs: Node, op: BinaryOp, span: Span, rhs: Node) -> Result<Node> {
        self.check_enabled(lhs.expr.span())?;
        let by_zero = matches!(&*rhs.expr, DurationExpr::Number(n) if n.value == 0.0);
        match op {
            BinaryOp::Div if by_zero => return Err(fault(span, "division by zero")),
            BinaryOp::Mod if by_zero => return Err(fault(span, "modulo by zero")),
            _ => {}
        }
        let expr = DurationExpr::Binary {
            op,
            lhs: lhs.expr,
            rhs: rhs.expr,
        };
        self.duration_above(lhs.height.max(rhs.height), expr)
    }

    fn duration_operand(&mut self) -> Result<Node> {
        match self.current.kind {
            TokenKind::Word(word @ (Word::MinOf | Word::MaxOf)) => self.duration_pair(word),
            TokenKind::LeftParen => {
                let node = self.duration_paren()?;
                if let DurationExpr::Paren { expr, .. } = &*node.expr {
                    self.check_enabled(expr.span())?;
                }
                Ok(node)
            }
            _ => self.duration_leaf(),
        }
    }

    fn duration_leaf(&mut self) -> Result<Node> {
        let expr = match self.current.kind {
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number_literal()?;
                if is_out_of_range(number.value) {
                    return Err(fault(number.span, "duration out of range"));
                }
                DurationExpr::Number(number)
            }
            TokenKind::Word(word @ (Word::Step | Word::Range)) => {
                let start = self.take().span;
                self.expect(TokenKind::LeftParen)?;
                let span = start.to(self.expect(TokenKind::RightParen)?.span);
                self.check_enabled(span)?;
                match word {
                    Word::Step => DurationExpr::Step(span),
                    _ => DurationExpr::Range(span),
                }
            }
            _ => return Err(self.unexpected()),
        };
        self.duration_above(0, expr)
    }

    fn duration_pair(&mut self, word: Word) -> Result<Node> {
        let start = self.take().span;
        self.expect(TokenKind::LeftParen)?;
        let lhs = self.duration(0)?;
        self.expect(TokenKind::Comma)?;
        let rhs = self.duration(0)?;
        let span = start.to(self.expect(TokenKind::RightParen)?.span);
        self.check_enabled(span)?;
        let below = lhs.height.max(rhs.height);
        let (lhs, rhs) = (lhs.expr, rhs.expr);
        let expr = match word {
            Word::MinOf => DurationExpr::Min { lhs, rhs, span },
            _ => DurationExpr::Max { lhs, rhs, span },
        };
        self.duration_above(below, expr)
    }

    fn duration_paren(&mut self) -> Result<Node> {
        let start = self.take().span;
        let inner = self.duration(0)?;
        let span = start.to(self.expect(TokenKind::RightParen)?.span);
        let expr = inner.expr;
        self.duration_above(inner.height, DurationExpr::Paren { expr, span })
    }

    /// With a sign. A plus says nothing; that of a number is a part of it.
    fn signed_duration(&self, op: UnaryOp, sign: Span, mut operand: Node) -> Result<Node> {
        if let DurationExpr::Number(number) = &mut *operand.expr {
            if op == UnaryOp::Minus {
                number.value = -number.value;
            }
            number.span.start = sign.start;
            return Ok(operand);
        }
        if op == UnaryOp::Plus {
            return Ok(operand);
        }
        let span = sign.to(operand.expr.span());
        let expr = operand.expr;
        self.duration_above(operand.height, DurationExpr::Unary { op, expr, span })
    }

    fn check_enabled(&self, span: Span) -> Result<()> {
        if self.options.duration_expressions {
            return Ok(());
        }
        let message = "experimental duration expression is not enabled";
        Err(fault(span, message))
    }
}

fn is_arithmetic(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
    )
}
