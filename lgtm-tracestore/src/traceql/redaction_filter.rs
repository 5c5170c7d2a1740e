//! Which traces a redaction means.

use lgtm_core::Result;

use super::ast::{BinaryOp, Expr, Query, QueryBody, SpansetExpr, Stage};
use super::error::QueryError;
use super::parser::parse;
use super::search::{Search, SearchSettings};
use crate::select::{AttributeScope, BatchFiller, CompareOp, Field, Literal};
use crate::trace::{Trace, TraceId};

/// A query that names traces to be taken away: one `{ … }` of `=` between an attribute of a resource or span and a value, joined by `&&` and `||`. Nothing else
/// is taken, so that nobody deletes more than is meant. A trace is meant when one of its spans passes.
#[derive(Debug, Clone)]
pub struct RedactionFilter {
    text: String,
    query: Query,
}

impl RedactionFilter {
    /// Reads a query.
    ///
    /// # Errors
    /// For what does not parse, and for anything but the above.
    pub fn new(text: &str) -> std::result::Result<Self, QueryError> {
        let query = parse(text)?;
        let filter = match &query.body {
            QueryBody::Search(pipeline) => match pipeline.stages.as_slice() {
                [Stage::Spanset(SpansetExpr::Filter(filter))] => Some(filter),
                _ => None,
            },
            QueryBody::Metrics(_) => None,
        };
        if !filter.is_some_and(names_values) || !query.hints.is_empty() {
            return Err(QueryError::invalid(
                "a redaction takes one filter of resource. and span. attributes, each = a value, joined by && and ||",
            ));
        }
        Ok(Self {
            text: text.into(),
            query,
        })
    }

    /// The query as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a trace is meant.
    ///
    /// # Errors
    /// `LimitExceeded` for a trace that is too large to be looked at.
    pub fn matches(&self, id: TraceId, trace: &Trace<'_>) -> Result<bool> {
        let search = Search::new(
            &self.query,
            SearchSettings {
                limit: 1,
                spans_per_set: usize::MAX,
                range: None,
                max_bytes: usize::MAX,
            },
        );
        let mut filler = BatchFiller::new(search.request().columns.clone());
        filler.push(id, trace, 0)?;
        let batch = filler.finish();
        Ok(search.matches(&batch).rows().next().is_some())
    }
}

fn names_values(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().all(names_values),
        Expr::Binary(left, BinaryOp::Compare(CompareOp::Equal), right) => {
            is_attribute(left) && is_value(right) || is_attribute(right) && is_value(left)
        }
        _ => false,
    }
}

fn is_value(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(literal) if *literal != Literal::Nil)
}

fn is_attribute(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Field(Field::Attribute(
            AttributeScope::Resource | AttributeScope::Span,
            _
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_values_of_attributes_are_taken() {
        for good in [
            "{ resource.service.name = \"shop\" }",
            "{ span.user = 7 && resource.a = true || span.b = \"x\" }",
            "{ span.f = 1.5 }",
        ] {
            RedactionFilter::new(good).unwrap();
        }
        for bad in [
            "{}",
            "{ true }",
            "{ .user = 7 }",
            "{ name = \"a\" }",
            "{ span.user != 7 }",
            "{ span.user =~ \"a.*\" }",
            "{ span.user > 7 }",
            "{ !(span.user = 7) }",
            "{ span.a = span.b }",
            "{ event.a = 1 }",
            "{ span.user = nil }",
            "{ span.user = 7 } | count() > 1",
            "{ span.user = 7 } && { span.user = 8 }",
            "{ span.user = 7 } >> { span.user = 8 }",
            "{ span.user = 7 } | rate()",
            "{ span.user = 7 } with (most_recent=true)",
            "{ span.user = ",
        ] {
            let refused = RedactionFilter::new(bad);
            assert!(refused.is_err(), "{bad}");
        }
    }
}
