//! `__query_shard__` cuts the series of every holder into disjoint parts, and is no label.

use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::model::{
    Labels, MatchOp, Matcher, Sample, TenantId, TextSet, TimeRange, TimestampMs,
};
use lgtm_core::{ErrorKind, Result};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::select::{Listed, QUERY_SHARD_LABEL, SelectRequest};

const T_MS: i64 = 1_700_000_000_000;

fn request(shard: &str) -> Result<SelectRequest> {
    let matchers = vec![
        Matcher::equal(QUERY_SHARD_LABEL, shard),
        Matcher::equal("job", "x"),
    ];
    SelectRequest::new(matchers, TimeRange::ALL)
}

/// The series that a select brings, each with chunks, and those that the label calls tell of.
async fn shard(db: &Tsdb, shard: &str) -> Vec<Labels> {
    let (source, tenant) = (db.source(), TenantId::anonymous());
    let asked = request(shard).unwrap();
    assert_eq!(asked.matchers.len(), 1, "the shard is no matcher");
    let mut batches = source.select(&tenant, &asked).await.unwrap();
    let mut out = Vec::new();
    while let Some(batch) = batches.next_batch().await.unwrap() {
        assert!(batch.iter().all(|s| !s.chunks.is_empty()));
        out.extend(batch.into_iter().map(|s| s.labels));
    }
    let used = batches.end().stats;
    assert_eq!(
        (used.series, used.chunks),
        (out.len() as u64, out.len() as u64)
    );
    assert_eq!(source.series(&tenant, &asked).await.unwrap().items, out);
    let values: TextSet = out.iter().filter_map(|l| l.get("n")).collect();
    let told = source.label_values(&tenant, "n", &asked).await.unwrap();
    assert_eq!(told, Listed::whole(values));
    out
}

#[tokio::test]
async fn shards_are_disjoint_and_together_everything_in_head_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(object_store::memory::InMemory::new());
    let builder = Tsdb::builder(dir.path(), bucket).clock(Arc::new(ManualClock::at_ms(T_MS)));
    let db = builder.open().await.unwrap();
    let series: Vec<_> = (0..200)
        .map(|n| {
            let n = n.to_string();
            let pairs = [("__name__", "up"), ("job", "x"), ("n", n.as_str())];
            let labels = Labels::from_pairs(pairs).unwrap();
            (
                labels,
                vec![Sample {
                    t_ms: TimestampMs::new(T_MS),
                    value: 1.0,
                }],
            )
        })
        .collect();
    let report = db.append(&TenantId::anonymous(), &series).await.unwrap();
    assert_eq!(report.samples, 200);
    let mut wanted: Vec<Labels> = series.into_iter().map(|(l, _)| l).collect();
    wanted.sort();
    for flushed in [false, true] {
        if flushed {
            assert_eq!(db.flush().await.unwrap().len(), 1);
        }
        for count in [1, 2, 7] {
            let mut all = Vec::new();
            for n in 1..=count {
                let part = shard(&db, &format!("{n}_of_{count}")).await;
                let by_hash = |l: &Labels| l.stable_hash() % count == n - 1;
                assert!(part.iter().all(by_hash) && part.is_sorted());
                all.extend(part);
            }
            all.sort();
            assert_eq!(all, wanted, "{count} shards, flushed: {flushed}");
        }
    }
}

#[test]
fn what_is_no_shard_is_refused_by_name() {
    for text in [
        "",
        "1",
        "0_of_4",
        "5_of_4",
        "1_of_0",
        "-1_of_4",
        "1_of_4294967296",
        "a_of_b",
    ] {
        let error = request(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
    let not = Matcher::new(MatchOp::NotEqual, QUERY_SHARD_LABEL, "1_of_4").unwrap();
    let twice = vec![Matcher::equal(QUERY_SHARD_LABEL, "1_of_4"); 2];
    for matchers in [vec![not], twice] {
        assert!(SelectRequest::new(matchers, TimeRange::ALL).is_err());
    }
}
