//! Real ingesters behind a ring over one bucket, some of which fail: everything that was acknowledged is in every answer, once, while blocks are
//! written by each for itself, joined, and known late by their readers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lgtm_core::ErrorKind;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::codec::Allowance;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::units::ByteSize;
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, Token, TokenGenerator};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::*;
use crate::bucket::{BlockList, BucketSelect, BucketSettings};
use crate::components::clients::{FindTrace, IngesterClient, Queries};
use crate::components::{
    Compactor, CompactorSettings, Ingester, IngesterSettings, MetricsRequest, Querier,
    SearchRequest, TagNamesRequest, TagValuesRequest, TraceRequest,
};
use crate::head::{FlushScope, HeadSettings};
use crate::limits::{Limits, PushPart, PushReport};
use crate::select::{AttributeScope, Field, Select, SpanRequest};
use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value};
use crate::traceql::{IntervalGrid, MetricsSettings, SearchSettings, TagScope, parse};
use crate::wire::{PushBatch, PushOptions, decode_otlp};

mod frail;

use frail::Frail;

const NOW_MS: i64 = 1_714_557_600_000;
const MINUTE: Duration = Duration::from_secs(60);

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

/// What is pushed: trace, and number of the span in it; the first one is the root.
type Row = (u8, u16);

fn trace_id(n: u8) -> TraceId {
    let mut id = [7; 16];
    (id[0], id[15]) = (n.wrapping_mul(41), n);
    TraceId::new(id)
}

fn start_ns(row: Row) -> u64 {
    (NOW_MS as u64 - 100_000) * 1_000_000 + u64::from(row.0) * 1_000_000_000 + u64::from(row.1)
}

fn service(row: Row) -> String {
    format!("service-{}", row.1 % 3)
}

fn body(rows: &[Row]) -> Vec<u8> {
    let ids: Vec<_> = rows
        .iter()
        .map(|(trace, n)| {
            let id = |n: u16| [1, 0, 0, 0, 0, *trace, (n >> 8) as u8, n as u8];
            (*trace_id(*trace).as_bytes(), id(*n), id(0))
        })
        .collect();
    let mut by_service: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        by_service.entry(service(*row)).or_default().push(at);
    }
    let resources = by_service.iter().map(|(service, of)| {
        let spans = of.iter().map(|at| Span {
            trace_id: &ids[*at].0,
            span_id: &ids[*at].1,
            parent_span_id: if rows[*at].1 == 0 { &[] } else { &ids[*at].2 },
            name: if rows[*at].1 == 0 { b"root" } else { b"leaf" },
            start_ns: start_ns(rows[*at]),
            end_ns: start_ns(rows[*at]) + 1_000_000,
            attributes: vec![Attribute {
                key: b"n",
                value: Value::Int(i64::from(rows[*at].1)),
            }],
            ..Span::default()
        });
        ResourceSpans {
            attributes: vec![Attribute {
                key: b"service.name",
                value: Value::Text(service.as_bytes()),
            }],
            scopes: vec![ScopeSpans {
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
    body
}

fn part(rows: &[Row]) -> PushPart {
    let body = body(rows);
    let (mut batch, mut grow) = (PushBatch::default(), |_| Ok(()));
    let mut allowance = Allowance::new(0, &mut grow);
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(&body);
        Ok(())
    };
    decode_otlp(&mut batch, PushOptions::default(), &mut allowance, fill).unwrap();
    PushPart::whole(Arc::new(batch.into()))
}

/// The spans of a trace's protobuf.
fn rows_of(bytes: &[u8]) -> Vec<Row> {
    let mut grow = |_| Ok(());
    let trace = Trace::decode(bytes, &mut Allowance::new(0, &mut grow)).unwrap();
    let row = |span: &Span<'_>| {
        let id = span.span_id;
        (id[5], u16::from_be_bytes([id[6], id[7]]))
    };
    trace.spans().map(|(_, _, span)| row(span)).collect()
}

/// Ingesters behind a ring, and who asks them and their bucket.
struct Cluster {
    all: Arc<RingIngesters>,
    nodes: Vec<Arc<Frail>>,
    querier: Arc<Querier>,
    /// What the querier knows of the bucket; it learns late.
    reader: Arc<BlockList>,
    compactor: Arc<Compactor>,
    layout: Layout,
    clock: Arc<ManualClock>,
    pushed: Mutex<BTreeSet<Row>>,
    dirs: Vec<tempfile::TempDir>,
}

fn limits() -> Overrides<Limits> {
    Overrides::fixed(Limits::default())
}

/// An ingester over a folder, with all that its log has.
fn ingester(layout: &Layout, clock: &Arc<ManualClock>, dir: &std::path::Path) -> Arc<Ingester> {
    let executor = Executor::inline(Handle::current());
    let settings = IngesterSettings {
        head: HeadSettings {
            retain_flushed: 4 * MINUTE,
            batch_bytes: ByteSize::kib(1),
            ..HeadSettings::default()
        },
        ..IngesterSettings::default()
    };
    let disk = Arc::new(LocalDisk::new(dir));
    let ingester = Ingester::builder(layout.bucket(DataKind::Traces), disk, limits(), executor)
        .settings(settings)
        .clock(Arc::clone(clock) as _)
        .build()
        .unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    ingester
}

impl Cluster {
    async fn new(count: usize, zones: usize) -> Self {
        let clock = Arc::new(ManualClock::at_ms(NOW_MS));
        let executor = Executor::inline(Handle::current());
        let layout = Layout::builder().store(Backend::memory()).build().unwrap();
        let bucket = || layout.bucket(DataKind::Traces);
        let (mut instances, mut pool) = (RingDesc::new(), LocalIngesters::new());
        let (mut nodes, mut dirs) = (Vec::new(), Vec::new());
        let mut taken: HashSet<Token> = HashSet::new();
        for n in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let frail = Arc::new(Frail {
                ingester: Mutex::new(ingester(&layout, &clock, dir.path())),
                is_away: AtomicBool::new(false),
                breaks_after: Mutex::new(None),
            });
            dirs.push(dir);
            let mut generator = RandomTokens::seeded(n as i64 + 1);
            let tokens = generator.generate(64, &taken).unwrap();
            taken.extend(&tokens);
            let addr = format!("node-{n}:9095");
            let zone = match zones {
                0 => String::new(),
                zones => format!("zone-{}", n % zones),
            };
            instances.insert(Instance {
                id: format!("node-{n}"),
                addr: addr.clone(),
                zone,
                timestamp_s: NOW_MS / 1000,
                registered_timestamp_s: 1,
                tokens: tokens.into(),
                ..Instance::default()
            });
            pool = pool.with(&addr, Arc::clone(&frail) as _);
            nodes.push(frail);
        }
        let settings = RingSettings {
            replication_factor: 3,
            zone_awareness_enabled: zones > 0,
            ..RingSettings::default()
        };
        let ring = Ring::new(settings, &instances);
        // Heartbeats are judged by a clock that stands still.
        let all = RingIngesters::builder(ring.into(), Arc::new(pool), limits(), executor.clone())
            .clock(Arc::new(ManualClock::at_ms(NOW_MS)))
            .settings(ReplicationSettings {
                hedging_delay: Duration::from_millis(200),
                ..ReplicationSettings::default()
            })
            .build()
            .unwrap();
        let blocks = BucketSettings::default();
        let clock_of = Arc::clone(&clock) as Arc<dyn Clock>;
        let reader = BlockList::new(bucket(), executor.clone(), clock_of, MINUTE);
        let reader = Arc::new(reader);
        let stored = BucketSelect::new(bucket(), executor.clone(), Arc::clone(&reader), &blocks);
        let asked = vec![Arc::clone(&all) as Arc<dyn IngesterClient>];
        let stored = vec![Arc::new(stored) as _];
        let querier = Querier::builder(asked, stored, limits(), executor.clone());
        let compactor = Compactor::builder(bucket(), limits(), executor)
            .settings(CompactorSettings {
                max_input_blocks: 10,
                ..CompactorSettings::default()
            })
            .clock(Arc::clone(&clock) as _)
            .build()
            .unwrap();
        Self {
            all,
            nodes,
            querier: querier.build().unwrap(),
            reader,
            compactor,
            layout: layout.clone(),
            clock,
            pushed: Mutex::default(),
            dirs,
        }
    }

    async fn push(&self, rows: &[Row]) -> PushReport {
        let report = self.all.push(&tenant(), part(rows)).await.unwrap();
        assert_eq!(report.refused_spans(), 0, "{report:?}");
        self.pushed.lock().extend(rows.iter().copied());
        // All of them have it or have failed by then: what the quorum did not wait for has come.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        report
    }

    fn away(&self, n: usize, is_away: bool) {
        self.nodes[n].is_away.store(is_away, Ordering::SeqCst);
    }

    async fn cut(&self) {
        self.clock.advance(Duration::from_secs(6));
        for node in &self.nodes {
            let ingester = Arc::clone(&node.ingester.lock());
            ingester.maintain().await.unwrap();
        }
    }

    async fn flush(&self, n: usize) -> u64 {
        let ingester = Arc::clone(&self.nodes[n].ingester.lock());
        ingester.flush(FlushScope::All).await.unwrap().blocks
    }

    /// Ends without a flush, and starts again over the same folder.
    async fn restart(&self, n: usize) {
        let old = Arc::clone(&self.nodes[n].ingester.lock());
        old.close().await.unwrap();
        drop(old);
        let new = ingester(&self.layout, &self.clock, self.dirs[n].path());
        new.settle().await;
        *self.nodes[n].ingester.lock() = new;
    }

    /// Sums of what matches a query, by trace.
    async fn matched(&self, query: &str) -> BTreeMap<u8, u64> {
        let request = SearchRequest {
            query: Arc::new(parse(query).unwrap()),
            settings: SearchSettings {
                limit: 1000,
                spans_per_set: 1000,
                ..SearchSettings::default()
            },
        };
        let found = self.querier.search(&tenant(), &request, None).await;
        let found = found.unwrap();
        assert_eq!(found.end.warnings, Vec::<String>::new(), "{query}");
        let hits = found.value.iter().map(|hit| {
            let listed: usize = hit.sets.iter().map(|set| set.spans.len()).sum();
            let matched: u64 = hit.sets.iter().map(|set| set.matched).sum();
            assert_eq!(listed as u64, matched, "{query}");
            (hit.id.as_bytes()[15], matched)
        });
        hits.collect()
    }

    async fn counted(&self, query: &str) -> BTreeMap<String, u64> {
        let query = parse(query).unwrap();
        let (start, end) = (start_ns((0, 0)) - 1, start_ns((255, 0)));
        let request = MetricsRequest {
            query: Arc::new(query),
            settings: MetricsSettings {
                grid: IntervalGrid::instant(start, end).unwrap(),
                exemplars: 0,
                max_series: 0,
                max_bytes: 64 << 20,
            },
        };
        let found = self.querier.metrics(&tenant(), &request, None).await;
        let found = found.unwrap();
        assert_eq!(found.end.warnings, Vec::<String>::new());
        let series = found.value.series.iter();
        let series = series.map(|s| (format!("{:?}", s.labels), s.values[0] as u64));
        series.collect()
    }

    /// Each span that was pushed is in each kind of answer, once.
    async fn check(&self, what: &str) {
        let wanted = self.pushed.lock().clone();
        let traces: BTreeSet<u8> = wanted.iter().map(|(trace, _)| *trace).collect();
        let mut found = Vec::new();
        for trace in &traces {
            let request = TraceRequest {
                id: trace_id(*trace),
                range: None,
                max_bytes: 1 << 20,
            };
            let answer = self.querier.find_trace(&tenant(), &request).await.unwrap();
            assert!(!answer.is_cut && answer.end.warnings.is_empty(), "{what}");
            found.extend(rows_of(&answer.bytes));
        }
        assert_eq!(found.len(), wanted.len(), "{what}: each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted, "{what}");
        let count = |passes: &dyn Fn(&Row) -> bool| {
            let mut out: BTreeMap<u8, u64> = BTreeMap::new();
            for row in wanted.iter().filter(|row| passes(row)) {
                *out.entry(row.0).or_default() += 1;
            }
            out
        };
        let has_root = |row: &Row| wanted.contains(&(row.0, 0));
        for (query, wanted) in [
            ("{ }", count(&|_| true)),
            ("{ span.n < 3 }", count(&|row| row.1 < 3)),
            (
                r#"{ resource.service.name = "service-1" && name = "leaf" }"#,
                count(&|row| row.1 % 3 == 1),
            ),
            (
                r#"{ name = "root" } >> { span.n = 2 }"#,
                count(&|row| row.1 == 2 && has_root(row)),
            ),
            (
                "{ } | count() > 9",
                count(&|row| wanted.iter().filter(|r| r.0 == row.0).count() > 9),
            ),
        ] {
            assert_eq!(self.matched(query).await, wanted, "{what}: {query}");
        }
        let mut by_service: BTreeMap<String, u64> = BTreeMap::new();
        for row in &wanted {
            *by_service.entry(service(*row)).or_default() += 1;
        }
        let counted = self
            .counted("{ } | count_over_time() by (resource.service.name)")
            .await;
        assert_eq!(counted.len(), by_service.len(), "{what}: {counted:?}");
        for (service, count) in &by_service {
            let own = counted.iter().find(|(labels, _)| labels.contains(service));
            assert_eq!(own.map(|(_, n)| n), Some(count), "{what}: {service}");
        }
        let rooted = wanted
            .iter()
            .filter(|row| row.1 > 0 && has_root(row))
            .count();
        let counted = self
            .counted(r#"{ name = "root" } >> { } | count_over_time()"#)
            .await;
        let total: u64 = counted.values().sum();
        assert_eq!(total, rooted as u64, "{what}: below roots");
        let names = TagNamesRequest {
            scope: TagScope::All,
            filter: None,
            range: None,
            limit: 0,
        };
        let names = self.querier.tag_names(&tenant(), &names, None).await;
        let names = names.unwrap().value;
        assert!(names[&AttributeScope::Span].contains("n"), "{what}");
        let values = TagValuesRequest {
            fields: vec![Field::attribute(AttributeScope::Span, "n")],
            filter: Some(r#"{ name = "leaf" }"#.into()),
            range: None,
            limit: 0,
        };
        let values = self.querier.tag_values(&tenant(), &values, None).await;
        let leaves: BTreeSet<u16> = wanted.iter().map(|r| r.1).filter(|n| *n > 0).collect();
        assert_eq!(values.unwrap().value.len(), leaves.len(), "{what}");
    }
}

fn rows(traces: std::ops::Range<u8>, spans: std::ops::Range<u16>) -> Vec<Row> {
    traces
        .flat_map(|trace| spans.clone().map(move |n| (trace, n)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_acknowledged_is_in_every_answer_once_whoever_is_away() {
    for (count, zones) in [(3, 0), (5, 0), (6, 3)] {
        let cluster = Cluster::new(count, zones).await;
        for n in 0..4 {
            let rows = rows(0..30, n * 3..n * 3 + 3);
            let report = cluster.push(&rows).await;
            assert_eq!(report.spans, 90);
            if n % 2 == 1 {
                cluster.cut().await;
            }
        }
        cluster.check("all there").await;
        // Sent again, nothing is there twice.
        let report = cluster.push(&rows(0..30, 0..2)).await;
        assert_eq!(report.spans, 60);
        cluster.check("sent again").await;
        for n in 0..count.min(3) {
            cluster.away(n, true);
            let _ = cluster
                .push(&rows(n as u8..40, 20 + n as u16..22 + n as u16))
                .await;
            cluster.check("one is away").await;
            cluster.away(n, false);
            cluster.check("it is back").await;
        }
        // Answers break off in the middle.
        for breaks_after in [0, 1, 3, 6, 10] {
            *cluster.nodes[0].breaks_after.lock() = Some(breaks_after);
            cluster.check("one breaks off").await;
        }
        *cluster.nodes[0].breaks_after.lock() = None;
        if zones == 0 {
            cluster.away(0, true);
            cluster.away(1, true);
            let lost = cluster
                .all
                .push(&tenant(), part(&rows(0..20, 90..91)))
                .await;
            let read = cluster.all.select(&tenant(), &SpanRequest::default()).await;
            if count == 3 {
                assert_eq!(lost.unwrap_err().kind(), ErrorKind::Unavailable);
            }
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_all_replicas_count_once_before_and_after_they_are_joined_and_known() {
    let cluster = Cluster::new(3, 0).await;
    let _ = cluster.push(&rows(0..25, 0..6)).await;
    cluster.check("in the heads").await;
    // The list of blocks is known, and does not have what comes.
    assert!(
        cluster
            .reader
            .blocks(&tenant())
            .await
            .unwrap()
            .live
            .is_empty()
    );
    for n in 0..3 {
        assert!(cluster.flush(n).await > 0);
        cluster.check("flushed, and not known").await;
        let _ = cluster
            .push(&rows(5..30, 10 + n as u16..11 + n as u16))
            .await;
        cluster.check("and there is more").await;
    }
    cluster.restart(1).await;
    cluster.check("one was started again").await;
    assert!(
        cluster
            .reader
            .blocks(&tenant())
            .await
            .unwrap()
            .live
            .is_empty()
    );
    cluster.clock.advance(MINUTE);
    cluster.check("the blocks are known").await;
    let known = cluster.reader.blocks(&tenant()).await.unwrap().live.len();
    assert!(known >= 3, "{known}");
    for n in 0..3 {
        cluster.flush(n).await;
    }
    cluster.clock.advance(2 * MINUTE);
    cluster
        .compactor
        .compact(&CancelToken::new())
        .await
        .unwrap();
    cluster.check("joined").await;
    cluster.clock.advance(MINUTE);
    cluster.check("joined, and known").await;
    // What was retained is gone: all of it comes from blocks.
    cluster.clock.advance(10 * MINUTE);
    cluster.cut().await;
    for node in &cluster.nodes {
        let ingester = Arc::clone(&node.ingester.lock());
        let request = crate::select::RecentRequest::default();
        let mut left = ingester.recent(&tenant(), &request).await.unwrap();
        assert!(left.next_traces().await.unwrap().is_empty());
    }
    cluster.check("in blocks").await;
}
