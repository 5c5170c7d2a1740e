//! Parts of a trace made one: copies of spans left out, the rest in order.

use hashbrown::HashSet;

use crate::trace::{ResourceSpans, ScopeSpans, Span, SpanId, Trace};

/// How much a combined trace may hold, in bytes of its protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CombineBound {
    /// Anything.
    Unbounded,
    /// For answers: spans beyond it are left out.
    Answer {
        /// Most bytes.
        max_bytes: usize,
    },
    /// For blocks: spans of later parts beyond it are left out. The first part is whole, whatever its size: it is stored already.
    Stored {
        /// Most bytes.
        max_bytes: usize,
    },
}

/// Makes parts of a trace one. Of several spans with the same id and kind the first stays.
#[derive(Debug)]
pub struct Combiner<'a> {
    bound: CombineBound,
    /// The only part so far, as it came.
    first: Option<Trace<'a>>,
    /// Whether there were two, whatever of them the bound left.
    has_several: bool,
    combined: Trace<'a>,
    seen: HashSet<(SpanId, i32)>,
    bytes: usize,
    scratch: Vec<u8>,
    left_out: u64,
}

/// A combined trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Combined<'a> {
    /// The trace.
    pub trace: Trace<'a>,
    /// Spans left out for the bound; 0 when the trace is whole.
    pub left_out_spans: u64,
}

impl<'a> Combiner<'a> {
    /// No part yet.
    pub fn new(bound: CombineBound) -> Self {
        Self {
            bound,
            first: None,
            has_several: false,
            combined: Trace::default(),
            seen: HashSet::new(),
            bytes: 0,
            scratch: Vec::new(),
            left_out: 0,
        }
    }

    /// Adds a part. One that equals the first adds nothing.
    pub fn push(&mut self, part: Trace<'a>) {
        if part.resources.is_empty() {
            return;
        }
        if !self.has_several {
            match self.first.take() {
                None => return self.first = Some(part),
                Some(first) if first == part => return self.first = Some(first),
                Some(first) => {
                    let bound = match self.bound {
                        CombineBound::Answer { max_bytes } => max_bytes,
                        CombineBound::Stored { .. } | CombineBound::Unbounded => usize::MAX,
                    };
                    self.has_several = true;
                    self.add(first, bound);
                }
            }
        }
        let bound = match self.bound {
            CombineBound::Unbounded => usize::MAX,
            CombineBound::Answer { max_bytes } | CombineBound::Stored { max_bytes } => max_bytes,
        };
        self.add(part, bound);
    }

    /// The trace: as it came when it had one part only, else in order of start and without copies.
    pub fn finish(mut self) -> Combined<'a> {
        if let Some(first) = self.first.take() {
            match self.bound {
                CombineBound::Answer { max_bytes } if encoded_len(&first) > max_bytes => {
                    self.add(first, max_bytes);
                }
                _ => {
                    return Combined {
                        trace: first,
                        left_out_spans: 0,
                    };
                }
            }
        }
        let mut trace = self.combined;
        sort(&mut trace);
        trace.rebatch();
        Combined {
            trace,
            left_out_spans: self.left_out,
        }
    }

    fn add(&mut self, part: Trace<'a>, max_bytes: usize) {
        for mut resource in part.resources {
            let scopes = std::mem::take(&mut resource.scopes);
            let mut resource_bytes = self.measure(|out| resource.encode(out));
            for mut scope in scopes {
                let spans = std::mem::take(&mut scope.spans);
                let mut scope_bytes = resource_bytes + self.measure(|out| scope.encode(out));
                for span in spans {
                    // Kinds that nobody has named are one, as in Tempo.
                    let kind = if (0..8).contains(&span.kind) {
                        span.kind
                    } else {
                        0
                    };
                    let key = (SpanId::from_any(span.span_id), kind);
                    if self.seen.contains(&key) {
                        continue;
                    }
                    let bytes = match max_bytes {
                        usize::MAX => 0,
                        _ => scope_bytes + self.measure(|out| span.encode(out)),
                    };
                    if self.bytes.saturating_add(bytes) > max_bytes {
                        self.left_out += 1;
                        continue;
                    }
                    self.seen.insert(key);
                    self.bytes += bytes;
                    (scope_bytes, resource_bytes) = (0, 0);
                    scope.spans.push(span);
                }
                if !scope.spans.is_empty() {
                    resource.scopes.push(scope);
                }
            }
            if !resource.scopes.is_empty() {
                self.combined.resources.push(resource);
            }
        }
    }

    /// Bytes of a message with its tag and the longest length.
    fn measure(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.scratch.clear();
        encode(&mut self.scratch);
        self.scratch.len() + 6
    }
}

fn encoded_len(trace: &Trace<'_>) -> usize {
    let mut out = Vec::new();
    trace.encode(&mut out);
    out.len()
}

/// Spans by start within their scopes, scopes by their first span, resources by their first scope's.
fn sort<'a>(trace: &mut Trace<'a>) {
    let of_span = |s: &Span<'a>| (s.start_ns, s.span_id);
    let of_scope = |s: &ScopeSpans<'a>| s.spans.first().map_or((0, &[][..]), of_span);
    let of_resource = |r: &ResourceSpans<'a>| r.scopes.first().map_or((0, &[][..]), of_scope);
    for resource in &mut trace.resources {
        for scope in &mut resource.scopes {
            scope.spans.sort_by_key(of_span);
        }
        resource.scopes.sort_by_key(of_scope);
    }
    trace.resources.sort_by_key(of_resource);
}
