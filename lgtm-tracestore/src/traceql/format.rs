//! A query as its canonical text: what it prints parses to the same.

use std::fmt;

use lgtm_core::go::{format_short, quote};

use super::ast::*;
use super::duration::format_ns;
use crate::select::Literal;

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(i64::MIN) => f.write_str("minInt"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => f.write_str(&float(*v)),
            Self::Text(v) => f.write_str(&quote(v)),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Duration(ns) => f.write_str(&format_ns(*ns)),
            Self::Status(code) => f.write_str(code.word()),
            Self::Kind(kind) => f.write_str(kind.word()),
        }
    }
}

/// A float that reads as one again.
fn float(v: f64) -> String {
    let text = format_short(v);
    if text.contains(['.', 'e', 'N', 'I', 'n']) {
        return text;
    }
    text + ".0"
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            QueryBody::Search(pipeline) => pipeline.fmt(f)?,
            QueryBody::Metrics(MetricsExpr::Query(query)) => query.fmt(f)?,
            QueryBody::Metrics(MetricsExpr::Staged(inner, stages)) => {
                match &**inner {
                    MetricsExpr::Query(query) => query.fmt(f)?,
                    inner => write!(f, "{inner}")?,
                }
                write_stages(f, stages)?;
            }
            QueryBody::Metrics(metrics) => metrics.fmt(f)?,
        }
        if !self.hints.is_empty() {
            let hints = self.hints.iter().map(|h| format!("{}={}", h.name, h.value));
            write!(f, " with({})", hints.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, stage) in self.stages.iter().enumerate() {
            if n > 0 {
                f.write_str(" | ")?;
            }
            stage.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spanset(spanset) => spanset.fmt(f),
            Self::By(expr) => write!(f, "by({expr})"),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Select(fields) => write!(f, "select({})", joined(fields)),
            Self::Aggregate(filter) => {
                // A number below zero is written as what the language has for it.
                let (aggregate, op) = (&filter.aggregate, filter.op.sign());
                write!(f, "{aggregate} {op} {}", filter.value)
            }
        }
    }
}

fn joined(fields: &[crate::select::Field]) -> String {
    let fields = fields.iter().map(ToString::to_string);
    fields.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SpansetExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(expr) if *expr == Expr::always() => f.write_str("{ true }"),
            Self::Filter(expr) => write!(f, "{{ {expr} }}"),
            Self::Operation(a, op, b) => write!(f, "({a}) {} ({b})", op.sign()),
            Self::Pipeline(pipeline) => write!(f, "({pipeline})"),
        }
    }
}

impl SpansetOp {
    /// As queries write it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Structural(relation, form) => {
                let signs = match relation {
                    Relation::Child => [">", "!>", "&>"],
                    Relation::Parent => ["<", "!<", "&<"],
                    Relation::Descendant => [">>", "!>>", "&>>"],
                    Relation::Ancestor => ["<<", "!<<", "&<<"],
                    Relation::Sibling => ["~", "!~", "&~"],
                };
                signs[form as usize]
            }
        }
    }

    /// The operator that is written so.
    pub(super) fn of_sign(sign: &str) -> Option<Self> {
        let relations = [
            Relation::Child,
            Relation::Parent,
            Relation::Descendant,
            Relation::Ancestor,
            Relation::Sibling,
        ];
        let forms = [
            RelationForm::Right,
            RelationForm::Negated,
            RelationForm::Union,
        ];
        let structural = relations
            .into_iter()
            .flat_map(|r| forms.map(|form| Self::Structural(r, form)));
        structural
            .chain([Self::And, Self::Or])
            .find(|op| op.sign() == sign)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Parent { .. } => f.write_str("parent"),
            Self::Not(inner) => write!(f, "!{}", Operand(inner)),
            Self::Negate(inner) => write!(f, "-{}", Operand(inner)),
            Self::And(all) => write_chain(f, all, "&&"),
            Self::Or(all) => write_chain(f, all, "||"),
            Self::Binary(a, op, b) => write!(f, "{} {} {}", Operand(a), op.sign(), Operand(b)),
        }
    }
}

fn write_chain(f: &mut fmt::Formatter<'_>, all: &[Expr], sign: &str) -> fmt::Result {
    for (n, expr) in all.iter().enumerate() {
        if n > 0 {
            write!(f, " {sign} ")?;
        }
        write!(f, "{}", Operand(expr))?;
    }
    Ok(())
}

/// An expression below another one: in parentheses when it has an operator.
struct Operand<'a>(&'a Expr);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expr::Literal(_) | Expr::Field(_) | Expr::Parent { .. } => self.0.fmt(f),
            inner => write!(f, "({inner})"),
        }
    }
}

impl BinaryOp {
    /// As queries write it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Compare(op) => op.sign(),
            Self::Matches => "=~",
            Self::MatchesNot => "!~",
            Self::Arithmetic(op) => op.sign(),
        }
    }
}

impl ArithmeticOp {
    /// As queries write it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "^",
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count()"),
            Self::Avg(e) => write!(f, "avg({e})"),
            Self::Min(e) => write!(f, "min({e})"),
            Self::Max(e) => write!(f, "max({e})"),
            Self::Sum(e) => write!(f, "sum({e})"),
        }
    }
}

impl fmt::Display for MetricsExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(query) => write!(f, "({query})"),
            Self::Number(n) => f.write_str(&float(*n)),
            Self::Binary(a, op, b) => write!(f, "({a} {} {b})", op.sign()),
            Self::Staged(inner, stages) => {
                f.write_str("(")?;
                match &**inner {
                    Self::Query(query) => query.fmt(f)?,
                    inner => inner.fmt(f)?,
                }
                write_stages(f, stages)?;
                f.write_str(")")
            }
        }
    }
}

fn write_stages(f: &mut fmt::Formatter<'_>, stages: &[SecondStage]) -> fmt::Result {
    for stage in stages {
        match stage {
            SecondStage::TopK(k) => write!(f, " | topk({k})")?,
            SecondStage::BottomK(k) => write!(f, " | bottomk({k})")?,
            SecondStage::Filter(op, value) => write!(f, " {} {}", op.sign(), float(*value))?,
        }
    }
    Ok(())
}

impl fmt::Display for MetricsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}(", self.pipeline, self.function.name())?;
        match &self.function {
            MetricsFunction::QuantileOverTime(field, quantiles) => {
                write!(f, "{field}")?;
                for q in quantiles {
                    write!(f, ", {}", float(*q))?;
                }
            }
            MetricsFunction::Compare(compare) => {
                write!(f, "{{ {} }}, {}", compare.selection, compare.top)?;
                if let Some((start, end)) = compare.between_ns {
                    write!(f, ", {start}, {end}")?;
                }
            }
            function => {
                if let Some(field) = function.field() {
                    write!(f, "{field}")?;
                }
            }
        }
        f.write_str(")")?;
        if !self.by.is_empty() {
            write!(f, " by(")?;
            f.write_str(&joined(&self.by))?;
            f.write_str(")")?;
        }
        Ok(())
    }
}
