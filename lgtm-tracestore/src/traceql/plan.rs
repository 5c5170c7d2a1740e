//! What a query asks holders for: the columns that it looks at, and which spans cannot matter to it.
//!
//! A plan never changes an answer: spans that come although they were not wanted are filtered by whoever evaluates.

use std::collections::{HashMap, HashSet};
use std::mem::Discriminant;

use super::ast::*;
use crate::select::{
    AttributeScope, CompareOp, Condition, Field, Intrinsic, Level, Literal, SpanFilter, Test,
    WantedColumns,
};

/// The columns that tell how spans stand to each other.
const TREE: [Intrinsic; 3] = [
    Intrinsic::NestedSetLeft,
    Intrinsic::NestedSetRight,
    Intrinsic::NestedSetParent,
];

/// Adds the columns by which a pipeline chooses spans.
pub(super) fn add_columns(pipeline: &Pipeline, wanted: &mut WantedColumns) {
    let mut fields = Vec::new();
    of_pipeline(pipeline, &mut fields);
    wanted.add_all(&fields);
}

fn of_pipeline(pipeline: &Pipeline, out: &mut Vec<Field>) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(spanset) => of_spanset(spanset, out),
            Stage::By(expr) => expr.each_field(&mut |field| out.push(field.clone())),
            Stage::Aggregate(filter) => {
                if let Some(expr) = filter.aggregate.expression() {
                    expr.each_field(&mut |field| out.push(field.clone()));
                }
            }
            Stage::Coalesce | Stage::Select(_) => {}
        }
    }
}

fn of_spanset(spanset: &SpansetExpr, out: &mut Vec<Field>) {
    match spanset {
        SpansetExpr::Filter(expr) => expr.each_field(&mut |field| out.push(field.clone())),
        SpansetExpr::Operation(a, op, b) => {
            if let SpansetOp::Structural(..) = op {
                out.extend(TREE.map(Field::from));
            }
            of_spanset(a, out);
            of_spanset(b, out);
        }
        SpansetExpr::Pipeline(pipeline) => of_pipeline(pipeline, out),
    }
}

/// Whether a pipeline looks at each span alone, whatever else its trace has.
pub(super) fn is_of_spans(pipeline: &Pipeline) -> bool {
    pipeline.stages.iter().all(|stage| match stage {
        Stage::Spanset(SpansetExpr::Filter(expr)) => is_of_span(expr),
        // What is told of spans does not choose them.
        Stage::Select(_) => true,
        _ => false,
    })
}

/// Whether an expression is true of a span whatever else its trace has.
pub(super) fn is_of_span(expr: &Expr) -> bool {
    lgtm_core::exec::with_room(|| match expr {
        Expr::Literal(_) => true,
        Expr::Field(field) => is_spans_own(field),
        Expr::And(all) | Expr::Or(all) => all.iter().all(is_of_span),
        Expr::Not(inner) | Expr::Negate(inner) => is_of_span(inner),
        Expr::Binary(a, _, b) => is_of_span(a) && is_of_span(b),
        Expr::Parent { .. } => false,
    })
}

/// Whether a field is the same whatever other spans its trace has.
pub(super) fn is_spans_own(field: &Field) -> bool {
    let of_tree = TREE.iter().chain(&[Intrinsic::ChildCount]);
    let is_of_tree = of_tree
        .into_iter()
        .any(|intrinsic| *field == Field::Intrinsic(*intrinsic));
    !is_of_tree && field.level() != Level::Trace
}

/// The fields that a pipeline names, in order, each once: what is told of its spans.
pub(super) fn named_fields(pipeline: &Pipeline) -> Vec<Field> {
    let (mut out, mut known) = (Vec::new(), HashSet::new());
    name_fields(pipeline, &mut |field| {
        if known.insert(field.clone()) {
            out.push(field.clone());
        }
    });
    out
}

fn name_fields(pipeline: &Pipeline, f: &mut impl FnMut(&Field)) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(spanset) => {
                spanset.each_filter(&mut |expr| expr.each_field(f));
                of_inner_stages(spanset, f);
            }
            Stage::By(expr) => expr.each_field(f),
            Stage::Select(fields) => fields.iter().for_each(&mut *f),
            Stage::Aggregate(filter) => {
                if let Some(expr) = filter.aggregate.expression() {
                    expr.each_field(f);
                }
            }
            Stage::Coalesce => {}
        }
    }
}

/// What pipelines in parentheses name besides filters.
fn of_inner_stages(spanset: &SpansetExpr, f: &mut impl FnMut(&Field)) {
    match spanset {
        SpansetExpr::Filter(_) => {}
        SpansetExpr::Operation(a, _, b) => {
            of_inner_stages(a, f);
            of_inner_stages(b, f);
        }
        SpansetExpr::Pipeline(pipeline) => {
            let mut named = Vec::new();
            collect_named(pipeline, &mut named);
            named.iter().for_each(f);
        }
    }
}

fn collect_named(pipeline: &Pipeline, out: &mut Vec<Field>) {
    // Through a list, so that the closures of nested pipelines do not nest in types.
    let mut push = |field: &Field| out.push(field.clone());
    let push: &mut dyn FnMut(&Field) = &mut push;
    name_fields(pipeline, &mut |field: &Field| push(field));
}

/// The spans that can matter to a pipeline.
pub(super) fn filter_of(pipeline: &Pipeline) -> SpanFilter {
    // Filters that follow each other at once choose together; a number of a set depends on all of its spans.
    let leading = pipeline.stages.iter().map_while(|stage| match stage {
        Stage::Spanset(spanset) => Some(spanset),
        _ => None,
    });
    let mut filters = Vec::new();
    for (n, spanset) in leading.enumerate() {
        match spanset {
            SpansetExpr::Filter(_) => filters.push(filter_of_spanset(spanset)),
            _ if n == 0 => {
                filters.push(filter_of_spanset(spanset));
                break;
            }
            _ => break,
        }
    }
    SpanFilter::all(filters)
}

pub(super) fn filter_of_spanset(spanset: &SpansetExpr) -> SpanFilter {
    lgtm_core::exec::with_room(|| match spanset {
        SpansetExpr::Filter(expr) => filter_of_expr(expr),
        SpansetExpr::Operation(a, _, b) => {
            SpanFilter::any([filter_of_spanset(a), filter_of_spanset(b)])
        }
        SpansetExpr::Pipeline(pipeline) => filter_of(pipeline),
    })
}

/// The spans of which an expression can be true.
pub(super) fn filter_of_expr(expr: &Expr) -> SpanFilter {
    lgtm_core::exec::with_room(|| match expr {
        Expr::Literal(Literal::Bool(true)) => SpanFilter::Everything,
        Expr::Literal(_) => SpanFilter::Nothing,
        Expr::Field(field) => {
            let is_true = Test::Compare(CompareOp::Equal, Literal::Bool(true));
            test(field, &is_true)
        }
        Expr::And(all) => SpanFilter::all(all.iter().map(filter_of_expr)),
        Expr::Or(all) => with_sets(SpanFilter::any(all.iter().map(filter_of_expr))),
        Expr::Binary(a, op, b) => filter_of_binary(a, *op, b),
        Expr::Parent { .. } | Expr::Not(_) | Expr::Negate(_) => SpanFilter::Everything,
    })
}

fn filter_of_binary(a: &Expr, op: BinaryOp, b: &Expr) -> SpanFilter {
    let nil = Expr::Literal(Literal::Nil);
    match (a, op, b) {
        (_, BinaryOp::Compare(op), _) if *a == nil || *b == nil => {
            let other = if *a == nil { b } else { a };
            match (other, op) {
                (Expr::Field(field), CompareOp::NotEqual) => test(field, &Test::Exists),
                _ => SpanFilter::Everything,
            }
        }
        (Expr::Field(field), BinaryOp::Compare(op), Expr::Literal(literal)) => {
            test(field, &Test::Compare(op, literal.clone()))
        }
        (Expr::Literal(literal), BinaryOp::Compare(op), Expr::Field(field)) => {
            test(field, &Test::Compare(op.flipped(), literal.clone()))
        }
        (Expr::Field(field), BinaryOp::Matches, Expr::Literal(Literal::Text(pattern))) => {
            test(field, &Test::Matches(vec![pattern.clone()]))
        }
        (_, BinaryOp::Arithmetic(_), _) => SpanFilter::Everything,
        _ => match (operands(a), operands(b)) {
            // What is missing makes a comparison false.
            (Some(a), Some(b)) => {
                SpanFilter::all(a.iter().chain(&b).map(|field| test(field, &Test::Exists)))
            }
            _ => SpanFilter::Everything,
        },
    }
}

/// The fields that must all be there for there to be a value; `None` where it is not so simple.
fn operands(expr: &Expr) -> Option<Vec<&Field>> {
    lgtm_core::exec::with_room(|| match expr {
        Expr::Literal(_) => Some(Vec::new()),
        Expr::Field(field) => Some(vec![field]),
        Expr::Negate(inner) => operands(inner),
        Expr::Binary(a, BinaryOp::Arithmetic(_), b) => {
            let mut fields = operands(a)?;
            fields.extend(operands(b)?);
            Some(fields)
        }
        _ => None,
    })
}

fn test(field: &Field, test: &Test) -> SpanFilter {
    let is_said_anyway =
        *test == Test::Exists && field.is_never_nil() && field.level() == Level::Span;
    let may_be_missing = matches!(
        field,
        Field::Intrinsic(Intrinsic::ParentId | Intrinsic::ChildCount)
    );
    if is_said_anyway && !may_be_missing {
        return SpanFilter::Everything;
    }
    let scopes = match field {
        Field::Attribute(AttributeScope::Any, _) => field.columns(),
        field => vec![field.clone()],
    };
    SpanFilter::any(scopes.into_iter().map(|field| {
        SpanFilter::Test(Condition {
            field,
            test: test.clone(),
        })
    }))
}

/// Makes equalities and expressions of one field in a list of alternatives one test.
fn with_sets(filter: SpanFilter) -> SpanFilter {
    let SpanFilter::Any(parts) = filter else {
        return filter;
    };
    let mut out: Vec<SpanFilter> = Vec::new();
    // Where the first test of its kind of a field stands.
    let mut places: HashMap<(Field, Discriminant<Test>), usize> = HashMap::new();
    for part in parts {
        let SpanFilter::Test(Condition { field, test }) = part else {
            out.push(part);
            continue;
        };
        let test = match test {
            Test::Compare(CompareOp::Equal, literal) => Test::In(vec![literal]),
            test => test,
        };
        let place = places.entry((field.clone(), std::mem::discriminant(&test)));
        let place = *place.or_insert(out.len());
        let same = match out.get_mut(place) {
            Some(SpanFilter::Test(known)) => Some(&mut known.test),
            _ => None,
        };
        match (same, test) {
            (Some(Test::In(known)), Test::In(mut more)) => known.append(&mut more),
            (Some(Test::Matches(known)), Test::Matches(mut more)) => known.append(&mut more),
            (_, test) => out.push(SpanFilter::Test(Condition { field, test })),
        }
    }
    SpanFilter::any(out)
}
