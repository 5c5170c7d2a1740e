//! Debian's Prometheus writes into the host; its promtool and its server read the host and the bucket.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::host::programs::{ask, have, pause, prometheus, promtool, wait_until_ready};
use crate::host::{Host, now_ms};

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

/// Pages like a node exporter's: a few hundred series whose counters grow from scrape to scrape. Serves until the test ends.
fn exporter() -> u16 {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let mut page = String::from("# TYPE node_cpu_seconds_total counter\n");
            for cpu in 0..32 {
                for (m, mode) in [
                    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
                ]
                .iter()
                .enumerate()
                {
                    let value = 1000.0 + n as f64 * 0.1 * (m + 1) as f64 + f64::from(cpu);
                    page.push_str(&format!(
                        "node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} {value}\n"
                    ));
                }
            }
            page.push_str("# TYPE node_load1 gauge\n");
            page.push_str(&format!("node_load1 {}\n", (n as f64 / 7.0).sin().abs()));
            page.push_str("node_memory_MemFree_bytes 1.2345678e+10\nnode_nan NaN\nnode_inf +Inf\n");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    port
}

/// The series of a matrix: labels in order, to their points.
fn by_labels(answer: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    let result = answer["data"]["result"].as_array();
    let result = result.unwrap_or_else(|| panic!("{answer}"));
    let labels = |s: &serde_json::Value| {
        let map: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(s["metric"].clone()).unwrap();
        format!("{map:?}")
    };
    result
        .iter()
        .map(|s| (labels(s), s["values"].clone()))
        .collect()
}

/// What the sender itself answers, series by series and value by value, for a span that it has sent whole.
fn same_values(host: &Host, port: u16) {
    let end = now_ms() / 1000 - 3;
    let path = format!(
        "/api/v1/query_range?query=%7Bjob%3D~%22.%2b%22%7D&start={}&end={end}&step=1",
        end - 6
    );
    // The last samples may still be on their way.
    for tries in 0.. {
        let theirs = by_labels(&ask(port, &path));
        let ours = by_labels(&host.get(&format!("/prometheus{path}")).json());
        assert!(theirs.len() > 300, "{} series", theirs.len());
        if theirs == ours {
            return;
        }
        if tries == 50 {
            for (labels, values) in &theirs {
                assert_eq!(ours.get(labels), Some(values), "{labels}");
            }
            panic!("we have {} series, the sender {}", ours.len(), theirs.len());
        }
        pause(200);
    }
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn zigzag(out: &mut Vec<u8>, v: i64) {
    varint(out, ((v << 1) ^ (v >> 63)) as u64);
}

fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

fn double(out: &mut Vec<u8>, number: u64, v: f64) {
    varint(out, number << 3 | 1);
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

/// A histogram of remote write: three positive buckets in two spans, one negative, a zero bucket. Float counts when asked.
fn histogram(schema: i64, t_ms: i64, n: i64, float: bool) -> Vec<u8> {
    let mut h = Vec::new();
    let spans = |h: &mut Vec<u8>, number, spans: &[(i64, u64)]| {
        for (offset, length) in spans {
            let mut span = vec![8];
            zigzag(&mut span, *offset);
            span.push(16);
            varint(&mut span, *length);
            field(h, number, &span);
        }
    };
    let deltas = |h: &mut Vec<u8>, number, deltas: &[i64]| {
        let mut packed = Vec::new();
        deltas.iter().for_each(|d| zigzag(&mut packed, *d));
        field(h, number, &packed);
    };
    let counts = |h: &mut Vec<u8>, number, counts: &[f64]| {
        let packed: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        field(h, number, &packed);
    };
    let total = 1 + n + (n + 1) + 3 + 2;
    if float {
        double(&mut h, 2, total as f64);
        double(&mut h, 7, 1.0);
    } else {
        varint(&mut h, 1 << 3);
        varint(&mut h, total as u64);
        varint(&mut h, 6 << 3);
        varint(&mut h, 1);
    }
    double(&mut h, 3, n as f64 * 1.25);
    varint(&mut h, 4 << 3);
    zigzag(&mut h, schema);
    double(&mut h, 5, 0.001);
    spans(&mut h, 8, &[(0, 1)]);
    spans(&mut h, 11, &[(-1, 2), (2, 1)]);
    if float {
        counts(&mut h, 10, &[2.0]);
        counts(&mut h, 13, &[n as f64, n as f64 + 1.0, 3.0]);
    } else {
        deltas(&mut h, 9, &[2]);
        deltas(&mut h, 12, &[n, 1, 3 - (n + 1)]);
    }
    varint(&mut h, 15 << 3);
    varint(&mut h, t_ms as u64);
    h
}

/// Numbers as they are, whatever their spelling; bounds of buckets to the last bits.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object, String};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| alike(v, w)))
        }
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (String(a), String(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a == b || (a - b).abs() <= a.abs() * 1e-15,
            _ => a == b,
        },
        _ => a == b,
    }
}

#[test]
fn a_real_prometheus_serves_our_native_histograms() {
    if !have("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("data"), &[]);
    let start_ms = (now_ms() / 1000 - 3600) * 1000;
    for n in 0..200i64 {
        let mut body = Vec::new();
        for schema in -4..=8 {
            for float in [false, true] {
                let mut series = Vec::new();
                let kind = if float { "float" } else { "int" };
                let schema_text = schema.to_string();
                for (name, value) in [("__name__", "h"), ("kind", kind), ("schema", &schema_text)] {
                    let mut label = Vec::new();
                    field(&mut label, 1, name.as_bytes());
                    field(&mut label, 2, value.as_bytes());
                    field(&mut series, 1, &label);
                }
                // A counter reset in the middle.
                let h = histogram(schema, start_ms + n * 15_000, n % 130 + 1, float);
                field(&mut series, 4, &h);
                field(&mut body, 1, &series);
            }
        }
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let answer = host.post("/api/v1/push", &[("Content-Encoding", "snappy")], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    let copied = dir.path().join("copy");
    copy(
        &dir.path().join("data/bucket/metricsblocks/anonymous"),
        &copied,
    );
    let served = dir.path().join("served");
    std::fs::create_dir_all(&served).unwrap();
    let (_server, port) = prometheus(&served, "global: {}\n", &copied);
    wait_until_ready(port);
    // In the first chunk, behind the reset, at the end.
    for n in [1i64, 60, 129, 131, 199] {
        let path = format!("/api/v1/query?query=h&time={}", start_ms / 1000 + n * 15);
        let sorted = |answer: serde_json::Value| {
            let result = answer["data"]["result"].as_array().cloned();
            let mut result = result.unwrap_or_else(|| panic!("{answer}"));
            result.sort_by_key(|s| s["metric"].to_string());
            serde_json::Value::Array(result)
        };
        let theirs = sorted(ask(port, &path));
        let ours = sorted(host.get(&format!("/prometheus{path}")).json());
        assert_eq!(theirs.as_array().unwrap().len(), 26, "{theirs}");
        assert!(alike(&ours, &theirs), "ours {ours}\ntheirs {theirs}");
    }
}

/// The same server that wrote the samples serves our blocks.
fn a_server_serves(dir: &Path, copied: &Path) {
    let served = dir.join("served");
    std::fs::create_dir_all(&served).unwrap();
    let (_server, port) = prometheus(&served, "global: {}\n", copied);
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

#[test]
fn a_real_prometheus_writes_and_its_tools_read() {
    if !have("prometheus") || !have("promtool") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&dir.path().join("data"), &[]);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: prometheus\n  static_configs: [{{targets: ['SELF']}}]\n- job_name: lgtm\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n- job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{}', '127.0.0.1:{}']}}]\nremote_write:\n- url: {}/api/v1/push\n",
        host.port,
        exporter(),
        exporter(),
        host.url()
    );
    let (sender, port) = prometheus(dir.path(), &config, &dir.path().join("prom"));
    // A minute of scrapes.
    let up = "/prometheus/api/v1/query?query=up%5B1h%5D";
    for _ in 0..1200 {
        let answer = host.get(up).json();
        let result = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if result.len() == 4
            && result
                .iter()
                .all(|s| s["values"].as_array().unwrap().len() >= 60)
        {
            break;
        }
        pause(100);
    }
    same_values(&host, port);
    drop(sender);
    let url = format!("{}/prometheus", host.url());
    let series = promtool(&["query", "series", "--match", "{__name__=~\".+\"}", &url]);
    assert!(
        series.lines().count() > 300,
        "Prometheus alone has hundreds of series: {}",
        series.lines().count()
    );
    assert!(promtool(&["query", "labels", &url, "job"]).contains("lgtm"));
    // One time for both: what began in the last second is in both answers or in none.
    let at = (now_ms() / 1000 + 1).to_string();
    let before = promtool(&[
        "query",
        "instant",
        "--time",
        &at,
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
        &at,
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
        // Marks and the index of all blocks stand beside them.
        .filter(|name| copied.join(name).join("meta.json").exists())
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

    a_server_serves(dir.path(), &copied);
}
