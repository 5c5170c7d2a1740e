//! From tokens to a tree, by recursive descent.
//!
//! Errors are those of Prometheus: same words, same place. Its parser is made by yacc, whose messages come from the innermost
//! construct that has one for a fault anywhere inside; `contexts` is the stack of those. A number of faults may be in a query;
//! Prometheus shows the first, so parsing ends there.

mod check;
mod duration;
mod grouping;
mod postfix;
mod selector;

use lgtm_core::go::{ns_to_seconds, parse_duration_ns, parse_number, quote, unquote};
use lgtm_core::model::Matcher;

use super::ast::{
    Binary, BinaryOp, Call, Expr, NumberLiteral, Paren, Span, StringLiteral, Unary, UnaryOp,
    VectorMatching,
};
use super::error::ParseError;
use super::lexer::Lexer;
use super::options::ParserOptions;
use super::signature::Function;
use super::token::{Keyword, Token, TokenKind};

/// Boxed, so that the frames of the recursion stay small.
type Result<T> = std::result::Result<T, Box<ParseError>>;

fn fault(span: Span, message: impl Into<String>) -> Box<ParseError> {
    Box::new(ParseError::new(span, message))
}

/// Parses a query and checks its types.
///
/// Cost: linear in the query. The tree is no higher than `options.max_depth`, so that walking it by recursion is safe.
///
/// # Errors
/// With line and column of the first fault.
pub fn parse_with(query: &str, options: &ParserOptions) -> std::result::Result<Expr, ParseError> {
    check_length(query, options)?;
    let parsed = Parser::new(query, options).query();
    parsed.map_err(|e| e.located(query))
}

/// [`parse_with`] the default options: all experimental syntax off.
///
/// # Errors
/// As [`parse_with`].
pub fn parse(query: &str) -> std::result::Result<Expr, ParseError> {
    parse_with(query, &ParserOptions::default())
}

/// Parses a series selector, as `match[]` parameters hold one: without offset, range or `@`. It may select everything.
///
/// # Errors
/// As [`parse_with`].
pub fn parse_selector(
    text: &str,
    options: &ParserOptions,
) -> std::result::Result<Vec<Matcher>, ParseError> {
    check_length(text, options)?;
    let mut parser = Parser::new(text, options);
    let parsed = parser.vector_selector().and_then(|selector| {
        parser.expect_end()?;
        Ok(selector.matchers)
    });
    parsed.map_err(|e| e.located(text))
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

fn check_length(query: &str, options: &ParserOptions) -> std::result::Result<(), ParseError> {
    if query.len() <= options.max_query_bytes {
        return Ok(());
    }
    Err(ParseError::new(
        Span::default(),
        format!(
            "query of {} bytes exceeds the {} allowed (max_query_bytes)",
            query.len(),
            options.max_query_bytes
        ),
    )
    .located(&query[..query.floor_char_boundary(1)]))
}

struct Parser<'a> {
    query: &'a str,
    options: &'a ParserOptions,
    lexer: Lexer<'a>,
    current: Token,
    ahead: Option<Token>,
    /// How deep the parser stands in its own recursion.
    depth: usize,
    /// What encloses the place, if it has words for a fault inside it: where, and what was expected.
    contexts: Vec<(&'static str, &'static str)>,
}

/// An expression and the height of its tree.
struct Node {
    expr: Box<Expr>,
    height: usize,
}

/// An operator with what stands before its right side.
struct Operator {
    op: BinaryOp,
    span: Span,
    return_bool: bool,
    matching: VectorMatching,
}

impl Node {
    fn leaf(expr: Expr) -> Self {
        Self {
            expr: Box::new(expr),
            height: 1,
        }
    }
}

impl<'a> Parser<'a> {
    fn new(query: &'a str, options: &'a ParserOptions) -> Self {
        let mut lexer = Lexer::new(query);
        let current = lexer.next_token();
        Self {
            query,
            options,
            lexer,
            current,
            ahead: None,
            depth: 0,
            contexts: Vec::new(),
        }
    }

    fn query(mut self) -> Result<Expr> {
        if self.current.kind == TokenKind::End {
            return Err(fault(Span::default(), "no expression found in input"));
        }
        let mut expr = *self.expression(0)?.expr;
        self.expect_end()?;
        check::check(&mut expr)?;
        Ok(expr)
    }

    fn text(&self, token: Token) -> &'a str {
        &self.query[token.span.start..token.span.end]
    }

    fn take(&mut self) -> Token {
        let next = match self.ahead.take() {
            Some(token) => token,
            None => self.lexer.next_token(),
        };
        std::mem::replace(&mut self.current, next)
    }

    /// The token behind the current one.
    fn peek(&mut self) -> TokenKind {
        let lexer = &mut self.lexer;
        self.ahead.get_or_insert_with(|| lexer.next_token()).kind
    }

    fn accept(&mut self, kind: TokenKind) -> Option<Token> {
        (self.current.kind == kind).then(|| self.take())
    }

    fn accept_keyword(&mut self, word: Keyword) -> bool {
        self.accept(TokenKind::Keyword(word)).is_some()
    }

    fn expect(&mut self, kind: TokenKind) -> Result<Token> {
        self.accept(kind).ok_or_else(|| self.unexpected())
    }

    fn expect_end(&self) -> Result<()> {
        match self.current.kind {
            TokenKind::End => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// The current token is wrong, in the words of what encloses it.
    fn unexpected(&self) -> Box<ParseError> {
        let (context, expected) = self.contexts.last().copied().unwrap_or_default();
        self.unexpected_in(context, expected)
    }

    fn unexpected_in(&self, context: &str, expected: &str) -> Box<ParseError> {
        let token = self.current;
        if let (TokenKind::Fault, Some(known)) = (token.kind, self.lexer.fault()) {
            return fault(known.span, known.message.clone());
        }
        let mut message = format!("unexpected {}", token.kind.described(self.text(token)));
        for (word, text) in [(" in ", context), (", expected ", expected)] {
            if !text.is_empty() {
                message.push_str(word);
                message.push_str(text);
            }
        }
        fault(token.span, message)
    }

    /// Parses with other words for a fault inside.
    fn within<T>(
        &mut self,
        context: (&'static str, &'static str),
        parse: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.contexts.push(context);
        let parsed = parse(self)?;
        self.contexts.pop();
        Ok(parsed)
    }

    fn check_depth(&self, depth: usize, span: Span) -> Result<()> {
        let max = self.options.max_depth;
        if depth <= max {
            return Ok(());
        }
        let message = format!("expression nests deeper than the {max} levels allowed (max_depth)");
        Err(fault(span, message))
    }

    /// A node over others of which the highest is `below`.
    fn above(&self, below: usize, expr: Expr) -> Result<Node> {
        let height = below + 1;
        // The span of a long row of operators takes as many steps, so it is looked for only when it is needed.
        if height > self.options.max_depth {
            self.check_depth(height, expr.span())?;
        }
        Ok(Node {
            expr: Box::new(expr),
            height,
        })
    }

    /// An expression of operators that bind at least as tight as `min`.
    fn expression(&mut self, min: u8) -> Result<Node> {
        self.depth += 1;
        self.check_depth(self.depth, self.current.span)?;
        let mut lhs = self.unary()?;
        while let TokenKind::Binary(op) = self.current.kind {
            let tightness = tightness(op);
            if tightness < min {
                break;
            }
            let operator = self.operator(op)?;
            // Only powers associate to the right.
            let right = if op == BinaryOp::Pow { 0 } else { 1 };
            let rhs = self.expression(tightness + right)?;
            lhs = self.operation(lhs, *operator, rhs)?;
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn operation(&self, lhs: Node, operator: Operator, rhs: Node) -> Result<Node> {
        let matching = operator.matching;
        let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        if filled && !self.options.fill_modifiers {
            let message = "binop fill modifiers are experimental and not enabled";
            return Err(fault(lhs.expr.span().to(rhs.expr.span()), message));
        }
        let expr = Expr::Binary(Binary {
            op: operator.op,
            op_span: operator.span,
            lhs: lhs.expr,
            rhs: rhs.expr,
            return_bool: operator.return_bool,
            matching: Some(matching),
        });
        self.above(lhs.height.max(rhs.height), expr)
    }

    /// A sign binds as tight as a multiplication: `-2^2` is -4.
    fn unary(&mut self) -> Result<Node> {
        let op = match self.current.kind {
            TokenKind::Binary(BinaryOp::Add) => UnaryOp::Plus,
            TokenKind::Binary(BinaryOp::Sub) => UnaryOp::Minus,
            _ => {
                let node = self.primary()?;
                return self.postfix(node);
            }
        };
        let start = self.take().span.start;
        let operand = self.expression(tightness(BinaryOp::Mul) + 1)?;
        self.signed(op, start, operand)
    }

    fn signed(&self, op: UnaryOp, start: usize, mut operand: Node) -> Result<Node> {
        let span = Span::new(start, operand.expr.span().end);
        if let Expr::Number(number) = &mut *operand.expr {
            if op == UnaryOp::Minus {
                number.value = -number.value;
            }
            number.span = span;
            return Ok(operand);
        }
        let expr = operand.expr;
        self.above(operand.height, Expr::Unary(Unary { op, expr, span }))
    }

    fn primary(&mut self) -> Result<Node> {
        let kind = self.current.kind;
        match kind {
            TokenKind::LeftParen => self.paren(),
            TokenKind::Aggregate(op) if self.begins_aggregate() => self.aggregate(op),
            TokenKind::Identifier | TokenKind::Word(_) if self.peek() == TokenKind::LeftParen => {
                self.call()
            }
            _ => self.leaf(),
        }
    }

    fn leaf(&mut self) -> Result<Node> {
        let expr = match self.current.kind {
            TokenKind::Number | TokenKind::Duration => Expr::Number(self.number_literal()?),
            TokenKind::Text => {
                let token = self.take();
                Expr::Text(StringLiteral::new(unquote(self.text(token)), token.span))
            }
            _ => Expr::Vector(self.vector_selector()?),
        };
        Ok(Node::leaf(expr))
    }

    fn paren(&mut self) -> Result<Node> {
        let open = self.take().span;
        let inner = self.expression(0)?;
        let span = open.to(self.expect(TokenKind::RightParen)?.span);
        let expr = inner.expr;
        self.above(inner.height, Expr::Paren(Paren { expr, span }))
    }

    fn number_literal(&mut self) -> Result<NumberLiteral> {
        let token = self.take();
        let text = self.text(token);
        let duration = token.kind == TokenKind::Duration;
        let value = if duration {
            parse_duration_ns(text).map(ns_to_seconds)
        } else {
            parse_number(text)
        };
        Ok(NumberLiteral {
            value: value.map_err(|message| fault(token.span, message))?,
            duration,
            span: token.span,
        })
    }

    /// A number with or without a sign.
    fn signed_number(&mut self) -> Result<f64> {
        let negative = match self.current.kind {
            TokenKind::Binary(BinaryOp::Sub) => true,
            TokenKind::Binary(BinaryOp::Add) => false,
            _ => return self.unsigned_number(),
        };
        self.take();
        let value = self.unsigned_number()?;
        Ok(if negative { -value } else { value })
    }

    fn unsigned_number(&mut self) -> Result<f64> {
        match self.current.kind {
            TokenKind::Number | TokenKind::Duration => Ok(self.number_literal()?.value),
            _ => Err(self.unexpected()),
        }
    }

    fn call(&mut self) -> Result<Node> {
        let token = self.take();
        let (args, height, close) = self.arguments()?;
        let name = self.text(token);
        let wrong = |message| fault(token.span, message);
        let function = Function::find(name)
            .ok_or_else(|| wrong(format!("unknown function with name {}", quote(name))))?;
        if function.experimental && !self.options.experimental_functions {
            return Err(wrong(format!("function {} is not enabled", quote(name))));
        }
        let expr = Expr::Call(Call {
            function,
            args,
            span: token.span.to(close),
        });
        self.above(height, expr)
    }

    /// Arguments in parentheses, the height of the highest, and the closing parenthesis.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize, Span)> {
        self.expect(TokenKind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if let Some(close) = self.accept(TokenKind::RightParen) {
            return Ok((args, height, close.span));
        }
        loop {
            let node = self.expression(0)?;
            height = height.max(node.height);
            args.push(*node.expr);
            if let Some(close) = self.accept(TokenKind::RightParen) {
                return Ok((args, height, close.span));
            }
            let comma = self.expect(TokenKind::Comma)?;
            if !self.begins_expression() && self.current.kind != TokenKind::Fault {
                let message = "trailing commas not allowed in function call args";
                return Err(fault(comma.span, message));
            }
        }
    }

    fn begins_expression(&self) -> bool {
        match self.current.kind {
            TokenKind::Number
            | TokenKind::Duration
            | TokenKind::Text
            | TokenKind::LeftParen
            | TokenKind::LeftBrace
            | TokenKind::Binary(BinaryOp::Add | BinaryOp::Sub) => true,
            kind => kind.is_metric_name(),
        }
    }
}

/// How tight an operator binds.
fn tightness(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        op if op.is_comparison() => 3,
        BinaryOp::TrimUpper | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Pow => 6,
        _ => 5,
    }
}

#[cfg(test)]
mod tests;
