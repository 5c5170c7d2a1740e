//! How the head keeps the spans of a trace: runs, each of one resource and one scope.
//!
//! ```text
//! run    uvarint resource, uvarint scope, uvarint number of spans, bytes: spans
//! spans  each behind the tag of field 2 and its length, as they stand in OTLP's `ScopeSpans`
//! ```
//!
//! Resource and scope are numbers of whoever keeps the run. Spans are never decoded here: they go from the request into the log, memory and
//! the batch as the bytes that they came as.

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::codec::{Reader, put_bytes, put_uvarint, uvarint_len};

/// Spans of one resource and scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) resource: u32,
    pub(super) scope: u32,
    pub(super) span_count: u32,
    pub(super) spans: &'a [u8],
}

impl<'a> Run<'a> {
    /// Appends it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.resource.into());
        put_uvarint(out, self.scope.into());
        put_uvarint(out, self.span_count.into());
        put_bytes(out, self.spans);
    }

    /// Bytes that [`Run::put`] appends.
    pub(super) fn size_bytes(&self) -> usize {
        let numbers = [self.resource, self.scope, self.span_count].map(|n| uvarint_len(n.into()));
        let len = self.spans.len();
        numbers.iter().sum::<usize>() + uvarint_len(len as u64) + len
    }

    /// Reads the next one.
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut number = || {
            let n = r.uvarint()?;
            u32::try_from(n).map_err(|_| r.error(format!("{n} does not fit 32 bits")))
        };
        Ok(Self {
            resource: number()?,
            scope: number()?,
            span_count: number()?,
            spans: r.bytes()?,
        })
    }

    /// All runs that stand in `bytes`. An error is the last item.
    pub(super) fn all(
        bytes: &'a [u8],
    ) -> impl Iterator<Item = Result<Self, DecodeError>> + use<'a> {
        let mut r = Reader::new("runs of a trace", bytes);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed || r.is_empty() {
                return None;
            }
            let run = Self::read(&mut r);
            failed = run.is_err();
            Some(run)
        })
    }
}

/// Appends runs as the protobuf message `Trace`. Runs that follow each other and are of one resource, or of one scope as well, stand together.
pub(super) fn put_trace<'a, 'b>(
    runs: impl Iterator<Item = Run<'a>>,
    resource: impl Fn(u32) -> Option<&'b [u8]>,
    scope: impl Fn(u32) -> Option<&'b [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let missing = |what: &str, n: u32| {
        DecodeError::new("runs of a trace", 0, format!("{what} {n} is not there"))
    };
    let mut runs = runs.peekable();
    while let Some(first) = runs.next() {
        let resource =
            resource(first.resource).ok_or_else(|| missing("resource", first.resource))?;
        let mut result = Ok(());
        put_message(out, 1, |out| {
            put_bytes_field(out, 1, resource);
            let mut run = Some(first);
            while let Some(head) = run {
                let Some(scope) = scope(head.scope) else {
                    result = Err(missing("scope", head.scope));
                    return;
                };
                put_message(out, 2, |out| {
                    put_bytes_field(out, 1, scope);
                    out.extend_from_slice(head.spans);
                    let same = |r: &Run<'_>| (r.resource, r.scope) == (head.resource, head.scope);
                    while let Some(next) = runs.next_if(same) {
                        out.extend_from_slice(next.spans);
                    }
                });
                run = runs.next_if(|r| r.resource == head.resource);
            }
        });
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lgtm_core::codec::Allowance;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{ScopeSpans, Span, Trace};

    fn spans(names: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in names {
            let span = Span {
                name,
                ..Span::default()
            };
            put_message(&mut out, 2, |out| span.encode(out));
        }
        out
    }

    proptest! {
        #[test]
        fn runs_read_back_and_become_a_trace(
            runs in vec((0u32..3, 0u32..3, vec(vec(any::<u8>(), 0..5), 1..4)), 0..6)
        ) {
            let encoded: Vec<Vec<u8>> = runs.iter().map(|(_, _, names)| spans(names)).collect();
            let mut bytes = Vec::new();
            for ((resource, scope, names), spans) in runs.iter().zip(&encoded) {
                let run = Run {
                    resource: *resource,
                    scope: *scope,
                    span_count: names.len() as u32,
                    spans,
                };
                let before = bytes.len();
                run.put(&mut bytes);
                prop_assert_eq!(bytes.len() - before, run.size_bytes());
            }
            let read: Result<Vec<Run<'_>>, _> = Run::all(&bytes).collect();
            let read = read.unwrap();
            prop_assert_eq!(read.len(), runs.len());
            let mut scopes = Vec::new();
            for name in [&b"a"[..], b"b", b"c"] {
                let mut out = Vec::new();
                ScopeSpans { name, ..ScopeSpans::default() }.encode_scope(&mut out);
                scopes.push(out);
            }
            let mut out = Vec::new();
            put_trace(
                read.iter().copied(),
                |_| Some(&[][..]),
                |n| scopes.get(n as usize).map(Vec::as_slice),
                &mut out,
            ).unwrap();
            let mut grow = |_| Ok(());
            let trace = Trace::decode(&out, &mut Allowance::new(0, &mut grow)).unwrap();
            let got: Vec<(&[u8], &[u8])> = trace.spans().map(|(_, s, span)| (s.name, span.name)).collect();
            let wanted: Vec<(&[u8], &[u8])> = (runs.iter())
                .flat_map(|(_, scope, names)| {
                    let scope = [&b"a"[..], b"b", b"c"][*scope as usize];
                    names.iter().map(move |name| (scope, name.as_slice()))
                })
                .collect();
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
            let runs = Run::all(&bytes).filter_map(Result::ok);
            let _ = put_trace(runs, |_| Some(&[][..]), |n| (n > 2).then_some(&[][..]), &mut Vec::new());
        }
    }
}
