//! The memcached client against real servers.

#![cfg(all(feature = "memcached", feature = "testing"))]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::servers::{Flush, Written, free_port, memcached, read_under, until_it_serves};
use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::cache::{
    BreakerSettings, Cache, CacheExt, Compressed, MemcachedCache, MemcachedSettings, Prefixed,
    natural_order, picked_server,
};
use lgtm_core::clock::SystemClock;
use lgtm_core::telemetry::Registry;
use lgtm_core::testing::cache_suite;
use lgtm_core::units::ByteSize;
use tokio::runtime::Handle;

#[async_trait]
impl Flush for MemcachedCache {
    async fn flush(&self) {
        MemcachedCache::flush(self).await;
    }
}

fn settings(addresses: &str) -> MemcachedSettings {
    MemcachedSettings {
        addresses: addresses.to_owned(),
        // Where tests share two cores a server may need longer than in an installation.
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..MemcachedSettings::default()
    }
}

fn cache(settings: MemcachedSettings) -> MemcachedCache {
    let clock = Arc::new(SystemClock::new());
    MemcachedCache::new("test", settings, clock, Handle::current()).unwrap()
}

async fn sleep(time: Duration) {
    // Memcached counts whole seconds.
    tokio::time::sleep(time + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn it_is_a_cache() {
    let Some(server) = memcached() else { return };
    let cache = Written(cache(settings(&server.address())));
    cache_suite(&cache, sleep).await;
    let stats = cache.stats();
    assert_eq!((stats.failures, stats.skipped), (0, 0), "{stats:?}");
}

#[tokio::test]
async fn three_servers_are_one_cache_and_wrappers_stack() {
    let (Some(a), Some(b), Some(c)) = (memcached(), memcached(), memcached()) else {
        return;
    };
    let addresses = [a.address(), b.address(), c.address()];
    let remote = Arc::new(Written(cache(settings(&addresses.join(",")))));
    cache_suite(&*remote, sleep).await;
    // Another client finds each value on the server that the reference's would pick.
    let mut sorted = addresses.clone();
    sorted.sort_by(|a, b| natural_order(a, b));
    for i in 0..60 {
        let key = format!("spread/{i}");
        remote.set(&key, Bytes::from(key.clone()), None).await;
        let alone = cache(settings(&sorted[picked_server(&key, 3)]));
        assert_eq!(alone.get(&key).await, Some(Bytes::from(key)));
    }
    let wrapped = Prefixed::new("x y/", Arc::new(Compressed::new(remote.clone())));
    cache_suite(&wrapped, sleep).await;
    assert_eq!(remote.stats().failures, 0);
}

#[tokio::test]
async fn what_is_too_large_or_too_short_lived_is_skipped_and_forgets_the_old_value() {
    let Some(server) = memcached() else { return };
    let registry = Registry::new();
    let cache = cache(MemcachedSettings {
        max_item_size: ByteSize::kib(100),
        ..settings(&server.address())
    });
    cache.register_metrics(&registry);
    let small = Bytes::from_static(b"small");
    for (value, ttl) in [
        (Bytes::from(vec![0; 102_401]), None),
        (small.clone(), Some(Duration::from_millis(999))),
    ] {
        cache.set("k", small.clone(), None).await;
        cache.set("k", value, ttl).await;
        cache.flush().await;
        assert_eq!(cache.get("k").await, None);
    }
    cache.set("no good", small.clone(), None).await;
    assert_eq!(cache.get_many(&["no good", "x"]).await, [None, None]);
    // Longer than memcached knows: as long as it knows.
    let year = Some(Duration::from_secs(365 * 86_400));
    cache.set("year", small.clone(), year).await;
    cache.flush().await;
    assert_eq!(cache.get("year").await, Some(small));
    let counted = |reason: &str| {
        let mut samples = registry.samples();
        let has = |s: &lgtm_core::telemetry::Sample| s.labels.iter().any(|(_, v)| v == reason);
        samples.find(has).map(|s| s.value)
    };
    assert_eq!(counted("max-item-size"), Some(1.0));
    assert_eq!(counted("invalid-ttl"), Some(1.0));
    assert!(counted("malformed-key").is_some());
}

#[tokio::test]
async fn a_value_that_the_server_refuses_is_counted_and_the_connection_goes_on() {
    let Some(server) = memcached() else { return };
    let cache = cache(MemcachedSettings {
        max_item_size: ByteSize::mib(2),
        ..settings(&server.address())
    });
    for i in 0..3 {
        cache
            .set("large", Bytes::from(vec![7; 2 << 20]), None)
            .await;
        cache.set("small", Bytes::from(format!("{i}")), None).await;
        cache.flush().await;
        assert_eq!(cache.get("large").await, None);
        assert_eq!(cache.get("small").await, Some(Bytes::from(format!("{i}"))));
    }
    assert_eq!(cache.stats().failures, 3);
}

#[tokio::test]
async fn a_dead_server_costs_little_and_its_neighbours_serve() {
    let (Some(alive), Some(mut dead)) = (memcached(), memcached()) else {
        return;
    };
    let addresses = format!("{},{}", alive.address(), dead.address());
    let cache = cache(MemcachedSettings {
        breaker: BreakerSettings {
            failures_to_open: 3,
            open_for: Duration::from_secs(3600),
        },
        ..settings(&addresses)
    });
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &asked {
        cache.set(key, Bytes::from_static(b"v"), None).await;
    }
    cache.flush().await;
    assert!(cache.get_many(&asked).await.iter().all(Option::is_some));
    dead.kill();
    let partial = cache.get_many(&asked).await;
    let hits = partial.iter().flatten().count();
    assert!((20..80).contains(&hits), "{hits} of its neighbour");
    for _ in 0..5 {
        cache.get_many(&asked).await;
    }
    let before = cache.stats().failures;
    dead.restart();
    assert_eq!(
        cache.get_many(&asked).await.iter().flatten().count(),
        hits,
        "the breaker is open"
    );
    assert!(cache.stats().failures > before);
}

#[tokio::test]
async fn a_server_that_says_nothing_or_nonsense_is_a_miss_in_time() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let quick = |address: &str| MemcachedSettings {
        timeout: Duration::from_millis(50),
        ..settings(address)
    };
    let silent = cache(quick(&address));
    let began = tokio::time::Instant::now();
    assert_eq!(silent.get("k").await, None);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(silent.stats().failures, 1);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let liar = async {
        for answer in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"VA 99999999 O0\r\n",
            b"VA 1 O7\r\nx\r\nMN\r\n",
            b"VA 1 O0\r\nxxx",
            b"VA 1 O0\r\nx\r\nMN\r\nMN\r\n",
            b"VA 1 O0\r\nx\r\n",
            &[b'x'; 5000],
        ] {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(answer).await.unwrap();
        }
    };
    let lied_to = cache(settings(&address));
    let asks = async {
        for _ in 0..7 {
            assert_eq!(lied_to.get("k").await, None);
        }
    };
    tokio::join!(liar, asks);
    assert_eq!(lied_to.stats().failures, 7);
    let nobody = cache(settings(&format!("127.0.0.1:{}", free_port())));
    assert_eq!(nobody.get("k").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_stay_right_while_servers_are_killed_and_come_back() {
    let (Some(mut a), Some(mut b)) = (memcached(), memcached()) else {
        return;
    };
    let addresses = format!("{},{}", a.address(), b.address());
    let cache = Arc::new(cache(MemcachedSettings {
        breaker: BreakerSettings {
            failures_to_open: 5,
            open_for: Duration::from_millis(50),
        },
        ..settings(&addresses)
    }));
    let pause = || tokio::time::sleep(Duration::from_millis(150));
    let trouble = async {
        pause().await;
        for _ in 0..3 {
            a.kill();
            pause().await;
            a.restart();
            b.restart();
            pause().await;
        }
    };
    let (longest, found) = read_under(cache.clone(), trouble).await;
    assert!(found > 0, "{:?}", cache.stats());
    assert!(longest < Duration::from_secs(11), "{longest:?}");
    until_it_serves(&*cache).await;
    cache.close().await;
    assert!(cache.stats().failures > 0);
}

#[test]
fn servers_are_picked_as_the_reference_picks_them() {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    let path = root.join("golden/cache/jump_hash.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CI").is_none(), "{path:?} is missing");
        println!("skipped: {path:?} is not there; set LGTM_SHARED");
        return;
    };
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = |name: &str| -> Vec<String> {
        let names = golden[name].as_array().unwrap().iter();
        names.map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let mut servers = list("servers_given");
    servers.sort_by(|a, b| natural_order(a, b));
    assert_eq!(servers, list("servers_sorted"));
    let cases = golden["keys"].as_array().unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let key = case["key"].as_str().unwrap();
        assert_eq!(servers[picked_server(key, servers.len())], case["picked"]);
        let (name, buckets) = case
            .as_object()
            .unwrap()
            .iter()
            .find(|(name, _)| name.starts_with("bucket_for_n_"))
            .unwrap();
        let counts = name.trim_start_matches("bucket_for_n_").split('_');
        for (n, bucket) in counts.zip(buckets.as_array().unwrap()) {
            let picked = picked_server(key, n.parse().unwrap());
            assert_eq!(picked as u64, bucket.as_u64().unwrap(), "{key} of {n}");
        }
    }
}
