//! How long does an index of 100,000 series with eleven labels and one chunk each take to write, postings and tables included?
//! Goal: 120 ms on one core.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, criterion_group, criterion_main};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::TimestampMs;
use lgtm_tsdb::index::{ChunkRefMeta, IndexEncoder, IndexEncoderSettings};

const SERIES: u32 = 100_000;

/// Label sets as of a Kubernetes cluster, in order: 50 metrics on 2,000 pods.
fn series() -> (SymbolTable, Vec<Vec<(u32, u32)>>) {
    let mut sets = Vec::new();
    for i in 0..SERIES {
        let (metric, pod) = (i / 2000, i % 2000);
        sets.push([
            (
                "__name__",
                format!("http_requests_of_kind_{metric:03}_total"),
            ),
            ("cluster", "eu-west-1".to_owned()),
            ("code", format!("{}", 200 + pod % 5)),
            ("container", format!("app-{}", pod % 40)),
            ("endpoint", "http-metrics".to_owned()),
            ("env", "production".to_owned()),
            ("instance", format!("10.0.{}.{}:9090", pod / 250, pod % 250)),
            ("job", format!("namespace-{}/app-{}", pod % 20, pod % 40)),
            ("namespace", format!("namespace-{}", pod % 20)),
            ("pod", format!("app-{}-7c9f8d6b5-{pod:05}", pod % 40)),
            (
                "zone",
                format!("eu-west-1{}", ["a", "b", "c"][pod as usize % 3]),
            ),
        ]);
    }
    sets.sort();
    let mut symbols: Vec<&str> = vec![""];
    symbols.extend(sets.iter().flatten().flat_map(|(n, v)| [*n, v.as_str()]));
    symbols.sort_unstable();
    symbols.dedup();
    let table = SymbolTable::from_sorted(&symbols).expect("symbols were sorted");
    let ordinal = |s: &str| table.ordinal(s).expect("every symbol is in the table");
    let labels = sets
        .iter()
        .map(|set| set.iter().map(|(n, v)| (ordinal(n), ordinal(v))).collect());
    let labels = labels.collect();
    (table, labels)
}

fn write(table: &SymbolTable, series: &[Vec<(u32, u32)>], settings: IndexEncoderSettings) -> usize {
    let mut encoder =
        IndexEncoder::new(table.clone(), settings).expect("the empty string is first");
    let mut written = 0;
    for (i, labels) in (0u64..).zip(series) {
        let min_ms = 1_700_000_000_000;
        let chunk = ChunkRefMeta {
            min_ms: TimestampMs::new(min_ms),
            max_ms: TimestampMs::new(min_ms + 7_200_000),
            reference: 8 + 200 * i,
        };
        encoder
            .add_series(labels, &[chunk])
            .expect("series are sorted");
        if encoder.pending_bytes() > 4 << 20 {
            while let Some(bytes) = encoder.take_output() {
                written += bytes.len();
            }
        }
    }
    while let Some(bytes) = encoder.take_output() {
        written += bytes.len();
    }
    let mut tail = encoder.finish().expect("output was taken");
    while let Some(bytes) = tail.take_output().expect("postings are in memory") {
        written += bytes.len();
    }
    written
}

fn index_write(c: &mut Criterion) {
    let (table, series) = series();
    let mut group = c.benchmark_group("index_write");
    group.sample_size(20);
    group.bench_function("100k_series_in_memory", |b| {
        b.iter(|| write(&table, &series, IndexEncoderSettings::default()));
    });
    let scratch = std::env::temp_dir();
    group.bench_function("100k_series_spilling_at_2MiB", |b| {
        b.iter(|| {
            let settings = IndexEncoderSettings {
                max_postings_memory_bytes: 2 << 20,
                scratch_dir: Some(scratch.clone()),
            };
            write(&table, &series, settings)
        });
    });
    group.finish();
}

criterion_group!(benches, index_write);
criterion_main!(benches);
