//! Types: what an expression gives must be what the one around it takes.

use lgtm_core::go::quote;
use lgtm_core::model::{METRIC_NAME, Matcher};

use super::{Result, fault};
use crate::promql::ast::{
    Aggregate, Binary, Call, Cardinality, Expr, Span, ValueType, VectorSelector,
};

/// Checks an expression and all below it, and settles how operands match. Gives the expression's type.
///
/// # Errors
/// The first fault in Prometheus' order: operands before what joins them.
pub(super) fn check(expr: &mut Expr) -> Result<ValueType> {
    match expr {
        Expr::Number(_) => Ok(ValueType::Scalar),
        Expr::Text(_) => Ok(ValueType::Text),
        Expr::Vector(selector) => check_selector(selector).map(|()| ValueType::Vector),
        Expr::Matrix(matrix) => check_selector(&matrix.vector).map(|()| ValueType::Matrix),
        Expr::Subquery(subquery) => match check(&mut subquery.expr)? {
            ValueType::Vector => Ok(ValueType::Matrix),
            got => {
                let got = got.name();
                let message =
                    format!("subquery is only allowed on instant vector, got {got} instead");
                Err(fault(subquery.span, message))
            }
        },
        Expr::Call(call) => check_call(call).map(|()| call.function.returns),
        Expr::Aggregate(aggregate) => check_aggregate(aggregate).map(|()| ValueType::Vector),
        Expr::Binary(binary) => check_binary(binary),
        Expr::Unary(unary) => match check(&mut unary.expr)? {
            got @ (ValueType::Scalar | ValueType::Vector) => Ok(got),
            got => {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(got.described())
                );
                Err(fault(unary.span, message))
            }
        },
        Expr::Paren(paren) => check(&mut paren.expr),
        Expr::StepInvariant(inner) => check(inner),
    }
}

fn fail(span: Span, message: impl Into<String>) -> Result<()> {
    Err(fault(span, message))
}

/// Checks an expression and that it gives what is wanted.
fn expect(expr: &mut Expr, wanted: ValueType, place: &str) -> Result<()> {
    let got = check(expr)?;
    if got == wanted {
        return Ok(());
    }
    expect_type(expr.span(), wanted, got, place)
}

fn expect_type(span: Span, wanted: ValueType, got: ValueType, place: &str) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    let (wanted, got) = (wanted.described(), got.described());
    fail(
        span,
        format!("expected type {wanted} in {place}, got {got}"),
    )
}

fn check_selector(selector: &VectorSelector) -> Result<()> {
    if !selector.name.is_empty() {
        // The last matcher is that of the name itself.
        let before = selector.matchers.split_last().map_or(&[][..], |(_, m)| m);
        if let Some(second) = before.iter().find(|m| m.name() == METRIC_NAME) {
            let (name, other) = (quote(&selector.name), quote(second.value()));
            let message = format!("metric name must not be set twice: {name} or {other}");
            return fail(selector.span, message);
        }
    } else if !selector.bypass_empty_check && selector.matchers.iter().all(Matcher::matches_empty) {
        let message = "vector selector must contain at least one non-empty matcher";
        return fail(selector.span, message);
    }
    Ok(())
}

fn check_aggregate(aggregate: &mut Aggregate) -> Result<()> {
    expect(
        &mut aggregate.expr,
        ValueType::Vector,
        "aggregation expression",
    )?;
    match (&mut aggregate.param, aggregate.op.parameter()) {
        (Some(param), Some(wanted)) => expect(param, wanted, "aggregation parameter"),
        _ => Ok(()),
    }
}

fn check_call(call: &mut Call) -> Result<()> {
    let function = call.function;
    let name = quote(function.name);
    let (min, max, got) = (function.min_args(), function.max_args(), call.args.len());
    let wanted = match max {
        Some(max) if min == max && got != min => format!("expected {min}"),
        Some(max) if got > max => format!("expected at most {max}"),
        _ if got < min => format!("expected at least {min}"),
        _ => String::new(),
    };
    if !wanted.is_empty() {
        let message = format!("{wanted} argument(s) in call to {name}, got {got}");
        return fail(call.span, message);
    }
    let place = format!("call to function {name}");
    if function.name == "info"
        && let Some(labels) = call.args.get_mut(1)
    {
        expect_type(call.span, ValueType::Vector, labels.value_type(), &place)?;
        check_info_labels(labels)?;
    }
    for (n, arg) in call.args.iter_mut().enumerate() {
        match function.arg(n) {
            Some(wanted) => expect(arg, wanted, &place)?,
            None => {
                check(arg)?;
            }
        }
    }
    Ok(())
}

/// The second argument of `info` is a selector, but none of series: it may be empty and has no name.
fn check_info_labels(labels: &mut Expr) -> Result<()> {
    match labels {
        Expr::Vector(selector) if selector.name.is_empty() => {
            selector.bypass_empty_check = true;
            Ok(())
        }
        Expr::Vector(selector) => fail(
            selector.span,
            "expected label selectors only, got vector selector instead",
        ),
        other => fail(other.span(), "expected label selectors only"),
    }
}

fn check_binary(binary: &mut Binary) -> Result<ValueType> {
    let lhs = check(&mut binary.lhs)?;
    let rhs = check(&mut binary.rhs)?;
    let op = binary.op;
    if binary.return_bool && !op.is_comparison() {
        let message = "bool modifier can only be used on comparison operators";
        return Err(fault(binary.op_span, message));
    }
    let scalars = (lhs, rhs) == (ValueType::Scalar, ValueType::Scalar);
    if op.is_comparison() && !binary.return_bool && scalars {
        let message = "comparisons between scalars must use BOOL modifier";
        return Err(fault(binary.op_span, message));
    }
    check_matching(binary, lhs, rhs)?;
    Ok(if scalars {
        ValueType::Scalar
    } else {
        ValueType::Vector
    })
}

fn check_matching(binary: &mut Binary, lhs: ValueType, rhs: ValueType) -> Result<()> {
    let op = binary.op;
    let Some(matching) = &mut binary.matching else {
        return Ok(());
    };
    if op.is_set() && matching.card == Cardinality::OneToOne {
        matching.card = Cardinality::ManyToMany;
    }
    let twice = matching
        .labels
        .iter()
        .find(|l| matching.include.contains(l));
    if let (true, Some(label)) = (matching.on, twice) {
        let label = quote(label);
        let message = format!("label {label} must not occur in ON and GROUP clause at once");
        return fail(binary.op_span, message);
    }
    for (side, got) in [(&binary.lhs, lhs), (&binary.rhs, rhs)] {
        if !matches!(got, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return fail(side.span(), message);
        }
    }
    // Looked for only when needed: the span of a long row of operators takes as many steps.
    let span = || binary.lhs.span().to(binary.rhs.span());
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (lhs, rhs) != (ValueType::Vector, ValueType::Vector) {
        if !matching.labels.is_empty() {
            return fail(
                span(),
                "vector matching only allowed between instant vectors",
            );
        }
        if filled {
            let message = "filling in missing series only allowed between instant vectors";
            return fail(span(), message);
        }
        binary.matching = None;
    } else if op.is_set() {
        if matching.card != Cardinality::ManyToMany {
            let op = quote(op.name());
            return fail(span(), format!("no grouping allowed for {op} operation"));
        }
        if filled {
            let message = "filling in missing series not allowed for set operators";
            return fail(span(), message);
        }
    }
    if op.is_set() && (lhs == ValueType::Scalar || rhs == ValueType::Scalar) {
        let op = quote(op.name());
        let message = format!("set operator {op} not allowed in binary scalar expression");
        return fail(binary.lhs.span().to(binary.rhs.span()), message);
    }
    Ok(())
}
