//! Steps of a pipeline.

use super::super::ast::*;
use super::super::check;
use super::super::error::QueryError;
use super::super::lexer::Token;
use super::super::number::Number;
use super::Parser;
use crate::select::{CompareOp, Field, Literal};

/// One side of a comparison of numbers.
enum Scalar {
    Literal(Literal),
    Aggregate(Aggregate),
    /// Arithmetic with an aggregate in it, which nobody answers.
    Mixed,
}

impl Parser {
    /// Whether a step begins here that is no span set.
    pub(super) fn begins_a_stage(&self) -> bool {
        let is_number = |token: &Token| {
            matches!(
                token,
                Token::Literal(Literal::Int(_) | Literal::Float(_) | Literal::Duration(_))
            )
        };
        match self.token() {
            Token::Word(word) => word != "with",
            Token::Sign("-") => is_number(self.ahead()) && self.compares_behind_numbers(),
            token => is_number(token) && self.compares_behind_numbers(),
        }
    }

    /// Whether arithmetic of numbers that begins here is compared with something: `5 < count()`, but not `2 * ({} | rate())`.
    fn compares_behind_numbers(&self) -> bool {
        let rest = self.tokens[self.at..].iter().map(|t| &t.token);
        let mut rest = rest.skip_while(|token| {
            matches!(
                token,
                Token::Literal(_) | Token::Sign("+" | "-" | "*" | "/" | "%" | "^")
            )
        });
        matches!(rest.next(), Some(Token::Sign(sign)) if CompareOp::of_sign(sign).is_some())
    }

    /// A step; `None` for a number of which nobody says with what it is compared.
    pub(super) fn stage(&mut self) -> Result<Option<Stage>, QueryError> {
        match self.word() {
            Some("by") => {
                self.advance();
                self.expect("(")?;
                let expr = self.expression()?;
                self.expect(")")?;
                Ok(Some(Stage::By(expr)))
            }
            Some("coalesce") => {
                self.advance();
                self.expect("(")?;
                self.expect(")")?;
                Ok(Some(Stage::Coalesce))
            }
            Some("select") => {
                self.advance();
                let fields = self.field_list()?;
                Ok(Some(Stage::Select(fields)))
            }
            _ => self.aggregate_filter(),
        }
    }

    /// `(a, b, …)`
    pub(super) fn field_list(&mut self) -> Result<Vec<Field>, QueryError> {
        self.expect("(")?;
        let mut fields = vec![self.field()?];
        while self.take(",") {
            fields.push(self.field()?);
        }
        self.expect(")")?;
        Ok(fields)
    }

    pub(super) fn field(&mut self) -> Result<Field, QueryError> {
        let field = match self.token() {
            Token::Field(field) => field.clone(),
            Token::Parent { bare } => return Err(check::parent_refused(*bare)),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(field)
    }

    fn aggregate_filter(&mut self) -> Result<Option<Stage>, QueryError> {
        let left = self.scalar(0)?;
        let op = match self.token() {
            Token::Sign(sign) => CompareOp::of_sign(sign),
            _ => None,
        };
        let Some(op) = op else {
            let is_bare = matches!(left, Scalar::Aggregate(_) | Scalar::Mixed);
            return if is_bare && self.is_sign(")") && self.depth > 0 {
                Ok(None)
            } else {
                Err(self.unexpected())
            };
        };
        self.advance();
        let right = self.scalar(0)?;
        match (left, right) {
            (Scalar::Aggregate(aggregate), Scalar::Literal(value)) => {
                Ok(Some(Stage::Aggregate(AggregateFilter {
                    aggregate,
                    op,
                    value,
                })))
            }
            (Scalar::Literal(_), Scalar::Literal(_)) => Err(self.unexpected()),
            _ => Err(check::unsupported_scalar()),
        }
    }

    /// Arithmetic of numbers and aggregates.
    fn scalar(&mut self, min: u8) -> Result<Scalar, QueryError> {
        let mut left = self.nested(Self::scalar_operand)?;
        loop {
            let Token::Sign(sign) = *self.token() else {
                return Ok(left);
            };
            let (op, strength) = match (ArithmeticOp::of_sign(sign), sign) {
                (Some(op), "+" | "-") => (op, 1),
                (Some(op), "^") => (op, 3),
                (Some(op), _) => (op, 2),
                (None, _) => return Ok(left),
            };
            if strength < min {
                return Ok(left);
            }
            self.chain()?;
            self.advance();
            let right = self.scalar(strength + u8::from(strength != 3))?;
            left = match (left, right) {
                (Scalar::Literal(a), Scalar::Literal(b)) => {
                    let (a, b) = (Number::of(&a), Number::of(&b));
                    let value = a.zip(b).and_then(|(a, b)| a.computed(op, b));
                    Scalar::Literal(value.ok_or_else(|| self.unexpected())?.literal())
                }
                _ => Scalar::Mixed,
            };
        }
    }

    fn scalar_operand(&mut self) -> Result<Scalar, QueryError> {
        if self.take("(") {
            let inner = self.scalar(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("-") {
            return Ok(match self.nested(Self::scalar_operand)? {
                Scalar::Literal(literal) => {
                    let value = Number::of(&literal).ok_or_else(|| self.unexpected())?;
                    Scalar::Literal(value.negated().literal())
                }
                _ => Scalar::Mixed,
            });
        }
        let literal = match self.token() {
            Token::Literal(
                literal @ (Literal::Int(_) | Literal::Float(_) | Literal::Duration(_)),
            ) => literal.clone(),
            Token::Word(_) => return self.aggregate().map(Scalar::Aggregate),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(Scalar::Literal(literal))
    }

    /// Arithmetic of numbers.
    pub(super) fn scalar_literal(&mut self) -> Result<Literal, QueryError> {
        match self.scalar(0)? {
            Scalar::Literal(literal) => Ok(literal),
            _ => Err(check::unsupported_scalar()),
        }
    }

    fn aggregate(&mut self) -> Result<Aggregate, QueryError> {
        let make = match self.word() {
            Some("count") => None,
            Some("avg") => Some(Aggregate::Avg as fn(Expr) -> Aggregate),
            Some("min") => Some(Aggregate::Min as fn(Expr) -> Aggregate),
            Some("max") => Some(Aggregate::Max as fn(Expr) -> Aggregate),
            Some("sum") => Some(Aggregate::Sum as fn(Expr) -> Aggregate),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        self.expect("(")?;
        let aggregate = match make {
            None => Aggregate::Count,
            Some(make) => make(self.expression()?),
        };
        self.expect(")")?;
        Ok(aggregate)
    }
}
