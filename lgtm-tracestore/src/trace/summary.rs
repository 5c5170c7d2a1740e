//! What is told of a trace without its spans.

use std::collections::BTreeMap;

use crate::trace::{Span, StatusCode, Trace};

/// Times, and names of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceSummary<'a> {
    /// First start of a span, nanoseconds since the epoch. A start of 0 gives way to any that comes later.
    pub start_ns: u64,
    /// Last end of a span, nanoseconds since the epoch.
    pub end_ns: u64,
    /// Service of the root; empty when there is no root.
    pub root_service_name: &'a [u8],
    /// Name of the root; empty when there is no root.
    pub root_span_name: &'a [u8],
}

/// What one service did in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceStats {
    /// Its spans.
    pub span_count: u32,
    /// Those of them that ended with an error.
    pub error_count: u32,
}

impl<'a> TraceSummary<'a> {
    /// Of a trace. The root is the span that has no parent and names none by a link; of several the one that starts last, as Tempo stores it, and of those
    /// that start together the one with the greatest id: the same in whatever order the parts of a trace come.
    pub fn of(trace: &Trace<'a>) -> Self {
        let mut out = Self::default();
        let mut root = None;
        for (resource, _, span) in trace.spans() {
            if out.start_ns == 0 || span.start_ns < out.start_ns {
                out.start_ns = span.start_ns;
            }
            out.end_ns = out.end_ns.max(span.end_ns);
            let order = Some((span.start_ns, span.span_id));
            if span.parent_span_id.is_empty() && order >= root && !names_a_parent(span) {
                root = order;
                out.root_span_name = span.name;
                out.root_service_name = resource.service_name();
            }
        }
        out
    }

    /// Nanoseconds from the first start to the last end; 0 when that lies before it.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Of two parts of a trace together: all times of both, the root of the first that has one.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let first = |a: &'a [u8], b: &'a [u8]| if a.is_empty() { b } else { a };
        Self {
            start_ns: self.start_ns.min(other.start_ns),
            end_ns: self.end_ns.max(other.end_ns),
            root_service_name: first(self.root_service_name, other.root_service_name),
            root_span_name: first(self.root_span_name, other.root_span_name),
        }
    }
}

/// Whether a link says that the span it names, of the same trace, is the parent: the OpenTracing bridge writes parents so.
fn names_a_parent(span: &Span<'_>) -> bool {
    span.links.iter().any(|link| {
        link.trace_id == span.trace_id
            && link
                .attributes
                .iter()
                .any(|a| a.key == b"opentracing.ref_type" && a.value.as_text() == Some(b"child_of"))
    })
}

impl<'a> Trace<'a> {
    /// Spans and errors by service, in the order of names. Resources without one count for the empty name.
    pub fn service_stats(&self) -> BTreeMap<&'a [u8], ServiceStats> {
        let mut out = BTreeMap::<_, ServiceStats>::new();
        for resource in &self.resources {
            let mut spans = resource.scopes.iter().flat_map(|s| &s.spans).peekable();
            if spans.peek().is_none() {
                continue;
            }
            let stats = out.entry(resource.service_name()).or_default();
            for span in spans {
                stats.span_count = stats.span_count.saturating_add(1);
                if span.status_code == StatusCode::Error as i32 {
                    stats.error_count = stats.error_count.saturating_add(1);
                }
            }
        }
        out
    }
}
