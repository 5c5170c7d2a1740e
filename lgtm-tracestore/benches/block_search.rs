//! What does it cost to write blocks, and to search them by their columns? Goals: a block's spans cost at most 2 CPU-seconds per million and 87 bytes each;
//! duration and status, structural operators and `rate() by (resource.service.name)` at least 20 M spans/s a core; an equality that matches nothing at
//! most 300 ms over 20 M spans without side files.
//!
//! `cargo bench --bench block_search -- [SPANS IN MILLIONS] [FILE]`: spans of a web shop, made here, or those of a file of stored OTLP requests (eight
//! bytes of mark, then requests, each behind four numbers of 32 bits of which the last is its length). More spans than one block has are copies of the
//! block.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement is said aloud, and reads the clock"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::put_uvarint;
use lgtm_core::exec::Executor;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, DataKind, Layout};
use lgtm_tracestore::block::{BlockMeta, TraceSource};
use lgtm_tracestore::block_id::BlockId;
use lgtm_tracestore::bucket::{BlockList, BlockUpload, BucketSelect, BucketSettings};
use lgtm_tracestore::select::{FetchStats, Select, WantedRows};
use lgtm_tracestore::trace::{DedicatedColumns, ResourceSpans, ScopeSpans, Trace, TraceId};
use lgtm_tracestore::traceql::{
    IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Search, SearchSettings, parse,
};
use object_store::local::LocalFileSystem;

/// Spans of the block that is copied.
const BLOCK_SPANS: usize = 500_000;
const SERVICES: u64 = 15;

/// Numbers that look random, always the same.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn text(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

fn int(out: &mut Vec<u8>, field: u64, key: &str, value: u64) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_varint_field(out, 3, value));
    });
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    put_uvarint(out, fixed64_tag(field));
    out.extend(value.to_le_bytes());
}

/// A trace of some twenty spans in several services.
fn made_trace(n: u64) -> (TraceId, Vec<u8>) {
    let id = [mixed(n).to_be_bytes(), mixed(n + (1 << 40)).to_be_bytes()].concat();
    let mut out = Vec::new();
    let spans = 14 + mixed(n * 3) % 16;
    let start = 1_749_980_000_000_000_000 + n * 20_000_000;
    let mut span = 0;
    while span < spans {
        let service = mixed(n * 31 + span) % SERVICES;
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| {
                text(out, 1, "service.name", &format!("service-{service}"));
                text(out, 1, "service.version", "1.4.2");
                text(out, 1, "k8s.namespace.name", "shop-prod");
                text(
                    out,
                    1,
                    "k8s.pod.name",
                    &format!("service-{service}-{}", mixed(n) % 4),
                );
                text(out, 1, "deployment.environment", "production");
                text(out, 1, "telemetry.sdk.language", "go");
            });
            put_message(out, 2, |out| {
                put_message(out, 1, |out| put_bytes_field(out, 1, b"otelhttp"));
                for _ in 0..1 + mixed(n * 7 + span) % 4 {
                    put_message(out, 2, |out| made_span(out, &id, (n, span), start));
                    span += 1;
                }
            });
        });
    }
    (TraceId::from_short(&id).unwrap(), out)
}

fn made_span(out: &mut Vec<u8>, id: &[u8], (n, span): (u64, u64), start: u64) {
    let random = mixed(n * 64 + span);
    let span_id = |span: u64| mixed(n * 64 + span + (1 << 50)).to_be_bytes();
    put_bytes_field(out, 1, id);
    put_bytes_field(out, 2, &span_id(span));
    if span > 0 {
        put_bytes_field(out, 4, &span_id(random % span));
    }
    put_bytes_field(
        out,
        5,
        format!("GET /api/v1/thing-{}", random % 40).as_bytes(),
    );
    put_varint_field(out, 6, 2 + random % 2);
    let start = start + random % 400_000_000;
    fixed64(out, 7, start);
    fixed64(out, 8, start + (random >> 20) % 300_000_000);
    text(
        out,
        9,
        "http.method",
        ["GET", "GET", "POST"][random as usize % 3],
    );
    int(
        out,
        9,
        "http.status_code",
        [200, 200, 200, 404, 500][random as usize % 5],
    );
    text(
        out,
        9,
        "http.route",
        &format!("/api/v1/thing-{}", random % 40),
    );
    int(out, 9, "http.response_content_length", random % 60_000);
    text(out, 9, "user.id", &format!("u-{}", random % 100_000));
    if random.is_multiple_of(3) {
        text(
            out,
            9,
            "db.statement",
            &format!("SELECT * FROM things WHERE id = {}", random % 5_000),
        );
    }
    let is_error = random.is_multiple_of(50);
    put_message(out, 15, |out| {
        put_varint_field(out, 3, if is_error { 2 } else { 0 })
    });
}

/// Traces of stored requests, each as the parts that it came in.
fn stored_traces(path: &str) -> BTreeMap<TraceId, Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    let mut out: BTreeMap<TraceId, Vec<u8>> = BTreeMap::new();
    let mut rest = &file[8..];
    while let Some((head, behind)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(head[12..].try_into().unwrap()) as usize;
        let (body, behind) = behind.split_at(len);
        rest = behind;
        let mut grow = |_| Ok(());
        let request = Trace::decode(body, &mut Allowance::new(0, &mut grow)).unwrap();
        for resource in &request.resources {
            for scope in &resource.scopes {
                for spans in scope.spans.chunk_by(|a, b| a.trace_id == b.trace_id) {
                    let id = TraceId::from_short(spans[0].trace_id).unwrap();
                    let part = Trace {
                        resources: vec![ResourceSpans {
                            scopes: vec![ScopeSpans {
                                spans: spans.to_vec(),
                                ..scope.clone()
                            }],
                            ..resource.clone()
                        }],
                    };
                    part.encode(out.entry(id).or_default());
                }
            }
        }
    }
    out
}

#[derive(Debug)]
struct Source(std::vec::IntoIter<(TraceId, Vec<u8>)>);

impl TraceSource for Source {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> lgtm_core::Result<Option<TraceId>> {
        Ok(self.0.next().map(|(id, bytes)| {
            out.extend_from_slice(&bytes);
            id
        }))
    }
}

fn span_count(bytes: &[u8]) -> usize {
    let mut grow = |_| Ok(());
    Trace::decode(bytes, &mut Allowance::new(0, &mut grow))
        .unwrap()
        .span_count()
}

/// CPU time of the process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

struct House {
    select: BucketSelect,
    tenant: TenantId,
    spans: f64,
    times: (u64, u64),
}

async fn search(house: &House, text: &str, limit: usize) -> (usize, FetchStats) {
    let query = parse(text).unwrap();
    let settings = SearchSettings {
        limit,
        ..SearchSettings::default()
    };
    let mut search = Search::new(&query, settings);
    let request = search.request().clone();
    let mut answer = house.select.select(&house.tenant, &request).await.unwrap();
    while let Some(batch) = answer.next_batch().await.unwrap() {
        if let Some(start_ns) = search.oldest_start_ns() {
            answer.leave_out_before(start_ns);
        }
        let matches = search.matches(&batch);
        if !matches.is_empty() {
            let wanted = WantedRows {
                row_ids: matches.rows().map(|row| batch.row_ids[row]).collect(),
                columns: search.details().clone(),
            };
            let details = answer.rows(&wanted).await.unwrap();
            search.add(&batch, matches, &details).unwrap();
        }
        if answer
            .newest_start_ns()
            .is_some_and(|ns| search.is_settled(ns))
        {
            break;
        }
    }
    let end = answer.end();
    assert_eq!(end.warnings, Vec::<String>::new());
    (search.finish().len(), end.stats)
}

async fn metrics(house: &House, text: &str) -> (usize, FetchStats) {
    let query = parse(text).unwrap();
    let (start, end) = house.times;
    let settings = MetricsSettings {
        grid: IntervalGrid::range(start, end, 60_000_000_000).unwrap(),
        exemplars: 0,
        max_series: 0,
        max_bytes: 1 << 30,
    };
    let mut metrics = Metrics::new(&query, &settings).unwrap();
    let request = metrics.request().clone();
    let mut answer = house.select.select(&house.tenant, &request).await.unwrap();
    while let Some(batch) = answer.next_batch().await.unwrap() {
        metrics.fold(&batch).unwrap();
    }
    let end = answer.end();
    assert_eq!(end.warnings, Vec::<String>::new());
    let series = MetricsAnswer::of(&query, &settings, metrics.finish()).series;
    (series.len(), end.stats)
}

fn told(house: &House, name: &str, began: (Instant, Duration), found: (usize, FetchStats)) {
    let (wall, busy) = (began.0.elapsed(), cpu() - began.1);
    let (count, stats) = found;
    println!(
        "{name:<60} {:>8.1} ms wall {:>6} ms CPU {:>8.1} M spans/s, {count} found, {} reads, {:.1} MB",
        wall.as_secs_f64() * 1e3,
        busy.as_millis(),
        house.spans / wall.as_secs_f64() / 1e6,
        stats.backend_reads,
        stats.backend_bytes as f64 / 1e6,
    );
}

/// Copies of a block under other names.
fn copy_block(folder: &Path, meta: &BlockMeta, copies: usize) {
    let from = folder.join(meta.block_id.to_string());
    for n in 0..copies {
        let id = BlockId::random([n as u8 + 2; 16]);
        let to = folder.join(id.to_string());
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(&from).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "meta.json" {
                std::fs::hard_link(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        let mut meta = meta.clone();
        meta.block_id = id;
        std::fs::write(to.join("meta.json"), meta.encode().unwrap()).unwrap();
    }
}

async fn run() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let millions: f64 = arguments.first().map_or(1.0, |a| a.parse().unwrap());
    let mut traces: Vec<(TraceId, Vec<u8>)> = match arguments.get(1) {
        Some(path) => stored_traces(path).into_iter().collect(),
        None => (0..BLOCK_SPANS as u64 / 22).map(made_trace).collect(),
    };
    traces.sort();
    let spans: usize = traces.iter().map(|(_, bytes)| span_count(bytes)).sum();
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let bucket: Bucket = Layout::single_bucket(store).bucket(DataKind::Traces);
    let tenant = TenantId::new("t").unwrap();
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let settings = BucketSettings::default();
    let upload = BlockUpload::new(bucket.clone(), executor.clone(), settings.clone());
    let began = (Instant::now(), cpu());
    let some_id = traces[traces.len() / 2].0;
    let meta = upload
        .write(
            &tenant,
            BlockId::random([1; 16]),
            &DedicatedColumns::standard(),
            Source(traces.into_iter()),
        )
        .await
        .unwrap()
        .unwrap();
    let busy = (cpu() - began.1).as_secs_f64();
    let mut bytes = BTreeMap::new();
    let path = walk(folder.path())
        .into_iter()
        .find(|p| p.ends_with("meta.json"))
        .unwrap();
    let block = path.parent().unwrap();
    for file in std::fs::read_dir(block).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        bytes.insert(name, file.metadata().unwrap().len() as f64 / spans as f64);
    }
    println!(
        "write {spans} spans, {} row groups: {:.2} CPU-s per M spans, {:.2} M spans/s; {:.1} bytes a span: {bytes:.2?}",
        meta.row_group_count,
        busy / spans as f64 * 1e6,
        spans as f64 / 1e6 / began.0.elapsed().as_secs_f64(),
        bytes.values().sum::<f64>(),
    );
    let copies = ((millions * 1e6 / spans as f64).round() as usize).max(1) - 1;
    copy_block(block.parent().unwrap(), &meta, copies);
    let clock = Arc::new(ManualClock::at_ms(1_900_000_000_000));
    let list = BlockList::new(
        bucket.clone(),
        executor.clone(),
        clock,
        settings.blocklist_poll,
    );
    let time = |t: lgtm_core::model::TimestampNs| t.get() as u64;
    let house = House {
        select: BucketSelect::new(bucket, executor, Arc::new(list), &settings),
        tenant,
        spans: (spans * (copies + 1)) as f64,
        times: (time(meta.start), time(meta.end)),
    };
    println!("{} blocks, {:.1} M spans", copies + 1, house.spans / 1e6);
    for round in ["cold", "warm"] {
        println!("{round}:");
        for (text, limit) in [
            ("{ span.no.such = `x` }", 20),
            ("{ span.user.id = `u-nobody` }", 20),
            ("{ span.user.id = `u-77` }", 20),
            ("{ resource.service.name = `service-3` }", 20),
            ("{ resource.service.name = `service-3` }", 1_000_000),
            ("{ duration > 299ms && status = error }", 20),
            ("{ duration > 299ms && status = error }", 1_000_000),
            ("{ duration > 10h && status = error }", 20),
            (
                "{ name =~ `GET .*thing-7` && span.http.status_code = 500 }",
                20,
            ),
            (
                "{ resource.service.name = `service-3` } >> { status = error && duration > 299ms }",
                20,
            ),
            (
                "{ status = error } ~ { status = error && duration > 250ms }",
                20,
            ),
        ] {
            let began = (Instant::now(), cpu());
            let found = search(&house, text, limit).await;
            told(&house, &format!("{text} limit {limit}"), began, found);
        }
        for text in [
            "{ } | rate() by (resource.service.name)",
            "{ } | quantile_over_time(duration, .99) by (resource.service.name)",
            "{ status = error } | rate()",
        ] {
            let began = (Instant::now(), cpu());
            let found = metrics(&house, text).await;
            told(&house, text, began, found);
        }
    }
    by_id(&house, some_id, copies + 1).await;
}

/// What it costs to find a trace that each block has, and one that none has.
async fn by_id(house: &House, some_id: TraceId, blocks: usize) {
    let began = Instant::now();
    let rounds = 20u32;
    for _ in 0..rounds {
        let (parts, _) = house
            .select
            .find(&house.tenant, some_id, None)
            .await
            .unwrap();
        assert_eq!(parts.len(), blocks);
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / f64::from(rounds);
    println!("trace by id, in {blocks} blocks: {each:.2} ms");
    let began = Instant::now();
    for n in 0..rounds {
        let id = TraceId::from_short(&(u64::from(n) + 1).to_be_bytes()).unwrap();
        house.select.find(&house.tenant, id, None).await.unwrap();
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / f64::from(rounds);
    println!("trace by id, in none of {blocks} blocks: {each:.2} ms");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(walk(&path));
        } else {
            out.push(path);
        }
    }
    out
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // On one core: what is said is spans a second of a core.
    runtime.block_on(run());
}
