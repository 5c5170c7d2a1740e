//! What a trace must have at least: a filter that one of its spans passes, or no set of it can come out.
//!
//! `{a} >> {b}` gives nothing of a trace without a span that passes `b`, whatever passes `a`. The choice depends on the query alone: of a trace whose parts
//! lie in several places, the part with such a span brings the others along.

use super::ast::*;
use super::plan::filter_of_spanset;
use crate::select::{CompareOp, Literal, SpanFilter, Test};

/// A filter that a span of each trace passes of which a pipeline gives something; everything where the pipeline's filter says as much.
pub(super) fn anchor_of(pipeline: &Pipeline) -> SpanFilter {
    match pipeline.stages.first() {
        Some(Stage::Spanset(spanset @ SpansetExpr::Operation(..))) => needed(spanset),
        Some(Stage::Spanset(SpansetExpr::Pipeline(inner))) => anchor_of(inner),
        _ => SpanFilter::Everything,
    }
}

fn needed(spanset: &SpansetExpr) -> SpanFilter {
    lgtm_core::exec::with_room(|| match spanset {
        SpansetExpr::Filter(_) => filter_of_spanset(spanset),
        SpansetExpr::Pipeline(pipeline) => match pipeline.stages.first() {
            Some(Stage::Spanset(first)) => needed(first),
            _ => SpanFilter::Everything,
        },
        SpansetExpr::Operation(a, SpansetOp::Or, b) => SpanFilter::any([needed(a), needed(b)]),
        SpansetExpr::Operation(_, SpansetOp::Structural(_, RelationForm::Negated), b) => needed(b),
        SpansetExpr::Operation(a, _, b) => {
            let (a, b) = (needed(a), needed(b));
            if rarity(&a) > rarity(&b) { a } else { b }
        }
    })
}

/// How few spans pass, by what is usual: a guess, on which only the cost depends.
fn rarity(filter: &SpanFilter) -> u32 {
    lgtm_core::exec::with_room(|| match filter {
        SpanFilter::Everything => 0,
        SpanFilter::Nothing => u32::MAX,
        SpanFilter::All(all) => all.iter().map(rarity).fold(0, u32::saturating_add),
        SpanFilter::Any(any) => any.iter().map(rarity).min().unwrap_or(0),
        SpanFilter::Test(condition) => match &condition.test {
            Test::Compare(CompareOp::Equal, Literal::Status(crate::trace::StatusCode::Error)) => 5,
            Test::Compare(CompareOp::Equal, Literal::Text(_) | Literal::Int(_)) => 3,
            Test::In(_) => 2,
            Test::Compare(CompareOp::NotEqual, _) | Test::Exists => 1,
            Test::Compare(..) | Test::Matches(_) => 2,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn anchor(text: &str) -> SpanFilter {
        match parse(text).unwrap().body {
            QueryBody::Search(pipeline) => anchor_of(&pipeline),
            other => panic!("{other:?} is no search"),
        }
    }

    fn filter(text: &str) -> SpanFilter {
        match parse(text).unwrap().body {
            QueryBody::Search(pipeline) => super::super::plan::filter_of(&pipeline),
            other => panic!("{other:?} is no search"),
        }
    }

    #[test]
    fn a_trace_needs_the_rarer_of_two_sides_that_both_count() {
        let rare = filter("{ status = error && name = `x` }");
        for text in [
            "{ kind = server } >> { status = error && name = `x` }",
            "{ status = error && name = `x` } ~ { kind = server }",
            "{ kind = server } && { status = error && name = `x` }",
            "{ kind = server } &<< { status = error && name = `x` }",
            "({ status = error && name = `x` } | count() > 1) > ({ kind = server })",
        ] {
            assert_eq!(anchor(text), rare, "{text}");
        }
    }

    #[test]
    fn a_side_that_may_be_missing_is_not_needed() {
        let right = filter("{ kind = server }");
        assert_eq!(anchor("{ status = error } !>> { kind = server }"), right);
        let either = filter("{ status = error } || { kind = server }");
        assert_eq!(anchor("{ status = error } || { kind = server }"), either);
        assert_eq!(anchor("{ status = error } || { }"), SpanFilter::Everything);
        assert_eq!(anchor("{ status = error }"), SpanFilter::Everything);
    }
}
