//! Stores a process' own spans, so that there is a trace to look at from the first minute.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::Clock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::TenantId;
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Distributor;
use crate::trace::{
    Attribute, ResourceSpans, ScopeSpans, Span, SpanId, SpanKind, StatusCode, Trace, TraceId, Value,
};
use crate::wire::decode_otlp;

/// Spans that wait to be stored; beyond them spans are dropped. A process that does so much in a second is known well enough by a sample.
const MAX_WAITING: usize = 2_000;
/// Bytes of a name or a text of an attribute; what is longer is cut.
const MAX_TEXT_BYTES: usize = 512;
/// Attributes of a span.
const MAX_ATTRIBUTES: usize = 16;
/// How often spans are stored.
const INTERVAL: Duration = Duration::from_secs(1);
/// A span that is one of this many is taken, as a fraction of all of these.
const RATIO_ONE: f64 = 4_294_967_296.0;

/// A span that a span of this process belongs to, as its caller names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanParent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Whether the caller keeps its own.
    pub is_sampled: bool,
}

impl SpanParent {
    /// Reads the header `traceparent` (W3C Trace Context): `00-<32 digits>-<16 digits>-<2 digits>`.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_known = version.len() == 2 && version != "ff";
        if !is_known || (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (!trace.is_zero() && span != 0).then(|| Self {
            trace,
            span: SpanId::new(span.to_be_bytes()),
            is_sampled: flags & 1 == 1,
        })
    }
}

#[derive(Debug)]
struct OwnSpan {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    name: String,
    kind: SpanKind,
    start_ns: u64,
    end_ns: u64,
    is_error: bool,
    attributes: Vec<(&'static str, OwnValue)>,
}

#[derive(Debug)]
enum OwnValue {
    Text(String),
    Int(i64),
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<OwnSpan>,
    dropped: u64,
}

/// Spans of a process that are not stored yet. Beginning and ending one costs an allocation or two and a short lock; it never waits.
pub struct OwnSpans {
    clock: Arc<dyn Clock>,
    random: RandomSource,
    /// Of 2^32 spans so many are taken.
    taken: u64,
    waiting: Mutex<Waiting>,
    came: Notify,
    begun: AtomicU64,
}

impl std::fmt::Debug for OwnSpans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnSpans")
            .field("waiting", &self.waiting.lock().spans.len())
            .finish_non_exhaustive()
    }
}

/// A span under way. It ends when it is dropped.
#[derive(Debug)]
pub struct OpenSpan {
    of: Arc<OwnSpans>,
    began: Instant,
    /// None once it has ended.
    span: Option<OwnSpan>,
}

impl OwnSpans {
    /// Takes of all spans without a caller the part `ratio` (0 to 1), and all whose caller keeps its own.
    pub fn new(clock: Arc<dyn Clock>, ratio: f64) -> Arc<Self> {
        Arc::new(Self {
            clock,
            random: os_random(),
            taken: (ratio.clamp(0.0, 1.0) * RATIO_ONE) as u64,
            waiting: Mutex::default(),
            came: Notify::new(),
            begun: AtomicU64::new(0),
        })
    }

    /// Begins a span that may be taken; `None` for one that is not.
    pub fn begin(self: &Arc<Self>, kind: SpanKind, parent: Option<SpanParent>) -> Option<OpenSpan> {
        let mut random = [0; 32];
        (self.random)(&mut random);
        let (trace, rest) = random.split_at(16);
        let (span, dice) = rest.split_at(8);
        let is_taken = match parent {
            Some(parent) => parent.is_sampled,
            None => {
                u64::from(u32::from_le_bytes([dice[0], dice[1], dice[2], dice[3]])) < self.taken
            }
        };
        if !is_taken {
            return None;
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        let trace = match parent {
            Some(parent) => parent.trace,
            None => TraceId::from_short(trace)?,
        };
        Some(OpenSpan {
            of: Arc::clone(self),
            began: Instant::now(),
            span: Some(OwnSpan {
                trace,
                span: SpanId::from_any(span),
                parent: parent.map(|p| p.span),
                name: String::new(),
                kind,
                start_ns: u64::try_from(self.clock.now_ms().to_ns().get()).unwrap_or(0),
                end_ns: 0,
                is_error: false,
                attributes: Vec::new(),
            }),
        })
    }

    /// Spans that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }

    fn push(&self, span: OwnSpan) {
        let mut waiting = self.waiting.lock();
        if waiting.spans.len() >= MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.spans.push_back(span);
        drop(waiting);
        self.came.notify_one();
    }

    fn take(&self) -> Vec<OwnSpan> {
        std::mem::take(&mut self.waiting.lock().spans).into()
    }

    /// Puts spans back that could not be stored yet, as far as there is room beside those that came since.
    fn give_back(&self, spans: Vec<OwnSpan>) {
        let mut waiting = self.waiting.lock();
        let room = MAX_WAITING.saturating_sub(waiting.spans.len());
        waiting.dropped += spans.len().saturating_sub(room) as u64;
        for span in spans.into_iter().rev().take(room) {
            waiting.spans.push_front(span);
        }
        drop(waiting);
        self.came.notify_one();
    }
}

impl OpenSpan {
    /// Says what is done.
    pub fn name(&mut self, name: impl Into<String>) {
        if let Some(span) = &mut self.span {
            span.name = cut(name.into());
        }
    }

    /// Adds a text.
    pub fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.add(key, OwnValue::Text(cut(value.into())));
    }

    /// Adds a number.
    pub fn int(&mut self, key: &'static str, value: i64) {
        self.add(key, OwnValue::Int(value));
    }

    fn add(&mut self, key: &'static str, value: OwnValue) {
        if let Some(span) = &mut self.span
            && span.attributes.len() < MAX_ATTRIBUTES
        {
            span.attributes.push((key, value));
        }
    }

    /// Says that it failed.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.span {
            span.is_error = true;
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            let passed = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            span.end_ns = span.start_ns.saturating_add(passed);
            self.of.push(span);
        }
    }
}

/// The beginning of a text, to a character's end.
fn cut(mut text: String) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len()))
        .rev()
        .find(|n| text.is_char_boundary(*n));
    text.truncate(end.unwrap_or(0));
    text
}

/// Puts the spans of a process into its trace store, about once a second.
#[derive(Debug)]
pub struct OwnTraces {
    spans: Arc<OwnSpans>,
    distributor: Arc<Distributor>,
    tenant: TenantId,
    instance: String,
    after: Vec<String>,
}

impl OwnTraces {
    /// Stores `spans` by `distributor`, for `tenant`, as those of the service `lgtm`.
    pub fn new(
        spans: Arc<OwnSpans>,
        distributor: Arc<Distributor>,
        tenant: TenantId,
        instance: &str,
    ) -> Self {
        Self {
            spans,
            distributor,
            tenant,
            instance: instance.to_owned(),
            after: Vec::new(),
        }
    }

    /// Names services that must run before it starts: those behind the distributor.
    #[must_use]
    pub fn after(mut self, services: &[&str]) -> Self {
        self.after = services.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// Has `registry` tell what was taken and what was dropped.
    #[must_use]
    pub fn metrics(self, registry: &Registry) -> Self {
        registry.collect_from(&self.spans, |spans, e| {
            let help = "Spans of the process itself.";
            let begun = spans.begun.load(Ordering::Relaxed) as f64;
            e.counter("lgtm_own_spans_total", help, &[], begun);
            let help = "Spans of the process itself that were not stored, as too many waited.";
            let dropped = spans.dropped() as f64;
            e.counter("lgtm_own_spans_dropped_total", help, &[], dropped);
        });
        self
    }

    /// Stores what has ended so far.
    ///
    /// # Errors
    /// Those of the push; what may be stored later waits on, the rest is lost.
    pub async fn write(&self) -> Result<()> {
        let spans = self.spans.take();
        if spans.is_empty() {
            return Ok(());
        }
        let stored = self.push(&spans).await;
        if stored.as_ref().is_err_and(|e| e.kind().is_retryable()) {
            self.spans.give_back(spans);
        }
        stored
    }

    fn encode(&self, spans: &[OwnSpan]) -> Vec<u8> {
        let text = |key: &'static str, value: &'static str| Attribute {
            key: key.as_bytes(),
            value: Value::Text(value.as_bytes()),
        };
        let spans = spans.iter().map(|s| Span {
            trace_id: s.trace.as_bytes(),
            span_id: s.span.as_bytes(),
            parent_span_id: s.parent.as_ref().map_or(&[], |p| p.as_bytes()),
            name: s.name.as_bytes(),
            kind: s.kind as i32,
            start_ns: s.start_ns,
            end_ns: s.end_ns,
            status_code: if s.is_error {
                StatusCode::Error as i32
            } else {
                0
            },
            attributes: (s.attributes.iter())
                .map(|(key, value)| Attribute {
                    key: key.as_bytes(),
                    value: match value {
                        OwnValue::Text(text) => Value::Text(text.as_bytes()),
                        OwnValue::Int(n) => Value::Int(*n),
                    },
                })
                .collect(),
            ..Span::default()
        });
        let instance = Attribute {
            key: b"service.instance.id",
            value: Value::Text(self.instance.as_bytes()),
        };
        let scope = ScopeSpans {
            name: b"lgtm",
            spans: spans.collect(),
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            attributes: vec![text("service.name", "lgtm"), instance],
            scopes: vec![scope],
            ..ResourceSpans::default()
        };
        let mut out = Vec::new();
        let resources = vec![resource];
        Trace { resources }.encode(&mut out);
        out
    }

    async fn push(&self, spans: &[OwnSpan]) -> Result<()> {
        let d = &self.distributor;
        let options = d.limits(&self.tenant).push_options();
        let body = self.encode(spans);
        let mut batch = d.batch(d.inflight().ticket());
        {
            let (batch, mut room) = batch.parts();
            let mut grow = |bytes| room.as_mut().map_or(Ok(()), |room| room.add(bytes));
            let mut allowance = Allowance::new(0, &mut grow);
            decode_otlp(batch, options, &mut allowance, |out, allowance| {
                allowance.reserve(out, body.len())?;
                out.extend_from_slice(&body);
                Ok::<_, Error>(())
            })?;
        }
        let report = d.push(&self.tenant, batch).await?;
        match report.partial_success() {
            Some((_, message)) => Err(Error::InvalidInput(message)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Service for OwnTraces {
    fn name(&self) -> &str {
        "own-traces"
    }

    fn depends_on(&self) -> Vec<String> {
        self.after.clone()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let mut is_failing = false;
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.spans.came.notified() => {}
                () = stop.cancelled() => {}
            }
            let stored = self.write().await;
            // Said once. What is not there yet, as while the log is read back, is asked again.
            let is_lost = matches!(&stored, Err(e) if !e.kind().is_retryable());
            if let Err(error) = &stored
                && is_lost
                && !is_failing
            {
                tracing::warn!(%error, "own spans cannot be stored");
            }
            is_failing = is_lost;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        // What ended on the way out.
        let _ = self.write().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::clock::ManualClock;

    use super::*;

    fn spans(ratio: f64) -> Arc<OwnSpans> {
        OwnSpans::new(Arc::new(ManualClock::at_ms(1000)), ratio)
    }

    #[test]
    fn callers_are_named_as_w3c_has_it() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let parent = SpanParent::of_traceparent(&format!("00-{id}-b7ad6b7169203331-01")).unwrap();
        assert_eq!(
            (parent.trace.to_string().as_str(), parent.is_sampled),
            (id, true)
        );
        let later = format!("cc-{id}-b7ad6b7169203331-00-more");
        assert!(!SpanParent::of_traceparent(&later).unwrap().is_sampled);
        for bad in [
            "".to_owned(),
            format!("ff-{id}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{id}-b7ad6b7169203331"),
            format!("00-{id}-b7ad6b716920333-01"),
            format!("00-{id}-+7ad6b716920333g-01"),
        ] {
            assert_eq!(SpanParent::of_traceparent(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_part_is_taken_and_no_more_than_there_is_room_for() {
        let none = spans(0.0);
        assert!((0..1000).all(|_| none.begin(SpanKind::Server, None).is_none()));
        let parent = SpanParent {
            trace: TraceId::new([1; 16]),
            span: SpanId::new([2; 8]),
            is_sampled: true,
        };
        let mut open = none.begin(SpanKind::Server, Some(parent)).unwrap();
        open.name("ü".repeat(1000));
        drop(open);
        let taken = none.take();
        assert_eq!(
            (taken[0].trace, taken[0].parent),
            (parent.trace, Some(parent.span))
        );
        assert_eq!(taken[0].name.len(), MAX_TEXT_BYTES);
        let some = spans(0.5);
        let begun = (0..4000).filter(|_| some.begin(SpanKind::Server, None).is_some());
        let begun = begun.count();
        assert!((1500..2500).contains(&begun), "{begun}");
        let all = spans(1.0);
        for _ in 0..MAX_WAITING + 5 {
            drop(all.begin(SpanKind::Internal, None));
        }
        assert_eq!(all.dropped(), 5);
        let taken = all.take();
        drop(all.begin(SpanKind::Internal, None));
        all.give_back(taken);
        assert_eq!((all.take().len(), all.dropped()), (MAX_WAITING, 6));
    }
}
