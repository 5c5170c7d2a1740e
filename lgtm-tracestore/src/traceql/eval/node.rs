//! An expression made ready: constants folded, tests of one field joined, what concerns single events and links gathered.

use std::collections::HashMap;

use lgtm_core::exec::{is_abandoned, with_room};
use lgtm_core::re2::{Anchoring, Dot, Re2};

use super::super::ast::*;
use super::super::number::Number;
use super::datum::{Datum, Meaning};
use crate::select::{AttributeScope, CompareOp, Field, Level, Literal};

/// An expression made ready. It is plain where nothing is said.
#[derive(Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Field(Field),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare(Box<Node>, CompareOp, Box<Node>),
    /// `!=` that is all there is of a filter: one element of an array that differs is enough.
    AnyDiffers(Field, Literal),
    Arithmetic(Box<Node>, ArithmeticOp, Box<Node>),
    /// The field is (or, `negated`, is none) of these texts.
    In {
        field: Field,
        texts: Vec<String>,
        negated: bool,
    },
    /// One of these expressions matches (or, `negated`, none does).
    Matches {
        value: Box<Node>,
        patterns: Vec<Re2>,
        negated: bool,
    },
    IsNil(Box<Node>),
    NotNil(Box<Node>),
    /// One of the span's events or links passes.
    Each(Level, Box<Node>),
}

impl Node {
    /// A filter, or a part of one. It was checked before.
    pub(crate) fn filter(expr: &Expr) -> Self {
        if let Expr::Binary(a, BinaryOp::Compare(CompareOp::NotEqual), b) = expr
            && let (Expr::Field(field), Expr::Literal(literal))
            | (Expr::Literal(literal), Expr::Field(field)) = (&**a, &**b)
            && matches!(
                field,
                Field::Attribute(
                    AttributeScope::Span | AttributeScope::Resource | AttributeScope::Any,
                    _
                )
            )
            && *literal != Literal::Nil
        {
            return Self::AnyDiffers(field.clone(), literal.clone());
        }
        Self::lifted(expr)
    }

    /// An expression.
    pub(crate) fn of(expr: &Expr) -> Self {
        with_room(|| match expr {
            Expr::Literal(literal) => Self::Literal(literal.clone()),
            Expr::Field(field) => Self::Field(field.clone()),
            Expr::Parent { .. } => Self::Literal(Literal::Nil),
            Expr::Not(inner) => {
                let mut node = match &**inner {
                    // Of an event's field: one event says no.
                    Expr::Field(field) => Self::Not(Box::new(Self::Field(field.clone()))),
                    inner => Self::Not(Box::new(Self::lifted(inner))),
                };
                node.lift();
                node
            }
            Expr::Negate(inner) => match Self::of(inner) {
                Self::Literal(literal) if Number::of(&literal).is_some() => {
                    let number = Number::of(&literal).map(|n| n.negated().literal());
                    Self::Literal(number.unwrap_or(Literal::Nil))
                }
                inner => Self::Negate(Box::new(inner)),
            },
            Expr::And(all) => Self::and(all),
            Expr::Or(all) => {
                let mut parts = joined(all, Joins::Or);
                parts.iter_mut().for_each(Self::lift);
                alone(parts, Self::Or)
            }
            Expr::Binary(a, op, b) => {
                let mut node = Self::binary(a, *op, b);
                node.lift();
                node
            }
        })
    }

    fn lifted(expr: &Expr) -> Self {
        let mut node = Self::of(expr);
        node.lift();
        node
    }

    /// What is joined by `&&`: tests of events are gathered, so that one event passes all of them; of links likewise.
    fn and(all: &[Expr]) -> Self {
        let mut flat = Vec::new();
        flatten(all, &mut flat);
        let parts = joined(&flat, Joins::And);
        let (mut rest, mut events, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part.single_level() {
                Some(Level::Event) => events.push(part.unlifted()),
                Some(Level::Link) => links.push(part.unlifted()),
                _ => rest.push(part),
            }
        }
        for (level, parts) in [(Level::Event, events), (Level::Link, links)] {
            if !parts.is_empty() {
                rest.push(Self::Each(level, Box::new(alone(parts, Self::And))));
            }
        }
        rest.iter_mut().for_each(Self::lift);
        alone(rest, Self::And)
    }

    fn binary(a: &Expr, op: BinaryOp, b: &Expr) -> Self {
        match op {
            BinaryOp::Arithmetic(op) => {
                let (a, b) = (Self::of(a), Self::of(b));
                if let (Self::Literal(x), Self::Literal(y)) = (&a, &b)
                    && let Some((x, y)) = Number::of(x).zip(Number::of(y))
                {
                    let value = x.computed(op, y).map_or(Literal::Nil, Number::literal);
                    return Self::Literal(value);
                }
                Self::Arithmetic(Box::new(a), op, Box::new(b))
            }
            BinaryOp::Matches | BinaryOp::MatchesNot => Self::Matches {
                value: Box::new(Self::of(a)),
                patterns: pattern_of(b).into_iter().collect(),
                negated: op == BinaryOp::MatchesNot,
            },
            BinaryOp::Compare(op) => Self::comparison(a, op, b),
        }
    }

    fn comparison(a: &Expr, op: CompareOp, b: &Expr) -> Self {
        let nil = Expr::Literal(Literal::Nil);
        if *a == nil || *b == nil {
            let other = if *a == nil { b } else { a };
            return match (other == &nil, op) {
                (true, _) => Self::Literal(Literal::Bool(false)),
                (_, CompareOp::Equal) => Self::IsNil(Box::new(Self::of(other))),
                _ => Self::NotNil(Box::new(Self::of(other))),
            };
        }
        match (Self::of(a), Self::of(b)) {
            (Self::Literal(x), Self::Literal(y)) => {
                let holds = Datum::of_literal(&x).stands(op, &Datum::of_literal(&y));
                Self::Literal(Literal::Bool(holds))
            }
            // The field stands left.
            (x @ Self::Literal(_), y @ Self::Field(_)) => {
                Self::Compare(Box::new(y), op.flipped(), Box::new(x)).trimmed()
            }
            (x, y) => Self::Compare(Box::new(x), op, Box::new(y)).trimmed(),
        }
    }

    /// Identifiers of traces are compared without leading zeros.
    fn trimmed(mut self) -> Self {
        if let Self::Compare(a, _, b) = &mut self
            && let (Self::Field(field), Self::Literal(Literal::Text(text))) = (&**a, &mut **b)
        {
            *text = Meaning::of(field).literal(text).to_owned();
        }
        self
    }

    /// Where all fields in it that have several values a span are of one kind, and nothing but comparisons, `&&` and `||` is over them: which kind.
    fn single_level(&self) -> Option<Level> {
        match self {
            Self::Compare(..) | Self::In { .. } | Self::Matches { .. } | Self::Field(_) => {
                let levels = self.levels();
                match (levels.events, levels.links) {
                    (true, false) => Some(Level::Event),
                    (false, true) => Some(Level::Link),
                    _ => None,
                }
            }
            Self::Each(level, inner) => {
                let is_plain = !matches!(
                    **inner,
                    Self::IsNil(_) | Self::NotNil(_) | Self::Not(_) | Self::Each(..)
                );
                is_plain.then_some(*level)
            }
            Self::And(all) | Self::Or(all) => {
                let first = all.first()?.single_level()?;
                let same = all.iter().all(|part| part.single_level() == Some(first));
                same.then_some(first)
            }
            _ => None,
        }
    }

    /// What has a [single level](Self::single_level), at that level.
    fn unlifted(self) -> Self {
        match self {
            Self::Each(_, inner) => *inner,
            Self::And(all) => Self::And(all.into_iter().map(Self::unlifted).collect()),
            Self::Or(all) => Self::Or(all.into_iter().map(Self::unlifted).collect()),
            plain => plain,
        }
    }

    /// Puts what has several values a span below [`Node::Each`].
    fn lift(&mut self) {
        let levels = match self {
            Self::Compare(..)
            | Self::In { .. }
            | Self::Matches { .. }
            | Self::IsNil(_)
            | Self::NotNil(_)
            | Self::Field(_) => self.levels(),
            Self::Not(inner) if matches!(**inner, Self::Field(_)) => self.levels(),
            _ => return,
        };
        for (is_in, level) in [(levels.links, Level::Link), (levels.events, Level::Event)] {
            if is_in {
                let inner = std::mem::replace(self, Self::Literal(Literal::Nil));
                *self = Self::Each(level, Box::new(inner));
            }
        }
    }

    fn levels(&self) -> Levels {
        let mut levels = Levels::default();
        self.each_field(&mut |field| match field.level() {
            Level::Event => levels.events = true,
            Level::Link => levels.links = true,
            Level::Span | Level::Trace => {}
        });
        levels
    }

    /// Calls `f` with every field that is not below a [`Node::Each`].
    fn each_field(&self, f: &mut impl FnMut(&Field)) {
        match self {
            Self::Literal(_) | Self::Each(..) => {}
            Self::Field(field) | Self::In { field, .. } | Self::AnyDiffers(field, _) => f(field),
            Self::Not(inner) | Self::Negate(inner) | Self::IsNil(inner) | Self::NotNil(inner) => {
                inner.each_field(f);
            }
            Self::Matches { value, .. } => value.each_field(f),
            Self::And(all) | Self::Or(all) => all.iter().for_each(|n| n.each_field(f)),
            Self::Compare(a, _, b) | Self::Arithmetic(a, _, b) => {
                a.each_field(f);
                b.each_field(f);
            }
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Levels {
    events: bool,
    links: bool,
}

fn flatten(all: &[Expr], out: &mut Vec<Expr>) {
    for expr in all {
        match expr {
            Expr::And(inner) => with_room(|| flatten(inner, out)),
            expr => out.push(expr.clone()),
        }
    }
}

fn alone(mut parts: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if parts.len() == 1 {
        parts.swap_remove(0)
    } else {
        many(parts)
    }
}

fn pattern_of(expr: &Expr) -> Option<Re2> {
    let Expr::Literal(Literal::Text(pattern)) = expr else {
        return None;
    };
    if is_abandoned() {
        return None;
    }
    Re2::new(pattern, Anchoring::Whole, Dot::Any).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Joins {
    And,
    Or,
}

/// The parts of a chain, where tests of one field against texts are made one: `a = "x" || a = "y"`, `a != "x" && a != "y"`, and with expressions
/// likewise. Nothing is lifted yet.
fn joined(all: &[Expr], joins: Joins) -> Vec<Node> {
    let mut out: Vec<Node> = Vec::new();
    // Where the first set of a field stands, and its first expressions.
    let (mut sets, mut matches) = (HashMap::new(), HashMap::new());
    for expr in all {
        let node = match expr {
            Expr::Binary(a, op, b) => Node::binary(a, *op, b),
            Expr::Field(field) => Node::Field(field.clone()),
            expr => Node::of(expr),
        };
        let node = as_set(node, joins);
        match node {
            Ok(Node::In {
                field,
                mut texts,
                negated,
            }) => {
                let place = *sets.entry(field.clone()).or_insert(out.len());
                match out.get_mut(place) {
                    Some(Node::In { texts: known, .. }) => known.append(&mut texts),
                    _ => out.push(Node::In {
                        field,
                        texts,
                        negated,
                    }),
                }
            }
            Ok(Node::Matches {
                value,
                mut patterns,
                negated,
            }) if matches!(*value, Node::Field(_)) && negated == (joins == Joins::And) => {
                let place = *matches.entry(field_of(&value)).or_insert(out.len());
                match out.get_mut(place) {
                    Some(Node::Matches {
                        patterns: known, ..
                    }) => known.append(&mut patterns),
                    _ => out.push(Node::Matches {
                        value,
                        patterns,
                        negated,
                    }),
                }
            }
            Ok(node) | Err(node) => out.push(node),
        }
    }
    out
}

fn field_of(node: &Node) -> Option<Field> {
    match node {
        Node::Field(field) => Some(field.clone()),
        _ => None,
    }
}

/// A comparison of a field with a text as a set of one, where the chain lets sets be joined.
fn as_set(node: Node, joins: Joins) -> Result<Node, Node> {
    let wanted = match joins {
        Joins::And => CompareOp::NotEqual,
        Joins::Or => CompareOp::Equal,
    };
    match node {
        Node::Compare(a, op, b) if op == wanted => match (*a, *b) {
            (Node::Field(field), Node::Literal(Literal::Text(text))) => Ok(Node::In {
                field,
                texts: vec![text],
                negated: joins == Joins::And,
            }),
            (a, b) => Err(Node::Compare(Box::new(a), op, Box::new(b))),
        },
        node @ Node::Matches { .. } => Ok(node),
        node => Err(node),
    }
}
