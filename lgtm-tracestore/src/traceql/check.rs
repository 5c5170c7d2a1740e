//! What a query that parses must keep to: types, and the bounds of functions.

use lgtm_core::exec::with_room;
use lgtm_core::re2::{Anchoring, Dot, Re2};

use super::ast::*;
use super::error::QueryError;
use crate::select::{AttributeScope, CompareOp, Field, Intrinsic, Literal};

/// Labels that series may be made by.
const MAX_BY: usize = 5;

/// Values of an attribute that `compare` may tell.
const MAX_COMPARE_TOP: i64 = 1_000;

/// What is known of an expression's values before there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StaticType {
    /// Nothing: attributes have values of any type.
    Unknown,
    Nil,
    /// Integers, floats, durations.
    Number,
    Text,
    Bool,
    Status,
    Kind,
}

/// Checks a query.
pub(super) fn check(query: &Query) -> Result<(), QueryError> {
    match &query.body {
        QueryBody::Search(pipeline) => check_pipeline(pipeline),
        QueryBody::Metrics(metrics) => check_metrics(metrics, Alone::Yes),
    }
}

/// What Tempo says of comparisons of numbers that it reads but does not answer, its place-holder included.
pub(super) fn unsupported_scalar() -> QueryError {
    QueryError::invalid("scalar filter lhs of type (%v) not yet supported")
}

pub(super) fn parent_refused(bare: bool) -> QueryError {
    QueryError::invalid(if bare {
        "intrinsic (parent) not yet supported"
    } else {
        "parent not yet supported"
    })
}

pub(super) fn check_pipeline(pipeline: &Pipeline) -> Result<(), QueryError> {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(spanset) => with_room(|| check_spanset(spanset))?,
            Stage::By(expr) => {
                type_of(expr)?;
                if !expr.references_span() {
                    return Err(QueryError::invalid(format!(
                        "grouping field expressions must reference the span: by({expr})"
                    )));
                }
            }
            Stage::Coalesce | Stage::Select(_) => {}
            Stage::Aggregate(filter) => check_aggregate(filter)?,
        }
    }
    Ok(())
}

fn check_aggregate(filter: &AggregateFilter) -> Result<(), QueryError> {
    let Some(expr) = filter.aggregate.expression() else {
        return Ok(());
    };
    if !matches!(type_of(expr)?, StaticType::Unknown | StaticType::Number) {
        return Err(QueryError::invalid(format!(
            "aggregate field expressions must resolve to a number type: {}",
            filter.aggregate
        )));
    }
    if !expr.references_span() {
        return Err(QueryError::invalid(format!(
            "aggregate field expressions must reference the span: {}",
            filter.aggregate
        )));
    }
    Ok(())
}

fn check_spanset(spanset: &SpansetExpr) -> Result<(), QueryError> {
    match spanset {
        SpansetExpr::Filter(expr) => check_filter(expr),
        SpansetExpr::Operation(a, op, b) => {
            if matches!(op, SpansetOp::Structural(..)) && (gives_several(a) || gives_several(b)) {
                return Err(QueryError::invalid(
                    "spanset operators are not supported for multiple spansets per trace. consider using coalesce()",
                ));
            }
            with_room(|| check_spanset(a))?;
            with_room(|| check_spanset(b))
        }
        SpansetExpr::Pipeline(pipeline) => check_pipeline(pipeline),
    }
}

/// Whether a trace may have several sets of it.
fn gives_several(spanset: &SpansetExpr) -> bool {
    let SpansetExpr::Pipeline(pipeline) = spanset else {
        return false;
    };
    let mut several = false;
    for stage in &pipeline.stages {
        match stage {
            Stage::By(_) => several = true,
            Stage::Coalesce => several = false,
            _ => {}
        }
    }
    several
}

pub(super) fn check_filter(expr: &Expr) -> Result<(), QueryError> {
    match type_of(expr)? {
        StaticType::Bool | StaticType::Unknown => Ok(()),
        _ => Err(QueryError::invalid(format!(
            "span filter field expressions must resolve to a boolean: {{ {expr} }}"
        ))),
    }
}

/// The type of an expression.
///
/// # Errors
/// Where operators do not fit what they stand between.
pub(super) fn type_of(expr: &Expr) -> Result<StaticType, QueryError> {
    with_room(|| match expr {
        Expr::Literal(literal) => Ok(match literal {
            Literal::Nil => StaticType::Nil,
            Literal::Int(_) | Literal::Float(_) | Literal::Duration(_) => StaticType::Number,
            Literal::Text(_) => StaticType::Text,
            Literal::Bool(_) => StaticType::Bool,
            Literal::Status(_) => StaticType::Status,
            Literal::Kind(_) => StaticType::Kind,
        }),
        Expr::Field(field) => Ok(type_of_field(field)),
        Expr::Parent { bare } => Err(parent_refused(*bare)),
        Expr::Not(inner) => match type_of(inner)? {
            StaticType::Bool | StaticType::Unknown => Ok(StaticType::Bool),
            _ => Err(QueryError::invalid(format!(
                "illegal operation for the given type: {expr}"
            ))),
        },
        Expr::Negate(inner) => match type_of(inner)? {
            known @ (StaticType::Number | StaticType::Unknown) => Ok(known),
            _ => Err(QueryError::invalid(format!(
                "illegal operation for the given type: {expr}"
            ))),
        },
        Expr::And(all) | Expr::Or(all) => {
            for (n, part) in all.iter().enumerate() {
                match type_of(part)? {
                    StaticType::Bool | StaticType::Unknown => {}
                    other => {
                        let beside = &all[usize::from(n == 0)];
                        let beside = type_of(beside)?;
                        return Err(mismatch(
                            expr,
                            other == beside || beside == StaticType::Unknown,
                        ));
                    }
                }
            }
            Ok(StaticType::Bool)
        }
        Expr::Binary(a, op, b) => type_of_binary(expr, a, *op, b),
    })
}

/// An error of the operator: its sides have one type that it does not take, or two.
fn mismatch(expr: &Expr, same: bool) -> QueryError {
    QueryError::invalid(if same {
        format!("illegal operation for the given types: {expr}")
    } else {
        format!("binary operations must operate on the same type: {expr}")
    })
}

fn type_of_binary(expr: &Expr, a: &Expr, op: BinaryOp, b: &Expr) -> Result<StaticType, QueryError> {
    use StaticType::{Bool, Nil, Number, Text, Unknown};
    let (left, right) = (type_of(a)?, type_of(b)?);
    if let BinaryOp::Matches | BinaryOp::MatchesNot = op {
        check_regex(expr, left, b)?;
        return Ok(Bool);
    }
    if left == Nil || right == Nil {
        let other = if left == Nil { b } else { a };
        check_nil(expr, op, other)?;
        return Ok(Bool);
    }
    if left != right && left != Unknown && right != Unknown {
        return Err(mismatch(expr, false));
    }
    let known = if left == Unknown { right } else { left };
    let legal = match op {
        BinaryOp::Compare(CompareOp::Equal | CompareOp::NotEqual) => true,
        BinaryOp::Compare(_) => matches!(known, Number | Text | Unknown),
        _ => matches!(known, Number | Unknown),
    };
    if !legal {
        return Err(mismatch(expr, true));
    }
    Ok(match op {
        BinaryOp::Arithmetic(_) => Number,
        _ => Bool,
    })
}

fn check_regex(expr: &Expr, left: StaticType, pattern: &Expr) -> Result<(), QueryError> {
    if !matches!(left, StaticType::Text | StaticType::Unknown) {
        return Err(mismatch(expr, false));
    }
    let Expr::Literal(Literal::Text(pattern)) = pattern else {
        return Err(mismatch(
            expr,
            left != StaticType::Text && !matches!(pattern, Expr::Literal(_)),
        ));
    };
    if lgtm_core::exec::is_abandoned() {
        return Ok(());
    }
    match Re2::new(pattern, Anchoring::Whole, Dot::Any) {
        Ok(_) => Ok(()),
        Err(e) => Err(QueryError::invalid(format!("invalid regex: {expr}: {e}"))),
    }
}

fn check_nil(expr: &Expr, op: BinaryOp, other: &Expr) -> Result<(), QueryError> {
    let BinaryOp::Compare(op @ (CompareOp::Equal | CompareOp::NotEqual)) = op else {
        return Err(mismatch(expr, true));
    };
    match other {
        Expr::Field(field) if op == CompareOp::Equal && field.is_never_nil() => {
            Err(QueryError::invalid(format!(
                "{field}=nil is not valid because intrinsics cannot be nil"
            )))
        }
        Expr::Field(_) | Expr::Literal(Literal::Nil) => Ok(()),
        _ => match type_of(other)? {
            StaticType::Unknown => Ok(()),
            _ => Err(mismatch(expr, false)),
        },
    }
}

fn type_of_field(field: &Field) -> StaticType {
    match field {
        Field::Attribute(AttributeScope::Resource, name) if name == "service.name" => {
            StaticType::Unknown
        }
        Field::Attribute(..) => StaticType::Unknown,
        Field::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Status => StaticType::Status,
            Intrinsic::Kind => StaticType::Kind,
            Intrinsic::Duration
            | Intrinsic::TraceDuration
            | Intrinsic::EventTimeSinceStart
            | Intrinsic::ChildCount
            | Intrinsic::StartTime
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent => StaticType::Number,
            _ => StaticType::Text,
        },
    }
}

/// Whether series are all that is asked for, or a part of a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    Yes,
    No,
}

fn check_metrics(metrics: &MetricsExpr, alone: Alone) -> Result<(), QueryError> {
    match metrics {
        MetricsExpr::Number(_) => Ok(()),
        MetricsExpr::Query(query) => {
            if matches!(query.function, MetricsFunction::Compare(_)) && alone == Alone::No {
                return Err(QueryError::invalid(
                    "compare() cannot be part of a computation and takes no second stage",
                ));
            }
            check_pipeline(&query.pipeline)?;
            check_function(query)
        }
        MetricsExpr::Binary(a, _, b) => {
            with_room(|| check_metrics(a, Alone::No))?;
            with_room(|| check_metrics(b, Alone::No))
        }
        MetricsExpr::Staged(inner, stages) => {
            with_room(|| check_metrics(inner, Alone::No))?;
            for stage in stages {
                let (name, k) = match stage {
                    SecondStage::TopK(k) => ("topk", *k),
                    SecondStage::BottomK(k) => ("bottomk", *k),
                    SecondStage::Filter(..) => continue,
                };
                if k <= 0 {
                    return Err(QueryError::invalid(format!(
                        "{name} limit must be greater than 0, received {k}"
                    )));
                }
            }
            Ok(())
        }
    }
}

fn check_function(query: &MetricsQuery) -> Result<(), QueryError> {
    let mut max_by = MAX_BY;
    match &query.function {
        MetricsFunction::QuantileOverTime(_, quantiles) => {
            max_by -= 1;
            if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                return Err(QueryError::invalid(format!(
                    "quantile must be between 0 and 1: {q}"
                )));
            }
        }
        MetricsFunction::HistogramOverTime(_) | MetricsFunction::AvgOverTime(_) => max_by -= 1,
        MetricsFunction::Compare(compare) => check_compare(compare)?,
        _ => {}
    }
    if query.by.len() > max_by {
        return Err(QueryError::invalid(format!(
            "metrics group by {} values not yet supported",
            query.by.len()
        )));
    }
    Ok(())
}

fn check_compare(compare: &CompareFunction) -> Result<(), QueryError> {
    check_filter(&compare.selection)?;
    if !(1..=MAX_COMPARE_TOP).contains(&compare.top) {
        return Err(QueryError::invalid(format!(
            "compare() top number of values must be an integer between 1 and {MAX_COMPARE_TOP}"
        )));
    }
    match compare.between_ns {
        Some((start, end)) if start <= 0 || end <= start => Err(QueryError::invalid(
            "compare() times must be above 0, and the start before the end",
        )),
        _ => Ok(()),
    }
}
