//! The layers of a host over real memcached and redis servers: what they save, and that answers stay right when the servers die.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of a real process lives in real time"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::programs::{Program, free_port, have, pause};
use crate::host::{Host, Series, now_ms};
use serde_json::Value;

/// A server on a port, if it is installed.
fn server(program: &str, port: u16) -> Option<Program> {
    if !have(program) {
        return None;
    }
    let port_text = port.to_string();
    let arguments: &[&str] = match program {
        "memcached" => &[
            "-l",
            "127.0.0.1",
            "-U",
            "0",
            "-u",
            "nobody",
            "-m",
            "256",
            "-p",
            &port_text,
        ],
        _ => &["--bind", "127.0.0.1", "--save", "", "--port", &port_text],
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Program(command.spawn().unwrap());
    for _ in 0..500 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        pause(20);
    }
    panic!("{program} does not listen on {port}");
}

/// Settings with which all layers of all signals use the cache `far`.
fn settings(far: &str) -> String {
    format!(
        "caches: {{far: {far}}}\n\
         metrics: {{caches: {{results: far, chunks: far, index: far}}}}\n\
         logs: {{caches: {{results: far, chunks: far}}}}\n\
         traces: {{caches: {{results: far, blooms: far, footers: far, pages: far}}}}\n"
    )
}

fn host(dir: &std::path::Path, settings: &str) -> Host {
    let file = dir.join("lgtm.yml");
    std::fs::write(&file, settings).unwrap();
    let file = format!("-config.file={}", file.display());
    let flags = [
        &file,
        "-otlp.http-listen-port=0",
        "-otlp.grpc-listen-port=0",
    ];
    Host::start(&dir.join("data"), &flags)
}

/// Where tests share two cores a server may need longer than in an installation.
const SLOW: &str = "timeout: 5s, connect_timeout: 5s";

fn memcached_settings(port: u16) -> String {
    let open = "breaker: {failures_to_open: 3, open_for: 100ms}";
    settings(&format!(
        "{{backend: memcached, memcached: {{addresses: '127.0.0.1:{port}', {SLOW}, {open}}}}}"
    ))
}

/// The sum of the counters of a name whose line holds `part`.
fn counted(host: &Host, name: &str, part: &str) -> f64 {
    let text = host.get("/metrics").text();
    let lines = text
        .lines()
        .filter(|l| l.starts_with(name) && l.contains(part));
    lines
        .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Reads of objects of one component so far.
fn object_reads(host: &Host, component: &str) -> f64 {
    let text = host.get("/metrics").text();
    let reads = text.lines().filter(|l| {
        l.starts_with("lgtm_objstore_operations_total")
            && l.contains(&format!("\"{component}\""))
            && l.contains("\"get")
    });
    reads
        .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// 24 hours of many series, in the object store, and the query of a panel over them that ends an hour ago.
fn a_day_of_metrics(host: &Host, count: usize) -> String {
    let end_ms = now_ms() / 3_600_000 * 3_600_000 - 3_600_000;
    let start_ms = end_ms - 86_400_000;
    let pods: Vec<String> = (0..count).map(|n| format!("pod-{n}")).collect();
    let labels: Vec<[(&str, &str); 3]> = pods
        .iter()
        .enumerate()
        .map(|(n, pod)| {
            let job = ["a", "b", "c"][n % 3];
            [("__name__", "requests_total"), ("job", job), ("pod", pod)]
        })
        .collect();
    let steps: Vec<i64> = (0..=1440).map(|i| start_ms + i * 60_000).collect();
    for times in steps.chunks(40) {
        let mut batch: Vec<Series<'_>> = Vec::new();
        for (n, labels) in labels.iter().enumerate() {
            for t_ms in times {
                let value = ((t_ms - start_ms) / 1000 * (n as i64 + 1)) as f64;
                batch.push((labels, *t_ms, value));
            }
        }
        let pushed = host.push(&batch);
        assert_eq!(pushed.status, 200, "{}", pushed.text());
    }
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    let (start, end) = (start_ms / 1000, end_ms / 1000);
    let query = "sum%20by%20(job)%20(rate(requests_total%5B5m%5D))";
    format!("/prometheus/api/v1/query_range?query={query}&start={start}&end={end}&step=60")
}

fn result(host: &Host, path: &str) -> (Value, Duration) {
    let began = Instant::now();
    let answer = host.get(path);
    let took = began.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert!(json.get("warnings").is_none(), "{json}");
    (json["data"]["result"].clone(), took)
}

#[test]
fn a_dashboard_of_a_day_is_twenty_times_faster_when_it_comes_again() {
    let port = free_port();
    let Some(memcached) = server("memcached", port) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), &memcached_settings(port));
    let path = a_day_of_metrics(&host, 300);
    let (cold, cold_took) = result(&host, &path);
    assert_eq!(cold.as_array().unwrap().len(), 3);
    // Written in the background.
    pause(200);
    let warm = (0..5).map(|_| result(&host, &path));
    let warm: Vec<_> = warm.collect();
    for (answer, _) in &warm {
        assert_eq!(*answer, cold);
    }
    let best = warm.iter().map(|(_, took)| *took).min().unwrap();
    eprintln!("cold {cold_took:?}, warm {best:?}");
    assert!(cold_took >= 20 * best, "cold {cold_took:?}, warm {best:?}");
    let hits = counted(&host, "lgtm_cache_hits_total", "metrics.results");
    assert!(hits >= 5.0, "{hits}");
    drop(memcached);
}

#[test]
fn warm_caches_of_chunks_read_no_objects_not_even_after_a_restart() {
    let port = free_port();
    let Some(_memcached) = server("memcached", port) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut settings = memcached_settings(port);
    // Only chunks and indexes are to answer.
    settings = settings.replace("results: far, chunks", "chunks");
    let first = host(dir.path(), &settings);
    let path = a_day_of_metrics(&first, 20);
    let t_ns = now_ms() * 1_000_000 - 7_200_000_000_000;
    let lines: Vec<String> = (0..200)
        .map(|n| format!("[\"{}\",\"line {n}\"]", t_ns + n * 1_000_000))
        .collect();
    let body = format!(
        "{{\"streams\":[{{\"stream\":{{\"app\":\"shop\"}},\"values\":[{}]}}]}}",
        lines.join(",")
    );
    let headers = [("Content-Type", "application/json")];
    let pushed = first.post("/loki/api/v1/push", &headers, body.as_bytes());
    assert_eq!(pushed.status, 204, "{}", pushed.text());
    assert_eq!(first.post("/flush", &[], b"").status, 200);
    let logs = format!(
        "/loki/api/v1/query_range?query=%7Bapp%3D%22shop%22%7D&limit=1000&start={}&end={}",
        t_ns - 1_000_000_000,
        t_ns + 1_000_000_000
    );
    let ask = |host: &Host| {
        // Only the caches of chunks and indexes are to answer.
        let headers = [("Cache-Control", "no-store")];
        let metrics = host.try_request("GET", &path, &headers, b"").unwrap();
        assert_eq!(metrics.status, 200, "{}", metrics.text());
        let headers = [("Cache-Control", "no-cache")];
        let logs = host.try_request("GET", &logs, &headers, b"").unwrap();
        assert_eq!(logs.status, 200, "{}", logs.text());
        let found = &logs.json()["data"]["result"][0]["values"];
        assert_eq!(found.as_array().map(Vec::len), Some(200));
        metrics.json()["data"]["result"].clone()
    };
    let wanted = ask(&first);
    pause(500);
    let before = (
        object_reads(&first, "metricsblocks"),
        object_reads(&first, "logs"),
    );
    assert!(before.0 > 0.0, "{}", first.get("/metrics").text());
    let hits = |host: &Host| {
        let of = |layer| counted(host, "lgtm_cache_hits_total", layer);
        (of("metrics.chunks"), of("logs.chunks"))
    };
    let cold = hits(&first);
    assert_eq!(ask(&first), wanted);
    let after = (
        object_reads(&first, "metricsblocks"),
        object_reads(&first, "logs"),
    );
    assert_eq!(after, before, "object reads of metrics and logs");
    let warm = hits(&first);
    assert!(warm.0 > cold.0 && warm.1 > cold.1, "{cold:?} {warm:?}");
    assert!(first.terminate());
    let second = host(dir.path(), &settings);
    assert_eq!(ask(&second), wanted);
    let again = hits(&second);
    assert!(again.0 > 0.0 && again.1 > 0.0, "{again:?}");
}

#[test]
fn answers_stay_right_while_servers_die_and_come_back() {
    for program in ["memcached", "redis-server"] {
        let port = free_port();
        let Some(mut running) = server(program, port) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let settings = match program {
            "memcached" => memcached_settings(port),
            _ => settings(&format!(
                "{{backend: redis, front_size: 1MiB, redis: {{endpoint: '127.0.0.1:{port}', {SLOW}, breaker: {{failures_to_open: 3, open_for: 100ms}}}}}}"
            )),
        };
        let host = host(dir.path(), &settings);
        let path = a_day_of_metrics(&host, 6);
        let (wanted, _) = result(&host, &path);
        let failures = || counted(&host, "lgtm_cache_failures_total", "metrics.results");
        for round in 0..3 {
            for _ in 0..5 {
                assert_eq!(result(&host, &path).0, wanted, "{program}, round {round}");
            }
            running.0.kill().unwrap();
            running.0.wait().unwrap();
            for n in 0..5 {
                // Another phase each, which no cache knows.
                let other = format!("{path}.{n}");
                assert!(result(&host, &other).1 < Duration::from_secs(30));
                assert_eq!(result(&host, &path).0, wanted, "{program} is dead");
            }
            running = server(program, port).unwrap();
        }
        assert!(failures() > 0.0, "{program}");
        let hits = || counted(&host, "lgtm_cache_hits_total", "metrics.");
        let before = hits();
        for _ in 0..100 {
            assert_eq!(result(&host, &path).0, wanted);
            if hits() > before {
                break;
            }
            pause(50);
        }
        assert!(hits() > before, "{program} serves again");
        assert!(host.terminate());
    }
}

#[test]
fn a_name_that_is_no_cache_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lgtm.yml");
    let verify = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_lgtm"))
            .arg(format!("-config.file={}", file.display()))
            .arg("-config.verify")
            .output()
            .unwrap();
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (is_fine, said) = verify("metrics: {caches: {results: far}}");
    assert!(
        !is_fine && said.contains("metrics.caches.results"),
        "{said}"
    );
    let (is_fine, said) = verify("caches: {far: {backend: memcached}}");
    assert!(
        !is_fine && said.contains("caches.far: memcached: addresses"),
        "{said}"
    );
    let (is_fine, said) = verify("caches: {far: {sise: 1}}");
    assert!(!is_fine && said.contains("sise"), "{said}");
    let (is_fine, said) = verify("caches: {far: {}}\nlogs: {caches: {chunks: far}}");
    assert!(is_fine, "{said}");
}
