//! The outcome of a batch for every order of answers, as the reference implementation has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shared::documents;
use lgtm_core::Error;
use lgtm_core::exec::TaskGroup;
use lgtm_ring::batch::{Batch, do_batch, is_client_error};
use lgtm_ring::instance::Instance;
use lgtm_ring::ring::{Operation, Ring, RingSettings};
use lgtm_ring::token::Token;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

const NOW_S: i64 = 1_800_000_000;

fn int(v: &Value) -> usize {
    v.as_u64().unwrap() as usize
}

/// A ring whose walk from key 0 meets the instances in the order 3, 1, 2 … such that the expired ones come as the document lists them.
fn ring_of(case: &Value) -> Ring {
    let (count, expired) = (int(&case["instances"]), int(&case["expired_instances"]));
    let order: Vec<usize> = match case.get("error").and_then(Value::as_str) {
        // The error names the unhealthy in the order of the walk.
        Some(error) => {
            let listed = error.rsplit("instances: ").next().unwrap().split(',');
            let number = |addr: &str| {
                addr.trim_start_matches("10.0.0.")
                    .split(':')
                    .next()?
                    .parse()
                    .ok()
            };
            let mut order: Vec<usize> = listed.filter_map(number).collect();
            order.extend(
                (1..=count)
                    .filter(|n| !order.contains(n))
                    .collect::<Vec<_>>(),
            );
            order
        }
        None => (1..=count).collect(),
    };
    let instances = order.iter().enumerate().map(|(place, n)| Instance {
        id: format!("ingester-{n}"),
        addr: format!("10.0.0.{n}:9095"),
        timestamp_s: if place < expired { NOW_S - 600 } else { NOW_S },
        tokens: [Token(place as u32 * 1000 + 1000)].into(),
        ..Instance::default()
    });
    let settings = RingSettings {
        replication_factor: int(&case["replication_factor"]),
        ..RingSettings::default()
    };
    Ring::new(settings, &instances.collect())
}

#[tokio::test]
async fn every_order_of_answers_has_the_outcome_of_the_reference() {
    for (_, document) in documents("golden/ring", "cases") {
        for case in document["cases"].as_array().unwrap() {
            if case.get("results_in_order").is_some() {
                check(case).await;
            }
        }
    }
}

async fn check(case: &Value) {
    let ring = ring_of(case);
    let answers: Vec<String> = case["results_in_order"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a.as_str().unwrap().to_owned())
        .collect();
    let tasks = TaskGroup::new(Handle::current());
    // The answer of place n is given when n answers were given before.
    let turns: Arc<Vec<Semaphore>> =
        Arc::new((0..=answers.len()).map(|_| Semaphore::new(0)).collect());
    turns[0].add_permits(1);
    let calls = AtomicUsize::new(0);
    let call = |_, _| {
        let place = calls.fetch_add(1, Ordering::SeqCst);
        let (turns, answer) = (Arc::clone(&turns), answers[place].clone());
        async move {
            turns[place].acquire().await.unwrap().forget();
            // The next one's turn comes after this answer was noted: it runs on the same thread, later.
            turns[place + 1].add_permits(1);
            match answer.as_str() {
                "ok" => Ok(()),
                "client" => Err(Error::InvalidInput(format!("client-{place}"))),
                _ => Err(Error::Unavailable(format!("server-{place}"))),
            }
        }
    };
    let batch = Batch {
        ring: &ring,
        operation: Operation::WRITE,
        keys: &[Token(0)],
        now_s: NOW_S,
        is_client_error,
    };
    let outcome = do_batch(batch, &tasks, call, || {}).await;
    assert_eq!(calls.load(Ordering::SeqCst), int(&case["calls"]), "{case}");
    let expected = case.get("error_body").or(case.get("error"));
    match (outcome, expected) {
        (Ok(()), None) => assert_eq!(case["outcome"], "success"),
        (Err(failure), Some(words)) => {
            assert_eq!(Value::from(failure.error.to_string()), *words, "{case}");
            let family = if is_client_error(&failure.error) {
                "client error"
            } else {
                "server error"
            };
            let rejected = case["outcome"] == "rejected before any call";
            assert!(rejected || case["outcome"] == family, "{case}");
        }
        (outcome, _) => panic!("{case}: {outcome:?}"),
    }
    let _ = tasks.join().await;
}
