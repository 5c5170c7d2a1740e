//! A store of heads on a disk that can crash, and what all tests of it do.

mod durable;
mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::testing::{Crash, CrashDisk};
use lgtm_core::units::ByteSize;

use super::ordered::OrderedTraces;
use super::*;
use crate::block::TraceSource;
use crate::block_id::BlockId;
use crate::limits::{Limits, PushReport};
use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value};
use crate::wire::{PushBatch, PushOptions, decode_otlp};

const NOW_S: i64 = 1_795_357_046;

/// Trace, span, service, name.
type Row = (u8, u8, String, String);

struct Store {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    limits: Limits,
    settings: HeadSettings,
    heads: Arc<Heads>,
    report: HeadReplayReport,
}

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

fn trace_id(n: u8) -> TraceId {
    // Not in the order of numbers.
    TraceId::new([
        n.reverse_bits(),
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        n,
    ])
}

/// Small batches, so that few spans fill them.
fn small_settings() -> HeadSettings {
    HeadSettings {
        batch_bytes: ByteSize::kib(1),
        batch_file_size: ByteSize::mib(1),
        ..HeadSettings::default()
    }
}

fn open(
    disk: &CrashDisk,
    settings: &HeadSettings,
    limits: &Limits,
    clock: &Arc<ManualClock>,
) -> Result<(Arc<Heads>, HeadReplayReport)> {
    let host = HeadHost {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as _,
        executor: Executor::inline(tokio::runtime::Handle::current()),
        seed: 7,
    };
    let limits = Overrides::fixed(limits.clone());
    let (heads, log) = Heads::open(host, "traces", settings.clone(), limits)?;
    let report = heads.replay(log)?;
    Ok((Arc::new(heads), report))
}

/// A request of some spans, as a batch.
fn batch(rows: &[Row]) -> PushBatch {
    let mut by_service: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_service.entry(&row.2).or_default().push(row);
    }
    let ids: Vec<([u8; 16], [u8; 8])> = (rows.iter())
        .map(|(trace, span, ..)| {
            (
                *trace_id(*trace).as_bytes(),
                [9, 9, 9, 9, 9, 9, *trace, *span],
            )
        })
        .collect();
    let id_of = |row: &Row| {
        let at = rows.iter().position(|r| r == row).unwrap();
        &ids[at]
    };
    let resources = by_service.iter().map(|(service, rows)| {
        let spans = rows.iter().map(|row| Span {
            trace_id: &id_of(row).0,
            span_id: &id_of(row).1,
            name: row.3.as_bytes(),
            start_ns: NOW_S as u64 * 1_000_000_000 + u64::from(row.0),
            end_ns: NOW_S as u64 * 1_000_000_000 + 1000,
            ..Span::default()
        });
        ResourceSpans {
            attributes: vec![Attribute {
                key: b"service.name",
                value: Value::Text(service.as_bytes()),
            }],
            scopes: vec![ScopeSpans {
                name: b"scope",
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }
    });
    let mut body = Vec::new();
    let trace = Trace {
        resources: resources.collect(),
    };
    trace.encode(&mut body);
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(&body);
        Ok(())
    };
    decode_otlp(
        &mut batch,
        PushOptions::default(),
        &mut Allowance::new(0, &mut grow),
        fill,
    )
    .unwrap();
    batch
}

/// The spans of a trace's protobuf.
fn rows_of(id: TraceId, bytes: &[u8], out: &mut Vec<Row>) {
    let mut grow = |_| Ok(());
    let trace = Trace::decode(bytes, &mut Allowance::new(0, &mut grow)).unwrap();
    for (resource, scope, span) in trace.spans() {
        assert_eq!(
            (span.trace_id, scope.name),
            (&id.as_bytes()[..], &b"scope"[..])
        );
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        out.push((
            span.span_id[6],
            span.span_id[7],
            text(resource.service_name()),
            text(span.name),
        ));
    }
}

impl Store {
    fn new(settings: HeadSettings, limits: Limits) -> Self {
        let (disk, clock) = (
            CrashDisk::new(1),
            Arc::new(ManualClock::at_ms(NOW_S * 1000)),
        );
        Self::on(disk, clock, settings, limits).unwrap()
    }

    fn on(
        disk: CrashDisk,
        clock: Arc<ManualClock>,
        settings: HeadSettings,
        limits: Limits,
    ) -> Result<Self> {
        let (heads, report) = open(&disk, &settings, &limits, &clock)?;
        Ok(Self {
            disk,
            clock,
            limits,
            settings,
            heads,
            report,
        })
    }

    /// As the next process finds it.
    fn reopen(&mut self, crash: Crash) {
        self.disk = self.disk.crash(crash);
        let opened = open(&self.disk, &self.settings, &self.limits, &self.clock);
        (self.heads, self.report) = opened.unwrap();
    }

    async fn push(&self, rows: &[Row]) -> Result<PushReport> {
        let mut report = PushReport::default();
        self.heads
            .push(&tenant(), &batch(rows), &mut report)
            .await?;
        Ok(report)
    }

    async fn put(&self, rows: &[Row]) {
        let report = self.push(rows).await.unwrap();
        assert_eq!(
            (report.spans, report.refused_spans()),
            (rows.len() as u64, 0)
        );
    }

    /// Lets time pass, so that live traces are cut.
    async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.heads.maintain().await.unwrap();
    }

    /// All spans, in order.
    fn all(&self) -> Vec<Row> {
        let reader = self.heads.reader();
        let mut traces = self.heads.traces(&tenant(), &reader).unwrap();
        let (mut rows, mut bytes) = (Vec::new(), Vec::new());
        let mut seen = std::collections::BTreeSet::new();
        while let Some(id) = traces.next_trace((0, u64::MAX), &mut bytes) {
            assert!(seen.insert(id), "{id} came twice");
            rows_of(id, &bytes, &mut rows);
            bytes.clear();
            // The same by its id.
            let (mut found, mut by_id) = (Vec::new(), Vec::new());
            assert!(traces.find(id, &mut found));
            rows_of(id, &found, &mut by_id);
            let of_trace = rows.len() - by_id.len();
            let mut scanned = rows[of_trace..].to_vec();
            scanned.sort();
            by_id.sort();
            assert_eq!(scanned, by_id);
        }
        assert_eq!(traces.warnings(), Vec::<String>::new());
        rows.sort();
        self.check_order(&rows, seen.iter().nth(seen.len() / 2).copied());
        rows
    }

    /// In the order of ids there are the same spans, and behind an id those of the ids behind it.
    fn check_order(&self, rows: &[Row], behind: Option<TraceId>) {
        for behind in [None, behind] {
            let mut traces = (self.heads.traces(&tenant(), &self.heads.reader())).unwrap();
            let mut ordered = OrderedTraces::new((0, u64::MAX), behind);
            let (mut found, mut bytes, mut last) = (Vec::new(), Vec::new(), behind);
            while let Some(id) = ordered.next_trace(&mut traces, &mut bytes) {
                assert!(last < Some(id), "ascending, each once");
                last = Some(id);
                rows_of(id, &bytes, &mut found);
                bytes.clear();
            }
            found.sort();
            let wanted = rows.iter().filter(|r| behind < Some(trace_id(r.0)));
            assert_eq!(found, wanted.cloned().collect::<Vec<_>>());
            assert_eq!(traces.warnings(), Vec::<String>::new());
        }
    }
}

fn row(trace: u8, span: u8, service: &str, name: &str) -> Row {
    (trace, span, service.to_owned(), name.to_owned())
}

fn sorted(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
}

fn block(n: u8) -> BlockId {
    BlockId::random([n; 16])
}
