//! What a query asks holders for: the columns that it looks at, and which spans cannot matter to it.
//!
//! A plan never changes an answer: spans that come although they were not wanted are filtered by whoever evaluates.

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
    for stage in &pipeline.stages {
        match stage {
            Stage::Spanset(spanset) => of_spanset(spanset, wanted),
            Stage::By(expr) => expr.each_field(&mut |field| wanted.add(field)),
            Stage::Aggregate(filter) => {
                if let Some(expr) = filter.aggregate.expression() {
                    expr.each_field(&mut |field| wanted.add(field));
                }
            }
            Stage::Coalesce | Stage::Select(_) => {}
        }
    }
}

fn of_spanset(spanset: &SpansetExpr, wanted: &mut WantedColumns) {
    match spanset {
        SpansetExpr::Filter(expr) => expr.each_field(&mut |field| wanted.add(field)),
        SpansetExpr::Operation(a, op, b) => {
            if let SpansetOp::Structural(..) = op {
                for intrinsic in TREE {
                    wanted.add(&intrinsic.into());
                }
            }
            of_spanset(a, wanted);
            of_spanset(b, wanted);
        }
        SpansetExpr::Pipeline(pipeline) => add_columns(pipeline, wanted),
    }
}

/// The fields that a pipeline names, in order, each once: what is told of its spans.
pub(super) fn named_fields(pipeline: &Pipeline) -> Vec<Field> {
    let mut out = Vec::new();
    name_fields(pipeline, &mut |field| {
        if !out.contains(field) {
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

fn filter_of_spanset(spanset: &SpansetExpr) -> SpanFilter {
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
    for part in parts {
        let SpanFilter::Test(Condition { field, test }) = part else {
            out.push(part);
            continue;
        };
        let test = match test {
            Test::Compare(CompareOp::Equal, literal) => Test::In(vec![literal]),
            test => test,
        };
        let same = out.iter_mut().find_map(|known| match known {
            SpanFilter::Test(known)
                if known.field == field
                    && std::mem::discriminant(&known.test) == std::mem::discriminant(&test) =>
            {
                Some(&mut known.test)
            }
            _ => None,
        });
        match (same, test) {
            (Some(Test::In(known)), Test::In(mut more)) => known.append(&mut more),
            (Some(Test::Matches(known)), Test::Matches(mut more)) => known.append(&mut more),
            (_, test) => out.push(SpanFilter::Test(Condition { field, test })),
        }
    }
    SpanFilter::any(out)
}
