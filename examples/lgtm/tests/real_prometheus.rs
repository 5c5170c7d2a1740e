//! Debian's Prometheus writes into the host; its promtool and its server read the host and the bucket.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod host;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host::{Host, now_ms};

/// A program that is killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} is missing, and CI must have it"
    );
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn prometheus(dir: &Path, config: &str, data: &Path) -> (Program, u16) {
    let port = free_port();
    std::fs::write(
        dir.join("prometheus.yml"),
        config.replace("SELF", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    let child = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            dir.join("prometheus.yml").display()
        ))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--storage.tsdb.retention.time=10y", "--log.level=error"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    (Program(child), port)
}

fn pause(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

fn promtool(args: &[&str]) -> String {
    let out = Command::new("promtool").args(args).output().unwrap();
    assert!(
        out.status.success(),
        "promtool {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// `{labels} value timestamp` lines of `promtool tsdb dump`, by labels.
fn dumped(block_dir: &Path) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut out: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for line in promtool(&["tsdb", "dump", block_dir.to_str().unwrap()]).lines() {
        let (labels, rest) = line.rsplit_once("} ").unwrap();
        let (value, t_ms) = rest.split_once(' ').unwrap();
        out.entry(labels.to_owned())
            .or_default()
            .push((t_ms.parse().unwrap(), value.parse().unwrap()));
    }
    out
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_real_prometheus_writes_and_its_tools_read() {
    if !have("prometheus") || !have("promtool") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("data"), &[]);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: prometheus\n  static_configs: [{{targets: ['SELF']}}]\n- job_name: lgtm\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\nremote_write:\n- url: {}/api/v1/push\n",
        host.port,
        host.url()
    );
    let (sender, port) = prometheus(dir.path(), &config, &dir.path().join("prom"));
    // A dozen scrapes.
    let up = "/prometheus/api/v1/query?query=up%5B1h%5D";
    for _ in 0..600 {
        let answer = host.get(up).json();
        let result = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if result.len() == 2
            && result
                .iter()
                .all(|s| s["values"].as_array().unwrap().len() >= 12)
        {
            break;
        }
        pause(100);
    }
    drop(sender);
    let _ = port;
    let url = format!("{}/prometheus", host.url());
    let series = promtool(&["query", "series", "--match", "{__name__=~\".+\"}", &url]);
    assert!(
        series.lines().count() > 300,
        "Prometheus alone has hundreds of series: {}",
        series.lines().count()
    );
    assert!(promtool(&["query", "labels", &url, "job"]).contains("lgtm"));
    let before = promtool(&[
        "query",
        "instant",
        "--time",
        &(now_ms() / 1000).to_string(),
        &url,
        "{__name__=~\"prometheus_.+\"}",
    ]);
    assert!(before.lines().count() > 100);

    let all = host
        .get("/prometheus/api/v1/query?query=%7Bjob%3D~%22.%2b%22%7D%5B1h%5D")
        .json();
    let mut sent: usize = 0;
    for s in all["data"]["result"].as_array().unwrap() {
        sent += s["values"].as_array().unwrap().len();
    }
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    let after = promtool(&[
        "query",
        "instant",
        "--time",
        &(now_ms() / 1000).to_string(),
        &url,
        "{__name__=~\"prometheus_.+\"}",
    ]);
    assert_eq!(before.lines().count(), after.lines().count());

    let bucket = dir.path().join("data/bucket/metricsblocks/anonymous");
    let copied = dir.path().join("copy");
    copy(&bucket, &copied);
    let blocks: Vec<_> = std::fs::read_dir(&copied)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for block in &blocks {
        assert!(
            promtool(&["tsdb", "analyze", copied.to_str().unwrap(), block])
                .contains("Label names:")
        );
    }
    // promtool takes a folder for a database only when it has a log.
    std::fs::create_dir_all(copied.join("wal")).unwrap();
    let dump = dumped(&copied);
    // Stale markers are in the dump and not in the answer.
    let stale = dump.values().flatten().filter(|s| s.1.is_nan()).count();
    let dumped_samples: usize = dump.values().map(Vec::len).sum();
    assert!(
        dumped_samples >= sent && dumped_samples - stale <= sent,
        "{dumped_samples} dumped, {stale} NaN, {sent} answered"
    );

    // The same server that wrote it serves our block.
    let served = dir.path().join("served");
    std::fs::create_dir_all(&served).unwrap();
    let (_server, port) = prometheus(&served, "global: {}\n", &copied);
    let url = format!("http://127.0.0.1:{port}");
    let query = [
        "query",
        "instant",
        "--time",
        &(now_ms() / 1000).to_string(),
        &url,
        "count({job=~\".+\"})",
    ];
    let mut counted = String::new();
    for _ in 0..100 {
        let out = Command::new("promtool").args(query).output().unwrap();
        counted = String::from_utf8_lossy(&out.stdout).into_owned();
        if counted.contains("=>") {
            break;
        }
        pause(100);
    }
    assert!(
        counted.contains("=>"),
        "Prometheus serves no series of our block: {counted:?}"
    );
}
