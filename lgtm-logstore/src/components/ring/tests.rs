//! Real ingesters behind a ring over one bucket, some of which fail: everything that was acknowledged is in every answer, once, while chunks are
//! flushed by each for itself, index files are joined, and readers learn of them late.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lgtm_core::ErrorKind;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::codec::Allowance;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::{GlobalLimits, Overrides};
use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, Token, TokenGenerator};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::*;
use crate::bucket::{BucketChunks, BucketSettings};
use crate::components::clients::{
    IngesterClient, Inspect, Patterns, PatternsRequest, Tail, TailRequest,
};
use crate::components::{
    Compactor, CompactorSettings, Ingester, IngesterSettings, PatternSettings, Querier,
};
use crate::head::{FlushScope, HeadSettings};
use crate::limits::{Accepted, Limits, PushPart, PushReport};
use crate::logql::{
    Direction, EngineSettings, MaxSeries, ParserSettings, Query, QueryRange, QueryValue,
};
use crate::select::{Select, SelectOrder, SelectRequest};
use crate::wire::{LogEntry, PushBatch, decode_entries};

mod frail;

use frail::Frail;

const NOW_MS: i64 = 1_714_557_600_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

/// What is pushed: number of the stream, time, line.
type Line = (u8, i64, String);

fn labels(stream: u8) -> Labels {
    Labels::from_pairs([
        ("app", format!("app-{}", stream % 3)),
        ("n", stream.to_string()),
    ])
    .unwrap()
}

fn batch(lines: &[Line]) -> PushBatch {
    let mut streams: BTreeMap<u8, Vec<LogEntry>> = BTreeMap::new();
    for (stream, t_ns, line) in lines {
        let entry = LogEntry::new(*t_ns, line.as_str()).with("trace", "t");
        streams.entry(*stream).or_default().push(entry);
    }
    let streams: Vec<_> = streams
        .into_iter()
        .map(|(stream, entries)| (labels(stream), entries))
        .collect();
    let limits = Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    let (mut out, mut grow) = (PushBatch::default(), |_| Ok(()));
    let mut allowance = Allowance::new(0, &mut grow);
    decode_entries(&mut out, &limits.push_options(), &mut allowance, &streams).unwrap();
    out
}

fn part(lines: &[Line]) -> PushPart {
    let batch = batch(lines);
    let accepted = Arc::new(Accepted::all(&batch));
    PushPart::new(Arc::new(batch.into()), accepted)
}

/// Ingesters behind a ring, and who asks them and their bucket.
struct Cluster {
    all: Arc<RingIngesters>,
    nodes: Vec<Arc<Frail>>,
    querier: Arc<Querier>,
    /// What the querier knows of the bucket; it learns late.
    reader: Arc<BucketChunks>,
    compactor: Arc<Compactor>,
    clock: Arc<ManualClock>,
    pushed: Mutex<BTreeSet<Line>>,
    _dirs: Vec<tempfile::TempDir>,
}

fn limits() -> Overrides<Limits> {
    Overrides::fixed(Limits {
        max_query_series: 0,
        ..Limits::default()
    })
}

/// An ingester over a folder, with all that its log has.
fn ingester(
    layout: &Layout,
    clock: &Arc<ManualClock>,
    dir: &std::path::Path,
    n: usize,
) -> Arc<Ingester> {
    let executor = Executor::inline(Handle::current());
    let settings = IngesterSettings {
        head: HeadSettings {
            retain_flushed: 4 * MINUTE,
            sync_period: Duration::ZERO,
            ..HeadSettings::default()
        },
        patterns: PatternSettings {
            sample_every: 1,
            max_lines_per_second: 1_000_000,
            ..PatternSettings::default()
        },
        ..IngesterSettings::default()
    };
    let chunks = BucketChunks::builder(layout.bucket(DataKind::Logs), executor.clone())
        .side_files(layout.bucket(DataKind::LogSkip))
        .clock(Arc::clone(clock) as _)
        .build()
        .unwrap();
    let disk = Arc::new(LocalDisk::new(dir));
    let ingester = Ingester::builder(layout.bucket(DataKind::Logs), disk, limits(), executor)
        .settings(settings)
        .clock(Arc::clone(clock) as _)
        .instance(format!("node-{n}"))
        .chunks(chunks)
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
        let memory = Backend::memory();
        let layout = Layout::builder().store(memory).build().unwrap();
        let bucket = || layout.bucket(DataKind::Logs);
        let chunks = || {
            let settings = BucketSettings {
                chunk_cache_size: lgtm_core::units::ByteSize::bytes(0),
                ..BucketSettings::default()
            };
            BucketChunks::builder(bucket(), executor.clone())
                .settings(settings)
                .side_files(layout.bucket(DataKind::LogSkip))
                .clock(Arc::clone(&clock) as _)
                .build()
                .unwrap()
        };
        let (mut instances, mut pool) = (RingDesc::new(), LocalIngesters::new());
        let (mut nodes, mut dirs) = (Vec::new(), Vec::new());
        let mut taken: HashSet<Token> = HashSet::new();
        for n in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let ingester = ingester(&layout, &clock, dir.path(), n);
            let frail = Arc::new(Frail {
                ingester,
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
        let reader = chunks();
        reader.sync().await.unwrap();
        let asked = vec![Arc::clone(&all) as Arc<dyn IngesterClient>];
        let stored = vec![Arc::clone(&reader) as _];
        let querier = Querier::builder(asked, stored, limits(), executor.clone())
            .settings(EngineSettings::default())
            .clock(Arc::clone(&clock) as _)
            .replicated()
            .build()
            .unwrap();
        let compactor = Compactor::builder(bucket(), executor)
            .side_files(layout.bucket(DataKind::LogSkip))
            .settings(CompactorSettings {
                min_files: 2,
                delete_delay: 10 * MINUTE,
                ..CompactorSettings::default()
            })
            .clock(Arc::clone(&clock) as _)
            .build()
            .unwrap();
        Self {
            all,
            nodes,
            querier,
            reader,
            compactor,
            clock,
            pushed: Mutex::default(),
            _dirs: dirs,
        }
    }

    async fn push(&self, lines: &[Line]) -> PushReport {
        let report = self.all.push(&tenant(), part(lines)).await.unwrap();
        assert_eq!(report.refused_entries(), 0, "{report:?}");
        self.pushed.lock().extend(lines.iter().cloned());
        // All of them have it or have failed by then: what the quorum did not wait for has come.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        report
    }

    fn away(&self, n: usize, is_away: bool) {
        self.nodes[n].is_away.store(is_away, Ordering::SeqCst);
    }

    fn end_ns(&self) -> TimestampNs {
        self.clock.now_ms().to_ns().saturating_add(SECOND)
    }

    async fn answer(&self, query: &Query) -> QueryValue {
        let options = crate::logql::QueryOptions {
            max_series: MaxSeries::Any,
            ..query.options().clone()
        };
        let query = query.clone().with_options(options);
        let answer = self.querier.query(&tenant(), &query).await.unwrap();
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        answer.value
    }

    /// Each line that was pushed is in each kind of answer, once.
    async fn check(&self, what: &str) {
        let wanted = self.pushed.lock().clone();
        let end = self.end_ns();
        let start = TimestampNs::new(NOW_MS * 1_000_000 - 3600 * SECOND);
        for direction in [Direction::Backward, Direction::Forward] {
            let range = QueryRange {
                limit: 100_000,
                direction,
                ..QueryRange::new(start, end)
            };
            let query = Query::range(r#"{app=~".+"}"#, range, &ParserSettings::default()).unwrap();
            let QueryValue::Streams(streams) = self.answer(&query).await else {
                panic!("streams")
            };
            let mut found: Vec<Line> = Vec::new();
            for s in &streams {
                let stream = s.stream.get("n").unwrap().parse().unwrap();
                let line = |e: &crate::logql::AnswerEntry| {
                    let text = String::from_utf8(e.line.to_vec()).unwrap();
                    (stream, e.t_ns.get(), text)
                };
                found.extend(s.entries.iter().map(line));
            }
            let distinct: BTreeSet<Line> = found.iter().cloned().collect();
            let missing: Vec<_> = wanted.difference(&distinct).take(5).collect();
            let surplus: Vec<_> = distinct.difference(&wanted).take(5).collect();
            assert!(
                missing.is_empty() && surplus.is_empty(),
                "{what}: {missing:?} {surplus:?}"
            );
            assert_eq!(found.len(), wanted.len(), "{what}: each once");
        }
        let hours = end.since(start) / SECOND + 60;
        for (function, of) in [
            (
                "count_over_time",
                &(|_: &Line| 1usize) as &dyn Fn(&Line) -> usize,
            ),
            ("bytes_over_time", &(|l: &Line| l.2.len())),
        ] {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for line in &wanted {
                *counts.entry(format!("app-{}", line.0 % 3)).or_default() += of(line);
            }
            let text = format!("sum by (app) ({function}({{app=~\".+\"}}[{hours}s]))");
            let query = Query::instant(&text, end, &ParserSettings::default()).unwrap();
            let QueryValue::Vector(series) = self.answer(&query).await else {
                panic!("a vector")
            };
            let found: BTreeMap<String, usize> = series
                .iter()
                .map(|s| {
                    (
                        s.labels.get("app").unwrap().to_owned(),
                        s.points[0].value as usize,
                    )
                })
                .collect();
            assert_eq!(found, counts, "{what}: {function}");
        }
        let matcher = Matcher::regex("app", ".+").unwrap();
        let request = SelectRequest::new(vec![matcher], TimeRangeNs::new(start, end));
        let streams: BTreeSet<Labels> = wanted.iter().map(|l| labels(l.0)).collect();
        let found = self.querier.series(&tenant(), &request).await.unwrap();
        assert_eq!(
            found.items,
            streams.iter().cloned().collect::<Vec<_>>(),
            "{what}"
        );
    }

    /// Bytes and entries of all streams, as they are and as they are told.
    async fn volumes(&self) -> [(u64, u64); 2] {
        let matcher = Matcher::regex("app", ".+").unwrap();
        let start = TimestampNs::new(NOW_MS * 1_000_000 - 3600 * SECOND);
        let range = TimeRangeNs::new(start, self.end_ns());
        let request = SelectRequest::new(vec![matcher], range);
        let told = self.querier.volumes(&tenant(), &request).await.unwrap();
        assert!(told.items.iter().all(|v| v.spans.is_empty()));
        let told = told.items.iter();
        let told = told.fold((0, 0), |sum, v| (sum.0 + v.bytes, sum.1 + v.entries));
        // As a replica has it that has everything.
        let own = &self.nodes[0].ingester;
        let own = Inspect::volumes(&**own, &tenant(), &request).await.unwrap();
        let bytes: u64 = own.items.iter().map(|v| v.bytes).sum();
        let entries = self.pushed.lock().len() as u64;
        [(bytes, entries), told]
    }
}

fn line(stream: u8, second: i64, n: usize) -> Line {
    let t_ns = NOW_MS * 1_000_000 + second * SECOND + n as i64;
    (
        stream,
        t_ns,
        format!("line {n} of stream {stream} with some words"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_acknowledged_is_in_every_answer_once_whoever_is_away() {
    for (count, zones) in [(3, 0), (5, 0), (6, 3)] {
        let cluster = Cluster::new(count, zones).await;
        for n in 0..20 {
            let lines: Vec<Line> = (0..12).map(|s| line(s, n as i64 - 100, n)).collect();
            let report = cluster.push(&lines).await;
            assert_eq!((report.entries, report.duplicates), (12, 0));
        }
        cluster.check("all there").await;
        let [wanted, told] = cluster.volumes().await;
        assert_eq!(told.1, wanted.1, "{count} {zones}");
        assert!(count > 3 || told == wanted, "{told:?} {wanted:?}");
        // Sent again, nothing is there twice.
        let again: Vec<Line> = (0..12).map(|s| line(s, -81, 19)).collect();
        let report = cluster.push(&again).await;
        assert_eq!((report.entries, report.duplicates), (0, 12));
        cluster.check("sent again").await;
        for n in 0..count.min(3) {
            cluster.away(n, true);
            let lines: Vec<Line> = (0..12).map(|s| line(s, n as i64 - 50, 100 + n)).collect();
            let _ = cluster.push(&lines).await;
            cluster.check("one is away").await;
            cluster.away(n, false);
            cluster.check("it is back").await;
        }
        // Answers break off in the middle.
        for breaks_after in 0..4 {
            *cluster.nodes[0].breaks_after.lock() = Some(breaks_after);
            cluster.check("one breaks off").await;
        }
        *cluster.nodes[0].breaks_after.lock() = None;
        if zones == 0 {
            cluster.away(0, true);
            cluster.away(1, true);
            let lost = cluster
                .all
                .push(&tenant(), part(&[line(0, 9, 0), line(1, 9, 0)]))
                .await;
            let all = SelectRequest::new(vec![], TimeRangeNs::ALL);
            let read = cluster.all.select(&tenant(), &all).await;
            if count == 3 {
                assert_eq!(lost.unwrap_err().kind(), ErrorKind::Unavailable);
            }
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_motion_each_line_is_in_every_answer_once() {
    let cluster = Cluster::new(3, 0).await;
    let mut seed = 42u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut away: Option<usize> = None;
    for round in 0..60usize {
        let lines: Vec<Line> = (0..random(10) + 1)
            .map(|n| {
                let late = random(120) as i64;
                let second = cluster.clock.now_ms().to_seconds() - NOW_MS / 1000 - late;
                line(random(5) as u8, second, round * 100 + n as usize)
            })
            .collect();
        let _ = cluster.push(&lines).await;
        match random(8) {
            0 | 1 => {
                // Each flushes for itself what it has by now.
                let node = &cluster.nodes[random(3) as usize];
                if node.check().is_ok() {
                    node.ingester.flush(FlushScope::All).await.unwrap();
                }
            }
            2 => {
                if let Some(n) = away.take() {
                    cluster.away(n, false);
                } else {
                    let n = random(3) as usize;
                    cluster.away(n, true);
                    away = Some(n);
                }
            }
            3 => cluster
                .compactor
                .compact(&CancelToken::new())
                .await
                .unwrap(),
            4 => {
                let n = random(3) as usize;
                let breaks = random(3) as usize;
                *cluster.nodes[n].breaks_after.lock() = away.is_none().then_some(breaks);
            }
            _ => {}
        }
        cluster.check(&format!("round {round}")).await;
        for node in &cluster.nodes {
            *node.breaks_after.lock() = None;
        }
        cluster.clock.advance(MINUTE);
        for node in &cluster.nodes {
            node.ingester.maintain().await.unwrap();
        }
        // Readers learn of index files within three minutes; what was flushed is kept for four.
        if round % 3 == 2 {
            cluster.reader.sync().await.unwrap();
        }
        cluster.check(&format!("behind round {round}")).await;
    }
    // Volumes are near where replicas hold different chunks of the same entries, and never those of all replicas together.
    let [(_, entries), (told_bytes, told_entries)] = cluster.volumes().await;
    let bytes: usize = cluster.pushed.lock().iter().map(|l| l.2.len() + 14).sum();
    let is_near = |told: u64, wanted: u64| told * 2 > wanted && told < wanted * 2;
    assert!(
        is_near(told_entries, entries),
        "{told_entries} of {entries}"
    );
    assert!(is_near(told_bytes, bytes as u64), "{told_bytes} of {bytes}");
}

/// All at once: pushes, flushes of each replica, joining of index files, readers that learn late, an ingester that comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_everything_happens_at_once_no_answer_is_short_or_has_a_line_twice() {
    const BATCH: usize = 7;
    const BATCHES: usize = 150;
    let cluster = Cluster::new(3, 0).await;
    let (is_over, begun, done) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let goes_on = || !is_over.load(Ordering::SeqCst);
    let write = async {
        for n in 0..BATCHES {
            begun.store(n + 1, Ordering::SeqCst);
            let second = (n % 50) as i64 - 60;
            let lines: Vec<Line> = (0..BATCH)
                .map(|k| line((k % 4) as u8, second, n * 10 + k))
                .collect();
            let report = cluster.all.push(&tenant(), part(&lines)).await.unwrap();
            assert_eq!(report.entries as usize, BATCH);
            cluster.pushed.lock().extend(lines);
            done.store(n + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let flush = async {
        let mut n = 0;
        while goes_on() {
            n += 1;
            let ingester = &cluster.nodes[n % 3].ingester;
            ingester.flush(FlushScope::All).await.unwrap();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    };
    let tick = async {
        let mut n = 0;
        while goes_on() {
            n += 1;
            cluster.clock.advance(MINUTE);
            for node in &cluster.nodes {
                node.ingester.maintain().await.unwrap();
            }
            if n % 3 == 0 {
                cluster.reader.sync().await.unwrap();
                cluster
                    .compactor
                    .compact(&CancelToken::new())
                    .await
                    .unwrap();
            }
            cluster.away(0, n % 4 == 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.away(0, false);
    };
    let read = async {
        let mut answers = 0;
        while goes_on() {
            let before = done.load(Ordering::SeqCst) * BATCH;
            let hours = cluster.clock.now_ms().to_seconds() - NOW_MS / 1000 + 7200;
            let text = format!("sum(count_over_time({{app=~\".+\"}}[{hours}s]))");
            let end = cluster.end_ns();
            let query = Query::instant(&text, end, &ParserSettings::default()).unwrap();
            let QueryValue::Vector(series) = cluster.answer(&query).await else {
                panic!("a vector")
            };
            let after = begun.load(Ordering::SeqCst) * BATCH;
            let found = series.first().map_or(0, |s| s.points[0].value as usize);
            assert!(
                (before..=after).contains(&found),
                "{found} is not in {before}..={after}"
            );
            answers += 1;
            // All four are one task.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert!(answers > 10, "{answers} answers");
    };
    tokio::join!(write, flush, tick, read);
    cluster.check("in the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_flushed_stays_until_readers_elsewhere_must_know_it() {
    let cluster = Cluster::new(3, 0).await;
    let lines: Vec<Line> = (0..9).map(|s| line(s, 0, 1)).collect();
    let _ = cluster.push(&lines).await;
    for node in &cluster.nodes {
        node.ingester.flush(FlushScope::All).await.unwrap();
    }
    let [wanted, told] = cluster.volumes().await;
    assert_eq!(told, wanted);
    for _ in 0..4 {
        cluster.check("nobody knows of the index").await;
        cluster.clock.advance(MINUTE);
        if cluster.clock.now_ms().get() < NOW_MS + 240_000 {
            for node in &cluster.nodes {
                node.ingester.maintain().await.unwrap();
            }
        }
    }
    // Now it is in both, and counts once.
    cluster.reader.sync().await.unwrap();
    cluster.check("in both").await;
    let [wanted, told] = cluster.volumes().await;
    assert_eq!(told.1, wanted.1, "in both: {told:?} {wanted:?}");
    for node in &cluster.nodes {
        node.ingester.maintain().await.unwrap();
    }
    let all = SelectRequest::new(vec![], TimeRangeNs::ALL).order(SelectOrder::OldestFirst);
    let mut left = cluster.all.select(&tenant(), &all).await.unwrap();
    assert!(
        left.next_batch().await.unwrap().is_none(),
        "nothing stays for ever"
    );
    cluster.check("in the bucket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_retained_is_there_after_a_restart_and_goes_to_the_same_chunks() {
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    let layout = Layout::builder().store(Backend::memory()).build().unwrap();
    let bucket = layout.bucket(DataKind::Logs);
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..9).map(|s| line(s, 0, 1)).collect();
    let all = SelectRequest::new(vec![], TimeRangeNs::ALL);
    let mut chunks = Vec::new();
    for round in 0..2 {
        let ingester = ingester(&layout, &clock, dir.path(), round);
        if round == 0 {
            let report = ingester.push(&tenant(), part(&lines)).await.unwrap();
            assert_eq!(report.entries, 9);
        }
        for _ in 0..2 {
            let mut found = 0;
            let mut answer = ingester.select(&tenant(), &all).await.unwrap();
            while let Some(batch) = answer.next_batch().await.unwrap() {
                found += batch.blocks.iter().map(|b| b.block.len()).sum::<usize>();
            }
            assert_eq!(found, 9, "start {round}");
            ingester.flush(FlushScope::All).await.unwrap();
        }
        let objects = bucket.list_sorted("team-a").await.unwrap();
        chunks.push(objects.into_iter().map(|o| o.path).collect::<Vec<_>>());
        ingester.close().await.unwrap();
        drop(ingester);
    }
    assert_eq!((chunks[0].len(), &chunks[0]), (9, &chunks[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_costs_itself_only_and_is_told_once() {
    let cluster = Cluster::new(3, 0).await;
    let new: Vec<Line> = (0..3).map(|s| line(s, 0, 1)).collect();
    let _ = cluster.push(&new).await;
    // Far behind the newest of its stream.
    let mixed = [
        line(0, -5 * 3600, 2),
        line(0, -5 * 3600 + 1, 3),
        line(1, 0, 4),
        line(7, 0, 5),
    ];
    let alone = Cluster::new(3, 0).await;
    let report = cluster.all.push(&tenant(), part(&mixed)).await.unwrap();
    assert_eq!(
        (report.entries, report.refused_entries()),
        (2, 2),
        "{report:?}"
    );
    assert_eq!(report.ignored.len(), 1);
    assert_eq!((report.ignored[0].ignored, report.ignored[0].came), (2, 2));
    // As one ingester tells it.
    let one = &alone.nodes[0].ingester;
    let first = one.push(&tenant(), part(&new)).await.unwrap();
    assert_eq!(first.entries, 3);
    assert_eq!(one.push(&tenant(), part(&mixed)).await.unwrap(), report);
    cluster.pushed.lock().extend(mixed[2..].iter().cloned());
    cluster.check("the rest is there").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_replicas_count_once_in_patterns_and_are_shown_once_to_followers() {
    let cluster = Cluster::new(5, 0).await;
    let request = TailRequest {
        query: r#"{app=~".+"}"#.into(),
        start_ns: TimestampNs::new(NOW_MS * 1_000_000 - 10 * SECOND),
        limit: 10,
        delay_ns: 0,
    };
    let mut feed = cluster.querier.tail(&tenant(), &request).await.unwrap();
    for n in 0..40 {
        cluster.away(0, n > 20);
        let _ = cluster.push(&[line(1, 0, n), line(2, 0, n)]).await;
    }
    let mut shown = Vec::new();
    while shown.len() < 80 {
        let frame = tokio::time::timeout(Duration::from_secs(20), feed.next_frame()).await;
        let frame = frame.unwrap().unwrap().unwrap();
        assert!(frame.dropped.is_empty());
        for s in frame.streams {
            let stream: u8 = s.stream.get("n").unwrap().parse().unwrap();
            shown.extend(s.entries.iter().map(|e| (stream, e.t_ns, e.line.clone())));
        }
    }
    let more = tokio::time::timeout(Duration::from_millis(50), feed.next_frame()).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(shown.len(), 80);
    let distinct: HashSet<_> = shown.iter().cloned().collect();
    assert_eq!(distinct.len(), 80);
    cluster.away(0, false);
    let request = PatternsRequest {
        matchers: vec![Matcher::regex("app", ".+").unwrap()],
        range: TimeRangeNs::ALL,
        step_ns: 10 * SECOND,
        by_stream: false,
    };
    let found = cluster.querier.patterns(&tenant(), &request).await.unwrap();
    let lines: u64 = found
        .items
        .iter()
        .flat_map(|p| &p.counts)
        .map(|c| c.1)
        .sum();
    assert_eq!(lines, 80, "{found:?}");
    assert!(found.items.iter().all(|p| p.stream.is_none()));
}

#[tokio::test]
async fn global_limits_are_divided_among_those_who_take_a_tenants_streams() {
    let desc: RingDesc = (0..6)
        .map(|n| Instance {
            id: format!("node-{n}"),
            addr: format!("node-{n}:9095"),
            tokens: vec![Token(n * 1000)].into(),
            timestamp_s: NOW_MS / 1000,
            ..Instance::default()
        })
        .fold(RingDesc::new(), |mut desc, instance| {
            desc.insert(instance);
            desc
        });
    let ring = Ring::new(RingSettings::default(), &desc);
    let divided = DividedLimits(ring.into());
    assert_eq!((divided.local(600, 0), divided.local(600, 4)), (300, 450));
}
