//! Which spans of one trace a filter leaves: for answers that are to be small.

use std::collections::HashMap;

use lgtm_core::Result;

use super::ast::{QueryBody, SpansetExpr, Stage};
use super::error::QueryError;
use super::parser::parse;
use super::search::{Search, SearchSettings};
use crate::select::{BatchFiller, Field, Intrinsic, Level};
use crate::trace::{Trace, TraceId};

/// How far from the spans that pass others are kept too, in steps of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterDepth {
    /// Spans above; `usize::MAX` for all up to the root.
    pub ancestors: usize,
    /// Spans below; `usize::MAX` for all.
    pub descendants: usize,
}

/// A filter of the spans of one trace: one spanset filter, which looks at nothing that only a whole trace has.
#[derive(Debug, Clone)]
pub struct TraceFilter {
    query: super::ast::Query,
    depth: FilterDepth,
}

impl TraceFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// For what does not parse, has more than one filter, or looks at the trace.
    pub fn new(text: &str, depth: FilterDepth) -> std::result::Result<Self, QueryError> {
        let query = parse(text)?;
        let filter = match &query.body {
            QueryBody::Search(pipeline) => match pipeline.stages.as_slice() {
                [Stage::Spanset(SpansetExpr::Filter(filter))] => Some(filter),
                _ => None,
            },
            QueryBody::Metrics(_) => None,
        };
        let Some(filter) = filter else {
            return Err(QueryError::invalid(
                "only one spanset filter is supported, without pipelines and structural operators",
            ));
        };
        let mut unfit = None;
        filter.each_field(&mut |field| {
            let of_tree = matches!(
                field,
                Field::Intrinsic(
                    Intrinsic::NestedSetLeft
                        | Intrinsic::NestedSetRight
                        | Intrinsic::NestedSetParent
                        | Intrinsic::ChildCount
                )
            );
            if of_tree || field.level() == Level::Trace {
                unfit.get_or_insert_with(|| field.clone());
            }
        });
        match unfit {
            Some(field) => Err(QueryError::invalid(format!(
                "{field} is not supported in a filter of one trace"
            ))),
            None => Ok(Self { query, depth }),
        }
    }

    /// Takes out the spans that do not pass and stand near none that does. Tells how many went.
    ///
    /// # Errors
    /// `LimitExceeded` for a trace that is too large to be looked at.
    pub fn apply(&self, trace: &mut Trace<'_>) -> Result<usize> {
        let kept = self.kept(trace)?;
        let removed = kept.iter().filter(|kept| !**kept).count();
        if removed == 0 {
            return Ok(0);
        }
        let mut kept = kept.into_iter();
        for resource in &mut trace.resources {
            for scope in &mut resource.scopes {
                scope.spans.retain(|_| kept.next().unwrap_or(false));
            }
            resource.scopes.retain(|scope| !scope.spans.is_empty());
        }
        trace.resources.retain(|r| !r.scopes.is_empty());
        Ok(removed)
    }

    fn kept(&self, trace: &Trace<'_>) -> Result<Vec<bool>> {
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
        filler.push(TraceId::default(), trace, 0)?;
        let mut kept = vec![false; trace.span_count()];
        let matches: Vec<usize> = search.matches(&filler.finish()).rows().collect();
        for row in &matches {
            kept[*row] = true;
        }
        let tree = SpanTree::of(trace);
        tree.spread(
            &matches,
            self.depth.ancestors,
            &mut kept,
            |tree, row, out| {
                out.extend(tree.parent[row]);
            },
        );
        tree.spread(
            &matches,
            self.depth.descendants,
            &mut kept,
            |tree, row, out| {
                out.extend_from_slice(&tree.children[row]);
            },
        );
        Ok(kept)
    }
}

/// Which span stands above which, by their numbers.
struct SpanTree {
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

impl SpanTree {
    fn of(trace: &Trace<'_>) -> Self {
        let mut by_id = HashMap::new();
        for (n, (_, _, span)) in trace.spans().enumerate() {
            by_id.entry(span.span_id).or_insert(n);
        }
        let mut children = vec![Vec::new(); trace.span_count()];
        let mut parent = Vec::with_capacity(children.len());
        for (n, (_, _, span)) in trace.spans().enumerate() {
            let above = match span.parent_span_id {
                [] => None,
                id => by_id.get(id).copied().filter(|above| *above != n),
            };
            if let Some(above) = above {
                children[above].push(n);
            }
            parent.push(above);
        }
        Self { parent, children }
    }

    /// Keeps what can be reached from `from` in at most `steps`; each span is looked at once, so that circles end.
    fn spread(
        &self,
        from: &[usize],
        steps: usize,
        kept: &mut [bool],
        next: impl Fn(&Self, usize, &mut Vec<usize>),
    ) {
        let mut seen = vec![false; kept.len()];
        from.iter().for_each(|row| seen[*row] = true);
        let (mut level, mut near, mut taken) = (from.to_vec(), Vec::new(), 0);
        while taken < steps && !level.is_empty() {
            taken += 1;
            near.clear();
            level.iter().for_each(|row| next(self, *row, &mut near));
            near.retain(|row| !std::mem::replace(&mut seen[*row], true));
            near.iter().for_each(|row| kept[*row] = true);
            std::mem::swap(&mut level, &mut near);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ResourceSpans, ScopeSpans, Span};

    /// `root > a > b > c`, `a > d`, and two spans that are each other's parent.
    fn trace() -> Trace<'static> {
        let spans = [
            ("root", ""),
            ("a", "root"),
            ("b", "a"),
            ("c", "b"),
            ("d", "a"),
            ("x", "y"),
            ("y", "x"),
        ];
        let spans = spans.map(|(name, parent)| Span {
            span_id: name.as_bytes(),
            parent_span_id: parent.as_bytes(),
            name: name.as_bytes(),
            ..Span::default()
        });
        Trace {
            resources: vec![ResourceSpans {
                scopes: vec![ScopeSpans {
                    spans: spans.into(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }

    fn left(query: &str, ancestors: usize, descendants: usize) -> String {
        let depth = FilterDepth {
            ancestors,
            descendants,
        };
        let mut trace = trace();
        let removed = TraceFilter::new(query, depth).unwrap().apply(&mut trace);
        let names: Vec<_> = trace.spans().map(|(_, _, s)| s.span_id).collect();
        assert_eq!(removed.unwrap(), 7 - names.len());
        String::from_utf8(names.concat()).unwrap()
    }

    #[test]
    fn spans_near_those_that_pass_are_kept_as_far_as_asked() {
        assert_eq!(left(r#"{ name = "b" }"#, 0, 0), "b");
        assert_eq!(left(r#"{ name = "b" }"#, 1, 0), "ab");
        assert_eq!(left(r#"{ name = "b" }"#, usize::MAX, 0), "rootab");
        assert_eq!(left(r#"{ name = "a" }"#, 0, 1), "abd");
        assert_eq!(left(r#"{ name = "a" }"#, 0, usize::MAX), "abcd");
        assert_eq!(left(r#"{ name = "x" }"#, usize::MAX, usize::MAX), "xy");
        assert_eq!(left("{ }", 0, 0), "rootabcdxy");
        assert_eq!(left(r#"{ name = "z" }"#, 9, 9), "");
    }

    #[test]
    fn what_only_a_whole_trace_has_is_no_filter() {
        for text in [
            "{ } > { }",
            "{ } | count() > 1",
            "{ } | rate()",
            "{ trace:duration > 1s }",
            "{ nestedSetParent < 0 }",
            "{ span:childCount > 0 }",
            "{ name = }",
            "",
        ] {
            assert!(
                TraceFilter::new(text, FilterDepth::default()).is_err(),
                "{text}"
            );
        }
    }
}
