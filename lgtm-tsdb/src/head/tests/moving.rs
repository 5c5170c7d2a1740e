//! Queries while what they ask for moves from the head into blocks.

use std::time::Duration;

use lgtm_core::Error;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::TimestampMs;

use super::*;
use crate::select::SeriesBatches;

async fn count(batches: &mut Box<dyn SeriesBatches>) -> usize {
    let mut n = 0;
    while let Some(batch) = batches.next_batch().await.unwrap() {
        for series in batch {
            n += samples(&series.chunks, TimeRange::ALL).unwrap().len();
        }
    }
    assert_eq!(batches.end().warnings, [] as [String; 0]);
    n
}

fn everything() -> SelectRequest {
    SelectRequest::new(vec![Matcher::equal("job", "x")], TimeRange::ALL).unwrap()
}

#[tokio::test]
async fn a_query_that_began_before_a_flush_sees_what_it_would_have_seen() {
    let s = Store::new(Limits::default());
    s.blocks.sync().await.unwrap();
    let tenant = TenantId::new("t").unwrap();
    let names: Vec<String> = (0..3000).map(|n| format!("m{n}")).collect();
    let samples: &[(i64, f64)] = &[(0, 1.0), (HOUR, 2.0), (3 * HOUR, 3.0)];
    let series: Vec<(&str, &[(i64, f64)])> = names.iter().map(|n| (n.as_str(), samples)).collect();
    let _ = s.push("t", &series).await;
    let querier = s.holders();
    let mut before = querier.select(&tenant, &everything()).await.unwrap();
    // One batch is read, the rest is asked for when all of it has moved.
    let first = before.next_batch().await.unwrap().unwrap().len();
    assert!(first < 3000);
    assert_eq!(s.flush(FlushScope::All).await, 2);
    s.heads.collect_idle();
    let mut after = querier.select(&tenant, &everything()).await.unwrap();
    assert_eq!(count(&mut before).await, 3 * (3000 - first));
    assert_eq!(count(&mut after).await, 9000);
    let kept = s.heads.get(&tenant).unwrap().chunk_count();
    assert!(kept > 0, "kept for the reader that began before");
    // When it is gone nothing is kept, and the series can be forgotten.
    drop(before);
    s.heads.drop_moved();
    assert_eq!(s.heads.get(&tenant).unwrap().chunk_count(), 0);
    assert_eq!(s.all("t").await.len(), 9000);
}

#[tokio::test]
async fn what_moved_is_not_flushed_again_and_not_in_a_checkpoint() {
    let mut s = Store::new(Limits::default());
    s.blocks.sync().await.unwrap();
    let tenant = TenantId::new("t").unwrap();
    let _ = s.push("t", &[("a", &[(0, 1.0)]), ("b", &[(5, 2.0)])]).await;
    let querier = s.holders();
    let mut before = querier.select(&tenant, &everything()).await.unwrap();
    assert_eq!(s.flush(FlushScope::All).await, 1);
    assert_eq!(
        s.flush(FlushScope::All).await,
        0,
        "it is in a block already"
    );
    s.heads.checkpoint().await.unwrap();
    assert_eq!(count(&mut before).await, 2);
    drop((before, querier));
    s.reopen();
    let heads = HeadSelect::new(
        Arc::clone(&s.heads),
        Executor::inline(tokio::runtime::Handle::current()),
    );
    let mut left = heads.select(&tenant, &everything()).await.unwrap();
    assert_eq!(count(&mut left).await, 0, "the block alone has it");
    assert_eq!(s.all("t").await.len(), 2);
}

/// Heads over a folder, at the time of `clock`.
fn retaining(
    dir: &std::path::Path,
    settings: &HeadSettings,
    clock: &Arc<ManualClock>,
) -> Arc<Heads> {
    let (disk, limits) = (
        Arc::new(LocalDisk::new(dir)),
        Overrides::fixed(Limits::default()),
    );
    let clock = Arc::clone(clock) as _;
    let (heads, log) = Heads::open(disk, ".", settings.clone(), limits, clock, 7).unwrap();
    let report = heads.replay(log).unwrap();
    assert!(report.is_whole(), "{:?}", report.remarks());
    Arc::new(heads)
}

/// Samples that `heads` answer with.
async fn held(heads: &Arc<Heads>) -> usize {
    let inline = Executor::inline(tokio::runtime::Handle::current());
    let heads = HeadSelect::new(Arc::clone(heads), inline);
    let tenant = TenantId::new("t").unwrap();
    count(&mut heads.select(&tenant, &everything()).await.unwrap()).await
}

#[tokio::test]
async fn what_moved_stays_over_restarts_until_its_time_is_over() {
    let settings = HeadSettings {
        retain_flushed: Duration::from_secs(60),
        ..HeadSettings::default()
    };
    let mut s = Store::new(Limits::default());
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at_ms(START));
    let clock = Arc::new(clock);
    s.heads = retaining(dir.path(), &settings, &clock);
    // Whole chunks in files, the open chunk, late samples; then a second flush 40 seconds later.
    let many: Vec<(i64, f64)> = (0..500).map(|n| (n * 1000, (n % 7) as f64)).collect();
    let _ = s.push("t", &[("a", &many), ("b", &[(0, 1.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    clock.advance(Duration::from_secs(40));
    let _ = s.push("t", &[("b", &[(500_000, 2.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    let _ = s.push("t", &[("b", &[(501_000, 2.0)])]).await;
    assert_eq!(held(&s.heads).await, 503);
    // However often it begins anew: what is flushed is neither flushed again nor forgotten, and it ends when it would have ended.
    for round in 0..3 {
        let closed = Arc::clone(&s.heads);
        closed.close();
        s.heads = retaining(dir.path(), &settings, &clock);
        assert_eq!(held(&s.heads).await, 503, "round {round}");
        s.heads.drop_moved();
        assert_eq!(held(&s.heads).await, 503, "round {round}");
        clock.advance(Duration::from_secs(5));
        s.heads.checkpoint().await.unwrap();
    }
    clock.advance(Duration::from_secs(5));
    s.heads.drop_moved();
    assert_eq!(held(&s.heads).await, 2, "the first flush is over");
    s.heads.close();
    s.heads = retaining(dir.path(), &settings, &clock);
    // The log names it all the same, as it was written before.
    assert_eq!(held(&s.heads).await, 2);
    assert_eq!(s.flush(FlushScope::All).await, 1, "only what no block has");
    clock.advance(Duration::from_secs(40));
    s.heads.drop_moved();
    assert_eq!(held(&s.heads).await, 1, "the second one is over, too");
    assert_eq!(s.all("t").await.len(), 503);
    // Who keeps nothing takes nothing back.
    s.heads.close();
    s.heads = retaining(dir.path(), &HeadSettings::default(), &clock);
    assert_eq!(held(&s.heads).await, 0);
}

#[tokio::test]
async fn what_moved_can_be_read_for_a_while_when_readers_are_elsewhere() {
    let settings = HeadSettings {
        retain_flushed: Duration::from_secs(60),
        ..HeadSettings::default()
    };
    let mut s = Store::new(Limits::default());
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at_ms(START));
    let clock = Arc::new(clock);
    s.heads = retaining(dir.path(), &settings, &clock);
    let tenant = TenantId::new("t").unwrap();
    let heads = HeadSelect::new(
        Arc::clone(&s.heads),
        Executor::inline(tokio::runtime::Handle::current()),
    );
    for n in 0..3 {
        let _ = s.push("t", &[("a", &[(n, 1.0)])]).await;
        assert_eq!(s.flush(FlushScope::All).await, 1);
        s.heads.drop_moved();
        let mut all = heads.select(&tenant, &everything()).await.unwrap();
        assert_eq!(count(&mut all).await, n as usize + 1);
    }
    clock.advance(Duration::from_secs(60));
    s.heads.drop_moved();
    let mut left = heads.select(&tenant, &everything()).await.unwrap();
    assert_eq!(count(&mut left).await, 0);
    assert_eq!(s.all("t").await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn readers_elsewhere_look_for_blocks_once_when_an_ingester_has_gone() {
    let store = FaultyStore::new(Arc::new(object_store::memory::InMemory::new()), 1);
    let backend = Backend::new(Arc::new(store.clone()), BackendKind::Memory);
    let s = Store::over(backend, Limits::default(), HeadSettings::default());
    let reader = BucketBlocks::builder(s.bucket.clone()).build().unwrap();
    let tenant = TenantId::new("t").unwrap();
    let _ = s.push("t", &[("a", &[(0, 1.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    reader.sync().await.unwrap();
    let _ = s.push("t", &[("b", &[(0, 1.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    let after = |departed: &[&str]| {
        let departed = departed.iter().map(|d| (*d).to_owned());
        everything().after(departed.collect())
    };
    let found = async |departed: &[&str]| {
        let mut found = reader.select(&tenant, &after(departed)).await.unwrap();
        count(&mut found).await
    };
    assert_eq!(found(&[]).await, 1, "the second block is not known");
    // A store that is away makes a warning of it, and it is tried again.
    store.set_plan(FaultPlan {
        denied: true,
        ..FaultPlan::default()
    });
    let names = reader.series(&tenant, &after(&["x@1"])).await.unwrap();
    assert!(
        names.warnings[0].contains("an ingester has gone"),
        "{:?}",
        names.warnings
    );
    store.heal();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(reader.may_hold(&tenant, &after(&["x@1"])));
    assert_eq!(found(&["x@1"]).await, 2);
    let lists = store.requests("list");
    for _ in 0..3 {
        let request = after(&["x@1"]);
        let names = reader.label_values(&tenant, "__name__", &request);
        assert_eq!(names.await.unwrap().items.len(), 2);
        assert_eq!(found(&["x@1"]).await, 2);
    }
    assert_eq!(
        store.requests("list"),
        lists,
        "each departure costs one look"
    );
    let _ = s.push("t", &[("c", &[(0, 1.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    assert_eq!(found(&["x@1"]).await, 2);
    assert_eq!(found(&["x@1", "y@2"]).await, 3);
}

#[tokio::test]
async fn a_search_is_stopped_and_lists_are_bounded() {
    let s = Store::new(Limits::default());
    let names: Vec<String> = (0..600).map(|n| format!("metric_{n}")).collect();
    let samples: &[(i64, f64)] = &[(0, 1.0)];
    let series: Vec<(&str, &[(i64, f64)])> = names.iter().map(|n| (n.as_str(), samples)).collect();
    let _ = s.push("t", &series).await;
    let head = s.heads.get(&TenantId::new("t").unwrap()).unwrap();
    let snapshot = head.parts.generations.enter();
    let cancel = CancelToken::new();
    assert_eq!(
        head.matching(&everything(), &snapshot, &cancel)
            .unwrap()
            .len(),
        600
    );
    let mut bounded = everything();
    bounded.bounds.max_list_bytes = 1000;
    let error = head.matching(&bounded, &snapshot, &cancel).unwrap_err();
    assert!(
        error.to_string().contains("max_label_query_bytes"),
        "{error}"
    );
    assert!(
        head.values_of("__name__", &bounded, &snapshot, &cancel)
            .is_err()
    );
    cancel.cancel();
    let stopped = head.matching(&everything(), &snapshot, &cancel);
    assert!(matches!(stopped, Err(Error::Cancelled(_))), "{stopped:?}");
}

#[tokio::test]
async fn searches_agree_with_the_index_whatever_is_asked() {
    use lgtm_core::model::MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let s = Store::new(Limits::default());
    let mut batch = WriteBatch::default();
    for n in 0..700 {
        let (pod, zone) = (format!("p{n}"), format!("z{}", n % 3));
        let mut pairs = vec![("__name__", "m"), ("job", "x"), ("pod", pod.as_str())];
        if n % 2 == 0 {
            pairs.push(("zone", zone.as_str()));
        }
        let labels = Labels::from_pairs(pairs).unwrap();
        let sample = Sample {
            t_ms: TimestampMs::new(START),
            value: 1.0,
        };
        batch.push_series(labels.iter(), &[sample]);
    }
    let tenant = TenantId::new("t").unwrap();
    let _ = s.heads.append(&tenant, &batch).await.unwrap();
    let head = s.heads.get(&tenant).unwrap();
    let snapshot = head.parts.generations.enter();
    let some = [
        (Equal, "job", "x"),
        (Equal, "pod", "p5"),
        (Equal, "zone", ""),
        (Regex, "pod", "p1|p2|p3"),
        (Regex, "pod", "p.*7"),
        (Regex, "zone", "z1|"),
        (NotEqual, "zone", "z2"),
        (NotEqual, "pod", ""),
        (NotRegex, "pod", "p[0-4].*"),
        (NotRegex, "zone", ".+"),
    ];
    let matcher = |(op, name, value)| Matcher::new(op, name, value).unwrap();
    for a in some {
        for b in some {
            for c in some {
                let matchers = vec![matcher(a), matcher(b), matcher(c)];
                let wanted = head.index.read().select(&matchers);
                let request = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
                let found = head
                    .matching(&request, &snapshot, &CancelToken::new())
                    .unwrap();
                let mut ids: Vec<_> = found.iter().map(|(_, id)| *id).collect();
                assert!(found.is_sorted());
                ids.sort_unstable();
                assert_eq!(ids, wanted, "{:?}", request.matchers);
            }
        }
    }
}

#[tokio::test]
async fn years_of_old_data_leave_others_their_turn() {
    let s = Store::new(Limits::default());
    let ranges: i64 = 40;
    let samples: Vec<(i64, f64)> = (0..ranges).map(|n| (n * 2 * HOUR, n as f64)).collect();
    let _ = s.push("years", &[("up", &samples)]).await;
    let recent: &[(i64, f64)] = &[(0, 1.0), (5 * HOUR, 2.0)];
    let _ = s.push("recent", &[("up", recent)]).await;
    let (mut rounds, mut blocks) = (Vec::new(), 0);
    loop {
        let written = s.flush(FlushScope::Complete).await;
        if written == 0 {
            break;
        }
        rounds.push(written);
        blocks += written;
        assert_eq!(s.all("years").await.len(), samples.len());
    }
    // The newest one and a half ranges of a tenant stay.
    assert_eq!(rounds[0], 16 + 1, "{rounds:?}");
    assert_eq!(blocks as i64, ranges - 2 + 1, "{rounds:?}");
}
