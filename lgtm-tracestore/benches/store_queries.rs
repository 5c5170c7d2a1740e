//! What does it cost to bring spans into the bucket, and to answer queries there, through all parts of a store? Goals, CPU: 5 s a million spans until they
//! are blocks; over 500,000 spans of a web shop 5 ms for a trace by id, 10 ms for what is selective, 15 ms for `rate()` and for two conditions, 30 ms for a
//! quantile, 40 ms for structural operators.
//!
//! `cargo bench --bench store_queries -- FILE [WHICH] [PAGE]`: spans of a file of stored OTLP requests (eight bytes of mark, then requests, each behind four
//! numbers of 32 bits of which the second is how many spans it has and the last its length; plain protobuf), and queries whose names contain WHICH;
//! pages of blocks of PAGE KiB.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement is said aloud, and reads the clock"
)]

use std::time::{Duration, Instant};

use lgtm_core::codec::Allowance;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::storage::{Backend, BackendKind};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::bucket::BucketSettings;
use lgtm_tracestore::components::QueryFrontendSettings;
use lgtm_tracestore::prelude::*;
use object_store::local::LocalFileSystem;

/// How long a query is asked again and again.
const EACH: Duration = Duration::from_millis(1500);
/// Of so many traces one is looked for by its id.
const EVERY_TRACE: usize = 997;

/// Nanoseconds of CPU of all threads so far.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of).sum()
}

/// Page faults so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind = stat.rsplit(')').next().unwrap();
    behind.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// What of a file is wanted: its requests, some ids, and the time of all spans.
#[derive(Debug, Default)]
struct Corpus {
    requests: Vec<Vec<u8>>,
    spans: u64,
    ids: Vec<TraceId>,
    first_ns: u64,
    last_ns: u64,
}

fn corpus(path: &str) -> Corpus {
    let file = std::fs::read(path).unwrap();
    let mut out = Corpus {
        first_ns: u64::MAX,
        ..Corpus::default()
    };
    let mut rest = &file[8..];
    let mut traces = 0usize;
    while let Some((head, behind)) = rest.split_at_checked(16) {
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (body, behind) = behind.split_at(number(12) as usize);
        rest = behind;
        out.spans += u64::from(number(4));
        let mut grow = |_| Ok(());
        let request = Trace::decode(body, &mut Allowance::new(0, &mut grow)).unwrap();
        let scopes = request.resources.iter().flat_map(|r| &r.scopes);
        for span in scopes.flat_map(|scope| &scope.spans) {
            out.first_ns = out.first_ns.min(span.start_ns);
            out.last_ns = out.last_ns.max(span.end_ns);
            if span.parent_span_id.is_empty() {
                traces += 1;
                if traces.is_multiple_of(EVERY_TRACE) {
                    out.ids.push(TraceId::from_short(span.trace_id).unwrap());
                }
            }
        }
        out.requests.push(body.to_vec());
    }
    out
}

/// A query and its name.
enum Ask {
    Search(&'static str),
    Series(&'static str),
    Values(&'static str),
    Hit,
    Miss,
}

const QUERIES: [(&str, Ask); 15] = [
    ("trace by id, hit", Ask::Hit),
    ("trace by id, miss", Ask::Miss),
    (
        "service equality",
        Ask::Search(r#"{resource.service.name="payment"}"#),
    ),
    (
        "attribute equality, selective",
        Ask::Search(r#"{span.user.id="user-NNN"}"#),
    ),
    (
        "attribute equality, absent",
        Ask::Search(r#"{span.user.id="nobody-NNN"}"#),
    ),
    (
        "duration and error",
        Ask::Search("{duration > 50ms && status = error}"),
    ),
    (
        "name regex and status code",
        Ask::Search(r#"{name =~ "POST.*" && span.http.status_code >= 500}"#),
    ),
    (
        "structural, descendant",
        Ask::Search(
            r#"{resource.service.name="frontend"} >> {span.db.system="postgresql" && duration > 20ms}"#,
        ),
    ),
    (
        "structural, sibling error",
        Ask::Search(r#"{status = error} ~ {resource.service.name="shipping"}"#),
    ),
    ("count of spans > 60", Ask::Search("{} | count() > 60")),
    (
        "rate by service",
        Ask::Series("{} | rate() by (resource.service.name)"),
    ),
    (
        "error rate by route",
        Ask::Series("{status = error} | rate() by (span.http.route)"),
    ),
    (
        "p99 duration by service",
        Ask::Series("{} | quantile_over_time(duration, .99) by (resource.service.name)"),
    ),
    ("all spans counted", Ask::Series("{} | count_over_time()")),
    (
        "tag values, service.name",
        Ask::Values("resource.service.name"),
    ),
];

/// The `n`th time that it is asked: what came, in short.
async fn ask(store: &TraceStore, corpus: &Corpus, ask: &Ask, n: usize) -> String {
    let tenant = TenantId::new("t").unwrap();
    let ns = |t: u64| i64::try_from(t).unwrap();
    let second = 1_000_000_000;
    let range = TimeRangeNs::new(
        ns(corpus.first_ns / second * second) - 1_000_000_000,
        ns(corpus.last_ns / second * second) + 5_000_000_000,
    );
    let told = |warnings: &[String]| assert_eq!(warnings, Vec::<String>::new());
    match ask {
        Ask::Hit => {
            let id = corpus.ids[n % corpus.ids.len()];
            let found = store.find_trace(&tenant, id).await.unwrap();
            told(&found.end.warnings);
            assert!(!found.bytes.is_empty());
            "a trace".to_owned()
        }
        Ask::Miss => {
            let id = (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let id = TraceId::from_short(&id.to_be_bytes()).unwrap();
            let found = store.find_trace(&tenant, id).await.unwrap();
            told(&found.end.warnings);
            assert!(found.bytes.is_empty());
            "none".to_owned()
        }
        Ask::Search(query) => {
            let query = query.replace("NNN", &(n * 37 % 20_000).to_string());
            let found = store.search(&tenant, &query, range, 20).await.unwrap();
            told(&found.end.warnings);
            let stats = found.end.stats;
            format!(
                "{} traces, {} reads, {:.1} MB",
                found.value.len(),
                stats.backend_reads,
                stats.backend_bytes as f64 / 1e6
            )
        }
        Ask::Series(query) => {
            let step = Duration::from_secs(30);
            let found = store.metrics(&tenant, query, range, step).await.unwrap();
            told(&found.end.warnings);
            let values = found.value.series.iter().flat_map(|s| &s.values);
            let sum: f64 = values.filter(|v| v.is_finite()).sum();
            format!("{} series, sum {sum:.6}", found.value.series.len())
        }
        Ask::Values(tag) => {
            let found = store.tag_values(&tenant, tag, range).await.unwrap();
            format!("{} values", found.value.len())
        }
    }
}

async fn run(path: &str, which: &str, page_kib: Option<u64>) {
    let corpus = corpus(path);
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let backend = LocalFileSystem::new_with_prefix(&bucket).unwrap();
    let backend = Backend::new(std::sync::Arc::new(backend), BackendKind::File);
    let mut bucket_settings = BucketSettings::default();
    if let Some(kib) = page_kib {
        bucket_settings.page_size = ByteSize::kib(kib);
    }
    let store = TraceStore::builder(folder.path().join("data"), backend)
        .bucket(bucket_settings)
        .query_frontend(QueryFrontendSettings {
            cache_results: false,
            ..QueryFrontendSettings::default()
        })
        .open()
        .await
        .unwrap();
    let tenant = TenantId::new("t").unwrap();
    let millions = corpus.spans as f64 / 1e6;
    let began = (cpu_ns(), faults(), Instant::now());
    let told = |what: &str| {
        let (cpu, faults) = (cpu_ns() - began.0, faults() - began.1);
        println!(
            "{what}: {:.2} CPU-s and {:.0} page faults a million spans, {:.1} s in all",
            cpu as f64 / 1e9 / millions,
            faults as f64 / millions,
            began.2.elapsed().as_secs_f64()
        );
    };
    for request in &corpus.requests {
        let report = store.append_otlp(&tenant, request).await.unwrap();
        assert_eq!(report.refused_spans(), 0);
    }
    told("up to the log");
    store.flush().await.unwrap();
    told("until settled");
    let bytes: u64 = files(&bucket).iter().map(|f| f.1).sum();
    println!(
        "{} spans, {:.2} bytes each, {} blocks",
        corpus.spans,
        bytes as f64 / corpus.spans as f64,
        files(&bucket)
            .iter()
            .filter(|f| f.0.ends_with("meta.json"))
            .count()
    );
    for (name, query) in QUERIES.iter().filter(|(name, _)| name.contains(which)) {
        let first = ask(&store, &corpus, query, 0).await;
        let began = (cpu_ns(), faults(), Instant::now());
        let mut count = 0;
        while count < 3 || began.2.elapsed() < EACH {
            count += 1;
            ask(&store, &corpus, query, count).await;
        }
        let each = 1.0 / count as f64;
        println!(
            "{name:<32} {:>8.2} ms CPU {:>8.2} ms {:>7.0} faults, {first}",
            (cpu_ns() - began.0) as f64 * each / 1e6,
            began.2.elapsed().as_secs_f64() * each * 1e3,
            (faults() - began.1) as f64 * each,
        );
    }
    store.close().await.unwrap();
}

fn files(folder: &std::path::Path) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            let bytes = path.metadata().unwrap().len();
            out.push((path.to_string_lossy().into_owned(), bytes));
        }
    }
    out
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let Some(path) = arguments.first() else {
        println!("a file of stored requests is wanted: see the head of this bench");
        return;
    };
    let which = arguments.get(1).map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let page_kib = arguments.get(2).map(|a| a.parse().unwrap());
    runtime.block_on(run(path, which, page_kib));
}
