use std::collections::BTreeSet;

use lgtm_core::testing::{FaultPlan, StoreFault};
use lgtm_core::units::ByteSize;

use super::super::compactor::tests::{MINUTE, World, found, paths, settle};
use super::super::expiry::tests::{assert_no_garbage, rounds};
use super::*;
use crate::chunk::ChunkKey;

/// Chunks of three lines each, of a day that is over.
async fn filled() -> (World, super::super::expiry::tests::Lines) {
    let world = World {
        merge_chunks_below: ByteSize::kib(64),
        ..World::new()
    };
    world.fill(4).await;
    let all = found(&world).await;
    world.clock.advance(15 * 60 * MINUTE);
    (world, all)
}

fn streams(paths: &[String]) -> BTreeSet<u64> {
    let keys = paths.iter().map(|p| p.parse::<ChunkKey>().unwrap());
    keys.map(|k| k.fingerprint).collect()
}

#[tokio::test]
async fn small_chunks_of_a_stream_become_one() {
    let (world, all) = filled().await;
    let before = paths(&world, "a").await;
    // Five and the one around midnight of one stream, four of the other.
    assert_eq!(before.len(), 6 + 4);
    let process = world.process(1);
    rounds(&world, &process).await;
    let after = paths(&world, "a").await;
    assert_eq!(after.len(), 2 + 1, "{after:?}");
    assert_eq!(streams(&after), streams(&before));
    assert_eq!(found(&world).await, all);
    assert_no_garbage(&world, "merged").await;
    let counts = process.compactor.counts();
    assert_eq!(counts.chunks_merged.load(Ordering::Relaxed), 5 + 4 + 4);
    // Late ones are merged with what is there.
    world.fill(4).await;
    settle(&world, &process).await;
    rounds(&world, &process).await;
    assert_eq!(found(&world).await, all);
    assert_no_garbage(&world, "merged again").await;
}

#[tokio::test]
async fn stopped_at_any_request_all_are_merged_and_nothing_is_left_behind() {
    let count = {
        let (world, _) = filled().await;
        let process = world.process(1);
        rounds(&world, &process).await;
        process.store.all_requests()
    };
    assert!(count > 60, "{count} requests");
    for stop in 1..=count {
        let (world, all) = filled().await;
        let process = world.process(stop);
        process
            .store
            .fail_numbers(stop..u64::MAX, StoreFault::Denied);
        for _ in 0..12 {
            let done = process.compactor.compact(&CancelToken::new()).await;
            assert_eq!(found(&world).await, all, "request {stop}");
            world.clock.advance(16 * MINUTE);
            if done.is_err() {
                break;
            }
        }
        let next = world.process(1000 + stop);
        rounds(&world, &next).await;
        rounds(&world, &next).await;
        assert_eq!(found(&world).await, all, "request {stop}");
        assert_eq!(paths(&world, "a").await.len(), 3, "request {stop}");
        assert_no_garbage(&world, &format!("request {stop}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_merge_and_do_no_harm() {
    for seed in 0..6 {
        let (world, all) = filled().await;
        let (one, two) = (world.process(2 * seed), world.process(2 * seed + 1));
        for process in [&one, &two] {
            process.store.set_plan(FaultPlan {
                pauses: 5,
                lost_ack: 0.02,
                ..FaultPlan::default()
            });
        }
        for _ in 0..10 {
            let cancel = CancelToken::new();
            let _ = tokio::join!(
                one.compactor.compact(&cancel),
                two.compactor.compact(&cancel)
            );
            assert_eq!(found(&world).await, all, "seed {seed}");
            world.clock.advance(8 * MINUTE);
        }
        one.store.heal();
        rounds(&world, &one).await;
        rounds(&world, &one).await;
        assert_eq!(found(&world).await, all, "seed {seed}");
        assert_no_garbage(&world, &format!("seed {seed}")).await;
    }
}

#[tokio::test]
async fn a_damaged_chunk_keeps_its_group_as_it_is() {
    let (world, _) = filled().await;
    let process = world.process(1);
    let chunks = paths(&world, "b").await;
    let mut bytes = process.bucket.get(&chunks[0]).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    process.bucket.put(&chunks[0], bytes).await.unwrap();
    rounds(&world, &process).await;
    assert_eq!(paths(&world, "b").await, chunks);
    assert_eq!(paths(&world, "a").await.len(), 3);
    assert!(process.compactor.counts().damaged.load(Ordering::Relaxed) > 0);
}
