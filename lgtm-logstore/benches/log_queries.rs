//! What do queries over the logs of a small cluster cost, and what does it cost to take these logs in?
//!
//! Goals, CPU ms a query over 300 MB in 1,250 streams: a needle in all streams 5, in one application 2.5, absent 3; a value of structured metadata that
//! is absent 1; the newest 1000 lines of a selector 15; a regular expression over one application 50; `rate` by level 8, a filtered count 3.5; json and
//! logfmt filters with a count 100 and 80, a quantile of unwrapped values 150; `topk` of `rate` over all streams 5, all lines counted 2; values of a label 1,
//! streams 1. Ingest: 10 CPU-s per GB of lines with side files, 50 bytes a line in the bucket.
//!
//! A program of its own: `cargo bench -p lgtm-logstore --bench log_queries -- [MB of lines] [side files at most, percent] [words of queries ...]`; `HOSTS` in
//! the environment says how many hosts write (20: some 1,250 streams). Of each query the first figure is without kept answers; `again` is with them, as a dashboard asks.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use lgtm_core::codec::Allowance;
use lgtm_logstore::logql::{ParserSettings, QueryRange};
use lgtm_logstore::prelude::*;
use lgtm_logstore::select::{FetchStats, SelectRequest};
use lgtm_logstore::wire::{PushBatch, decode_protobuf};
use load::{Made, Plan, Random};

const MINUTE_NS: i64 = 60_000_000_000;

/// CPU time of the process, in steps of 10 ms: of threads that have ended, too, as spare ones of the pool do.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|t| t.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn size_of_folder(path: &Path) -> (u64, u64) {
    let (mut bytes, mut files) = (0, 0);
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            let (b, f) = size_of_folder(&entry.path());
            bytes += b;
            files += f;
        } else {
            bytes += meta.len();
            files += 1;
        }
    }
    (bytes, files)
}

/// A query, made anew for each turn.
enum Asked {
    Range(String, usize),
    Instant(String, i64),
    Values(&'static str),
    Series(Matcher),
}

type MakeQuery = Box<dyn FnMut(&mut Random) -> Asked>;

/// Name, goal in CPU ms, and what makes it.
type NamedQuery = (&'static str, f64, MakeQuery);

fn fixed(text: &'static str, limit: usize) -> MakeQuery {
    Box::new(move |_| Asked::Range(text.to_owned(), limit))
}

/// Queries for lines.
fn searches(made: &Made) -> Vec<NamedQuery> {
    let needles = made.needles.clone();
    let of_all = needles.clone();
    let pick = |needles: &[(String, &'static str)], random: &mut Random| {
        needles[random.below(needles.len() as u64) as usize].clone()
    };
    vec![
        (
            "needle, all streams",
            5.0,
            Box::new(move |r| {
                let (word, _) = pick(&of_all, r);
                Asked::Range(format!(r#"{{app=~".+"}} |= "{word}""#), 100)
            }),
        ),
        (
            "needle, one app",
            2.5,
            Box::new(move |r| {
                let (word, app) = pick(&needles, r);
                Asked::Range(format!(r#"{{app="{app}"}} |= "{word}""#), 100)
            }),
        ),
        (
            "needle absent, all streams",
            3.0,
            Box::new(|r| {
                let word = format!("absent-{:012x}", r.draw() >> 16);
                Asked::Range(format!(r#"{{app=~".+"}} |= "{word}""#), 100)
            }),
        ),
        (
            "hex32 absent, all streams",
            3.0,
            Box::new(|r| {
                let word = format!("{:016x}{:016x}", r.draw(), r.draw());
                Asked::Range(format!(r#"{{app=~".+"}} |= "{word}""#), 100)
            }),
        ),
        (
            "label filter, newest 1000",
            15.0,
            fixed(r#"{app="OpenSSH",level="warn"}"#, 1000),
        ),
        (
            "regex line filter",
            50.0,
            fixed(
                r#"{app="edge-proxy"} |~ "status=50[0-9].*dur=[0-9]{3,}""#,
                1000,
            ),
        ),
        (
            "trace_id in metadata, absent",
            1.0,
            Box::new(|r| {
                let id = format!("{:016x}{:016x}", r.draw(), r.draw());
                Asked::Range(format!(r#"{{app="shop-api"}} | trace_id="{id}""#), 100)
            }),
        ),
    ]
}

/// Queries for numbers, and for lists.
fn counts(plan: &Plan) -> Vec<NamedQuery> {
    let whole_s = plan.span_ns / 1_000_000_000 + 60;
    let end_ns = plan.start_ns + plan.span_ns + 1_000_000_000;
    vec![
        (
            "rate by level, 3 apps",
            8.0,
            fixed(r#"sum by (level)(rate({app=~"shop-.*"}[1m]))"#, 100),
        ),
        (
            "filtered count, one app",
            3.5,
            fixed(
                r#"sum(count_over_time({app="edge-proxy"} |= "level=error" [1m]))"#,
                100,
            ),
        ),
        (
            "json, status >= 500",
            100.0,
            fixed(
                r#"sum by (method)(count_over_time({app="shop-api"} | json | status >= 500 [5m]))"#,
                100,
            ),
        ),
        (
            "logfmt, rate by method",
            80.0,
            fixed(
                r#"sum by (method)(rate({app="edge-proxy"} | logfmt | status=~"5.." [5m]))"#,
                100,
            ),
        ),
        (
            "json, unwrap p99",
            150.0,
            fixed(
                r#"quantile_over_time(0.99, {app="shop-pay"} | json | unwrap duration_ms [5m]) by (service)"#,
                100,
            ),
        ),
        (
            "topk hosts, all streams",
            5.0,
            fixed(r#"topk(5, sum by (host)(rate({app=~".+"}[5m])))"#, 100),
        ),
        (
            "all lines counted",
            2.0,
            Box::new(move |_| {
                let text = format!(r#"sum(count_over_time({{app=~".+"}}[{whole_s}s]))"#);
                Asked::Instant(text, end_ns)
            }),
        ),
        (
            "half an hour counted",
            2.0,
            Box::new(move |_| {
                let text = r#"sum by (app) (count_over_time({app=~".+"}[30m]))"#;
                Asked::Instant(text.to_owned(), end_ns - 300_000_000_000)
            }),
        ),
        ("label values, app", 1.0, Box::new(|_| Asked::Values("app"))),
        (
            "series, one app",
            1.0,
            Box::new(|_| Asked::Series(Matcher::equal("app", "HDFS"))),
        ),
    ]
}

/// How much came back, and what was read for it.
async fn ask(
    store: &LogStore,
    tenant: &TenantId,
    plan: &Plan,
    asked: &Asked,
    is_new: bool,
) -> (usize, FetchStats) {
    let parser = ParserSettings::default();
    let whole = TimeRangeNs::new(plan.start_ns, plan.start_ns + plan.span_ns);
    let frontend = store.frontend();
    let query = match asked {
        Asked::Range(text, limit) => {
            let range = QueryRange {
                step_ms: 60_000,
                limit: *limit,
                ..QueryRange::new(plan.start_ns, plan.start_ns + plan.span_ns)
            };
            Query::range(text, range, &parser).unwrap()
        }
        Asked::Instant(text, t_ns) => Query::instant(text, *t_ns, &parser).unwrap(),
        Asked::Values(name) => {
            let request = SelectRequest::new(Vec::new(), whole);
            let values = frontend.label_values(tenant, name, &request).await.unwrap();
            return (values.items.len(), FetchStats::default());
        }
        Asked::Series(matcher) => {
            let request = SelectRequest::new(vec![matcher.clone()], whole);
            let series = frontend.series(tenant, &request).await.unwrap();
            return (series.items.len(), FetchStats::default());
        }
    };
    let options = QueryOptions {
        no_cache: is_new,
        ..QueryOptions::default()
    };
    let answer = frontend.query(tenant, &query.with_options(options)).await;
    let answer = answer.unwrap();
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    let count = match &answer.value {
        QueryValue::Streams(streams) => streams.iter().map(|s| s.entries.len()).sum(),
        QueryValue::Matrix(series) => series.iter().map(|s| s.points.len()).sum(),
        // Of one time the value tells more.
        QueryValue::Vector(points) => {
            let points = points.iter().flat_map(|s| &s.points);
            points.map(|p| p.value as usize).sum()
        }
        QueryValue::Scalar(_) => 1,
    };
    (count, answer.stats.fetched)
}

/// CPU ms a query.
async fn measure(
    store: &LogStore,
    tenant: &TenantId,
    plan: &Plan,
    make: &mut MakeQuery,
    is_new: bool,
) -> (f64, usize, FetchStats) {
    let mut random = Random(99);
    let mut last = (0, FetchStats::default());
    for _ in 0..2 {
        last = ask(store, tenant, plan, &make(&mut random), is_new).await;
    }
    let (began, cpu_before, mut times) = (Instant::now(), cpu(), 0);
    while times < 9 || times < 200 && began.elapsed() < Duration::from_millis(700) {
        last = ask(store, tenant, plan, &make(&mut random), is_new).await;
        times += 1;
    }
    let ms = (cpu() - cpu_before).as_secs_f64() * 1e3 / f64::from(times);
    (ms, last.0, last.1)
}

async fn ingest(store: &LogStore, tenant: &TenantId, bodies: Vec<Vec<u8>>) {
    let limits = Limits::default();
    for body in bodies {
        let mut batch = PushBatch::default();
        {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(0, &mut grow);
            let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
                *out = body;
                Ok(())
            };
            decode_protobuf(&mut batch, &limits.push_options(), &mut allowance, fill).unwrap();
        }
        let report = store.push(tenant, batch).await.unwrap();
        assert!(
            report.refused.is_empty() && report.whole.is_none(),
            "{report:?}"
        );
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let number = |n: usize, or: u64| args.get(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (mb, percent) = (number(0, 300), number(1, 100));
    let now_ns = jiff::Timestamp::now().as_nanosecond() as i64;
    let plan = Plan {
        bytes: mb * 1_000_000,
        hosts: std::env::var("HOSTS").map_or(20, |n| n.parse().unwrap()),
        start_ns: now_ns - 61 * MINUTE_NS,
        span_ns: 60 * MINUTE_NS,
    };
    let mut bodies = Vec::new();
    let Some(made) = load::make(&plan, |body| bodies.push(body)) else {
        println!("skipped: set LGTM_SHARED to the folder with lab/data/logs/loghub.txt.gz");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let url = format!("file:{}", bucket.display());
    let backend = from_url(&url, &BackendSettings::default()).unwrap();
    let mut settings = IngesterSettings::default();
    if percent < 100 {
        settings.writer.side_files.max_size_percent = percent as u32;
    }
    let store = LogStore::builder(folder.path().join("data"), backend)
        .settings(settings)
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    let before = cpu();
    ingest(&store, &tenant, bodies).await;
    let pushed = cpu();
    store.flush().await.unwrap();
    let flushed = cpu();
    let per_gb = |t: Duration| t.as_secs_f64() * 1e9 / made.line_bytes as f64;
    println!(
        "{} lines, {} MB, {} streams: {:.2} CPU-s per GB pushed, {:.2} flushed, {:.2} in all",
        made.lines,
        made.line_bytes / 1_000_000,
        made.streams,
        per_gb(pushed - before),
        per_gb(flushed - pushed),
        per_gb(flushed - before),
    );
    for part in ["logs", "logsskip"] {
        let (bytes, files) = size_of_folder(&bucket.join(part));
        println!(
            "{part}: {bytes} bytes, {files} objects, {:.2} bytes a line",
            bytes as f64 / made.lines as f64
        );
    }
    println!(
        "{:<30} {:>6} {:>9} {:>9} {:>9} {:>7} {:>11} {:>12}",
        "query", "goal", "CPU ms", "again", "answer", "chunks", "their bytes", "lines' bytes"
    );
    let all = searches(&made).into_iter().chain(counts(&plan));
    for (name, goal, mut make) in all {
        let wanted = args.get(2..).unwrap_or_default();
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let (new_ms, count, read) = measure(&store, &tenant, &plan, &mut make, true).await;
        let (kept_ms, ..) = measure(&store, &tenant, &plan, &mut make, false).await;
        println!(
            "{name:<30} {goal:>6} {new_ms:>9.2} {kept_ms:>9.2} {count:>9} {:>7} {:>11} {:>12}",
            read.chunks_downloaded, read.compressed_bytes, read.decompressed_bytes
        );
    }
    store.close().await.unwrap();
}
