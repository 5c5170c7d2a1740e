//! A query's text, read.
//!
//! By recursive descent. What stands in parentheses may be spans, a pipeline or series; what it is shows only inside, so that the same code
//! reads all of it ([`Item`]) and operators look at what they got.

mod expression;
mod metric;
mod stage;
#[cfg(test)]
mod tests;

use lgtm_core::exec::with_room;

use super::ast::*;
use super::check;
use super::error::QueryError;
use super::lexer::{PlacedToken, Token, tokens};
use crate::select::Literal;

/// Bytes that a query may have.
pub const MAX_QUERY_BYTES: usize = 128 << 10;

/// Parentheses within parentheses. People write five.
const MAX_DEPTH: usize = 500;

/// Operators that nest to the left, `a + b + …`, in one query.
const MAX_CHAINED: usize = 2_000;

/// Reads a query and checks its types.
///
/// # Errors
/// Where it does not parse, with the place; what breaks a rule; more than [`MAX_QUERY_BYTES`].
pub fn parse(text: &str) -> Result<Query, QueryError> {
    let query = parse_unchecked(text)?;
    check::check(&query)?;
    Ok(query)
}

/// Reads a query without looking at its types.
pub(super) fn parse_unchecked(text: &str) -> Result<Query, QueryError> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(QueryError::invalid(format!(
            "TraceQL expression exceeds the configured maximum size of {MAX_QUERY_BYTES} bytes, it has {}",
            text.len()
        )));
    }
    let mut parser = Parser::new(tokens(text));
    let item = parser.top()?;
    let hints = parser.hints()?;
    parser.expect_end()?;
    let body = match item {
        Item::Spanset { spanset, .. } => QueryBody::Search(Pipeline::of(spanset)),
        Item::Pipeline(pipeline) => QueryBody::Search(pipeline),
        Item::Metrics(metrics) => QueryBody::Metrics(metrics),
        Item::Number(_) | Item::ScalarPipeline => return Err(parser.unexpected()),
    };
    Ok(Query { body, hints })
}

/// What a part of a query turned out to be.
#[derive(Debug)]
enum Item {
    /// Spans; whether they stand in parentheses.
    Spanset { spanset: SpansetExpr, closed: bool },
    /// Several steps. As an operand it stood in parentheses.
    Pipeline(Pipeline),
    /// Series, which stood in parentheses unless they are all there is.
    Metrics(MetricsExpr),
    /// A number, of which only series can make something.
    Number(f64),
    /// A pipeline that ends in a number, which may be compared by the grammar and by nothing else.
    ScalarPipeline,
}

pub(super) struct Parser {
    tokens: Vec<PlacedToken>,
    at: usize,
    depth: usize,
    chained: usize,
}

impl Parser {
    pub(super) fn new(tokens: Vec<PlacedToken>) -> Self {
        Self {
            tokens,
            at: 0,
            depth: 0,
            chained: 0,
        }
    }

    fn token(&self) -> &Token {
        // The last token is the end, or bad: it is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    fn ahead(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    fn place(&self) -> (usize, usize) {
        self.tokens[self.at.min(self.tokens.len() - 1)].place
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn unexpected(&self) -> QueryError {
        let message = match self.token() {
            Token::Bad(message) => message.clone(),
            token => format!("syntax error: unexpected {}", token.described()),
        };
        QueryError::at(self.place(), message)
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.token(), Token::Sign(s) if *s == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = self.is_sign(sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), QueryError> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected())
    }

    fn expect_end(&self) -> Result<(), QueryError> {
        match self.token() {
            Token::End => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&self) -> Option<&str> {
        match self.token() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// One level deeper.
    fn nested<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        if self.depth >= MAX_DEPTH {
            let message = format!("query nests deeper than {MAX_DEPTH} levels");
            return Err(QueryError::at(self.place(), message));
        }
        self.depth += 1;
        let out = with_room(|| f(self));
        self.depth -= 1;
        out
    }

    /// One operator more that nests to the left.
    fn chain(&mut self) -> Result<(), QueryError> {
        self.chained += 1;
        if self.chained > MAX_CHAINED {
            let message = format!("query has more than {MAX_CHAINED} operators in a row");
            return Err(QueryError::at(self.place(), message));
        }
        Ok(())
    }

    /// All but hints.
    fn top(&mut self) -> Result<Item, QueryError> {
        let item = self.piped()?;
        self.second_stages(item)
    }

    /// What stands before, between and behind pipes.
    fn piped(&mut self) -> Result<Item, QueryError> {
        let mut stages = Vec::new();
        if self.begins_a_stage() {
            // `count() > 2` is `{ } | count() > 2`.
            if self.word() == Some("coalesce") || self.begins_metrics() {
                return Err(self.unexpected());
            }
            stages.push(Stage::Spanset(SpansetExpr::Filter(Expr::always())));
            match self.stage()? {
                Some(stage) => stages.push(stage),
                None => return Ok(Item::ScalarPipeline),
            }
        } else {
            let item = self.operation(0)?;
            match item {
                Item::Spanset { spanset, .. } if self.is_sign("|") => {
                    stages.push(Stage::Spanset(spanset));
                }
                Item::Pipeline(pipeline) if self.is_sign("|") => {
                    stages.push(Stage::Spanset(SpansetExpr::Pipeline(pipeline)));
                }
                item => return Ok(item),
            }
        }
        while self.take("|") {
            if self.begins_metrics() {
                let query = self.metrics_query(Pipeline { stages })?;
                return Ok(Item::Metrics(query));
            }
            if self.begins_a_stage() {
                match self.stage()? {
                    Some(stage) => stages.push(stage),
                    None => return Ok(Item::ScalarPipeline),
                }
                continue;
            }
            match self.operation(0)? {
                Item::Spanset { spanset, .. } => stages.push(Stage::Spanset(spanset)),
                Item::Pipeline(pipeline) => {
                    stages.push(Stage::Spanset(SpansetExpr::Pipeline(pipeline)));
                }
                _ => return Err(self.unexpected()),
            }
        }
        Ok(Item::Pipeline(Pipeline { stages }))
    }

    /// Operators between span sets, pipelines and series.
    fn operation(&mut self, min: u8) -> Result<Item, QueryError> {
        let mut left = self.primary()?;
        loop {
            let Token::Sign(sign) = *self.token() else {
                return Ok(left);
            };
            let Some(strength) = item_strength(sign, &left) else {
                return Ok(left);
            };
            if strength < min {
                return Ok(left);
            }
            self.chain()?;
            self.advance();
            let right = self.nested(|p| p.operation(strength + 1))?;
            left = self.combined(left, sign, right)?;
        }
    }

    fn combined(&self, left: Item, sign: &str, right: Item) -> Result<Item, QueryError> {
        let operation = |a, b| {
            let op = SpansetOp::of_sign(sign).ok_or_else(|| self.unexpected())?;
            Ok(SpansetExpr::Operation(Box::new(a), op, Box::new(b)))
        };
        let closed_side = |item| match item {
            Item::Spanset {
                spanset,
                closed: true,
            } => Ok(spanset),
            Item::Pipeline(pipeline) => Ok(SpansetExpr::Pipeline(pipeline)),
            _ => Err(self.unexpected()),
        };
        Ok(match (left, right) {
            (Item::Spanset { spanset: a, .. }, Item::Spanset { spanset: b, .. }) => Item::Spanset {
                spanset: operation(a, b)?,
                closed: false,
            },
            (Item::ScalarPipeline, _) | (_, Item::ScalarPipeline) => {
                return Err(check::unsupported_scalar());
            }
            (a @ Item::Pipeline(_), b) | (a, b @ Item::Pipeline(_)) => {
                let spanset = operation(closed_side(a)?, closed_side(b)?)?;
                // What combines pipelines may be combined again with what stands in parentheses.
                Item::Spanset {
                    spanset,
                    closed: true,
                }
            }
            (Item::Number(a), Item::Number(b)) => {
                let op = ArithmeticOp::of_sign(sign).ok_or_else(|| self.unexpected())?;
                Item::Number(op.on_floats(a, b))
            }
            (a, b) => {
                let op = ArithmeticOp::of_sign(sign).ok_or_else(|| self.unexpected())?;
                let side = |item| match item {
                    Item::Metrics(metrics) => Ok(metrics),
                    Item::Number(n) => Ok(MetricsExpr::Number(n)),
                    _ => Err(self.unexpected()),
                };
                Item::Metrics(MetricsExpr::Binary(
                    Box::new(side(a)?),
                    op,
                    Box::new(side(b)?),
                ))
            }
        })
    }

    fn primary(&mut self) -> Result<Item, QueryError> {
        if self.take("{") {
            let filter = self.filter_body()?;
            return Ok(Item::Spanset {
                spanset: SpansetExpr::Filter(filter),
                closed: false,
            });
        }
        if self.take("(") {
            let inner = self.nested(Self::top)?;
            self.expect(")")?;
            return Ok(match inner {
                Item::Spanset { spanset, .. } => Item::Spanset {
                    spanset,
                    closed: true,
                },
                inner => inner,
            });
        }
        let negative = self.is_sign("-") && matches!(self.ahead(), Token::Literal(_));
        if negative {
            self.advance();
        }
        let number = match self.token() {
            Token::Literal(Literal::Int(n)) => *n as f64,
            Token::Literal(Literal::Float(n)) => *n,
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(Item::Number(if negative { -number } else { number }))
    }

    /// Behind `{`.
    fn filter_body(&mut self) -> Result<Expr, QueryError> {
        if self.take("}") {
            return Ok(Expr::always());
        }
        let expr = self.expression()?;
        self.expect("}")?;
        Ok(expr)
    }

    /// The filter that the query begins with; `None` when span sets are combined.
    pub(super) fn lone_filter(&mut self) -> Result<Option<Expr>, QueryError> {
        self.expect("{")?;
        let filter = self.filter_body()?;
        let is_alone = self.is_sign("|") || matches!(self.token(), Token::End | Token::Word(_));
        Ok(is_alone.then_some(filter))
    }

    fn hints(&mut self) -> Result<Vec<Hint>, QueryError> {
        let mut hints = Vec::new();
        if self.word() != Some("with") {
            return Ok(hints);
        }
        self.advance();
        self.expect("(")?;
        loop {
            let Some(name) = self.word().map(str::to_owned) else {
                return Err(self.unexpected());
            };
            self.advance();
            self.expect("=")?;
            let value = match self.token() {
                Token::Literal(literal) => literal.clone(),
                Token::Word(word) => Literal::Text(word.clone()),
                _ => return Err(self.unexpected()),
            };
            self.advance();
            hints.push(Hint { name, value });
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(hints)
    }
}

/// How tightly an operator binds, where `left` may stand before it.
fn item_strength(sign: &str, left: &Item) -> Option<u8> {
    match left {
        Item::Metrics(MetricsExpr::Query(_) | MetricsExpr::Staged(..))
        | Item::Metrics(MetricsExpr::Binary(..) | MetricsExpr::Number(_))
        | Item::Number(_) => match sign {
            "+" | "-" => Some(2),
            "*" | "/" => Some(3),
            _ => None,
        },
        Item::Spanset { .. } | Item::Pipeline(_) => match SpansetOp::of_sign(sign)? {
            SpansetOp::And | SpansetOp::Or => Some(0),
            SpansetOp::Structural(..) => Some(1),
        },
        Item::ScalarPipeline => {
            let compares = matches!(sign, "=" | "!=" | "<" | "<=" | ">" | ">=");
            (compares || ArithmeticOp::of_sign(sign).is_some()).then_some(1)
        }
    }
}

impl ArithmeticOp {
    /// The operator that is written so.
    pub(super) fn of_sign(sign: &str) -> Option<Self> {
        [
            Self::Add,
            Self::Subtract,
            Self::Multiply,
            Self::Divide,
            Self::Modulo,
            Self::Power,
        ]
        .into_iter()
        .find(|op| op.sign() == sign)
    }

    /// Of two floats.
    pub(super) fn on_floats(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Modulo => a % b,
            Self::Power => a.powf(b),
        }
    }
}
