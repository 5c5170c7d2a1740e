//! Spans that share an id told apart, for answers.
//!
//! Zipkin gives a call one span id, which the client's span and the server's both bear. Viewers take ids for unique. So an answer gives the
//! server's span a new one, and its children with it. What is stored keeps the ids.

use hashbrown::{HashMap, HashSet};

use crate::trace::{SpanId, SpanKind, Trace};

/// The new ids of the spans of an answer.
#[derive(Debug, Default)]
pub struct SharedIds {
    /// Number of the server's span in the trace, and its new id.
    new: Vec<(usize, [u8; 8])>,
    /// By the id that was shared, the place in `new`.
    by_old: HashMap<SpanId, usize>,
}

impl SharedIds {
    /// Looks for server's spans that bear the id of a client's span. New ids are the smallest that are free, from 1.
    pub fn find(trace: &Trace<'_>) -> Self {
        let mut clients = HashSet::new();
        for (_, _, span) in trace.spans() {
            if span.kind == SpanKind::Client as i32 {
                clients.insert(SpanId::from_any(span.span_id));
            }
        }
        let mut out = Self::default();
        let is_shared =
            |id: &SpanId, kind: i32| kind == SpanKind::Server as i32 && clients.contains(id);
        let any = |(_, _, s): (_, _, &crate::trace::Span<'_>)| {
            is_shared(&SpanId::from_any(s.span_id), s.kind)
        };
        if clients.is_empty() || !trace.spans().any(any) {
            return out;
        }
        let used: HashSet<_> = trace
            .spans()
            .map(|(_, _, s)| SpanId::from_any(s.span_id))
            .collect();
        let mut next = 0u64;
        for (n, (_, _, span)) in trace.spans().enumerate() {
            let id = SpanId::from_any(span.span_id);
            if !is_shared(&id, span.kind) {
                continue;
            }
            let new = loop {
                next += 1;
                let new = next.to_be_bytes();
                if !used.contains(&SpanId::new(new)) {
                    break new;
                }
            };
            let place = out.new.len();
            out.by_old.entry(id).or_insert(place);
            out.new.push((n, new));
        }
        out
    }

    /// The trace that they were found in, with the new ids: the server's span becomes a child of the client's, and what had the shared id as its
    /// parent a child of the server's.
    #[must_use]
    pub fn apply<'a>(&'a self, mut trace: Trace<'a>) -> Trace<'a> {
        if self.new.is_empty() {
            return trace;
        }
        let mut servers = self.new.iter().peekable();
        let scopes = trace.resources.iter_mut().flat_map(|r| &mut r.scopes);
        for (n, span) in scopes.flat_map(|s| &mut s.spans).enumerate() {
            if let Some((_, new)) = servers.next_if(|(server, _)| *server == n) {
                span.parent_span_id = span.span_id;
                span.span_id = new;
            } else if !span.parent_span_id.is_empty()
                && let Some(place) = self.by_old.get(&SpanId::from_any(span.parent_span_id))
            {
                span.parent_span_id = &self.new[*place].1;
            }
        }
        trace
    }
}
