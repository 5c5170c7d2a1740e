//! What stands in braces.

use super::super::ast::*;
use super::super::error::QueryError;
use super::super::lexer::Token;
use super::Parser;
use crate::select::CompareOp;

/// How tightly operators bind.
const LOGIC: u8 = 1;
const COMPARE: u8 = 2;
const SUM: u8 = 3;
const PRODUCT: u8 = 4;
const POWER: u8 = 5;

enum Infix {
    And,
    Or,
    Binary(BinaryOp),
}

fn infix(sign: &str) -> Option<(Infix, u8)> {
    let compare = |op| (Infix::Binary(BinaryOp::Compare(op)), COMPARE);
    let arithmetic = |op, strength| (Infix::Binary(BinaryOp::Arithmetic(op)), strength);
    Some(match sign {
        "&&" => (Infix::And, LOGIC),
        "||" => (Infix::Or, LOGIC),
        "=~" => (Infix::Binary(BinaryOp::Matches), COMPARE),
        "!~" => (Infix::Binary(BinaryOp::MatchesNot), COMPARE),
        "+" => arithmetic(ArithmeticOp::Add, SUM),
        "-" => arithmetic(ArithmeticOp::Subtract, SUM),
        "*" => arithmetic(ArithmeticOp::Multiply, PRODUCT),
        "/" => arithmetic(ArithmeticOp::Divide, PRODUCT),
        "%" => arithmetic(ArithmeticOp::Modulo, PRODUCT),
        "^" => arithmetic(ArithmeticOp::Power, POWER),
        sign => compare(CompareOp::of_sign(sign)?),
    })
}

impl CompareOp {
    /// The operator that is written so.
    pub(in super::super) fn of_sign(sign: &str) -> Option<Self> {
        [
            Self::Equal,
            Self::NotEqual,
            Self::Less,
            Self::LessOrEqual,
            Self::Greater,
            Self::GreaterOrEqual,
        ]
        .into_iter()
        .find(|op| op.sign() == sign)
    }
}

impl Parser {
    pub(in super::super) fn expression(&mut self) -> Result<Expr, QueryError> {
        self.nested(|p| p.binary(LOGIC))
    }

    /// Operators that bind at least as tightly as `min`.
    fn binary(&mut self, min: u8) -> Result<Expr, QueryError> {
        let mut left = self.operand()?;
        loop {
            let Token::Sign(sign) = *self.token() else {
                return Ok(left);
            };
            let Some((op, strength)) = infix(sign).filter(|(_, strength)| *strength >= min) else {
                return Ok(left);
            };
            self.advance();
            // Only `^` groups to the right.
            let right = self.binary_within(strength + u8::from(strength != POWER))?;
            left = match op {
                Infix::And => match left {
                    Expr::And(mut all) => {
                        all.push(right);
                        Expr::And(all)
                    }
                    left => Expr::And(vec![left, right]),
                },
                Infix::Or => match left {
                    Expr::Or(mut all) => {
                        all.push(right);
                        Expr::Or(all)
                    }
                    left => Expr::Or(vec![left, right]),
                },
                Infix::Binary(op) => {
                    if matches!(left, Expr::Binary(..)) {
                        self.chain()?;
                    }
                    Expr::Binary(Box::new(left), op, Box::new(right))
                }
            };
        }
    }

    fn binary_within(&mut self, min: u8) -> Result<Expr, QueryError> {
        if min > LOGIC + 1 && min < POWER {
            return self.binary(min);
        }
        self.nested(|p| p.binary(min))
    }

    fn operand(&mut self) -> Result<Expr, QueryError> {
        if self.take("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            // Kept apart from a chain around it: `(a && b) && c` is the same, but is not written so.
            return Ok(inner);
        }
        if self.take("!") {
            let inner = self.nested(|p| p.binary(PRODUCT))?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.take("-") {
            let inner = self.nested(|p| p.binary(PRODUCT))?;
            return Ok(Expr::Negate(Box::new(inner)));
        }
        let expr = match self.token() {
            Token::Literal(literal) => Expr::Literal(literal.clone()),
            Token::Field(field) => Expr::Field(field.clone()),
            Token::Parent { bare } => Expr::Parent { bare: *bare },
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(expr)
    }
}
