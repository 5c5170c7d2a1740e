use std::collections::HashMap;

use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::cache::{CacheExt, SingleFlight};
use crate::clock::ManualClock;
use crate::testing::cache_suite;

fn cache(max_bytes: u64) -> (Arc<ManualClock>, MemoryCache) {
    let clock = Arc::new(ManualClock::default());
    let settings = MemoryCacheSettings {
        max_bytes: ByteSize::bytes(max_bytes),
    };
    let cache = MemoryCache::new("test", &settings, clock.clone()).unwrap();
    (clock, cache)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a memory cache never waits")
}

#[test]
fn it_is_a_cache() {
    let (clock, cache) = cache(64 << 20);
    block_on(cache_suite(&cache, async |time| clock.advance(time)));
    let stats = cache.stats();
    assert!(stats.hits > 0 && stats.requests > stats.hits && stats.expired > 0);
}

#[test]
fn accounting_returns_to_zero_when_all_is_deleted() {
    let (_, cache) = cache(64 << 20);
    block_on(async {
        for i in 0..1000 {
            cache
                .set(&format!("k{i}"), Bytes::from(vec![0; i]), None)
                .await;
        }
        assert_eq!(cache.stats().items, 1000);
        for i in 0..1000 {
            cache.delete(&format!("k{i}")).await;
        }
    });
    assert_eq!((cache.stats().items, cache.stats().bytes), (0, 0));
}

#[test]
fn a_value_bigger_than_the_cache_is_skipped_and_drops_the_old_one() {
    let (_, cache) = cache(1000);
    block_on(async {
        cache.set("k", Bytes::from_static(b"small"), None).await;
        cache.set("k", Bytes::from(vec![0; 1000]), None).await;
        assert_eq!(cache.get("k").await, None);
    });
    assert_eq!(cache.stats().skipped, 1);
    let settings = MemoryCacheSettings {
        max_bytes: ByteSize::bytes(10),
    };
    assert!(MemoryCache::new("x", &settings, Arc::new(ManualClock::default())).is_err());
}

#[test]
fn a_scan_does_not_flush_what_is_hot() {
    let (_, cache) = cache(100 * 300);
    block_on(async {
        for round in 0..100 {
            for hot in 0..20 {
                let key = format!("hot-{hot}");
                if cache.get(&key).await.is_none() {
                    cache.set(&key, Bytes::from_static(&[0; 30]), None).await;
                }
            }
            for cold in 0..50 {
                let key = format!("cold-{round}-{cold}");
                cache.set(&key, Bytes::from_static(&[0; 30]), None).await;
            }
        }
    });
    let stats = cache.stats();
    // Plain FIFO has 101 places, fills them anew every other round, and so misses each hot key at least every third time.
    assert!(stats.hits > 1900, "{stats:?}");
    assert!(stats.evicted > 4000 && stats.bytes <= 30_000, "{stats:?}");
}

#[tokio::test]
async fn concurrent_misses_load_once() {
    let (_, cache) = cache(1 << 20);
    let flights = SingleFlight::new();
    let loads = std::sync::atomic::AtomicUsize::new(0);
    let load = || async {
        loads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(Bytes::from_static(b"v"))
    };
    let all = (0..5).map(|_| cache.get_or_load(&flights, "k", None, load));
    for value in futures::future::join_all(all).await {
        assert_eq!(value.unwrap(), "v");
    }
    let again = cache.get_or_load(&flights, "k", None, || async { unreachable!() });
    assert_eq!(again.await.unwrap(), "v");
    assert_eq!(loads.into_inner(), 1);
}

#[derive(Debug, Clone)]
enum Op {
    Get(u8),
    Set(u8, usize, Option<u64>),
    Delete(u8),
    Advance(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => any::<u8>().prop_map(|k| Op::Get(k % 32)),
        3 => (any::<u8>(), 0usize..600, prop::option::of(1u64..20)).prop_map(|(k, n, ttl)| Op::Set(k % 32, n, ttl)),
        1 => any::<u8>().prop_map(|k| Op::Delete(k % 32)),
        1 => (1u64..10).prop_map(Op::Advance),
    ];
    prop::collection::vec(op, 1..300)
}

proptest! {
    #[test]
    fn it_never_exceeds_its_bound_and_never_answers_wrong(ops in ops(), max_bytes in 300u64..6000) {
        let (clock, cache) = cache(max_bytes);
        let mut model: HashMap<u8, (Vec<u8>, Option<u64>)> = HashMap::new();
        let mut now = 0;
        for (i, op) in ops.into_iter().enumerate() {
            match op {
                Op::Set(k, n, ttl) => {
                    let value = vec![i as u8; n];
                    model.insert(k, (value.clone(), ttl.map(|t| now + t)));
                    block_on(cache.set(&k.to_string(), value.into(), ttl.map(Duration::from_secs)));
                }
                Op::Get(k) => {
                    if let Some(found) = block_on(cache.get(&k.to_string())) {
                        let (value, expires) = &model[&k];
                        prop_assert_eq!(&found[..], &value[..]);
                        prop_assert!(expires.is_none_or(|at| at > now));
                    }
                }
                Op::Delete(k) => {
                    model.remove(&k);
                    block_on(cache.delete(&k.to_string()));
                }
                Op::Advance(by) => {
                    now += by;
                    clock.advance(Duration::from_secs(by));
                }
            }
            let stats = cache.stats();
            prop_assert!(stats.bytes <= max_bytes);
            prop_assert!(stats.items * ENTRY_OVERHEAD_BYTES as u64 <= stats.bytes);
        }
    }
}
