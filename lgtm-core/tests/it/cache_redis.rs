//! The Redis client against real servers: one, a cluster, and a master behind sentinels.

#![cfg(all(feature = "redis", feature = "testing"))]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::servers::{Flush, Process, Written, free_port, read_under, until_it_serves};
use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::cache::{
    BreakerSettings, Cache, CacheExt, Compressed, Prefixed, RedisCache, RedisSettings,
};
use lgtm_core::clock::SystemClock;
use lgtm_core::storage::Secret;
use lgtm_core::testing::cache_suite;
use lgtm_core::units::ByteSize;
use tempfile::TempDir;
use tokio::runtime::Handle;

#[async_trait]
impl Flush for RedisCache {
    async fn flush(&self) {
        RedisCache::flush(self).await;
    }
}

/// `redis-server` on `port`, with a folder of its own.
fn redis(port: u16, more: &[&str]) -> Option<(TempDir, Process)> {
    let folder = tempfile::tempdir().unwrap();
    let (port_text, dir) = (port.to_string(), folder.path().to_str().unwrap().to_owned());
    let arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port_text,
        "--dir",
        &dir,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let arguments = arguments.iter().chain(more).map(|a| (*a).to_owned());
    let process = Process::start("redis-server", "redis-server", port, arguments.collect())?;
    Some((folder, process))
}

fn settings(endpoint: &str) -> RedisSettings {
    RedisSettings {
        endpoint: endpoint.to_owned(),
        // Where tests share two cores a server may need longer than in an installation.
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..RedisSettings::default()
    }
}

fn cache(settings: RedisSettings) -> RedisCache {
    let clock = Arc::new(SystemClock::new());
    RedisCache::new("test", settings, clock, Handle::current()).unwrap()
}

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test]
async fn it_is_a_cache() {
    let Some((_folder, server)) = redis(free_port(), &["--requirepass", "hush"]) else {
        return;
    };
    let with_password = RedisSettings {
        password: Secret::new("hush"),
        db: 3,
        ..settings(&server.address())
    };
    let inner = Arc::new(Written(cache(with_password)));
    cache_suite(&*inner, sleep).await;
    let wrapped = Prefixed::new("x y/", Arc::new(Compressed::new(inner.clone())));
    cache_suite(&wrapped, sleep).await;
    let stats = inner.stats();
    assert_eq!((stats.failures, stats.skipped), (0, 0), "{stats:?}");
    let stranger = cache(settings(&server.address()));
    assert_eq!(stranger.get("suite/kept").await, None);
    assert_eq!(stranger.stats().failures, 1, "it has no password");
}

#[tokio::test]
async fn what_is_too_large_is_skipped_and_forgets_the_old_value() {
    let Some((_folder, server)) = redis(free_port(), &[]) else {
        return;
    };
    let cache = cache(RedisSettings {
        max_item_size: ByteSize::kib(100),
        ..settings(&server.address())
    });
    cache.set("k", Bytes::from_static(b"small"), None).await;
    cache.set("k", Bytes::from(vec![0; 102_401]), None).await;
    cache.flush().await;
    assert_eq!(cache.get("k").await, None);
    assert_eq!(cache.stats().skipped, 1);
    cache.close().await;
}

fn redis_cli(arguments: &[&str]) -> String {
    let out = Command::new("redis-cli").args(arguments).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} does not come about");
}

#[tokio::test]
async fn a_cluster_is_one_cache() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        // The port of the bus is named too, since the usual one may be beyond what there is.
        let (port, bus) = (free_port(), free_port().to_string());
        let more = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-port",
            &bus,
        ];
        let Some(node) = redis(port, &more) else {
            return;
        };
        nodes.push(node);
    }
    let addresses: Vec<String> = nodes.iter().map(|(_, node)| node.address()).collect();
    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.extend(["--cluster-yes", "--cluster-replicas", "0"]);
    let made = redis_cli(&create);
    assert!(made.contains("All 16384 slots covered"), "{made}");
    let ports: Vec<String> = nodes
        .iter()
        .map(|(_, node)| node.port.to_string())
        .collect();
    until("a cluster", || {
        ports
            .iter()
            .all(|port| redis_cli(&["-p", port, "cluster", "info"]).contains("cluster_state:ok"))
    })
    .await;
    let cache = Written(cache(settings(&addresses.join(","))));
    cache_suite(&cache, sleep).await;
    let stats = cache.stats();
    assert_eq!((stats.failures, stats.skipped), (0, 0), "{stats:?}");
    // One of three is gone: its keys are misses, and there are no others.
    let keys: Vec<String> = (0..90).map(|i| format!("k{i}")).collect();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &asked {
        cache.0.set(key, Bytes::from_static(b"v"), None).await;
    }
    cache.0.flush().await;
    assert_eq!(cache.get_many(&asked).await.iter().flatten().count(), 90);
    nodes[1].1.kill();
    let found = cache.get_many(&asked).await;
    let hits = found.iter().flatten().count();
    assert!((1..90).contains(&hits), "{hits} of its neighbours");
    assert!(cache.stats().failures > 0);
}

#[tokio::test]
async fn sentinels_name_the_master() {
    let Some((_folder, master)) = redis(free_port(), &[]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n",
        folder.path().display(),
        master.port
    );
    std::fs::write(&file, text).unwrap();
    let arguments = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
    let sentinel = Process::start("redis-server", "redis-server", port, arguments).unwrap();
    let cache = Written(cache(RedisSettings {
        master_name: "main".to_owned(),
        ..settings(&sentinel.address())
    }));
    cache_suite(&cache, sleep).await;
    assert_eq!(cache.stats().failures, 0);
}

#[tokio::test]
async fn a_dead_or_silent_server_is_a_miss_in_time_and_then_left_alone() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().map(|at| (mute, at.to_string())).unwrap();
    for address in [mute.1.clone(), format!("127.0.0.1:{}", free_port())] {
        let cache = cache(RedisSettings {
            timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(100),
            breaker: BreakerSettings {
                failures_to_open: 2,
                open_for: Duration::from_secs(3600),
            },
            ..settings(&address)
        });
        let began = tokio::time::Instant::now();
        for _ in 0..100 {
            assert_eq!(cache.get_many(&["a", "b"]).await, [None, None]);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{address}");
        assert_eq!(cache.stats().failures, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_stay_right_while_the_server_is_killed_and_comes_back() {
    let Some((_folder, mut server)) = redis(free_port(), &[]) else {
        return;
    };
    let cache = Arc::new(cache(RedisSettings {
        breaker: BreakerSettings {
            failures_to_open: 5,
            open_for: Duration::from_millis(50),
        },
        ..settings(&server.address())
    }));
    until_it_serves(&*cache).await;
    let pause = || tokio::time::sleep(Duration::from_millis(150));
    let trouble = async {
        pause().await;
        for _ in 0..3 {
            server.kill();
            pause().await;
            server.restart();
            pause().await;
        }
    };
    let (longest, found) = read_under(cache.clone(), trouble).await;
    assert!(found > 0, "{:?}", cache.stats());
    assert!(longest < Duration::from_secs(11), "{longest:?}");
    until_it_serves(&*cache).await;
    assert!(cache.stats().failures > 0);
    cache.close().await;
}
