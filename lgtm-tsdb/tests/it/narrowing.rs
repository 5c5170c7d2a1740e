//! However a block finds its series, by postings or by looking at labels, they are those that the matchers say.

use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::model::{Labels, MatchOp, Matcher, Sample, TenantId, TimeRange, TimestampMs};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::select::SelectRequest;

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
            }
        }
    }
    db.close().await.unwrap();
}
