//! What does a query pay before it runs? Goals: 5 us for a query of a dashboard, 1 ms for one of 100 KiB, parsed and type-checked.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_tsdb::promql::parse;

const DASHBOARD: &str = r#"histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket{job=~"api|web", code!="500"}[5m]))) > on (job) group_left (zone) 2 * avg by (job, zone) (http_request_slo_seconds offset 1d)"#;

/// A sum of 400 metrics, with labels to 100 KiB.
fn long() -> String {
    let term = |i: usize| {
        format!(
            "metric_{i}{{job=\"api\", instance=\"{:0180}\", path=~\"/a/b/{i}\"}}",
            i
        )
    };
    (0..400).map(term).collect::<Vec<_>>().join(" + ")
}

fn parsing(c: &mut Criterion) {
    let long = long();
    let mut group = c.benchmark_group("promql_parse");
    for (name, query) in [
        ("metric", "up"),
        ("dashboard", DASHBOARD),
        ("100KiB", &long),
    ] {
        group.throughput(Throughput::Bytes(query.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| parse(black_box(query)).expect("the query is well formed"));
        });
    }
    let expr = parse(DASHBOARD).expect("the query is well formed");
    group.bench_function("dashboard pretty", |b| b.iter(|| black_box(&expr).pretty()));
    group.finish();
}

criterion_group!(benches, parsing);
criterion_main!(benches);
