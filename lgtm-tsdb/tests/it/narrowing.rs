//! However a block finds its series, by postings or by looking at labels, they are those that the matchers say.

use std::sync::Arc;

use crate::stored;
use lgtm_core::cache::{Cache, CacheExt, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::ManualClock;
use lgtm_core::model::{Labels, MatchOp, Matcher, Sample, TenantId, TimeRange, TimestampMs};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::testing::{Dice, FaultyStore};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::select::{Select, SelectRequest};
use object_store::memory::InMemory;

const T_MS: i64 = 1_700_000_000_000;
/// More than the lists that are worth reading beside one series.
const SERIES: usize = 4_000;

fn labels(i: usize) -> Labels {
    let mut pairs = vec![
        ("__name__", "x".to_owned()),
        ("pod", format!("pod-{i:05}")),
        ("zone", ["a", "b", "c"][i % 3].to_owned()),
    ];
    if i.is_multiple_of(7) {
        pairs.push(("team", format!("t{}", i % 2)));
    }
    Labels::from_pairs(pairs).unwrap()
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

#[tokio::test]
async fn a_block_brings_the_series_that_all_matchers_pass() {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(object_store::memory::InMemory::new());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let db = Tsdb::builder(dir.path(), store).clock(clock);
    let db = db.open().await.unwrap();
    let tenant = TenantId::anonymous();
    let all: Vec<Labels> = (0..SERIES).map(labels).collect();
    let sample = Sample {
        t_ms: TimestampMs::new(T_MS),
        value: 1.0,
    };
    let series: Vec<_> = all.iter().map(|l| (l.clone(), vec![sample])).collect();
    let _ = db.append(&tenant, &series).await.unwrap();
    db.flush().await.unwrap();

    let rare = [
        matcher(Equal, "pod", "pod-00042"),
        matcher(Equal, "pod", "pod-99999"),
        matcher(Regex, "pod", "pod-0004[0-9]"),
        matcher(Regex, "pod", "pod-00042|pod-00049"),
    ];
    let common = [
        matcher(Equal, "__name__", "x"),
        matcher(Equal, "__name__", "y"),
        matcher(Equal, "zone", "a"),
        matcher(Equal, "team", ""),
        matcher(NotEqual, "team", "t0"),
        matcher(NotEqual, "team", ""),
        matcher(NotRegex, "pod", ".*2"),
        matcher(Regex, "team", "t.*|"),
        matcher(Regex, "zone", "a|c"),
        matcher(Regex, "pod", ".+"),
    ];
    for a in &rare {
        for b in &common {
            for c in &common {
                let matchers = vec![b.clone(), a.clone(), c.clone()];
                let passes = |l: &Labels| {
                    let value = |m: &Matcher| m.matches(l.get(m.name()).unwrap_or_default());
                    matchers.iter().all(value)
                };
                let wanted: Vec<Labels> = all.iter().filter(|l| passes(l)).cloned().collect();
                let asked = SelectRequest::new(matchers.clone(), TimeRange::ALL);
                let asked = asked.unwrap();
                let mut batches = db.source().select(&tenant, &asked).await.unwrap();
                let mut found = Vec::new();
                while let Some(batch) = batches.next_batch().await.unwrap() {
                    found.extend(batch.into_iter().map(|s| s.labels));
                }
                assert_eq!(found, wanted, "{matchers:?}");
                assert_eq!(
                    batches.end().stats.series,
                    wanted.len() as u64,
                    "{matchers:?}"
                );
                let told = db.source().series(&tenant, &asked).await.unwrap();
                assert_eq!(told.items, wanted, "{matchers:?}");
                // Turned around it is the same question, whose answer is kept by now.
                let turned = matchers.iter().rev().cloned().collect();
                let asked = SelectRequest::new(turned, TimeRange::ALL).unwrap();
                let told = db.source().series(&tenant, &asked).await.unwrap();
                assert_eq!(told.items, wanted, "{matchers:?}, turned around");
            }
        }
    }
    db.close().await.unwrap();
}

/// The series that pass a selector in the blocks of the tenant.
async fn passing(blocks: &BucketBlocks, matchers: Vec<Matcher>) -> Vec<Labels> {
    let asked = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
    let mut batches = blocks.select(&stored::tenant(), &asked).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = batches.next_batch().await.unwrap() {
        found.extend(batch.into_iter().map(|s| s.labels));
    }
    found
}

#[tokio::test]
async fn which_series_pass_is_kept_and_what_was_spoiled_is_found_anew() {
    let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
    let range = TimeRange::new(0, 600_000);
    let series = stored::some_series(&mut Dice::seeded(3), range, 300);
    let metas = [
        stored::write(&bucket, range, &series).await,
        stored::write(&bucket, range, &series).await,
    ];
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let settings = MemoryCacheSettings::default();
    let cache = MemoryCache::new("kept", &settings, Arc::clone(&clock) as _).unwrap();
    let cache = Arc::new(cache);
    let blocks = BucketBlocks::builder(bucket).postings_cache(Arc::clone(&cache) as _);
    let blocks = blocks.build().unwrap();
    for meta in &metas {
        blocks.add(&stored::tenant(), meta);
    }
    let matchers = || vec![matcher(MatchOp::Regex, "number", ".*[05]")];
    let is_wanted = |l: &&Labels| l.get("number").unwrap_or_default().ends_with(['0', '5']);
    let wanted: Vec<Labels> = series.keys().filter(is_wanted).cloned().collect();
    assert!(wanted.len() > 10);
    for (hits, stores) in [(0, 2), (2, 2), (4, 2)] {
        assert_eq!(passing(&blocks, matchers()).await, wanted);
        let stats = blocks.postings_cache_stats().unwrap();
        assert_eq!((stats.hits, stats.stores), (hits, stores));
    }
    // Equalities are looked up.
    let equal = vec![matcher(MatchOp::Equal, "__name__", "series")];
    assert_eq!(passing(&blocks, equal).await.len(), series.len());
    assert_eq!(cache.stats().stores, 2);
    // Another question has another answer, and what cannot be read is none.
    let others = vec![matcher(MatchOp::NotRegex, "number", ".*[05]")];
    assert_eq!(
        passing(&blocks, others).await.len(),
        series.len() - wanted.len()
    );
    let text = matchers()[0].to_string();
    let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
    let key = format!("t/{}/{hash:032x}", metas[0].ulid);
    let mut kept = cache.get(&key).await.expect("it is kept").to_vec();
    let cookie = text.len() + 2;
    kept[cookie] ^= 0xff;
    cache.set(&key, kept.into(), None).await;
    assert_eq!(passing(&blocks, matchers()).await, wanted);
}

#[tokio::test]
async fn what_a_block_is_is_asked_for_once_by_those_who_share_a_cache() {
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 1);
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let layout = Layout::builder()
        .store(Backend::memory())
        .store_for(DataKind::MetricBlocks, backend)
        .build();
    let bucket = layout.unwrap().bucket(DataKind::MetricBlocks);
    let range = TimeRange::new(0, 600_000);
    let series = stored::some_series(&mut Dice::seeded(3), range, 30);
    let meta = stored::write(&bucket, range, &series).await;
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let settings = MemoryCacheSettings::default();
    let cache = MemoryCache::new("kept", &settings, Arc::clone(&clock) as _).unwrap();
    let cache = Arc::new(cache);
    let mut gets = Vec::new();
    for _ in 0..2 {
        let blocks = BucketBlocks::builder(bucket.clone()).metadata_cache(Arc::clone(&cache) as _);
        let blocks = blocks.build().unwrap();
        blocks.add(&stored::tenant(), &meta);
        let before = store.requests("get");
        let equal = vec![matcher(MatchOp::Equal, "__name__", "series")];
        assert_eq!(passing(&blocks, equal).await.len(), series.len());
        gets.push(store.requests("get") - before);
    }
    assert_eq!(gets[1] + 1, gets[0]);
}
