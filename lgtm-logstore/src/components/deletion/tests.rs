use lgtm_core::clock::Clock;
use lgtm_core::limits::Overrides;
use lgtm_core::model::Matcher;
use lgtm_core::testing::{FaultPlan, StoreFault};

use super::super::compactor::tests::{MINUTE, Process, World, found, paths, settle, tenant};
use super::super::expiry::tests::{Lines, assert_no_garbage, rounds, without};
use super::*;
use crate::limits::Limits;
use crate::select::{Select, SelectRequest};

/// One line of each chunk of `a`, all of one chunk, and nothing of `b`, which has the same lines.
const QUERIES: [&str; 2] = [
    r#"{app=~"x|y"} |~ " 0$""#,
    r#"{app="x", only_a="1"} |= "a x 1 ""#,
];

fn is_deleted(line: &str) -> bool {
    line.starts_with("a") && (line.ends_with(" 0") || line.starts_with("a x 1 "))
}

fn world() -> World {
    World {
        deletes: true,
        ..World::new()
    }
}

/// Takes the requests, for all times so far.
async fn ask(world: &World) {
    let process = world.process(90);
    let now_ms = world.clock.now_ms();
    for query in QUERIES {
        let added = process.deletes.add(&tenant("a"), query, 0, now_ms).await;
        added.unwrap();
    }
}

async fn filled() -> (World, Lines) {
    let world = world();
    world.fill(3).await;
    let all = found(&world).await;
    // The chunk around midnight is in the past, too.
    world.clock.advance(13 * 60 * MINUTE);
    ask(&world).await;
    (world, all)
}

async fn states(process: &Process) -> Vec<bool> {
    process.deletes.sync().await.unwrap();
    let all = process.deletes.list(&tenant("a"));
    all.iter().map(|r| r.processed_ms.is_some()).collect()
}

async fn many_rounds(world: &World, process: &Process) {
    for _ in 0..3 {
        rounds(world, process).await;
    }
}

/// Rounds until the requests are done and nothing is left of the work.
async fn finish(world: &World, process: &Process) {
    for _ in 0..60 {
        world.clock.advance(16 * MINUTE);
        process
            .compactor
            .compact(&CancelToken::new())
            .await
            .unwrap();
        let is_done = !states(process).await.contains(&false);
        let mut left = paths(world, LeavingChunks::FOLDER).await;
        left.extend(paths(world, crate::compact::CompactionMark::FOLDER).await);
        if is_done && left.is_empty() {
            return;
        }
    }
    panic!("the requests are not done");
}

#[tokio::test]
async fn chunks_are_written_anew_without_what_is_to_be_deleted() {
    let (world, all) = filled().await;
    let process = world.process(1);
    // It can still be cancelled.
    process
        .compactor
        .compact(&CancelToken::new())
        .await
        .unwrap();
    assert_eq!(found(&world).await, all);
    assert_eq!(states(&process).await, [false, false]);
    many_rounds(&world, &process).await;
    assert_eq!(found(&world).await, without(&all, is_deleted));
    assert_no_garbage(&world, "deleted").await;
    assert_eq!(states(&process).await, [true, true]);
    let counts = process.compactor.counts();
    let rewritten = counts.chunks_rewritten.load(Ordering::Relaxed);
    // x 0, x 2, x 3, three of y, and the one around midnight, which stands in two tables.
    assert!((7..=8).contains(&rewritten), "{rewritten} chunks");
    assert_eq!(counts.damaged.load(Ordering::Relaxed), 0);
    // Done is done.
    let requests = process.store.all_requests();
    process
        .compactor
        .compact(&CancelToken::new())
        .await
        .unwrap();
    assert!(process.store.all_requests() - requests <= 8);
    assert_eq!(counts.chunks_rewritten.load(Ordering::Relaxed), rewritten);
}

#[tokio::test]
async fn volumes_and_lists_of_streams_are_those_of_what_is_left() {
    let (world, all) = filled().await;
    let process = world.process(1);
    process.deletes.sync().await.unwrap();
    let now_ms = world.clock.now_ms();
    // A stream of which nothing is left.
    let stream = r#"{app="y"}"#;
    let added = process.deletes.add(&tenant("a"), stream, 0, now_ms).await;
    added.unwrap();
    many_rounds(&world, &process).await;
    assert!(!states(&process).await.contains(&false));
    let left = without(&all, |line| is_deleted(line) || line.starts_with("a y"));
    assert_eq!(found(&world).await, left);
    let reader = world.reader();
    reader.sync().await.unwrap();
    let any = vec![Matcher::regex("app", ".+").unwrap()];
    let request = SelectRequest::new(any, TimeRangeNs::ALL);
    for (of, apps) in [("a", "x"), ("b", "secret")] {
        let volumes = reader.volumes(&tenant(of), &request).await.unwrap().items;
        let [volume] = &volumes[..] else {
            panic!("{volumes:?}");
        };
        assert_eq!(volume.entries, left[of].len() as u64, "{of}");
        assert_eq!(volume.labels.get("app"), Some(apps));
        let series = reader.series(&tenant(of), &request).await.unwrap().items;
        assert_eq!(series, std::slice::from_ref(&volume.labels));
        let of = tenant(of);
        let values = reader.label_values(&of, "app", &request);
        assert_eq!(
            values.await.unwrap().items.iter().collect::<Vec<_>>(),
            [apps]
        );
    }
}

#[tokio::test]
async fn what_may_only_be_hidden_or_was_cancelled_stays() {
    let filter_only = Limits {
        deletion_mode: DeletionMode::FilterOnly,
        ..Limits::default()
    };
    for is_cancelled in [false, true] {
        let (mut world, all) = filled().await;
        if !is_cancelled {
            world.limits = Overrides::fixed(filter_only.clone());
        }
        let process = world.process(1);
        if is_cancelled {
            process.deletes.sync().await.unwrap();
            for request in process.deletes.list(&tenant("a")) {
                let of = tenant("a");
                let cancelled = process.deletes.cancel(&of, &request.id, false).await;
                cancelled.unwrap();
            }
            let generation = process.deletes.generation(&tenant("a")).unwrap();
            let left = format!("@deletes/a/generation-{generation}");
            assert_eq!(paths(&world, "@deletes").await, [left]);
            let other = world.process(2);
            other.deletes.sync().await.unwrap();
            assert_eq!(other.deletes.generation(&tenant("a")), Some(generation));
        }
        many_rounds(&world, &process).await;
        assert_eq!(found(&world).await, all);
        assert!(!states(&process).await.contains(&true));
    }
}

#[tokio::test]
async fn stopped_at_any_request_all_of_it_is_deleted_and_nothing_is_left_behind() {
    const ROUNDS: usize = 8;
    let due = 125 * MINUTE;
    let count = {
        let (world, _) = filled().await;
        world.clock.advance(due);
        let process = world.process(1);
        for _ in 0..ROUNDS {
            process
                .compactor
                .compact(&CancelToken::new())
                .await
                .unwrap();
            world.clock.advance(16 * MINUTE);
        }
        process.store.all_requests()
    };
    assert!(count > 80, "{count} requests");
    for stop in 1..=count {
        let (world, all) = filled().await;
        let left = without(&all, is_deleted);
        world.clock.advance(due);
        let process = world.process(stop);
        process
            .store
            .fail_numbers(stop..u64::MAX, StoreFault::Denied);
        for _ in 0..ROUNDS {
            let done = process.compactor.compact(&CancelToken::new()).await;
            world.clock.advance(16 * MINUTE);
            if done.is_err() {
                break;
            }
        }
        // Nothing but what is to be deleted is gone.
        let now = without(&found(&world).await, is_deleted);
        assert_eq!(now, left, "request {stop}");
        let next = world.process(1000 + stop);
        finish(&world, &next).await;
        assert_eq!(found(&world).await, left, "request {stop}");
        assert_no_garbage(&world, &format!("request {stop}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_delete_and_do_no_harm() {
    for seed in 0..6 {
        let (world, all) = filled().await;
        let left = without(&all, is_deleted);
        let (one, two) = (world.process(2 * seed), world.process(2 * seed + 1));
        for process in [&one, &two] {
            process.store.set_plan(FaultPlan {
                pauses: 5,
                lost_ack: 0.02,
                ..FaultPlan::default()
            });
        }
        world.clock.advance(120 * MINUTE);
        for _ in 0..12 {
            let cancel = CancelToken::new();
            let _ = tokio::join!(
                one.compactor.compact(&cancel),
                two.compactor.compact(&cancel)
            );
            let now = without(&found(&world).await, is_deleted);
            assert_eq!(now, left, "seed {seed}");
            world.clock.advance(8 * MINUTE);
        }
        one.store.heal();
        many_rounds(&world, &one).await;
        assert_eq!(found(&world).await, left, "seed {seed}");
        assert_no_garbage(&world, &format!("seed {seed}")).await;
        assert_eq!(states(&one).await, [true, true], "seed {seed}");
    }
}

/// What one round has put and not yet named in an index is not the other's to forget.
#[tokio::test(start_paused = true)]
async fn two_rounds_of_one_process_delete_and_do_no_harm() {
    for late in 0..40 {
        let (world, all) = filled().await;
        let left = without(&all, is_deleted);
        let process = world.process(late);
        process.store.set_plan(FaultPlan {
            pauses: 5,
            ..FaultPlan::default()
        });
        world.clock.advance(125 * MINUTE);
        for _ in 0..8 {
            let cancel = CancelToken::new();
            let second = async {
                for _ in 0..late * 10 {
                    tokio::task::yield_now().await;
                }
                process.compactor.compact(&cancel).await
            };
            let (one, two) = tokio::join!(process.compactor.compact(&cancel), second);
            one.and(two).unwrap();
            world.clock.advance(16 * MINUTE);
            let now = without(&found(&world).await, is_deleted);
            assert_eq!(now, left, "late by {late}");
        }
        many_rounds(&world, &process).await;
        assert_eq!(found(&world).await, left, "late by {late}");
    }
}

#[tokio::test]
async fn a_damaged_chunk_keeps_its_request_open_and_the_rest_is_deleted() {
    let (world, all) = filled().await;
    let process = world.process(1);
    let chunks = paths(&world, "a").await;
    let sound = process.bucket.get(&chunks[0]).await.unwrap();
    let mut bytes = sound.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    process.bucket.put(&chunks[0], bytes).await.unwrap();
    many_rounds(&world, &process).await;
    assert!(states(&process).await.contains(&false));
    assert!(process.compactor.counts().damaged.load(Ordering::Relaxed) > 0);
    assert_eq!(
        paths(&world, "a")
            .await
            .iter()
            .filter(|p| **p == chunks[0])
            .count(),
        1
    );
    // Mended, it follows.
    process.bucket.put(&chunks[0], sound).await.unwrap();
    settle(&world, &process).await;
    many_rounds(&world, &process).await;
    assert_eq!(found(&world).await, without(&all, is_deleted));
    assert_eq!(states(&process).await, [true, true]);
    assert_no_garbage(&world, "mended").await;
}
