//! How fast does a query go through decompressed logs, on one core?
//!
//! Goals without side files: a needle at the speed of memory (>= 1.5 GB/s), json and logfmt filters with a count >= 250 MB/s, `rate` without
//! parsing >= 1 GB/s. Throughput counts the bytes of lines.

#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, reason = "a bench is a test")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, TenantId};
use lgtm_logstore::entry::EntryBlockBuilder;
use lgtm_logstore::logql::{Engine, EngineSettings, ParserSettings, Query, QueryRange};
use lgtm_logstore::select::MemorySelect;

const STREAMS: usize = 16;
const BLOCKS: usize = 16;
const BLOCK_BYTES: usize = 256 << 10;
const STEP_NS: i64 = 10_000_000;

fn json_line(n: u64) -> String {
    let level = ["info", "info", "warn", "error"][(n % 4) as usize];
    format!(
        r#"{{"ts":"2026-01-01T00:00:{:02}Z","level":"{level}","method":"GET","path":"/api/v1/orders/{}","status":{},"took":"{}ms","user":"user-{}","req":{{"id":"{:016x}","size":{}}}}}"#,
        n % 60,
        n % 977,
        [200, 200, 200, 404, 500][(n % 5) as usize],
        n % 1500,
        n % 5000,
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        n % 65_536,
    )
}

fn logfmt_line(n: u64) -> String {
    let level = ["info", "info", "warn", "error"][(n % 4) as usize];
    format!(
        "ts=2026-01-01T00:00:{:02}Z level={level} method=GET path=/api/v1/orders/{} status={} took={}ms user=user-{} req_id={:016x} size={} msg=\"request done\"",
        n % 60,
        n % 977,
        [200, 200, 200, 404, 500][(n % 5) as usize],
        n % 1500,
        n % 5000,
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        n % 65_536,
    )
}

/// Streams of both kinds, and the bytes of the lines of either.
fn load(tenant: &TenantId) -> (MemorySelect, [u64; 2]) {
    let source = MemorySelect::default();
    let mut bytes = [0, 0];
    for (kind, line) in [json_line as fn(u64) -> String, logfmt_line]
        .into_iter()
        .enumerate()
    {
        for stream in 0..STREAMS {
            let name = ["json", "logfmt"][kind];
            let labels =
                Labels::from_pairs([("app", name.to_owned()), ("pod", format!("pod-{stream}"))])
                    .unwrap();
            let mut n = stream as u64 * 1_000_003;
            let mut t_ns = 0;
            for _ in 0..BLOCKS {
                let mut block = EntryBlockBuilder::copying(BLOCK_BYTES);
                while block.copied_bytes() < BLOCK_BYTES {
                    block.push_copy(t_ns, line(n).as_bytes()).unwrap();
                    n += 1;
                    t_ns += STEP_NS;
                }
                bytes[kind] += block.copied_bytes() as u64;
                source
                    .push(tenant, &labels, block.finish(Arc::default()))
                    .unwrap();
            }
        }
    }
    (source, bytes)
}

fn queries(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let tenant = TenantId::new("bench").unwrap();
    let (source, bytes) = load(&tenant);
    let executor = Executor::new(
        &ExecutorSettings {
            threads: 1,
            spare_threads: 0,
            ..ExecutorSettings::default()
        },
        runtime.handle().clone(),
    )
    .unwrap();
    let settings = EngineSettings {
        parallelism: 1,
        ..EngineSettings::default()
    };
    let engine = Engine::new(
        Arc::new(source),
        executor,
        Arc::new(SystemClock::new()),
        settings,
    )
    .unwrap();
    let mut group = c.benchmark_group("logql");
    group.sample_size(10);
    for (name, kind, query) in [
        ("needle_absent", 0, r#"{app="json"} |= "0123456789abcdefx""#),
        (
            "needle_count",
            0,
            r#"sum(count_over_time({app="json"} |= "user-4242" [1m]))"#,
        ),
        (
            "regex_filter",
            0,
            r#"sum(count_over_time({app="json"} |~ "user-42[0-9]{2}x" [1m]))"#,
        ),
        (
            "json_filter_count",
            0,
            r#"sum(count_over_time({app="json"} | json | status>=500 [1m]))"#,
        ),
        (
            "json_equal_count",
            0,
            r#"sum(count_over_time({app="json"} | json | user="user-42" [1m]))"#,
        ),
        (
            "json_by_level",
            0,
            r#"sum by (level) (count_over_time({app="json"} | json [1m]))"#,
        ),
        (
            "json_unwrap_quantile",
            0,
            r#"quantile_over_time(0.9, {app="json"} | json | unwrap duration(took) [1m]) by (method)"#,
        ),
        (
            "logfmt_filter_count",
            1,
            r#"sum(count_over_time({app="logfmt"} | logfmt | status>=500 [1m]))"#,
        ),
        (
            "logfmt_by_level",
            1,
            r#"sum by (level) (count_over_time({app="logfmt"} | logfmt [1m]))"#,
        ),
        ("rate_all", 0, r#"sum(rate({app="json"}[1m]))"#),
        ("topk_rate", 0, r#"topk(5, rate({app="json"}[1m]))"#),
        ("bytes_all", 0, r#"sum(bytes_over_time({app="json"}[1m]))"#),
        (
            "newest_1000_all_labels",
            0,
            r#"{app="json"} | json | status="500""#,
        ),
    ] {
        let range = QueryRange {
            step_ms: 15_000,
            limit: 1000,
            ..QueryRange::new(0, 600_000_000_000)
        };
        let query = Query::range(query, range, &ParserSettings::default()).unwrap();
        group.throughput(Throughput::Bytes(bytes[kind]));
        group.bench_function(name, |b| {
            b.iter(|| black_box(runtime.block_on(engine.query(&tenant, &query)).unwrap()));
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
