//! Blocks put into a bucket by hand, and what queries find in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::index::SymbolTable;
use lgtm_core::model::{
    CounterResetHint, Histogram, Labels, MatchOp, Matcher, TenantId, TimeRange, TimestampMs,
};
use lgtm_core::storage::Bucket;
use lgtm_core::testing::Dice;
use lgtm_tsdb::block::{
    BlockId, BlockMeta, BlockWriter, BlockWriterSettings, MetaInput, ThanosMeta,
};
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::chunk::{Chunk, SampleTime, SampleValue, encode_started_run};
use lgtm_tsdb::select::{Select, SelectRequest, started_samples};

pub(crate) type Samples = Vec<(SampleTime, SampleValue)>;
pub(crate) type SeriesMap = BTreeMap<Labels, Samples>;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

pub(crate) fn new_id() -> BlockId {
    static NEXT: AtomicU64 = AtomicU64::new(1_700_000_000_000);
    BlockId::new(NEXT.fetch_add(1, Ordering::Relaxed), [7; 10])
}

/// Puts a block with these series into the bucket.
pub(crate) async fn write(bucket: &Bucket, range: TimeRange, series: &SeriesMap) -> BlockMeta {
    let mut symbols: Vec<&str> = vec![""];
    symbols.extend(
        series
            .keys()
            .flat_map(|l| l.iter())
            .flat_map(|(n, v)| [n, v]),
    );
    symbols.sort_unstable();
    symbols.dedup();
    let symbols = SymbolTable::from_sorted(symbols).unwrap();
    let settings = BlockWriterSettings {
        max_segment_bytes: 20_000,
        ..BlockWriterSettings::default()
    };
    let (bucket, id) = (bucket.clone(), new_id());
    let mut writer = BlockWriter::new(bucket, &tenant(), id, symbols.clone(), settings).unwrap();
    for (labels, samples) in series {
        let of = |text| symbols.ordinal(text).unwrap();
        let labels: Vec<_> = labels.iter().map(|(n, v)| (of(n), of(v))).collect();
        let chunks = encode_started_run(samples.clone());
        let chunks: Vec<_> = chunks.iter().map(Chunk::borrowed).collect();
        writer.add_series(&labels, &chunks).unwrap();
    }
    let input = MetaInput {
        min_ms: range.min_ms,
        max_ms: range.max_ms,
        level: 1,
        sources: Vec::new(),
        parents: Vec::new(),
        hints: Vec::new(),
        thanos: Some(ThanosMeta::new("receive", BTreeMap::new())),
    };
    writer.finish(input).await.unwrap().unwrap()
}

pub(crate) fn histogram(n: u64) -> SampleValue {
    SampleValue::Histogram(Box::new(Histogram {
        schema: 1,
        count: 10 + n,
        sum: n as f64,
        ..Histogram::default()
    }))
}

/// Series of all kinds with samples in a range, some of them in every block.
pub(crate) fn some_series(dice: &mut Dice, range: TimeRange, count: u64) -> SeriesMap {
    let mut out = BTreeMap::new();
    let length = range.max_ms.since(range.min_ms) as u64;
    for n in 0..count {
        let number = dice.below(2 * count).to_string();
        let block = range.min_ms.get().to_string();
        let mut pairs = vec![("__name__", "series"), ("number", number.as_str())];
        if dice.below(4) == 0 {
            pairs.push(("only_in", block.as_str()));
        }
        let step = 1 + dice.below(length / 300);
        let first = range.min_ms.get() + dice.below(length / 600) as i64;
        let times = (first..range.max_ms.get()).step_by(step as usize).take(300);
        let start_ms = TimestampMs::new(if n % 3 == 0 { first - 1 } else { 0 });
        let samples = times.enumerate().map(|(i, t)| {
            let at = SampleTime {
                t_ms: t.into(),
                start_ms,
            };
            let value = if n % 2 == 0 {
                SampleValue::Float((i as u64 + n) as f64)
            } else {
                histogram(i as u64)
            };
            (at, value)
        });
        out.insert(Labels::from_pairs(pairs).unwrap(), samples.collect());
    }
    out
}

/// A value without what it says of the sample before: that depends on where chunks begin.
fn alone(value: SampleValue) -> SampleValue {
    let hint = |hint| {
        if hint == CounterResetHint::Gauge {
            hint
        } else {
            CounterResetHint::Unknown
        }
    };
    match value {
        SampleValue::Float(v) => SampleValue::Float(v),
        SampleValue::Histogram(mut h) => {
            h.hint = hint(h.hint);
            SampleValue::Histogram(h)
        }
        SampleValue::FloatHistogram(mut h) => {
            h.hint = hint(h.hint);
            SampleValue::FloatHistogram(h)
        }
    }
}

/// What queries find, start times included, and what they say beside it.
pub(crate) async fn select(blocks: &BucketBlocks) -> (SeriesMap, Vec<String>) {
    let matchers = vec![Matcher::new(MatchOp::NotEqual, "none", "x").unwrap()];
    let request = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
    let mut batches = blocks.select(&tenant(), &request).await.unwrap();
    let mut out = BTreeMap::new();
    while let Some(batch) = batches.next_batch().await.unwrap() {
        for series in batch {
            let samples = started_samples(&series.chunks, TimeRange::ALL).unwrap();
            if !samples.is_empty() {
                let samples = samples.into_iter().map(|(at, v)| (at, alone(v)));
                out.insert(series.labels, samples.collect());
            }
        }
    }
    (out, batches.end().warnings)
}

/// What queries find in these blocks.
pub(crate) async fn all_samples(bucket: &Bucket, metas: &[BlockMeta]) -> SeriesMap {
    let blocks = BucketBlocks::builder(bucket.clone()).build().unwrap();
    for meta in metas {
        blocks.add(&tenant(), meta);
    }
    let (found, warnings) = select(&blocks).await;
    // The list of blocks was never read, of which every answer warns; nothing else is to be said.
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    found
}
