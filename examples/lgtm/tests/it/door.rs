//! The door of the host as pages of other sites, slow clients and curious ones meet it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::host::{Host, Series, now_ms};

const CROSS_SITE: &[(&str, &str)] = &[
    ("Origin", "http://evil.example"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "no-cors"),
];

#[test]
fn pages_of_other_sites_change_nothing_and_see_nothing_by_a_name_of_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-otlp.http-listen-port=0"]);
    for path in [
        "/api/v1/push",
        "/api/v1/write",
        "/otlp/v1/metrics",
        "/flush",
        "/shutdown",
    ] {
        let answer = host.post(path, CROSS_SITE, b"\0");
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        let text = answer.text();
        assert!(text.contains("server.access.allowed_origins"), "{text}");
        // An older browser, which says only where the page comes from.
        let origin = [("Origin", "http://evil.example")];
        assert_eq!(host.post(path, &origin, b"\0").status, 403, "{path}");
    }
    let foreign = [("Host", "evil.example:9009")];
    for path in ["/", "/metrics", "/config", "/api/v1/labels"] {
        let answer = host.try_request("GET", path, &foreign, b"").unwrap();
        assert_eq!(answer.status, 403, "{path}");
        let text = answer.text();
        assert!(text.contains("server.access.allowed_hosts"), "{text}");
    }
    // The host's own page may, and so may whoever is no browser.
    let own = [("Sec-Fetch-Site", "same-origin")];
    assert_eq!(host.post("/flush", &own, b"").status, 200);
    assert_eq!(host.post("/flush", &[], b"").status, 200);
}

#[test]
fn bodies_of_queries_have_a_bound_with_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-otlp.http-listen-port=0",
        "-server.max-query-body-size=1KiB",
    ];
    let host = Host::start(dir.path(), &flags);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let query = "/prometheus/api/v1/query";
    assert_eq!(host.post(query, &form, b"query=1").status, 200);
    let long = format!("query=1{}", " ".repeat(1024));
    let answer = host.post(query, &form, long.as_bytes());
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(answer.json()["errorType"], "bad_data");
    let text = answer.text();
    assert!(text.contains("server.max_query_body_size"), "{text}");
}

#[test]
fn secrets_of_a_url_are_on_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("-storage.url=file:{}/b?secret=HUSH", dir.path().display());
    let host = Host::start(dir.path(), &["-otlp.http-listen-port=0", &url]);
    let config = host.get("/config").text();
    assert!(!config.contains("HUSH"), "{config}");
    assert!(config.contains("secret=********"), "{config}");
}

#[test]
fn answers_that_nobody_reads_have_a_bound_together() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-otlp.http-listen-port=0",
        "-server.max-inflight-answer-bytes=10MiB",
    ];
    let host = Host::start(dir.path(), &flags);
    // An indent of a kilobyte on each of 7000 lines; who does not read holds it. Answers to queries are printed as they are read.
    let parts = "'b',".repeat(7000);
    let (open, close) = ("(".repeat(480), ")".repeat(480));
    let query = format!("{open}label_join(m,'a',',',{parts}'b'){close}");
    let path = format!("/prometheus/api/v1/format_query?query={query}");
    let deaf: Vec<_> = (0..2)
        .map(|_| host.ask_without_waiting(&path, &[]))
        .collect();
    let mut refused = None;
    for _ in 0..200 {
        let answer = host.get(&path);
        if answer.status == 503 {
            refused = Some(answer.text());
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let text = refused.expect("one of the answers finds no room");
    assert!(text.contains("server.max_inflight_answer_bytes"), "{text}");
    assert_eq!(host.get("/prometheus/api/v1/query?query=1").status, 200);
    drop(deaf);
}

#[test]
fn a_flush_goes_on_when_its_caller_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-otlp.http-listen-port=0"]);
    let names: Vec<String> = (0..20_000).map(|n| format!("{n:06}")).collect();
    let sets: Vec<_> = names
        .iter()
        .map(|n| [("__name__", "up"), ("n", n.as_str())])
        .collect();
    let now = now_ms();
    let series: Vec<Series<'_>> = sets.iter().map(|s| (&s[..], now, 1.0)).collect();
    assert_eq!(host.push(&series).status, 200);
    let address = host.url().replace("http://", "");
    let mut caller = TcpStream::connect(&address).unwrap();
    let request = format!("POST /flush HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    caller.write_all(request.as_bytes()).unwrap();
    // It has begun when the log is cut for it.
    std::thread::park_timeout(Duration::from_millis(20));
    drop(caller);
    let blocks = dir.path().join("bucket/metricsblocks/anonymous");
    let is_written = || {
        let folders = std::fs::read_dir(&blocks).into_iter().flatten();
        let mut metas = folders.map(|folder| folder.unwrap().path().join("meta.json"));
        metas.any(|meta| meta.exists())
    };
    for _ in 0..3000 {
        if is_written() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("no block after 30 s");
}

#[test]
fn a_round_of_compaction_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-otlp.http-listen-port=0",
        "-metrics.compactor.first-level-compaction-wait-period=0s",
    ];
    let host = Host::start(&dir.path().join("a"), &flags);
    let rounds = || {
        let metrics = host.get("/metrics").text();
        let line = |name: &str| {
            let mut lines = metrics.lines();
            let line = lines.find(|line| line.starts_with(name)).unwrap();
            let (_, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap()
        };
        [
            "cortex_compactor_runs_completed_total ",
            "cortex_compactor_block_cleanup_completed_total ",
        ]
        .map(line)
    };
    // Two blocks of one window, which are one afterwards.
    let hour = now_ms() / 7_200_000 * 7_200_000 - 48 * 3_600_000;
    for n in 0..2 {
        let labels = [("__name__", "up")];
        assert_eq!(host.push(&[(&labels[..], hour + n, 1.0)]).status, 200);
        assert_eq!(host.post("/flush", &[], b"").status, 200);
    }
    let before = rounds();
    let answer = host.post("/compactor/run", &[], b"");
    let text = "metrics, logs, traces: one round done\n";
    assert_eq!((answer.status, answer.text().as_str()), (200, text));
    let after = rounds();
    assert!(
        after[0] > before[0] && after[1] > before[1],
        "{before:?} {after:?}"
    );
    let shown = host.get("/compactor").text();
    assert!(shown.contains("anonymous\t1\t2\t0"), "{shown}");
    drop(host);
    let target = "-target=metrics-distributor,metrics-ingester";
    let flags = ["-otlp.http-listen-port=0", target];
    let without = Host::start(&dir.path().join("b"), &flags);
    assert_eq!(without.post("/compactor/run", &[], b"").status, 404);
}
