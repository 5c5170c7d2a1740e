//! What does a query pay for finding its series in an index of 100,000? Goals: 1 us per series with labels, 0.3 us per entry.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::TimestampMs;
use lgtm_core::storage::MemoryFile;
use lgtm_tsdb::index::{
    ChunkRefMeta, IndexEncoder, IndexEncoderSettings, IndexReader, IndexReaderSettings,
};

const SERIES: u32 = 100_000;

/// 100,000 series of eleven labels: ten that all share, and one of their own.
fn index() -> Vec<u8> {
    let names: Vec<String> = (0..10).map(|i| format!("a_shared_label_{i}")).collect();
    let values: Vec<String> = (0..SERIES)
        .map(|i| format!("pod-7c9f8d6b5-{i:06}"))
        .collect();
    let symbols = [""].into_iter().chain(names.iter().map(String::as_str));
    let symbols = symbols
        .chain(["pod"])
        .chain(values.iter().map(String::as_str));
    let symbols = SymbolTable::from_sorted(symbols).expect("symbols are made in order");
    let mut encoder = IndexEncoder::new(symbols, IndexEncoderSettings::default())
        .expect("the empty string is first");
    for i in 0..SERIES {
        let mut labels: Vec<(u32, u32)> = (1..=10).map(|name| (name, 12)).collect();
        labels.push((11, 12 + i));
        let reference = 8 + 200 * u64::from(i);
        let chunk = ChunkRefMeta {
            min_ms: TimestampMs::new(1_700_000_000_000),
            max_ms: TimestampMs::new(1_700_007_200_000),
            reference,
        };
        encoder
            .add_series(&labels, &[chunk])
            .expect("series are made in order");
    }
    encoder
        .finish_to_vec()
        .expect("everything fits in memory")
        .0
}

fn index_read(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers starts");
    let file = Arc::new(MemoryFile::new("index", index()));
    let settings = IndexReaderSettings::default();
    let open = || IndexReader::open(Arc::clone(&file) as _, settings);
    let index = runtime.block_on(open()).expect("the encoder wrote it");
    let all = runtime
        .block_on(index.postings_all())
        .expect("the encoder wrote it");

    let mut group = c.benchmark_group("index_read");
    group.sample_size(20);
    group.bench_function("open", |b| b.iter(|| runtime.block_on(open())));
    group.bench_function("one_value_of_100k", |b| {
        b.iter(|| runtime.block_on(index.postings("pod", "pod-7c9f8d6b5-047110")));
    });
    group.throughput(Throughput::Elements(u64::from(SERIES)));
    group.bench_function("regex_over_100k_values", |b| {
        b.iter(|| runtime.block_on(index.postings_for_values("pod", &mut |v| v.ends_with('7'))));
    });
    let batches = || all.chunks(4096);
    group.bench_function("entries_in_batches_of_4096", |b| {
        b.iter(|| {
            for batch in batches() {
                runtime
                    .block_on(index.series_entries(batch))
                    .expect("the encoder wrote it");
            }
        });
    });
    group.bench_function("series_in_batches_of_4096", |b| {
        b.iter(|| {
            for batch in batches() {
                runtime
                    .block_on(index.series(batch))
                    .expect("the encoder wrote it");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, index_read);
criterion_main!(benches);
