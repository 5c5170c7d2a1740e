//! What of a query depends on its steps as a whole, written out, so that it can be cut in time; and whether its answers are final.

use lgtm_core::frontend::StepRange;
use lgtm_core::model::TimestampMs;

use super::ast::{AtModifier, DurationExpr, Expr, Length, NumberLiteral, Span, VectorSelector};

/// Writes out `@ start()` and `@ end()`, and `start()`, `end()`, `step()` and `range()` as functions and in durations.
pub fn settle(expr: &mut Expr, times: StepRange) {
    expr.walk_mut(&mut |e| match e {
        Expr::Vector(s) => settle_selector(s, times),
        Expr::Matrix(m) => {
            settle_selector(&mut m.vector, times);
            settle_length(&mut m.range, times);
        }
        Expr::Subquery(s) => {
            settle_at(&mut s.at, times);
            settle_length(&mut s.range, times);
            settle_length(&mut s.offset, times);
            s.step.iter_mut().for_each(|l| settle_length(l, times));
        }
        Expr::Call(call) if call.args.is_empty() => {
            let range_ms = times.end_ms.since(times.start_ms);
            let ms = match call.function.name {
                "start" => times.start_ms.get(),
                "end" => times.end_ms.get(),
                "step" => times.step_ms,
                "range" => range_ms,
                _ => return,
            };
            *e = Expr::Number(seconds(ms, call.span));
        }
        _ => {}
    });
}

fn seconds(ms: i64, span: Span) -> NumberLiteral {
    NumberLiteral {
        value: ms as f64 / 1000.0,
        duration: false,
        span,
    }
}

fn settle_selector(s: &mut VectorSelector, times: StepRange) {
    settle_at(&mut s.at, times);
    settle_length(&mut s.offset, times);
}

fn settle_at(at: &mut Option<AtModifier>, times: StepRange) {
    match at {
        Some(AtModifier::Start) => *at = Some(AtModifier::Time(times.start_ms)),
        Some(AtModifier::End) => *at = Some(AtModifier::Time(times.end_ms)),
        _ => {}
    }
}

fn settle_length(length: &mut Length, times: StepRange) {
    if let Length::Computed(expr) = length {
        settle_duration(expr, times);
    }
}

fn settle_duration(expr: &mut DurationExpr, times: StepRange) {
    match expr {
        DurationExpr::Number(_) => {}
        DurationExpr::Step(span) => *expr = DurationExpr::Number(seconds(times.step_ms, *span)),
        DurationExpr::Range(span) => {
            let range_ms = times.end_ms.since(times.start_ms);
            *expr = DurationExpr::Number(seconds(range_ms, *span));
        }
        DurationExpr::Unary { expr, .. } | DurationExpr::Paren { expr, .. } => {
            settle_duration(expr, times);
        }
        DurationExpr::Binary { lhs, rhs, .. }
        | DurationExpr::Min { lhs, rhs, .. }
        | DurationExpr::Max { lhs, rhs, .. } => {
            settle_duration(lhs, times);
            settle_duration(rhs, times);
        }
    }
}

/// Whether an answer of a settled query at a step before `fresh_ms` can change no more: no selector looks ahead of its step, and
/// none is fixed at a time after `fresh_ms`. An offset that is computed is taken for one that looks ahead.
pub fn is_final_before(expr: &Expr, fresh_ms: TimestampMs) -> bool {
    let fine = |offset: &Length, at: Option<AtModifier>| {
        let behind = offset.ms().is_some_and(|ms| ms >= 0);
        let fixed = match at {
            None => true,
            Some(AtModifier::Time(ms)) => ms <= fresh_ms,
            Some(AtModifier::Start | AtModifier::End) => false,
        };
        behind && fixed
    };
    let mut all = true;
    expr.walk(&mut |e| match e {
        Expr::Vector(s) => all &= fine(&s.offset, s.at),
        Expr::Matrix(m) => all &= fine(&m.vector.offset, m.vector.at),
        Expr::Subquery(s) => all &= fine(&s.offset, s.at),
        _ => {}
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::{ParserOptions, parse_with};

    fn parsed(query: &str) -> Expr {
        parse_with(query, &ParserOptions::everything()).unwrap()
    }

    #[test]
    fn what_depends_on_the_whole_is_written_out() {
        let times = StepRange {
            start_ms: TimestampMs::new(100_000),
            end_ms: TimestampMs::new(160_500),
            step_ms: 15_000,
        };
        for (query, wanted) in [
            ("x @ start()", "x @ 100.000"),
            ("rate(x[5m] @ end())", "rate(x[5m] @ 160.500)"),
            ("x[1h:step()] @ end()", "x[1h:15] @ 160.500"),
            (
                "x[min_of(range(), 5m)] offset -step()",
                "x[min_of(60.5, 5m)] offset -15",
            ),
            (
                "end() - start() + step() * range()",
                "160.5 - 100 + 15 * 60.5",
            ),
            ("time() + x", "time() + x"),
        ] {
            let mut expr = parsed(query);
            settle(&mut expr, times);
            assert_eq!(expr.to_string(), wanted, "{query}");
        }
    }

    #[test]
    fn looking_ahead_is_never_final() {
        for (query, wanted) in [
            ("rate(x[5m] offset 5m)", true),
            ("x offset -1s", false),
            ("max_over_time(x[1h:] offset -1m)", false),
            ("sum(max_over_time((x offset -1s)[5m:1m]))", false),
            ("x @ 100", true),
            ("x @ 101", false),
            ("x @ end()", false),
            ("x offset (1m * 2)", false),
            ("time()", true),
        ] {
            assert_eq!(
                is_final_before(&parsed(query), TimestampMs::new(100_000)),
                wanted,
                "{query}"
            );
        }
    }
}
