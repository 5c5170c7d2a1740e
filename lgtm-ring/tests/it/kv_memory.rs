//! The store in memory keeps the promises of the trait.

#![cfg(feature = "testing")]

use crate::shared;

use std::sync::Arc;

use lgtm_ring::kv::MemoryKv;
use lgtm_ring::testing::{concurrent_counters, kv_suite};

#[tokio::test]
async fn memory_passes_the_suite() {
    kv_suite(&MemoryKv::new()).await;
}

#[tokio::test]
async fn no_addition_is_lost_in_memory() {
    let kv = MemoryKv::new();
    let clones: Vec<_> = (0..4).map(|_| kv.clone()).collect();
    let stores: Vec<_> = clones.iter().map(|k| k as _).collect();
    concurrent_counters(&stores, 50).await;
}

#[tokio::test]
async fn a_heartbeat_far_ahead_heals_in_memory() {
    shared::heal::a_heartbeat_far_ahead_heals_with_the_clock(Arc::new(MemoryKv::new())).await;
}
