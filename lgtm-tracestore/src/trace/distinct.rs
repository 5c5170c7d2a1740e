//! Each span of a trace once.

use hashbrown::HashSet;

use crate::trace::{
    CombineBound, Combiner, ResourceSpans, ScopeSpans, SpanId, Trace, storage_token,
};

impl<'a> Trace<'a> {
    /// The trace without copies of spans: a sender that got no answer sends again. The first copy stays. Costs a look at each id where there are none.
    #[must_use]
    pub fn without_copies(mut self) -> Trace<'a> {
        let mut tokens = HashSet::new();
        let has_copies = self.spans().any(|(_, _, span)| {
            let id = SpanId::from_any(span.span_id);
            !tokens.insert(storage_token(id, span.kind))
        });
        if !has_copies {
            return self;
        }
        // Spans are compared between parts: the first one is a part of its own.
        let first = self.resources.iter_mut().find_map(|resource| {
            let scope = resource.scopes.iter_mut().find(|s| !s.spans.is_empty())?;
            let span = scope.spans.remove(0);
            let scope = ScopeSpans {
                spans: vec![span],
                attributes: scope.attributes.clone(),
                ..*scope
            };
            Some(ResourceSpans {
                attributes: resource.attributes.clone(),
                dropped_attributes_count: resource.dropped_attributes_count,
                scopes: vec![scope],
            })
        });
        let mut combiner = Combiner::new(CombineBound::Unbounded);
        combiner.push(Trace {
            resources: first.into_iter().collect(),
        });
        combiner.push(self);
        combiner.finish().trace
    }
}
