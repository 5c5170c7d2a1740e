//! `kill -9` at random moments: every acknowledged sample is there after the restart.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::{Host, now_ms, write_request};

const WRITERS: usize = 3;
const SERIES: usize = 40;

/// Numbers of the samples that were acknowledged, of one writer.
type Acknowledged = Arc<Mutex<BTreeSet<i64>>>;

/// Rounds: a few in CI, more by `LGTM_CRASH_ROUNDS=50`.
fn rounds() -> u64 {
    std::env::var("LGTM_CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5)
}

/// Pushes ascending samples until the host is gone.
fn write(
    host: &Host,
    writer: usize,
    start_ms: i64,
    acknowledged: &Acknowledged,
    stop: &AtomicBool,
) {
    let names: Vec<String> = (0..SERIES).map(|i| format!("crash_{writer}_{i}")).collect();
    let labels: Vec<[(&str, &str); 2]> = names
        .iter()
        .map(|name| [("__name__", name.as_str()), ("job", "crash")])
        .collect();
    // One number after each crash is left out: its answer may have been lost although it was stored.
    let mut n = acknowledged.lock().unwrap().last().map_or(0, |n| n + 1);
    while !stop.load(Ordering::SeqCst) {
        n += 1;
        let series: Vec<host::Series<'_>> = labels
            .iter()
            .map(|l| (&l[..], start_ms + n * 1000, n as f64 * 1.5))
            .collect();
        match host.try_request("POST", "/api/v1/push", &[], &write_request(&series)) {
            Some(a) if a.status == 200 => {
                acknowledged.lock().unwrap().insert(n);
            }
            Some(a) => panic!("{}: {}", a.status, a.text()),
            None => return,
        }
    }
}

fn check(host: &Host, start_ms: i64, acknowledged: &[Acknowledged]) {
    for (w, all) in acknowledged.iter().enumerate() {
        let all = all.lock().unwrap();
        let Some(last) = all.last() else { continue };
        for i in [0, SERIES / 2, SERIES - 1] {
            let end = start_ms / 1000 + last + 1;
            let query = format!("/prometheus/api/v1/query?query=crash_{w}_{i}%5B2h%5D&time={end}");
            let answer = host.get(&query).json();
            let values = answer["data"]["result"][0]["values"]
                .as_array()
                .unwrap()
                .clone();
            let got: BTreeMap<i64, f64> = values
                .iter()
                .map(|v| {
                    let t_ms = (v[0].as_f64().unwrap() * 1000.0) as i64;
                    (t_ms, v[1].as_str().unwrap().parse().unwrap())
                })
                .collect();
            for n in all.iter() {
                let value = got.get(&(start_ms + n * 1000));
                assert_eq!(
                    value,
                    Some(&(*n as f64 * 1.5)),
                    "crash_{w}_{i}: sample {n} of {last}"
                );
            }
        }
    }
}

#[test]
fn acknowledged_samples_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let start_ms = now_ms() / 1000 * 1000 - 3_600_000;
    let acknowledged: Vec<Acknowledged> = (0..WRITERS).map(|_| Acknowledged::default()).collect();
    let mut seed = 0x9e37_79b9_u64;
    for round in 0..rounds() {
        let host = Arc::new(Host::start(dir.path(), &[]));
        check(&host, start_ms, &acknowledged);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let (host, all, stop) = (host.clone(), acknowledged[w].clone(), stop.clone());
                std::thread::spawn(move || write(&host, w, start_ms, &all, &stop))
            })
            .collect();
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        std::thread::park_timeout(Duration::from_millis(20 + (seed >> 33) % 300));
        if round % 3 == 2 {
            // A flush is under way when the process dies.
            let flushing = host.clone();
            std::thread::spawn(move || drop(flushing.try_request("POST", "/flush", &[], b"")));
        }
        host.kill_9();
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().for_each(|w| w.join().unwrap());
    }
    let host = Host::start(dir.path(), &[]);
    check(&host, start_ms, &acknowledged);
    let total: usize = acknowledged.iter().map(|a| a.lock().unwrap().len()).sum();
    assert!(
        total as u64 > rounds() * 5,
        "the writers got {total} requests through"
    );
}
