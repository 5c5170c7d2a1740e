//! How many small values a core gets from a memcached server on the same machine? Goal: 200,000 a second of the client's CPU time, 100 keys at a time.
//!
//! Starts `memcached` (Debian package of that name) on a free port.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark is run by hand"
)]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::cache::{Cache, MemcachedCache, MemcachedSettings};
use lgtm_core::clock::{Clock, SystemClock};

const KEYS: usize = 10_000;
const BATCH: usize = 100;
const ROUNDS: usize = 4000;

/// CPU time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let mut server = Command::new("memcached")
        .args([
            "-l",
            "127.0.0.1",
            "-U",
            "0",
            "-u",
            "nobody",
            "-t",
            "1",
            "-p",
            &port,
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // One thread: a core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&format!("127.0.0.1:{port}")));
    server.kill().unwrap();
    server.wait().unwrap();
}

async fn run(address: &str) {
    let clock = Arc::new(SystemClock::new());
    let settings = MemcachedSettings {
        addresses: address.to_owned(),
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..MemcachedSettings::default()
    };
    let runtime = tokio::runtime::Handle::current();
    let cache = MemcachedCache::new("bench", settings, clock.clone(), runtime).unwrap();
    let keys: Vec<String> = (0..KEYS)
        .map(|i| format!("subrange:tenant/{i:08}"))
        .collect();
    loop {
        for key in &keys {
            cache.set(key, Bytes::from(vec![b'v'; 100]), None).await;
        }
        cache.flush().await;
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        if cache.get_many(&asked).await.iter().all(Option::is_some) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (what, at_once) in [("one request at a time", 1), ("8 requests at a time", 8)] {
        let (wall, spent) = (clock.monotonic(), cpu());
        for round in 0..ROUNDS / at_once {
            let asks = (0..at_once).map(|n| {
                let from = (round * at_once + n) * BATCH % KEYS;
                let asked: Vec<&str> = keys[from..from + BATCH]
                    .iter()
                    .map(String::as_str)
                    .collect();
                let cache = &cache;
                async move {
                    let found = cache.get_many(&asked).await;
                    assert!(found.iter().all(Option::is_some));
                }
            });
            futures::future::join_all(asks).await;
        }
        let (wall, spent) = (clock.monotonic() - wall, cpu() - spent);
        let gets = (ROUNDS / at_once * at_once * BATCH) as f64;
        println!(
            "{what}: {:.0} gets a CPU second of the client, {:.0} a second of the clock",
            gets / spent.as_secs_f64(),
            gets / wall.as_secs_f64()
        );
    }
}
