//! From a request to spans by trace. One walk: bytes are checked, ids and lengths of texts looked at, nothing is built for a span but its place.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use lgtm_core::codec::protobuf::{bytes_tag, skip};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::error::DecodeError;
use lgtm_core::otlp::submessages;
use lgtm_core::{Error, Result};

use crate::trace::TraceId;
use crate::wire::batch::{Place, PushBatch, ScopePlace, SpanPlace, TracePlace};
use crate::wire::options::PushOptions;
use crate::wire::shape::{RESOURCE, SCOPE, SPAN, Shape, TextBound};
use crate::wire::span_rule::{RefusedSpans, SpanRule};

/// Bytes that a table takes for an entry at most, while it grows.
const TABLE_ENTRY_BYTES: usize = 16;

/// Decodes a request, which `fill` writes as OTLP's protobuf into the buffer given. The batch is empty afterwards if anything fails; where ids are
/// to blame, [`PushBatch::refused`] says how many spans that cost.
///
/// # Errors
/// `InvalidInput` for bytes that are no such request and for ids that are none, in Tempo's words; those of `fill` and of `allowance`.
pub(super) fn decode_with(
    batch: &mut PushBatch,
    options: PushOptions,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let mut refused = None;
    let decoded = fill(&mut body, allowance).and_then(|()| {
        let Ok(body_len) = u32::try_from(body.len()) else {
            return Err(Error::LimitExceeded("request exceeds 4 GiB".into()));
        };
        batch.body_len = body_len;
        let mut regroup = Regroup {
            bound: TextBound(match options.max_attribute_bytes {
                0 => usize::MAX,
                max => max,
            }),
            body: &body,
            batch,
            allowance,
            hasher: DefaultHashBuilder::default(),
            last: None,
        };
        match regroup.request() {
            Err(Stop::BadIds(rule, error)) => {
                let count = count_spans(&body);
                refused = Some(RefusedSpans { rule, count });
                Err(error)
            }
            Err(Stop::Failed(fail)) => Err(fail.into()),
            Ok(()) => Ok(()),
        }
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
        batch.refused = refused;
    }
    decoded
}

/// What ends the walk.
enum Stop {
    Failed(DecodeFail),
    BadIds(SpanRule, Error),
}

impl From<DecodeError> for Stop {
    fn from(e: DecodeError) -> Self {
        Self::Failed(e.into())
    }
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Failed(e.into())
    }
}

/// A request being walked.
struct Regroup<'d, 'b, 'g> {
    bound: TextBound,
    body: &'b [u8],
    batch: &'d mut PushBatch,
    allowance: &'d mut Allowance<'g>,
    /// Keyed anew for each request: ids are chosen by senders.
    hasher: DefaultHashBuilder,
    /// The trace of the span before, which is that of most spans.
    last: Option<(TraceId, u32)>,
}

impl<'b> Regroup<'_, 'b, '_> {
    fn request(&mut self) -> std::result::Result<(), Stop> {
        let mut r = Reader::new("traces request", self.body);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => self.resource(r.bytes()?)?,
                tag if tag >> 3 == 1 => return Err(wrong_type(&r, tag).into()),
                tag => skip(&mut r, tag)?,
            }
        }
        // One number a span, and the numbers of traces.
        let spans = self.batch.spans.len();
        self.allowance.reserve(&mut self.batch.order, spans)?;
        self.batch.arrange();
        Ok(())
    }

    /// A `ResourceSpans`.
    fn resource(&mut self, bytes: &'b [u8]) -> std::result::Result<(), Stop> {
        const WHAT: &str = "resource spans";
        let message = self.message(WHAT, bytes, &RESOURCE)?;
        let resource = self.batch.resources.len() as u32;
        self.allowance.push(&mut self.batch.resources, message)?;
        let mut r = Reader::new(WHAT, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(2) => self.scope(resource, r.bytes()?)?,
                tag if tag >> 3 == 2 => return Err(wrong_type(&r, tag).into()),
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }

    /// A `ScopeSpans`.
    fn scope(&mut self, resource: u32, bytes: &'b [u8]) -> std::result::Result<(), Stop> {
        const WHAT: &str = "scope spans";
        let message = self.message(WHAT, bytes, &SCOPE)?;
        let mut scope = None;
        let mut r = Reader::new(WHAT, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(2) => {
                    let scope = match scope {
                        Some(scope) => scope,
                        None => *scope.insert(self.number_scope(resource, message)?),
                    };
                    self.span(scope, r.bytes()?)?;
                }
                tag if tag >> 3 == 2 => return Err(wrong_type(&r, tag).into()),
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }

    /// The number of a scope: that of an equal one of its resource, or a new one. The table is not emptied from one resource to the next, which
    /// would cost as much as its largest one took.
    fn number_scope(&mut self, resource: u32, message: Place) -> Result<u32> {
        let batch = &mut *self.batch;
        let (body, arena, scopes) = (self.body, &batch.arena, &batch.scopes);
        let key = |scope: ScopePlace| (scope.resource, slice(body, arena, scope.message));
        let hash = |scope: ScopePlace| self.hasher.hash_one(key(scope));
        let place = ScopePlace { resource, message };
        let is_same = |n: &u32| key(scopes[*n as usize]) == key(place);
        if let Some(n) = batch.by_scope.find(hash(place), is_same) {
            return Ok(*n);
        }
        let n = scopes.len() as u32;
        let rehash = |n: &u32| hash(scopes[*n as usize]);
        reserve_entry(&mut batch.by_scope, self.allowance, rehash)?;
        batch.by_scope.insert_unique(hash(place), n, rehash);
        self.allowance.push(&mut batch.scopes, place)?;
        Ok(n)
    }

    fn span(&mut self, scope: u32, bytes: &'b [u8]) -> std::result::Result<(), Stop> {
        let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
        let mut is_long = false;
        let mut r = Reader::new("span", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => trace_id = r.bytes()?,
                tag if tag == bytes_tag(2) => span_id = r.bytes()?,
                tag => is_long |= self.bound.check_field(&SPAN, tag, &mut r, 0)?,
            }
        }
        let id = match <[u8; 16]>::try_from(trace_id) {
            Ok(id) if id != [0; 16] => TraceId::new(id),
            _ => return Err(bad_trace_id(trace_id)),
        };
        if span_id.len() != 8 || span_id == [0; 8] {
            return Err(bad_span_id(span_id));
        }
        let message = if is_long {
            self.cut(&SPAN, bytes)?
        } else {
            self.place(bytes)
        };
        let trace = self.number_trace(id)?;
        self.batch.traces[trace as usize].span_count += 1;
        let span = SpanPlace {
            scope,
            trace,
            message,
        };
        Ok(self.allowance.push(&mut self.batch.spans, span)?)
    }

    fn number_trace(&mut self, id: TraceId) -> Result<u32> {
        if let Some((last, n)) = self.last
            && last == id
        {
            return Ok(n);
        }
        let batch = &mut *self.batch;
        let hash = self.hasher.hash_one(id);
        let traces = &batch.traces;
        let found = batch.by_id.find(hash, |n| traces[*n as usize].id == id);
        let n = match found {
            Some(n) => *n,
            None => {
                let n = traces.len() as u32;
                let rehash = |n: &u32| self.hasher.hash_one(traces[*n as usize].id);
                reserve_entry(&mut batch.by_id, self.allowance, rehash)?;
                batch.by_id.insert_unique(hash, n, rehash);
                let place = TracePlace {
                    id,
                    span_count: 0,
                    end: 0,
                };
                self.allowance.push(&mut batch.traces, place)?;
                n
            }
        };
        self.last = Some((id, n));
        Ok(n)
    }

    /// The resource or scope of a message, its field 1. Several are one, as protobuf joins them.
    fn message(
        &mut self,
        what: &'static str,
        bytes: &'b [u8],
        shape: &Shape,
    ) -> std::result::Result<Place, Stop> {
        let mut message: &[u8] = &[];
        let mut joined = Vec::new();
        let mut r = Reader::new(what, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => {
                    let one = r.bytes()?;
                    if message.is_empty() && joined.is_empty() {
                        message = one;
                    } else if !one.is_empty() {
                        self.allowance
                            .reserve(&mut joined, message.len() + one.len())?;
                        joined.extend_from_slice(std::mem::take(&mut message));
                        joined.extend_from_slice(one);
                    }
                }
                tag if tag >> 3 == 1 => return Err(wrong_type(&r, tag).into()),
                tag => skip(&mut r, tag)?,
            }
        }
        if !joined.is_empty() {
            self.bound.check(shape, &joined)?;
            return self.cut(shape, &joined);
        }
        if self.bound.check(shape, message)? {
            return self.cut(shape, message);
        }
        Ok(self.place(message))
    }

    /// Writes a message anew, its texts cut.
    fn cut(&mut self, shape: &Shape, bytes: &[u8]) -> std::result::Result<Place, Stop> {
        let start = self.batch.arena.len();
        self.allowance.reserve(&mut self.batch.arena, bytes.len())?;
        let batch = &mut *self.batch;
        self.bound
            .cut(shape, bytes, &mut batch.arena, &mut batch.cut_texts)?;
        let place = |at: usize| u32::try_from(at).ok();
        let start_at = place(start + batch.body_len as usize);
        match (start_at, place(batch.arena.len() - start)) {
            (Some(start), Some(len)) => Ok(Place { start, len }),
            _ => Err(Error::LimitExceeded("request exceeds 4 GiB".into()).into()),
        }
    }

    /// Where bytes of the body stand.
    fn place(&self, bytes: &[u8]) -> Place {
        if bytes.is_empty() {
            return Place::default();
        }
        Place {
            start: (bytes.as_ptr() as usize - self.body.as_ptr() as usize) as u32,
            len: bytes.len() as u32,
        }
    }
}

fn slice<'s>(body: &'s [u8], arena: &'s [u8], place: Place) -> &'s [u8] {
    let (start, len) = (place.start as usize, place.len as usize);
    match start.checked_sub(body.len()) {
        Some(behind) if len > 0 => &arena[behind..behind + len],
        _ => &body[start..start + len],
    }
}

/// Makes room for one entry more; a table that grows doubles.
fn reserve_entry(
    table: &mut hashbrown::HashTable<u32>,
    allowance: &mut Allowance<'_>,
    rehash: impl Fn(&u32) -> u64,
) -> Result<()> {
    if table.len() == table.capacity() {
        let more = table.len().max(4);
        allowance.take(more * TABLE_ENTRY_BYTES)?;
        table.reserve(more, rehash);
    }
    Ok(())
}

fn wrong_type(r: &Reader<'_>, tag: u64) -> DecodeError {
    let (field, wire) = (tag >> 3, tag & 7);
    r.error(format!("field {field} has wire type {wire}"))
}

/// Bits of an id as messages tell them: of one that is all zero, none.
fn bits(id: &[u8]) -> usize {
    if id.iter().all(|b| *b == 0) {
        0
    } else {
        id.len() * 8
    }
}

#[cold]
fn bad_trace_id(id: &[u8]) -> Stop {
    let message = format!("trace ids must be 128 bit, received {} bits", bits(id));
    Stop::BadIds(SpanRule::InvalidTraceId, Error::InvalidInput(message))
}

#[cold]
fn bad_span_id(id: &[u8]) -> Stop {
    let bits = bits(id);
    let message = format!("span ids must be 64 bit and not all zero, received {bits} bits");
    Stop::BadIds(SpanRule::InvalidSpanId, Error::InvalidInput(message))
}

/// Spans of a request, as far as its frame goes.
fn count_spans(body: &[u8]) -> u64 {
    let resources = submessages("traces request", body, 1).map_while(|r| r.ok());
    let scopes = resources.flat_map(|r| submessages("resource spans", r, 2).map_while(|s| s.ok()));
    let spans = scopes.map(|s| {
        submessages("scope spans", s, 2)
            .map_while(|s| s.ok())
            .count()
    });
    spans.map(|n| n as u64).sum()
}
