//! The tree as JSON, as `/api/v1/parse_query` answers.
//! Source: the responses of Prometheus 3.14. What is not UTF-8 in a string is replaced, and a fill value that is no finite number is
//! null, since JSON has neither.

use lgtm_core::go::format_plain;
use lgtm_core::model::Matcher;
use serde_json::{Value, json};

use super::ast::{
    Aggregate, AtModifier, Binary, Call, DurationExpr, Edges, Expr, Length, MatrixSelector, Paren,
    Subquery, Unary, VectorSelector,
};
use super::format::match_op;
use super::signature::Arity;

impl Expr {
    /// The tree as JSON.
    pub fn to_json(&self) -> Value {
        // One function a node, so that the frames of the recursion stay small.
        match self {
            Self::Number(e) => json!({"type": "numberLiteral", "val": format_plain(e.value)}),
            Self::Text(e) => json!({"type": "stringLiteral", "val": e.value}),
            Self::Vector(e) => selector("vectorSelector", e),
            Self::Matrix(e) => matrix(e),
            Self::Subquery(e) => subquery(e),
            Self::Call(e) => call(e),
            Self::Aggregate(e) => aggregate(e),
            Self::Binary(e) => binary(e),
            Self::Unary(e) => unary(e),
            Self::Paren(e) => paren(e),
            Self::StepInvariant(e) => e.to_json(),
        }
    }
}

fn matrix(e: &MatrixSelector) -> Value {
    let mut value = selector("matrixSelector", &e.vector);
    value["range"] = json!(milliseconds(&e.range));
    value["rangeExpr"] = computed(&e.range);
    value
}

fn subquery(e: &Subquery) -> Value {
    let expr = e.expr.to_json();
    json!({
        "type": "subquery",
        "expr": expr,
        "range": milliseconds(&e.range),
        "rangeExpr": computed(&e.range),
        "offset": milliseconds(&e.offset),
        "offsetExpr": computed(&e.offset),
        "step": e.step.as_ref().map_or(0, milliseconds),
        "stepExpr": e.step.as_ref().map_or(Value::Null, computed),
        "timestamp": timestamp(e.at),
        "startOrEnd": start_or_end(e.at),
    })
}

fn aggregate(e: &Aggregate) -> Value {
    let expr = e.expr.to_json();
    let param = e.param.as_ref().map(|p| p.to_json());
    json!({
        "type": "aggregation",
        "op": e.op.name(),
        "expr": expr,
        "param": param,
        "grouping": e.grouping,
        "without": e.without,
    })
}

fn binary(e: &Binary) -> Value {
    let (lhs, rhs) = (e.lhs.to_json(), e.rhs.to_json());
    let matching = e.matching.as_ref().map(|m| {
        json!({
            "card": m.card.name(),
            "labels": m.labels,
            "on": m.on,
            "include": m.include,
            "fillValues": {"lhs": m.fill_left, "rhs": m.fill_right},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": e.op.name(),
        "lhs": lhs,
        "rhs": rhs,
        "matching": matching,
        "bool": e.return_bool,
    })
}

fn unary(e: &Unary) -> Value {
    let expr = e.expr.to_json();
    json!({"type": "unaryExpr", "op": e.op.name(), "expr": expr})
}

fn paren(e: &Paren) -> Value {
    let expr = e.expr.to_json();
    json!({"type": "parenExpr", "expr": expr})
}

fn selector(kind: &str, e: &VectorSelector) -> Value {
    let matchers: Vec<Value> = e.matchers.iter().map(matcher).collect();
    json!({
        "type": kind,
        "name": e.name,
        "offset": milliseconds(&e.offset),
        "offsetExpr": computed(&e.offset),
        "matchers": matchers,
        "timestamp": timestamp(e.at),
        "startOrEnd": start_or_end(e.at),
        "anchored": e.edges == Edges::Anchored,
        "smoothed": e.edges == Edges::Smoothed,
    })
}

fn matcher(m: &Matcher) -> Value {
    json!({"name": m.name(), "value": m.value(), "type": match_op(m.op())})
}

fn call(e: &Call) -> Value {
    let args: Vec<Value> = e.args.iter().map(Expr::to_json).collect();
    let types: Vec<&str> = e.function.args.iter().map(|t| t.name()).collect();
    let variadic = match e.function.arity {
        Arity::Exact => 0,
        Arity::UpTo(more) => i64::try_from(more).unwrap_or(i64::MAX),
        Arity::Any => -1,
    };
    json!({
        "type": "call",
        "func": {
            "name": e.function.name,
            "argTypes": types,
            "variadic": variadic,
            "returnType": e.function.returns.name(),
        },
        "args": args,
    })
}

fn milliseconds(length: &Length) -> i64 {
    length.ms().unwrap_or(0)
}

fn computed(length: &Length) -> Value {
    match length {
        Length::Ms(_) => Value::Null,
        Length::Computed(expr) => duration(expr, false),
    }
}

/// Prometheus has no node for parentheses in durations, only a mark on what is inside.
fn duration(expr: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
    match expr {
        DurationExpr::Number(n) => {
            let number = json!({
                "type": "numberLiteral",
                "val": format_plain(n.value),
                "duration": n.duration,
            });
            if wrapped {
                node("+", Value::Null, number)
            } else {
                number
            }
        }
        DurationExpr::Step(_) => node("step", Value::Null, Value::Null),
        DurationExpr::Range(_) => node("range", Value::Null, Value::Null),
        DurationExpr::Unary { op, expr, .. } => node(op.name(), Value::Null, duration(expr, false)),
        DurationExpr::Binary { op, lhs, rhs } => {
            node(op.name(), duration(lhs, false), duration(rhs, false))
        }
        DurationExpr::Min { lhs, rhs, .. } => {
            node("min_of", duration(lhs, false), duration(rhs, false))
        }
        DurationExpr::Max { lhs, rhs, .. } => {
            node("max_of", duration(lhs, false), duration(rhs, false))
        }
        DurationExpr::Paren { expr, .. } => duration(expr, true),
    }
}

fn timestamp(at: Option<AtModifier>) -> Option<i64> {
    match at {
        Some(AtModifier::Time(ms)) => Some(ms.get()),
        _ => None,
    }
}

fn start_or_end(at: Option<AtModifier>) -> Option<&'static str> {
    match at {
        Some(AtModifier::Start) => Some("start"),
        Some(AtModifier::End) => Some("end"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::promql::{ParserOptions, parse_with};
    use serde_json::json;

    #[test]
    fn a_tree_is_written_as_prometheus_writes_it() {
        let query =
            r#"sum by (a) (rate(x{b=~"c"}[5m] @ end() offset 1m)) > bool on (a) 1.5e3 * -y"#;
        let got = parse_with(query, &ParserOptions::default())
            .unwrap()
            .to_json();
        let name = json!({"name": "__name__", "value": "x", "type": "="});
        let wanted = json!({
            "type": "binaryExpr",
            "op": ">",
            "bool": true,
            "matching": {
                "card": "one-to-one",
                "labels": ["a"],
                "on": true,
                "include": [],
                "fillValues": {"lhs": null, "rhs": null},
            },
            "lhs": {
                "type": "aggregation",
                "op": "sum",
                "param": null,
                "grouping": ["a"],
                "without": false,
                "expr": {
                    "type": "call",
                    "func": {
                        "name": "rate",
                        "argTypes": ["matrix"],
                        "variadic": 0,
                        "returnType": "vector",
                    },
                    "args": [{
                        "type": "matrixSelector",
                        "name": "x",
                        "range": 300_000,
                        "rangeExpr": null,
                        "offset": 60_000,
                        "offsetExpr": null,
                        "matchers": [{"name": "b", "value": "c", "type": "=~"}, name],
                        "timestamp": null,
                        "startOrEnd": "end",
                        "anchored": false,
                        "smoothed": false,
                    }],
                },
            },
            "rhs": {
                "type": "binaryExpr",
                "op": "*",
                "bool": false,
                "matching": null,
                "lhs": {"type": "numberLiteral", "val": "1500"},
                "rhs": {"type": "unaryExpr", "op": "-", "expr": {
                    "type": "vectorSelector",
                    "name": "y",
                    "offset": 0,
                    "offsetExpr": null,
                    "matchers": [{"name": "__name__", "value": "y", "type": "="}],
                    "timestamp": null,
                    "startOrEnd": null,
                    "anchored": false,
                    "smoothed": false,
                }},
            },
        });
        assert_eq!(got, wanted);
    }

    #[test]
    fn computed_durations_have_their_own_nodes() {
        let query = "x[(step() - 5m) * 2:1m] @ 1.5";
        let got = parse_with(query, &ParserOptions::everything())
            .unwrap()
            .to_json();
        assert_eq!(got["timestamp"], 1500);
        assert_eq!((&got["range"], &got["step"]), (&json!(0), &json!(60_000)));
        let none = json!(null);
        let wanted = json!({
            "type": "durationExpr", "op": "*", "wrapped": false,
            "lhs": {
                "type": "durationExpr", "op": "-", "wrapped": true,
                "lhs": {"type": "durationExpr", "op": "step", "lhs": none, "rhs": none, "wrapped": false},
                "rhs": {"type": "numberLiteral", "val": "300", "duration": true},
            },
            "rhs": {"type": "numberLiteral", "val": "2", "duration": false},
        });
        assert_eq!(got["rangeExpr"], wanted);
    }
}
