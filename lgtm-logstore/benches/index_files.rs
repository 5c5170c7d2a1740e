//! How long does an index file of 100,000 streams with eight labels and four chunks each take to write, to open, and to be asked for one app's
//! streams of an hour? Goals on one core: 200 ms, 20 ms, 2 ms.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TimeRange, TimestampMs};
use lgtm_core::storage::MemoryFile;
use lgtm_logstore::index::{
    ChunkMeta, FingerprintRange, IndexEncoder, IndexEncoderSettings, IndexReader,
    IndexReaderSettings, IndexVersion, SeriesFilter,
};

const STREAMS: u32 = 100_000;
const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

type Stream = (u64, Vec<(u32, u32)>);

/// Streams as of a Kubernetes cluster, in order of their fingerprints.
fn streams() -> (SymbolTable, Vec<Stream>) {
    let sets = (0..STREAMS).map(|pod| {
        let app = format!("app-{}", pod % 400);
        Labels::from_pairs([
            ("app", app.clone()),
            ("cluster", "eu-west-1".to_owned()),
            ("container", format!("main-{}", pod % 40)),
            ("env", "production".to_owned()),
            ("namespace", format!("namespace-{}", pod % 20)),
            ("node", format!("node-{}", pod % 300)),
            ("pod", format!("{app}-7c9f8d6b5-{pod:06}")),
            ("service_name", app),
        ])
        .expect("names differ")
    });
    let sets: Vec<Labels> = sets.collect();
    let texts = sets
        .iter()
        .flat_map(|set| set.iter().flat_map(|(n, v)| [n, v]));
    let mut texts: Vec<&str> = texts.collect();
    texts.sort_unstable();
    texts.dedup();
    let table = SymbolTable::from_sorted(texts).expect("symbols were sorted");
    let ordinal = |text: &str| table.ordinal(text).expect("every symbol is in the table");
    let mut streams: Vec<Stream> = sets
        .iter()
        .map(|set| {
            let labels = set.iter().map(|(n, v)| (ordinal(n), ordinal(v)));
            (set.stable_hash(), labels.collect())
        })
        .collect();
    streams.sort();
    (table, streams)
}

fn write(table: &SymbolTable, streams: &[Stream]) -> Vec<u8> {
    let settings = IndexEncoderSettings::default();
    let mut encoder = IndexEncoder::new(IndexVersion::V3, table.clone(), settings);
    for (n, (fingerprint, labels)) in (0u32..).zip(streams) {
        let chunk = |c: u32| ChunkMeta {
            min_ms: TimestampMs::new(START_MS + i64::from(c) * HOUR_MS),
            max_ms: TimestampMs::new(START_MS + i64::from(c + 1) * HOUR_MS - 1),
            kb: 1200,
            entries: 6000,
            checksum: n.wrapping_mul(2_654_435_761) + c,
            ingested_day: None,
        };
        encoder
            .add_series(*fingerprint, labels, &[0, 1, 2, 3].map(chunk))
            .expect("streams are sorted");
    }
    encoder.finish_to_vec().expect("postings are in memory").0
}

fn index_files(c: &mut Criterion) {
    let (table, streams) = streams();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime of one thread");
    let mut group = c.benchmark_group("index_files");
    group.sample_size(20);
    group.bench_function("write/100k_streams", |b| {
        b.iter(|| black_box(write(&table, &streams)));
    });
    let bytes = bytes::Bytes::from(write(&table, &streams));
    eprintln!("{} bytes", bytes.len());
    let open = || {
        let file = Arc::new(MemoryFile::new("index", bytes.clone()));
        let opened = IndexReader::open(file, IndexReaderSettings::default());
        runtime.block_on(opened).expect("made above")
    };
    group.bench_function("open/100k_streams", |b| b.iter(|| black_box(open())));
    let index = open();
    eprintln!("{} bytes held", index.memory_bytes());
    let filter = SeriesFilter {
        time: Some(TimeRange::new(START_MS, START_MS + HOUR_MS)),
        fingerprints: FingerprintRange::ALL,
    };
    group.bench_function("select/250_streams_of_an_hour", |b| {
        b.iter(|| {
            let found = runtime.block_on(async {
                let references = index.postings("app", "app-7").await?;
                index.series(&references, &filter).await
            });
            assert_eq!(found.expect("made above").len(), 250);
        });
    });
    group.finish();
}

criterion_group!(benches, index_files);
criterion_main!(benches);
