use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::codec::Decompressor;
use lgtm_core::limits::Overrides;
use lgtm_core::storage::MemoryFile;
use lgtm_core::testing::{FaultPlan, StoreFault};

use super::super::compactor::tests::{DAY, MINUTE, Process, World, found, paths, settle, tenant};
use super::*;
use crate::bucket::object_name;
use crate::compact::CompactionMark;
use crate::index::{IndexReaderSettings, TENANT_LABEL, unpack};
use crate::limits::StreamSelector;

const HOUR: Duration = Duration::from_secs(3600);

/// Of tenant `a` streams of `y` are kept for a day, others for a day and a half; of `b` all.
fn world() -> World {
    let rule = StreamRetention {
        selector: StreamSelector::new(r#"{app="y"}"#).unwrap(),
        priority: 0,
        period: 24 * HOUR,
    };
    let of_a = Limits {
        retention_period: 36 * HOUR,
        retention_stream: vec![rule],
        ..Limits::default()
    };
    World {
        limits: Overrides::new(Limits::default(), HashMap::from([(tenant("a"), of_a)])),
        ..World::new()
    }
}

/// The chunks that index files name.
pub(in crate::components) async fn named(world: &World) -> BTreeSet<String> {
    let process = world.process(96);
    let mut out = BTreeSet::new();
    for path in paths(world, "index").await {
        let packed = process.bucket.get(&path).await.unwrap();
        let bytes = unpack(&packed, 1 << 20, &mut Decompressor::default()).unwrap();
        let file = Arc::new(MemoryFile::new(path.clone(), bytes));
        let reader = IndexReader::open(file, IndexReaderSettings::default()).await;
        let reader = reader.unwrap();
        for of in ["a", "b"] {
            let all = match path.split('/').collect::<Vec<_>>()[..] {
                [_, _, own, _] if own == of => reader.postings_all().await.unwrap(),
                [_, _, _, _] => continue,
                _ => reader.postings(TENANT_LABEL, of).await.unwrap(),
            };
            for series in reader.series(&all, &SeriesFilter::ALL).await.unwrap() {
                for chunk in &series.chunks {
                    let key = chunk_key(of, series.fingerprint, chunk);
                    out.insert(key.object_name(crate::chunk::KeyForm::StreamFolders));
                }
            }
        }
    }
    out
}

/// No chunk that nobody finds, no list, no mark.
pub(in crate::components) async fn assert_no_garbage(world: &World, context: &str) {
    let mut objects: BTreeSet<String> = paths(world, "a").await.into_iter().collect();
    objects.extend(paths(world, "b").await);
    assert_eq!(objects, named(world).await, "{context}");
    for folder in [LeavingChunks::FOLDER, CompactionMark::FOLDER] {
        assert_eq!(paths(world, folder).await, [""; 0], "{context}");
    }
}

pub(in crate::components) type Lines = BTreeMap<String, Vec<String>>;

pub(in crate::components) fn without(lines: &Lines, is_gone: impl Fn(&str) -> bool) -> Lines {
    let mut lines = lines.clone();
    for of in lines.values_mut() {
        of.retain(|l| !is_gone(l));
    }
    lines
}

pub(in crate::components) async fn rounds(world: &World, process: &Process) {
    settle(world, process).await;
    settle(world, process).await;
}

#[tokio::test]
async fn what_is_over_leaves_the_index_then_the_store_and_nothing_else_does() {
    let world = world();
    world.fill(3).await;
    let all = found(&world).await;
    let process = world.process(1);
    rounds(&world, &process).await;
    assert_eq!(found(&world).await, all);
    let counts = process.compactor.counts();
    assert_eq!(counts.chunks_expired.load(Ordering::Relaxed), 0);
    let chunks = paths(&world, "a").await;
    world.clock.advance(22 * HOUR);
    let is_y = |line: &str| line.starts_with("a y");
    let cancel = CancelToken::new();
    while found(&world).await == all {
        world.clock.advance(16 * MINUTE);
        process.compactor.compact(&cancel).await.unwrap();
    }
    assert_eq!(found(&world).await, without(&all, is_y));
    // Who still has the old files finds all of their chunks.
    assert_eq!(paths(&world, "a").await, chunks);
    rounds(&world, &process).await;
    assert_eq!(found(&world).await, without(&all, is_y));
    assert_no_garbage(&world, "y is over").await;
    assert_eq!(counts.chunks_expired.load(Ordering::Relaxed), 3);
    assert_eq!(counts.chunks_deleted.load(Ordering::Relaxed), 3);
    // The chunk around midnight is the last one.
    world.clock.advance(12 * HOUR);
    rounds(&world, &process).await;
    let is_early = |line: &str| line.starts_with("a") && !line.starts_with("a x 720");
    assert_eq!(found(&world).await, without(&all, is_early));
    assert_no_garbage(&world, "most is over").await;
    world.clock.advance(12 * HOUR);
    rounds(&world, &process).await;
    assert_eq!(found(&world).await, without(&all, |l| l.starts_with("a")));
    assert_no_garbage(&world, "all of a is over").await;
    let index = paths(&world, "index").await;
    assert!(index.iter().all(|p| p.contains("/b/")), "{index:?}");
    let told = process.compactor.progress().tenants();
    let [(of, progress)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(of, &tenant("b"));
    assert_eq!((progress.serving, progress.waiting_jobs), (1, 0));
    assert!(progress.last_success.is_some() && progress.last_error.is_none());
}

#[tokio::test]
async fn stopped_at_any_request_what_is_over_goes_and_leaves_nothing() {
    let past_y = |world: &World| world.clock.advance(26 * HOUR);
    let count = {
        let world = world();
        world.fill(2).await;
        past_y(&world);
        let process = world.process(1);
        settle(&world, &process).await;
        process.store.all_requests()
    };
    assert!(count > 30, "{count} requests");
    for stop in 1..=count {
        let world = world();
        world.fill(2).await;
        let all = found(&world).await;
        past_y(&world);
        let process = world.process(stop);
        process
            .store
            .fail_numbers(stop..u64::MAX, StoreFault::Denied);
        let is_y = |line: &str| line.starts_with("a y");
        for _ in 0..6 {
            let _ = process.compactor.compact(&CancelToken::new()).await;
            // Nothing but what is over is gone.
            assert_eq!(
                without(&found(&world).await, is_y),
                without(&all, is_y),
                "request {stop}"
            );
            world.clock.advance(16 * MINUTE);
        }
        let next = world.process(1000 + stop);
        rounds(&world, &next).await;
        assert_eq!(found(&world).await, without(&all, is_y), "request {stop}");
        assert_no_garbage(&world, &format!("request {stop}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_take_out_what_is_over_and_do_no_harm() {
    for seed in 0..8 {
        let world = world();
        world.fill(3).await;
        let all = found(&world).await;
        let (one, two) = (world.process(2 * seed), world.process(2 * seed + 1));
        for process in [&one, &two] {
            process.store.set_plan(FaultPlan {
                pauses: 5,
                lost_ack: 0.02,
                ..FaultPlan::default()
            });
        }
        world.clock.advance(26 * HOUR);
        let is_y = |line: &str| line.starts_with("a y");
        for _ in 0..10 {
            let cancel = CancelToken::new();
            let _ = tokio::join!(
                one.compactor.compact(&cancel),
                two.compactor.compact(&cancel)
            );
            assert_eq!(
                without(&found(&world).await, is_y),
                without(&all, is_y),
                "seed {seed}"
            );
            world.clock.advance(8 * MINUTE);
        }
        one.store.heal();
        rounds(&world, &one).await;
        assert_eq!(found(&world).await, without(&all, is_y), "seed {seed}");
        assert_no_garbage(&world, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn a_list_that_names_too_much_deletes_nothing_that_is_named() {
    let world = world();
    world.fill(1).await;
    let all = found(&world).await;
    let process = world.process(1);
    let chunks: Vec<ChunkKey> = paths(&world, "a")
        .await
        .iter()
        .map(|p| p.parse().unwrap())
        .collect();
    process.compactor.put_leaving(&chunks).await.unwrap();
    // An index file that cannot be read may name any of them.
    let broken = format!("index/index_{DAY}/1-x-1.tsdb.gz");
    process.bucket.put(&broken, "no index").await.unwrap();
    world.clock.advance(HOUR);
    let cancel = CancelToken::new();
    process.compactor.compact(&cancel).await.unwrap_err();
    process.bucket.put("@leaving/1-x.json", "{").await.unwrap();
    process.bucket.delete(&broken).await.unwrap();
    process.compactor.compact(&cancel).await.unwrap();
    assert_eq!(found(&world).await, all);
    let left = paths(&world, LeavingChunks::FOLDER).await;
    assert_eq!(left, ["@leaving/1-x.json"]);
    assert_eq!(
        process
            .compactor
            .counts()
            .chunks_deleted
            .load(Ordering::Relaxed),
        0
    );
}

/// A chunk that nothing names may have come again after it left: the index of that is still to come.
#[tokio::test]
async fn a_chunk_that_came_again_stays_until_a_later_list() {
    let world = world();
    world.fill(1).await;
    let process = world.process(1);
    let key = |checksum| ChunkKey {
        tenant: "a".into(),
        fingerprint: 0xa1,
        from_ms: TimestampMs::new(1_000),
        through_ms: TimestampMs::new(2_000),
        checksum,
    };
    let (again, gone, missing) = (key(1), key(2), key(3));
    let path = |key: &ChunkKey| object_name(&process.bucket, &process.compactor.periods, key);
    let compact = async || {
        world.clock.advance(3 * HOUR);
        process.compactor.compact(&CancelToken::new()).await
    };
    for key in [&again, &gone] {
        process.bucket.put(&path(key), "chunk").await.unwrap();
    }
    let all = [again.clone(), gone.clone(), missing];
    process.compactor.put_leaving(&all).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    process.bucket.put(&path(&again), "chunk").await.unwrap();
    compact().await.unwrap();
    assert!(process.bucket.exists(&path(&again)).await.unwrap());
    assert!(!process.bucket.exists(&path(&gone)).await.unwrap());
    assert_eq!(paths(&world, LeavingChunks::FOLDER).await.len(), 1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    compact().await.unwrap();
    assert!(!process.bucket.exists(&path(&again)).await.unwrap());
    assert_eq!(paths(&world, LeavingChunks::FOLDER).await, [""; 0]);
}

#[tokio::test]
async fn a_file_without_anything_that_is_over_is_read_once() {
    let world = world();
    world.fill(2).await;
    let process = world.process(1);
    world.clock.advance(14 * HOUR);
    rounds(&world, &process).await;
    let requests = process.store.all_requests();
    for _ in 0..5 {
        // Past the interval in which settled tables are listed.
        world.clock.advance(61 * MINUTE);
        process
            .compactor
            .compact(&CancelToken::new())
            .await
            .unwrap();
    }
    // Marks, lists, tables; and what is in the tables.
    let most = 5 * (3 + 2);
    assert!(process.store.all_requests() - requests <= most);
}
