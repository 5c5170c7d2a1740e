use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::ErrorKind;
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;

use crate::instance::{Instance, InstanceState};
use crate::kv::{Kv, MemoryKv};
use crate::store::RingStore;
use crate::testing::TokioClock;
use crate::token::Token;
use crate::watch::{RingHandle, RingWatcher};

const NOW_S: i64 = 1_800_000_000;

async fn put(store: &RingStore, id: &str, state: InstanceState, age_s: i64) {
    let instance = Instance {
        id: id.into(),
        state,
        zone: "z".into(),
        timestamp_s: NOW_S - age_s,
        tokens: [Token(id.len() as u32)].into(),
        ..Instance::default()
    };
    let insert = |ring: &mut crate::instance::RingDesc| {
        ring.insert(instance.clone());
        Ok(true)
    };
    store.update(insert).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn views_follow_the_key_and_rubbish_is_counted_and_ignored() {
    let kv = MemoryKv::new();
    let store = RingStore::new(Arc::new(kv.clone()), "ring").unwrap();
    put(&store, "a", InstanceState::Active, 5).await;
    let registry = Registry::new();
    let watcher = RingWatcher::builder("ingester", store.clone())
        .metrics(registry.clone(), "cortex_")
        .clock(Arc::new(TokioClock::starting_at_ms(NOW_S * 1000)))
        .build()
        .unwrap();
    let mut handle = watcher.handle();
    assert!(handle.current().is_empty());
    watcher.start().await.unwrap();
    assert_eq!(handle.changed().await.len(), 1);
    let stop = CancelToken::new();
    let life = watcher.run(stop.clone());
    let test = async {
        put(&store, "bb", InstanceState::Joining, 100).await;
        while handle.changed().await.len() < 2 {}
        let text = registry.encode();
        for line in [
            "cortex_ring_members{name=\"ingester\",state=\"ACTIVE\"} 1",
            "cortex_ring_members{name=\"ingester\",state=\"Unhealthy\"} 1",
            "cortex_ring_zone_members{name=\"ingester\",zone=\"z\",state=\"Unhealthy\"} 1",
            "cortex_ring_tokens_total{name=\"ingester\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let mut rubbish = |_| Ok(Some(Bytes::from_static(b"rubbish")));
        kv.cas("ring", &mut rubbish).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handle.current().len(), 2, "the last ring keeps serving");
        let line = "cortex_ring_invalid_values_total{name=\"ingester\"} 1";
        assert!(registry.encode().contains(line));
        let refused = store.forget("a").await.unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::Corrupt,
            "what is no ring is not overwritten"
        );
        kv.delete("ring").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handle.current().len(), 2);
        put(&store, "ccc", InstanceState::Active, 0).await;
        while handle.changed().await.len() != 1 {}
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(life, test);
    ran.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_state_and_for_calm() {
    let store = RingStore::new(Arc::new(MemoryKv::new()), "ring").unwrap();
    let watcher = RingWatcher::builder("x", store.clone()).build().unwrap();
    let handle = watcher.handle();
    let second = Duration::from_secs(1);
    let active = [InstanceState::Active];
    let late = handle.wait_for_state("a", &active, second).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    let stop = CancelToken::new();
    let life = watcher.run(stop.clone());
    let members = async {
        // A newcomer every 2 s for 10 s, and heartbeats of one that do not count.
        for n in 1..=5 {
            put(&store, &"i".repeat(n), InstanceState::Joining, 0).await;
            tokio::time::sleep(2 * second).await;
        }
        for _ in 0..20 {
            put(&store, "i", InstanceState::Active, 0).await;
            tokio::time::sleep(second).await;
        }
    };
    let test = async {
        let began = tokio::time::Instant::now();
        assert!(!handle.wait_stable(3 * second, 4 * second).await);
        assert!(handle.wait_stable(3 * second, 60 * second).await);
        let took = began.elapsed();
        assert!(took >= 11 * second && took < 13 * second, "{took:?}");
        handle.wait_for_state("i", &active, second).await.unwrap();
    };
    let whole = async {
        tokio::join!(members, test);
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(life, whole);
    ran.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_a_fixed_ring_never_changes() {
    let mut handle = RingHandle::standalone("ingester");
    assert_eq!(handle.current().len(), 1);
    let change = tokio::time::timeout(Duration::from_secs(3600), handle.changed()).await;
    assert!(change.is_err());
}
