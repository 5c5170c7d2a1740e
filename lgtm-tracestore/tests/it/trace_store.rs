//! A trace store in one value: what is stored is found, wherever parts of it lie.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::disk::Disk;
use lgtm_core::exec::Executor;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::storage::{Backend, BackendKind};
use lgtm_core::testing::{Crash, CrashDisk, FaultyStore, StoreFault};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::bucket::BucketSettings;
use lgtm_tracestore::components::{IngesterSettings, TraceStore};
use lgtm_tracestore::head::HeadSettings;
use lgtm_tracestore::prelude::*;
use object_store::memory::InMemory;

const NOW_S: i64 = 1_795_357_046;
const SECOND: u64 = 1_000_000_000;

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

fn id(n: u8) -> TraceId {
    TraceId::new([n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, n])
}

/// A span of a test: its number, that of its parent (0: none), seconds from now, length.
#[derive(Clone, Copy)]
struct Row {
    trace: u8,
    span: u8,
    parent: u8,
    at_s: i64,
    length_s: u64,
    name: &'static str,
    is_error: bool,
}

fn row(trace: u8, span: u8, parent: u8, at_s: i64, name: &'static str) -> Row {
    Row {
        trace,
        span,
        parent,
        at_s,
        length_s: 1,
        name,
        is_error: false,
    }
}

fn request(rows: &[Row]) -> Vec<u8> {
    let ids: Vec<_> = (rows.iter())
        .map(|r| {
            (
                id(r.trace),
                [8, 8, 8, 8, 8, 8, 8, r.span],
                [8, 8, 8, 8, 8, 8, 8, r.parent],
            )
        })
        .collect();
    let spans = rows.iter().zip(&ids).map(|(row, (trace, span, parent))| {
        let start_ns = (NOW_S + row.at_s) as u64 * SECOND;
        Span {
            trace_id: trace.as_bytes(),
            span_id: span,
            parent_span_id: if row.parent == 0 { &[] } else { parent },
            name: row.name.as_bytes(),
            start_ns,
            end_ns: start_ns + row.length_s * SECOND,
            status_code: if row.is_error { 2 } else { 0 },
            ..Span::default()
        }
    });
    let trace = Trace {
        resources: vec![ResourceSpans {
            attributes: vec![Attribute {
                key: b"service.name",
                value: Value::Text(b"shop"),
            }],
            scopes: vec![ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let mut out = Vec::new();
    trace.encode(&mut out);
    out
}

struct House {
    disk: CrashDisk,
    store: FaultyStore,
    clock: Arc<ManualClock>,
}

impl House {
    fn new() -> Self {
        Self {
            disk: CrashDisk::new(1),
            store: FaultyStore::new(Arc::new(InMemory::new()), 1),
            clock: Arc::new(ManualClock::at_ms(NOW_S * 1000)),
        }
    }

    async fn open(&self) -> TraceStore {
        let backend = Backend::new(Arc::new(self.store.clone()), BackendKind::Memory);
        TraceStore::builder("data", backend)
            .disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>)
            .settings(IngesterSettings {
                head: HeadSettings {
                    batch_bytes: ByteSize::kib(1),
                    batch_file_size: ByteSize::mib(1),
                    ..HeadSettings::default()
                },
                ..IngesterSettings::default()
            })
            .bucket(BucketSettings {
                row_group_size: ByteSize::kib(2),
                ..BucketSettings::default()
            })
            .clock(Arc::clone(&self.clock) as _)
            .executor(Executor::inline(tokio::runtime::Handle::current()))
            .without_housekeeping()
            .open()
            .await
            .unwrap()
    }
}

async fn append(store: &TraceStore, rows: &[Row]) {
    let report = store.append_otlp(&tenant(), &request(rows)).await.unwrap();
    assert_eq!(
        (report.spans, report.refused_spans()),
        (rows.len() as u64, 0)
    );
}

fn hours(from: i64, to: i64) -> TimeRangeNs {
    let ns = |h: i64| (NOW_S + h * 3600) * SECOND as i64;
    TimeRangeNs::new(ns(from), ns(to))
}

/// The hits of a query: id, root name, seconds that the trace takes, spans matched.
async fn search(store: &TraceStore, query: &str) -> Vec<(TraceId, String, u64, u64)> {
    let found = store
        .search(&tenant(), query, hours(-2, 2), 100)
        .await
        .unwrap();
    assert_eq!(found.end.warnings, Vec::<String>::new());
    let hits = found.value.into_iter().map(|hit| {
        let matched = hit.sets.iter().map(|s| s.matched).sum();
        (hit.id, hit.root_name, hit.duration_ns / SECOND, matched)
    });
    hits.collect()
}

/// Numbers of the spans of a trace.
async fn spans(store: &TraceStore, trace: u8) -> Vec<u8> {
    let found = store.find_trace(&tenant(), id(trace)).await.unwrap();
    assert_eq!(found.end.warnings, Vec::<String>::new());
    let mut grow = |_| Ok(());
    let trace = Trace::decode(&found.bytes, &mut Allowance::new(0, &mut grow)).unwrap();
    let mut out: Vec<u8> = trace.spans().map(|(_, _, s)| s.span_id[7]).collect();
    out.sort_unstable();
    out
}

/// The sum of all values of a query for series.
async fn total(store: &TraceStore, query: &str) -> f64 {
    let minute = Duration::from_secs(60);
    let answer = store.metrics(&tenant(), query, hours(-1, 1), minute).await;
    let answer = answer.unwrap();
    assert_eq!(answer.end.warnings, Vec::<String>::new());
    let values = answer.value.series.iter().flat_map(|s| &s.values);
    values.filter(|v| !v.is_nan()).sum()
}

#[tokio::test]
async fn what_is_appended_is_found_live_flushed_and_after_a_restart() {
    let house = House::new();
    let mut store = house.open().await;
    append(&store, &[row(1, 1, 0, 0, "root"), row(1, 2, 1, 1, "child")]).await;
    append(&store, &[row(2, 1, 0, 5, "other")]).await;
    for step in ["live", "flushed", "again", "restarted"] {
        match step {
            "flushed" => {
                let report = store.flush().await.unwrap();
                assert_eq!((report.blocks, report.traces), (1, 2));
            }
            "again" => assert_eq!(store.flush().await.unwrap().blocks, 0),
            "restarted" => {
                store.close().await.unwrap();
                store = house.open().await;
            }
            _ => {}
        }
        assert_eq!(spans(&store, 1).await, [1, 2], "{step}");
        assert_eq!(spans(&store, 3).await, [0; 0], "{step}");
        let all = [(id(2), "other".into(), 1, 1), (id(1), "root".into(), 2, 2)];
        assert_eq!(search(&store, "{}").await, all, "{step}");
        assert_eq!(search(&store, "{ name = `child` }").await[0].3, 1);
        assert_eq!(total(&store, "{} | count_over_time()").await, 3.0, "{step}");
        let names = store.tag_names(&tenant(), hours(-1, 1)).await.unwrap();
        assert!(format!("{:?}", names.value).contains("service.name"));
        let tag = "resource.service.name";
        let values = store
            .tag_values(&tenant(), tag, hours(-1, 1))
            .await
            .unwrap();
        let values: Vec<_> = values.value.into_iter().map(|v| v.text).collect();
        assert_eq!(values, ["shop"], "{step}");
    }
}

/// Parts of one trace in two blocks and the head; a copy of each span in another place.
async fn scattered(house: &House) -> TraceStore {
    let store = house.open().await;
    let long = Row {
        length_s: 2,
        is_error: true,
        ..row(1, 3, 2, 1200, "grandchild")
    };
    append(&store, &[row(1, 1, 0, 0, "root"), row(2, 1, 0, 0, "alone")]).await;
    store.flush().await.unwrap();
    append(
        &store,
        &[row(1, 2, 1, 600, "child"), row(1, 1, 0, 0, "root")],
    )
    .await;
    store.flush().await.unwrap();
    append(&store, &[long, row(1, 2, 1, 600, "child")]).await;
    store
}

#[tokio::test]
async fn a_trace_whose_parts_lie_in_several_places_is_one_trace() {
    let house = House::new();
    let store = scattered(&house).await;
    // Live, cut but not flushed, and flushed.
    for step in 0..3 {
        match step {
            1 => {
                house.clock.advance(Duration::from_secs(40));
                store.maintain().await.unwrap();
            }
            2 => assert_eq!(store.flush().await.unwrap().blocks, 1),
            _ => {}
        }
        assert_eq!(spans(&store, 1).await, [1, 2, 3]);
        let whole = |matched| vec![(id(1), "root".to_owned(), 1202, matched)];
        for (query, matched) in [
            ("{ name = `grandchild` }", 1),
            ("{ name = `child` }", 1),
            ("{ name = `root` }", 1),
            ("{ status = error }", 1),
            ("{ name = `root` } >> { name = `grandchild` }", 1),
            ("{ name = `root` } > { name = `child` }", 1),
            ("{} | count() = 3", 3),
            ("{ trace:duration > 20m }", 3),
            (
                "{ trace:id = `01010203040506070809...` } || { rootName = `root` }",
                3,
            ),
            ("{ name != `alone` && span:childCount = 0 }", 1),
        ] {
            let query = query.replace("01010203040506070809...", &id(1).to_string());
            assert_eq!(search(&store, &query).await, whole(matched), "{query}");
        }
        assert_eq!(search(&store, "{} | count() > 3").await, []);
        for (query, count) in [
            ("{} | count_over_time()", 4.0),
            ("{ status = error } | count_over_time()", 1.0),
            ("{ rootName = `root` } | count_over_time()", 3.0),
            ("{} | count_over_time() by (trace:rootName)", 4.0),
            ("{} >> {} | count_over_time()", 2.0),
            ("{} | sum_over_time(duration)", 5.0),
        ] {
            assert_eq!(total(&store, query).await, count, "{step} {query}");
        }
    }
}

#[tokio::test]
async fn old_and_imported_traces_get_blocks_of_their_own_days() {
    const DAY: i64 = 24 * 3600;
    let house = House::new();
    let store = house.open().await;
    let rows: Vec<Row> = [0, 1, -DAY, -DAY + 60, -3 * DAY, -3000 * DAY]
        .iter()
        .zip(1..)
        .map(|(at_s, n)| row(n, 1, 0, *at_s, "x"))
        .collect();
    append(&store, &rows).await;
    // A restart knows the windows of what waits.
    house.clock.advance(Duration::from_secs(40));
    store.maintain().await.unwrap();
    store.close().await.unwrap();
    let store = house.open().await;
    assert_eq!(store.flush().await.unwrap().blocks, 4);
    let blocks = store.blocks().blocks(&tenant()).await.unwrap();
    let lengths: BTreeSet<i64> = (blocks.live.iter())
        .map(|meta| (meta.end.get() - meta.start.get()) / SECOND as i64)
        .collect();
    assert!(lengths.iter().all(|s| *s <= 62), "{lengths:?}");
    for n in 1..=6 {
        assert_eq!(spans(&store, n).await, [1]);
    }
}

#[tokio::test]
async fn a_block_whose_upload_nobody_saw_end_is_looked_up_and_counted_once() {
    let house = House::new();
    let store = house.open().await;
    append(&store, &[row(1, 1, 0, 0, "root")]).await;
    // The block's last object gets there, its answer does not, and nothing after it.
    let probe = House::new();
    let probed = probe.open().await;
    append(&probed, &[row(1, 1, 0, 0, "root")]).await;
    let before = probe.store.all_requests();
    probed.flush().await.unwrap();
    let last = probe.store.all_requests() - before - 1;
    let now = house.store.all_requests();
    house
        .store
        .fail_numbers(now + last..now + last + 1000, StoreFault::LostAck);
    assert!(store.flush().await.is_err());
    let crashed = House {
        disk: house.disk.crash(Crash::Process),
        store: house.store.clone(),
        clock: Arc::clone(&house.clock),
    };
    crashed.store.heal();
    let store = crashed.open().await;
    assert_eq!(spans(&store, 1).await, [1]);
    assert_eq!(total(&store, "{} | count_over_time()").await, 1.0);
    assert!(store.flush().await.unwrap().blocks <= 1);
    assert_eq!(total(&store, "{} | count_over_time()").await, 1.0);
    assert_eq!(
        store.blocks().blocks(&tenant()).await.unwrap().live.len(),
        1
    );
}

#[tokio::test]
async fn compacted_blocks_answer_as_those_that_they_were_made_of() {
    let house = House::new();
    let store = scattered(&house).await;
    store.flush().await.unwrap();
    let query = "{ name = `root` } >> { name = `grandchild` }";
    let before = search(&store, query).await;
    store.compact().await.unwrap();
    let blocks = store.blocks().blocks(&tenant()).await.unwrap();
    let (live, compacted) = (&blocks.live, &blocks.compacted);
    assert_eq!((live.len(), compacted.len()), (1, 3));
    assert_eq!((live[0].compaction_level, live[0].trace_count), (1, 2));
    assert_eq!(search(&store, query).await, before);
    assert_eq!(spans(&store, 1).await, [1, 2, 3]);
    assert_eq!(total(&store, "{} | count_over_time()").await, 4.0);
    // Another round has nothing to do; after a while the old ones are gone.
    store.compact().await.unwrap();
    house.clock.advance(Duration::from_secs(3700));
    store.compact().await.unwrap();
    let blocks = store.blocks().refresh(&tenant()).await.unwrap();
    assert_eq!((blocks.live.len(), blocks.compacted.len()), (1, 0));
    assert_eq!(spans(&store, 1).await, [1, 2, 3]);
    // A process that starts now finds them by the list that was written, and by a listing.
    store.close().await.unwrap();
    let store = house.open().await;
    assert_eq!(spans(&store, 1).await, [1, 2, 3]);
}

/// Paths of all objects, from below.
async fn objects(house: &House) -> Vec<String> {
    let all = object_store::ObjectStore::list(&house.store, None);
    let all: Vec<_> = futures::TryStreamExt::try_collect(all).await.unwrap();
    all.into_iter().map(|o| o.location.to_string()).collect()
}

#[tokio::test]
async fn a_redaction_that_ends_anywhere_is_done_later_and_takes_nothing_else() {
    let order = RedactionRequest {
        traces: RedactedTraces::Ids(vec![id(1)]),
        is_dry_run: false,
    };
    let probe = House::new();
    let store = scattered(&probe).await;
    store.flush().await.unwrap();
    let before = probe.store.all_requests();
    assert_eq!(store.redact(&tenant(), &order).await.unwrap().blocks, 3);
    let requests = probe.store.all_requests() - before;
    let mut done = 0;
    for number in (0..requests).step_by(3) {
        let fault = [StoreFault::Reset, StoreFault::LostAck][number as usize / 3 % 2];
        let house = House::new();
        let store = scattered(&house).await;
        store.flush().await.unwrap();
        let now = house.store.all_requests() + number;
        house.store.fail_numbers(now..now + 100_000, fault);
        let told = store.redact(&tenant(), &order).await;
        house.store.heal();
        let is_ordered = (objects(&house).await.iter()).any(|path| path.contains("/redactions/"));
        assert!(is_ordered || told.is_err(), "{number}");
        // Another process takes its place.
        let other = House {
            disk: CrashDisk::new(2),
            store: house.store.clone(),
            clock: Arc::clone(&house.clock),
        };
        let store = other.open().await;
        store.compact().await.unwrap();
        let left: &[u8] = if is_ordered { &[] } else { &[1, 2, 3] };
        assert_eq!(spans(&store, 1).await, left, "{number}");
        assert_eq!(spans(&store, 2).await, [1], "{number}");
        let count = if is_ordered { 1.0 } else { 4.0 };
        assert_eq!(
            total(&store, "{} | count_over_time()").await,
            count,
            "{number}"
        );
        done += u64::from(is_ordered);
        // In the end no folder is without a meta, and no order is left. What the process before has marked is judged by the store's clock, which is the
        // machine's here.
        for _ in 0..3 {
            house.clock.advance(Duration::from_secs(25 * 3600));
            store.compact().await.unwrap();
        }
        let paths = objects(&house).await;
        let folders = |end: &str| -> BTreeSet<&str> {
            let with = paths.iter().filter_map(|p| p.strip_suffix(end));
            with.collect()
        };
        let metas = &folders("/meta.json") | &folders("/meta.compacted.json");
        assert_eq!(folders("/data.parquet"), metas, "{number}");
        let orders = paths.iter().filter(|p| p.contains("/redactions/"));
        assert_eq!(orders.count(), 0, "{number}: {paths:?}");
        assert_eq!(spans(&store, 2).await, [1], "{number}");
    }
    assert!(done > requests / 6, "{done} of {requests}");
}

#[tokio::test]
async fn a_compaction_that_ends_anywhere_loses_and_doubles_nothing() {
    let probe = House::new();
    let store = scattered(&probe).await;
    store.flush().await.unwrap();
    let before = probe.store.all_requests();
    store.compact().await.unwrap();
    let requests = probe.store.all_requests() - before;
    for number in (0..requests).step_by(2) {
        let fault = [StoreFault::Reset, StoreFault::LostAck][number as usize / 2 % 2];
        let house = House::new();
        let store = scattered(&house).await;
        store.flush().await.unwrap();
        let now = house.store.all_requests() + number;
        house.store.fail_numbers(now..now + 100_000, fault);
        let _ = store.compact().await;
        house.store.heal();
        for again in [false, true] {
            let store = House {
                disk: CrashDisk::new(2),
                store: house.store.clone(),
                clock: Arc::clone(&house.clock),
            };
            let store = store.open().await;
            if again {
                store.compact().await.unwrap();
            }
            assert_eq!(spans(&store, 1).await, [1, 2, 3], "{number}");
            assert_eq!(
                total(&store, "{} | count_over_time()").await,
                4.0,
                "{number}"
            );
            assert_eq!(
                search(&store, "{} | count() = 3").await.len(),
                1,
                "{number}"
            );
            store.close().await.unwrap();
        }
    }
}
