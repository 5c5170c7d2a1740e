//! A number of a set of spans, compared.

use super::super::ast::{Aggregate, AggregateFilter};
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::node::Node;
use super::view::{Place, View};
use crate::select::CompareOp;

/// A filter of sets made ready.
#[derive(Debug)]
pub(crate) struct AggregateStep {
    kind: Kind,
    node: Option<Node>,
    op: CompareOp,
    value: Option<Number>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Avg,
    Min,
    Max,
    Sum,
}

impl AggregateStep {
    pub(crate) fn new(filter: &AggregateFilter) -> Self {
        let kind = match &filter.aggregate {
            Aggregate::Count => Kind::Count,
            Aggregate::Avg(_) => Kind::Avg,
            Aggregate::Min(_) => Kind::Min,
            Aggregate::Max(_) => Kind::Max,
            Aggregate::Sum(_) => Kind::Sum,
        };
        Self {
            kind,
            node: filter.aggregate.expression().map(Node::of),
            op: filter.op,
            value: Number::of(&filter.value),
            text: filter.aggregate.to_string(),
        }
    }

    /// What it is called in answers.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The number of these spans; `None` when it does not pass, or when none of them has a value.
    pub(crate) fn passing(&self, view: &View<'_>, rows: &[u32]) -> Option<AnswerValue> {
        let result = match &self.node {
            None => Number::Int(rows.len() as i64),
            Some(node) => {
                let values = rows
                    .iter()
                    .map(|row| node.value(view, Place::span(*row as usize)).number());
                let values: Vec<Number> = if matches!(node, Node::Arithmetic(..) | Node::Negate(_))
                {
                    // As in Tempo: where something is missing in one span, the set has no number.
                    values.collect::<Option<_>>()?
                } else {
                    values.flatten().collect()
                };
                self.of_values(values.into_iter())?
            }
        };
        result.stands(self.op, self.value?).then(|| result.answer())
    }

    fn of_values(&self, mut values: impl Iterator<Item = Number>) -> Option<Number> {
        match self.kind {
            Kind::Min => values.min_by(|a, b| a.order(*b)),
            Kind::Max => values.max_by(|a, b| a.order(*b)),
            Kind::Count | Kind::Avg | Kind::Sum => {
                let mut sum = values.next()?;
                let mut count = 1u32;
                for value in values {
                    sum = sum.computed(super::super::ast::ArithmeticOp::Add, value)?;
                    count += 1;
                }
                if self.kind == Kind::Sum {
                    return Some(sum);
                }
                Some(match sum {
                    Number::Duration(ns) => Number::Duration((ns as f64 / f64::from(count)) as i64),
                    // As in Tempo, whose recorded answers have it so: a sum of integers below zero is read as if it had no sign.
                    Number::Int(sum) => Number::Float(sum as u64 as f64 / f64::from(count)),
                    Number::Float(sum) => Number::Float(sum / f64::from(count)),
                })
            }
        }
    }
}
