//! TraceQL computed span by span from decoded traces, as plainly as it can be written down: what the engine is held against.

use lgtm_tracestore::select::{
    AttributeScope, CompareOp, Field, Intrinsic, Literal, SpanFilter, Test,
};
use lgtm_tracestore::trace::{
    Attribute, Event, Link, ResourceSpans, ScopeSpans, Span, Trace, TraceSummary, Value, Values,
};
use lgtm_tracestore::traceql::{
    ArithmeticOp, BinaryOp, Expr, Relation, RelationForm, SpansetExpr, SpansetOp,
};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Missing,
    Text(Vec<u8>),
    /// Integers and durations.
    Whole(i64),
    Float(f64),
    Bool(bool),
    Status(i32),
    Kind(i32),
    Array(Vec<Plain>),
}

/// A span, with what it lies in; perhaps one of its events and links.
#[derive(Clone, Copy)]
pub(crate) struct At<'t> {
    pub(crate) trace: &'t Trace<'t>,
    pub(crate) resource: &'t ResourceSpans<'t>,
    pub(crate) scope: &'t ScopeSpans<'t>,
    pub(crate) span: &'t Span<'t>,
    event: Option<&'t Event<'t>>,
    link: Option<&'t Link<'t>>,
}

pub(crate) fn spans<'t>(trace: &'t Trace<'t>) -> Vec<At<'t>> {
    let spans = trace.spans();
    spans
        .map(|(resource, scope, span)| At {
            trace,
            resource,
            scope,
            span,
            event: None,
            link: None,
        })
        .collect()
}

fn plain(value: &Value<'_>) -> Plain {
    match value {
        Value::Text(text) => Plain::Text(text.to_vec()),
        Value::Int(v) => Plain::Whole(*v),
        Value::Double(v) => Plain::Float(*v),
        Value::Bool(v) => Plain::Bool(*v),
        Value::List(list) => {
            let items: Vec<Plain> = Values::new(list).map(|v| plain(&v.unwrap())).collect();
            let same = |a: &Plain| std::mem::discriminant(a) == std::mem::discriminant(&items[0]);
            if items.is_empty() || !items.iter().all(same) || items.contains(&Plain::Missing) {
                return Plain::Missing;
            }
            Plain::Array(items)
        }
        _ => Plain::Missing,
    }
}

fn attribute(attributes: &[Attribute<'_>], name: &str) -> Plain {
    let found = attributes.iter().find(|a| a.key == name.as_bytes());
    found.map_or(Plain::Missing, |a| plain(&a.value))
}

fn first(values: impl Iterator<Item = Plain>) -> Plain {
    let mut values = values.filter(|v| *v != Plain::Missing);
    values.next().unwrap_or(Plain::Missing)
}

impl At<'_> {
    fn events(&self) -> Vec<&Event<'_>> {
        self.event
            .map_or_else(|| self.span.events.iter().collect(), |e| vec![e])
    }

    fn links(&self) -> Vec<&Link<'_>> {
        self.link
            .map_or_else(|| self.span.links.iter().collect(), |l| vec![l])
    }
}

pub(crate) fn value(field: &Field, at: At<'_>) -> Plain {
    let text = |text: &[u8]| Plain::Text(text.to_vec());
    let hex = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Plain::Text(digits.into_bytes())
    };
    let span = at.span;
    match field {
        Field::Attribute(AttributeScope::Any, name) => match attribute(&span.attributes, name) {
            Plain::Missing => attribute(&at.resource.attributes, name),
            value => value,
        },
        Field::Attribute(AttributeScope::Resource, name) if name == "service.name" => {
            match attribute(&at.resource.attributes, name) {
                Plain::Text(service) => Plain::Text(service),
                _ => Plain::Text(Vec::new()),
            }
        }
        Field::Attribute(AttributeScope::Resource, name) => {
            attribute(&at.resource.attributes, name)
        }
        Field::Attribute(AttributeScope::Span, name) => attribute(&span.attributes, name),
        Field::Attribute(AttributeScope::Instrumentation, name) => {
            attribute(&at.scope.attributes, name)
        }
        Field::Attribute(AttributeScope::Event, name) => {
            first(at.events().iter().map(|e| attribute(&e.attributes, name)))
        }
        Field::Attribute(AttributeScope::Link, name) => {
            first(at.links().iter().map(|l| attribute(&l.attributes, name)))
        }
        Field::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Duration => Plain::Whole(span.end_ns.wrapping_sub(span.start_ns) as i64),
            Intrinsic::Name => text(span.name),
            Intrinsic::Status => Plain::Status(span.status_code),
            Intrinsic::StatusMessage => text(span.status_message),
            Intrinsic::Kind => Plain::Kind(span.kind),
            Intrinsic::SpanId => hex(span.span_id),
            Intrinsic::ParentId if span.parent_span_id.is_empty() => Plain::Missing,
            Intrinsic::ParentId => hex(span.parent_span_id),
            Intrinsic::TraceDuration => {
                Plain::Whole(TraceSummary::of(at.trace).duration_ns() as i64)
            }
            Intrinsic::RootName => text(TraceSummary::of(at.trace).root_span_name),
            Intrinsic::RootService => text(TraceSummary::of(at.trace).root_service_name),
            Intrinsic::EventName => first(at.events().iter().map(|e| text(e.name))),
            Intrinsic::EventTimeSinceStart => {
                let since =
                    |e: &&Event<'_>| Plain::Whole(e.time_ns.wrapping_sub(span.start_ns) as i64);
                first(at.events().iter().map(since))
            }
            Intrinsic::LinkSpanId => first(at.links().iter().map(|l| hex(l.span_id))),
            Intrinsic::ScopeName => text(at.scope.name),
            other => panic!("{other:?} is not computed here"),
        },
    }
}

fn compared(op: CompareOp, a: &Plain, b: &Plain) -> bool {
    let equality = matches!(op, CompareOp::Equal | CompareOp::NotEqual);
    match (a, b) {
        (Plain::Array(_), Plain::Array(_)) => false,
        (Plain::Array(items), b) if op == CompareOp::NotEqual => {
            items.iter().all(|a| compared(op, a, b))
        }
        (Plain::Array(items), b) => items.iter().any(|a| compared(op, a, b)),
        (a, Plain::Array(items)) if op == CompareOp::NotEqual => {
            items.iter().all(|b| compared(op, a, b))
        }
        (a, Plain::Array(items)) => items.iter().any(|b| compared(op, a, b)),
        (Plain::Whole(a), Plain::Whole(b)) => op.holds(a, b),
        (Plain::Whole(a), Plain::Float(b)) => op.holds(*a as f64, *b),
        (Plain::Float(a), Plain::Whole(b)) => op.holds(*a, *b as f64),
        (Plain::Float(a), Plain::Float(b)) => op.holds(a, b),
        (Plain::Text(a), Plain::Text(b)) => op.holds(a, b),
        (Plain::Bool(a), Plain::Bool(b)) => equality && op.holds(a, b),
        (Plain::Status(a), Plain::Status(b)) | (Plain::Kind(a), Plain::Kind(b)) => {
            equality && op.holds(a, b)
        }
        _ => false,
    }
}

fn matched(value: &Plain, pattern: &str, wanted: bool) -> bool {
    // The patterns of the tests are texts and `.*`.
    let (start, end) = pattern.split_once(".*").unwrap_or((pattern, "\0"));
    let matches = |text: &[u8]| {
        if end == "\0" {
            text == start.as_bytes()
        } else {
            text.len() >= start.len() + end.len()
                && text.starts_with(start.as_bytes())
                && text.ends_with(end.as_bytes())
        }
    };
    match value {
        Plain::Text(text) => matches(text) == wanted,
        Plain::Array(items) if wanted => items.iter().any(|v| matched(v, pattern, true)),
        Plain::Array(items) => items.iter().all(|v| matched(v, pattern, false)),
        _ => false,
    }
}

fn literal(literal: &Literal) -> Plain {
    match literal {
        Literal::Nil => Plain::Missing,
        Literal::Int(v) | Literal::Duration(v) => Plain::Whole(*v),
        Literal::Float(v) => Plain::Float(*v),
        Literal::Text(v) => Plain::Text(v.clone().into_bytes()),
        Literal::Bool(v) => Plain::Bool(*v),
        Literal::Status(v) => Plain::Status(*v as i32),
        Literal::Kind(v) => Plain::Kind(*v as i32),
    }
}

pub(crate) fn computed(expr: &Expr, at: At<'_>) -> Plain {
    match expr {
        Expr::Literal(l) => literal(l),
        Expr::Field(field) => value(field, at),
        Expr::Negate(inner) => match computed(inner, at) {
            Plain::Whole(v) => Plain::Whole(v.wrapping_neg()),
            Plain::Float(v) => Plain::Float(-v),
            _ => Plain::Missing,
        },
        Expr::Binary(a, BinaryOp::Arithmetic(op), b) => {
            match (computed(a, at), computed(b, at), op) {
                (Plain::Whole(a), Plain::Whole(b), ArithmeticOp::Add) => {
                    Plain::Whole(a.wrapping_add(b))
                }
                (Plain::Whole(a), Plain::Whole(b), ArithmeticOp::Multiply) => {
                    Plain::Whole(a.wrapping_mul(b))
                }
                (Plain::Whole(a), Plain::Float(b), ArithmeticOp::Add) => Plain::Float(a as f64 + b),
                (Plain::Float(a), Plain::Whole(b), ArithmeticOp::Add) => Plain::Float(a + b as f64),
                (Plain::Float(a), Plain::Float(b), ArithmeticOp::Add) => Plain::Float(a + b),
                (Plain::Whole(a), Plain::Float(b), ArithmeticOp::Multiply) => {
                    Plain::Float(a as f64 * b)
                }
                (Plain::Float(a), Plain::Whole(b), ArithmeticOp::Multiply) => {
                    Plain::Float(a * b as f64)
                }
                (Plain::Float(a), Plain::Float(b), ArithmeticOp::Multiply) => Plain::Float(a * b),
                _ => Plain::Missing,
            }
        }
        test => Plain::Bool(holds(test, at)),
    }
}

fn has_level(expr: &Expr, scope: AttributeScope) -> bool {
    let mut found = false;
    expr.each_field(&mut |field| {
        found |= match field {
            Field::Attribute(s, _) => *s == scope,
            Field::Intrinsic(Intrinsic::EventName | Intrinsic::EventTimeSinceStart) => {
                scope == AttributeScope::Event
            }
            Field::Intrinsic(Intrinsic::LinkSpanId | Intrinsic::LinkTraceId) => {
                scope == AttributeScope::Link
            }
            Field::Intrinsic(_) => false,
        };
    });
    found
}

fn names_nil(expr: &Expr) -> bool {
    matches!(expr, Expr::Binary(a, _, b) if **a == Expr::Literal(Literal::Nil) || **b == Expr::Literal(Literal::Nil))
}

/// Whether an expression is made of comparisons of events (or links) only.
fn is_of(expr: &Expr, scope: AttributeScope) -> bool {
    let other = if scope == AttributeScope::Event {
        AttributeScope::Link
    } else {
        AttributeScope::Event
    };
    match expr {
        Expr::And(all) | Expr::Or(all) => all.iter().all(|e| is_of(e, scope)),
        Expr::Binary(..) => !names_nil(expr) && has_level(expr, scope) && !has_level(expr, other),
        Expr::Field(_) => has_level(expr, scope),
        _ => false,
    }
}

fn conjuncts<'e>(all: &'e [Expr], out: &mut Vec<&'e Expr>) {
    for expr in all {
        match expr {
            Expr::And(inner) => conjuncts(inner, out),
            expr => out.push(expr),
        }
    }
}

/// For each event (and link) of the span that the expression looks at.
fn any_below(expr: &Expr, at: At<'_>, test: &dyn Fn(At<'_>) -> bool) -> bool {
    if at.event.is_none() && has_level(expr, AttributeScope::Event) {
        return at.span.events.iter().any(|event| {
            any_below(
                expr,
                At {
                    event: Some(event),
                    ..at
                },
                test,
            )
        });
    }
    if at.link.is_none() && has_level(expr, AttributeScope::Link) {
        return at.span.links.iter().any(|link| {
            any_below(
                expr,
                At {
                    link: Some(link),
                    ..at
                },
                test,
            )
        });
    }
    test(at)
}

pub(crate) fn holds(expr: &Expr, at: At<'_>) -> bool {
    match expr {
        Expr::And(all) => {
            let mut parts = Vec::new();
            conjuncts(all, &mut parts);
            let same = |scope| {
                parts
                    .iter()
                    .copied()
                    .filter(move |e| is_of(e, scope))
                    .collect::<Vec<_>>()
            };
            let (events, links) = (same(AttributeScope::Event), same(AttributeScope::Link));
            let one_event = events.is_empty()
                || at.event.is_some() && events.iter().all(|e| holds(e, at))
                || at.event.is_none()
                    && at.span.events.iter().any(|event| {
                        events.iter().all(|e| {
                            holds(
                                e,
                                At {
                                    event: Some(event),
                                    ..at
                                },
                            )
                        })
                    });
            let one_link = links.is_empty()
                || at.link.is_some() && links.iter().all(|e| holds(e, at))
                || at.link.is_none()
                    && at.span.links.iter().any(|link| {
                        links.iter().all(|e| {
                            holds(
                                e,
                                At {
                                    link: Some(link),
                                    ..at
                                },
                            )
                        })
                    });
            let mut rest = parts
                .iter()
                .filter(|e| !events.contains(e) && !links.contains(e));
            one_event && one_link && rest.all(|e| holds(e, at))
        }
        Expr::Or(all) => all.iter().any(|e| holds(e, at)),
        Expr::Not(inner) => match &**inner {
            Expr::Field(_) => any_below(inner, at, &|at| computed(inner, at) == Plain::Bool(false)),
            Expr::Literal(_) | Expr::Negate(_) | Expr::Binary(_, BinaryOp::Arithmetic(_), _) => {
                computed(inner, at) == Plain::Bool(false)
            }
            inner => !holds(inner, at),
        },
        Expr::Binary(a, op, b) => any_below(expr, at, &|at| binary(a, *op, b, at)),
        expr => any_below(expr, at, &|at| computed(expr, at) == Plain::Bool(true)),
    }
}

fn binary(a: &Expr, op: BinaryOp, b: &Expr, at: At<'_>) -> bool {
    let nil = Expr::Literal(Literal::Nil);
    match op {
        BinaryOp::Compare(op) if *a == nil || *b == nil => {
            let other = if *a == nil { b } else { a };
            *other != nil && (computed(other, at) == Plain::Missing) == (op == CompareOp::Equal)
        }
        BinaryOp::Compare(op) => compared(op, &computed(a, at), &computed(b, at)),
        BinaryOp::Matches | BinaryOp::MatchesNot => {
            let Expr::Literal(Literal::Text(pattern)) = b else {
                return false;
            };
            matched(&computed(a, at), pattern, op == BinaryOp::Matches)
        }
        BinaryOp::Arithmetic(_) => false,
    }
}

/// A filter as a whole: `!=` alone is true where one element of an array differs.
pub(crate) fn filter_holds(expr: &Expr, at: At<'_>) -> bool {
    if let Expr::Binary(a, BinaryOp::Compare(CompareOp::NotEqual), b) = expr
        && let (Expr::Field(field @ Field::Attribute(scope, _)), Expr::Literal(l)) = (&**a, &**b)
        && *l != Literal::Nil
        && !matches!(
            scope,
            AttributeScope::Event | AttributeScope::Link | AttributeScope::Instrumentation
        )
        && let Plain::Array(items) = value(field, at)
    {
        return items
            .iter()
            .any(|v| compared(CompareOp::NotEqual, v, &literal(l)));
    }
    holds(expr, at)
}

/// Numbers of the spans of a trace that a set has.
pub(crate) fn spanset(expr: &SpansetExpr, spans: &[At<'_>]) -> Vec<usize> {
    let (a, op, b) = match expr {
        SpansetExpr::Filter(expr) => {
            return (0..spans.len())
                .filter(|n| filter_holds(expr, spans[*n]))
                .collect();
        }
        SpansetExpr::Operation(a, op, b) => (spanset(a, spans), *op, spanset(b, spans)),
        SpansetExpr::Pipeline(_) => panic!("pipelines are not computed here"),
    };
    let both = |a: &[usize], b: &[usize]| {
        (0..spans.len())
            .filter(|n| a.contains(n) || b.contains(n))
            .collect::<Vec<_>>()
    };
    let (relation, form) = match op {
        SpansetOp::And if a.is_empty() || b.is_empty() => return Vec::new(),
        SpansetOp::And | SpansetOp::Or => return both(&a, &b),
        SpansetOp::Structural(relation, form) => (relation, form),
    };
    let related = |x: usize, y: usize| stands(spans, x, relation, y);
    let right: Vec<usize> = (b.iter().copied())
        .filter(|y| a.iter().any(|x| related(*x, *y)))
        .collect();
    match form {
        RelationForm::Right => right,
        RelationForm::Negated => b.into_iter().filter(|y| !right.contains(y)).collect(),
        RelationForm::Union => {
            let left: Vec<usize> = (a.iter().copied())
                .filter(|x| b.iter().any(|y| related(*x, *y)))
                .collect();
            both(&left, &right)
        }
    }
}

fn parent(spans: &[At<'_>], n: usize) -> Option<usize> {
    let id = spans[n].span.parent_span_id;
    spans
        .iter()
        .position(|s| !id.is_empty() && s.span.span_id == id)
}

/// The spans above one, nearest first.
fn above(spans: &[At<'_>], n: usize) -> Vec<usize> {
    let mut out = Vec::new();
    let mut at = n;
    while let Some(up) = parent(spans, at) {
        if out.contains(&up) {
            break;
        }
        out.push(up);
        at = up;
    }
    out
}

fn hangs_on_a_root(spans: &[At<'_>], n: usize) -> bool {
    let top = above(spans, n).last().copied().unwrap_or(n);
    spans[top].span.parent_span_id.is_empty()
}

fn stands(spans: &[At<'_>], x: usize, relation: Relation, y: usize) -> bool {
    if !hangs_on_a_root(spans, x) || !hangs_on_a_root(spans, y) || x == y {
        return false;
    }
    match relation {
        Relation::Child => parent(spans, y) == Some(x),
        Relation::Parent => parent(spans, x) == Some(y),
        Relation::Descendant => above(spans, y).contains(&x),
        Relation::Ancestor => above(spans, x).contains(&y),
        Relation::Sibling => parent(spans, x) == parent(spans, y),
    }
}

/// Whether a span passes what is pushed down.
pub(crate) fn passes(filter: &SpanFilter, at: At<'_>) -> bool {
    match filter {
        SpanFilter::Everything => true,
        SpanFilter::Nothing => false,
        SpanFilter::All(all) => all.iter().all(|f| passes(f, at)),
        SpanFilter::Any(all) => all.iter().any(|f| passes(f, at)),
        SpanFilter::Test(condition) => {
            let field = Expr::Field(condition.field.clone());
            any_below(&field, at, &|at| {
                let value = value(&condition.field, at);
                let values = match value {
                    Plain::Array(items) => items,
                    value => vec![value],
                };
                values.iter().any(|value| match &condition.test {
                    Test::Exists => *value != Plain::Missing,
                    Test::Compare(op, l) => compared(*op, value, &literal(l)),
                    Test::In(all) => all
                        .iter()
                        .any(|l| compared(CompareOp::Equal, value, &literal(l))),
                    Test::Matches(all) => all.iter().any(|p| matched(value, p, true)),
                })
            })
        }
    }
}
