//! The traces of several blocks in the order of their ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lgtm_core::codec::Allowance;
use lgtm_core::{Error, Result};

use crate::block::TraceSource;
use crate::trace::{CombineBound, Combiner, Trace, TraceId};

/// Merges sources that have their traces in the order of ids: of a trace that several have, the parts are put together, the first source's first.
/// Of each source a trace is in memory.
///
/// A source may end before all that is behind it has come: then the merge ends too ([`starved`](Self::starved) says which), and goes on when it was
/// [fed](Self::feed).
#[derive(Debug)]
pub struct TraceMerge<S> {
    inputs: Vec<Input<S>>,
    max_trace_bytes: usize,
    /// Spans that were left out since their trace would have been too large.
    left_out_spans: u64,
    failed: FailedSource,
}

/// Tells which source of a merge failed, also when the merge is gone.
#[derive(Debug, Clone)]
pub struct FailedSource(Arc<AtomicUsize>);

impl FailedSource {
    const NONE: usize = usize::MAX;

    /// Its number.
    pub fn number(&self) -> Option<usize> {
        let number = self.0.load(Ordering::Acquire);
        (number != Self::NONE).then_some(number)
    }
}

#[derive(Debug)]
struct Input<S> {
    source: Option<S>,
    /// Nothing comes behind the source.
    is_last: bool,
    /// Its next trace.
    next: Option<(TraceId, Vec<u8>)>,
}

impl<S: TraceSource> TraceMerge<S> {
    /// Of so many sources, none of which is there yet. Parts that would make a trace larger than `max_trace_bytes` are left out, but for the first.
    pub fn new(count: usize, max_trace_bytes: usize) -> Self {
        let input = || Input {
            source: None,
            is_last: false,
            next: None,
        };
        Self {
            inputs: std::iter::repeat_with(input).take(count).collect(),
            max_trace_bytes,
            left_out_spans: 0,
            failed: FailedSource(Arc::new(AtomicUsize::new(FailedSource::NONE))),
        }
    }

    /// A source that is read to its end while more may come.
    pub fn starved(&self) -> Option<usize> {
        let mut inputs = self.inputs.iter();
        inputs.position(|i| i.source.is_none() && i.next.is_none() && !i.is_last)
    }

    /// What comes next of a source; `None`: nothing more.
    pub fn feed(&mut self, number: usize, source: Option<S>) {
        let input = &mut self.inputs[number];
        input.is_last = source.is_none();
        input.source = source;
    }

    /// Spans that were left out since their trace would have been too large.
    pub fn left_out_spans(&self) -> u64 {
        self.left_out_spans
    }

    /// Will tell which source failed.
    pub fn failed(&self) -> FailedSource {
        self.failed.clone()
    }

    /// Puts the parts of a trace together.
    fn combine(&mut self, id: TraceId, parts: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
        let bytes: usize = parts.iter().map(Vec::len).sum();
        if parts.len() == 1 || bytes <= self.max_trace_bytes {
            parts.iter().for_each(|part| out.extend_from_slice(part));
            return Ok(());
        }
        let mut combiner = Combiner::new(CombineBound::Stored {
            // Of the first part none is counted: it is stored already.
            max_bytes: self.max_trace_bytes.saturating_sub(parts[0].len()),
        });
        for part in parts {
            let mut grow = |_| Ok(());
            let trace = Trace::decode(part, &mut Allowance::new(0, &mut grow));
            combiner.push(trace.map_err(Error::from)?);
        }
        let combined = combiner.finish();
        if combined.left_out_spans > 0 {
            self.left_out_spans += combined.left_out_spans;
            tracing::warn!(%id, spans = combined.left_out_spans, "a trace is too large to be joined; parts of it are left out");
        }
        combined.trace.encode(out);
        Ok(())
    }
}

/// `None` when a source is starved, and at the end.
impl<S: TraceSource> TraceSource for TraceMerge<S> {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        let mut first: Option<TraceId> = None;
        for (n, input) in self.inputs.iter_mut().enumerate() {
            if input.next.is_none()
                && let Some(source) = &mut input.source
            {
                let mut bytes = Vec::new();
                let next = source.next_trace(&mut bytes);
                match next.inspect_err(|_| self.failed.0.store(n, Ordering::Release))? {
                    Some(id) => input.next = Some((id, bytes)),
                    None => input.source = None,
                }
            }
            match &input.next {
                Some((id, _)) => first = Some(first.map_or(*id, |first| first.min(*id))),
                None if !input.is_last => return Ok(None),
                None => {}
            }
        }
        let Some(id) = first else {
            return Ok(None);
        };
        let of_id = |input: &mut Input<S>| input.next.take_if(|(known, _)| *known == id);
        let parts: Vec<Vec<u8>> = (self.inputs.iter_mut())
            .filter_map(of_id)
            .map(|(_, bytes)| bytes)
            .collect();
        self.combine(id, &parts, out)?;
        Ok(Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ResourceSpans, ScopeSpans, Span};

    #[derive(Debug)]
    struct Some(Vec<(u8, Vec<u8>)>);

    impl TraceSource for Some {
        fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
            if self.0.is_empty() {
                return Ok(None);
            }
            let (id, bytes) = self.0.remove(0);
            out.extend_from_slice(&bytes);
            Ok(Option::Some(TraceId::new([id; 16])))
        }
    }

    fn trace(span: u8, name_len: usize) -> Vec<u8> {
        let id = [span; 8];
        let name = vec![b'n'; name_len];
        let trace = Trace {
            resources: vec![ResourceSpans {
                scopes: vec![ScopeSpans {
                    spans: vec![Span {
                        span_id: &id,
                        name: &name,
                        ..Span::default()
                    }],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let mut out = Vec::new();
        trace.encode(&mut out);
        out
    }

    /// A trace, by the first byte of its id, and its spans by the first of theirs.
    type Small = (u8, Vec<u8>);

    /// All that comes, each input fed in these runs.
    fn merged(runs: Vec<Vec<Vec<Small>>>, max: usize) -> (Vec<Small>, u64) {
        let mut runs: Vec<_> = runs.into_iter().map(Vec::into_iter).collect();
        let mut merge = TraceMerge::new(runs.len(), max);
        let (mut out, mut bytes) = (Vec::new(), Vec::new());
        loop {
            while let Option::Some(id) = merge.next_trace(&mut bytes).unwrap() {
                let mut grow = |_| Ok(());
                let trace = Trace::decode(&bytes, &mut Allowance::new(0, &mut grow)).unwrap();
                let spans = trace.spans().map(|(_, _, s)| s.span_id[0]);
                out.push((id.as_bytes()[0], spans.collect()));
                bytes.clear();
            }
            let Option::Some(n) = merge.starved() else {
                return (out, merge.left_out_spans());
            };
            merge.feed(n, runs[n].next().map(Some));
        }
    }

    #[test]
    fn traces_come_in_order_with_their_parts_together() {
        let (one, two) = (trace(1, 1), trace(2, 1));
        let first = vec![
            vec![(1, one.clone()), (3, one.clone())],
            vec![],
            vec![(7, one.clone())],
        ];
        let second = vec![vec![(2, two.clone())], vec![(3, two.clone()), (9, two)]];
        let (all, left_out) = merged(vec![first, second, vec![]], usize::MAX);
        let expected = [
            (1, vec![1]),
            (2, vec![2]),
            (3, vec![1, 2]),
            (7, vec![1]),
            (9, vec![2]),
        ];
        assert_eq!((all, left_out), (expected.to_vec(), 0));
    }

    #[test]
    fn parts_that_make_a_trace_too_large_are_left_out_but_for_the_first() {
        let large = |span| vec![vec![(1, trace(span, 1000))]];
        let (all, left_out) = merged(vec![large(1), large(2), vec![vec![(1, trace(3, 1))]]], 500);
        assert_eq!((all, left_out), (vec![(1, vec![1])], 2));
        let (all, left_out) = merged(vec![large(1)], 500);
        assert_eq!((all, left_out), (vec![(1, vec![1])], 0));
    }
}
