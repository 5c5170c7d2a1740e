//! Start timestamps from the wire to the answer of a query: by remote write 2.0 and OTLP, over a crash and into blocks.

use crate::host::{Host, now_ms};

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn number(out: &mut Vec<u8>, field: u64, v: i64) {
    varint(out, field << 3);
    varint(out, v as u64);
}

fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// Counter `c` and histogram `h` at a time, both since `start_ms`; `plain` has no start.
fn v2_request(t_ms: i64, start_ms: i64) -> Vec<u8> {
    let mut body = Vec::new();
    for symbol in ["", "__name__", "c", "h", "plain"] {
        field(&mut body, 4, symbol.as_bytes());
    }
    for (name, start_ms) in [(2, start_ms), (4, 0)] {
        let (mut series, mut sample) = (Vec::new(), Vec::new());
        field(&mut series, 1, &[1, name]);
        double(&mut sample, 1, 5.0);
        number(&mut sample, 2, t_ms);
        number(&mut sample, 3, start_ms);
        field(&mut series, 2, &sample);
        field(&mut body, 5, &series);
    }
    let (mut series, mut histogram) = (Vec::new(), Vec::new());
    field(&mut series, 1, &[1, 3]);
    // Count and zero count of 4, sum of 1.
    number(&mut histogram, 1, 4);
    double(&mut histogram, 3, 1.0);
    number(&mut histogram, 6, 4);
    number(&mut histogram, 15, t_ms);
    number(&mut histogram, 17, start_ms);
    field(&mut series, 3, &histogram);
    field(&mut body, 5, &series);
    snappy(&body)
}

fn push(host: &Host, t_ms: i64, start_ms: i64) {
    let typed = [(
        "Content-Type",
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    )];
    let answer = host.post("/api/v1/push", &typed, &v2_request(t_ms, start_ms));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let point = format!(
        r#""timeUnixNano":"{}","startTimeUnixNano":"{}""#,
        t_ms * 1_000_000,
        start_ms * 1_000_000
    );
    let sum = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"otel","sum":{{"isMonotonic":true,
            "aggregationTemporality":2,"dataPoints":[{{{point},"asDouble":5}}]}}}}]}}]}}]}}"#
    );
    let json = [("Content-Type", "application/json")];
    let answer = host.post("/otlp/v1/metrics", &json, sum.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The value of a query's one series; nothing if it has none.
fn value(host: &Host, query: &str, t_ms: i64) -> Option<f64> {
    let path = format!(
        "/prometheus/api/v1/query?query={query}&time={}.{:03}",
        t_ms / 1000,
        t_ms % 1000
    );
    let answer = host.get(&path).json();
    let result = answer["data"]["result"].as_array();
    let first = result.unwrap_or_else(|| panic!("{answer}")).first()?;
    Some(first["value"][1].as_str().unwrap().parse().unwrap())
}

/// The encodings of all chunks that remote read streams of a metric.
fn streamed_encodings(host: &Host, name: &str, (from_ms, to_ms): (i64, i64)) -> Vec<i64> {
    let (mut matcher, mut query, mut body) = (Vec::new(), Vec::new(), Vec::new());
    field(&mut matcher, 2, b"__name__");
    field(&mut matcher, 3, name.as_bytes());
    number(&mut query, 1, from_ms);
    number(&mut query, 2, to_ms);
    field(&mut query, 3, &matcher);
    field(&mut body, 1, &query);
    number(&mut body, 2, 1);
    let answer = host.post("/prometheus/api/v1/read", &[], &snappy(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut out = Vec::new();
    let mut rest = answer.body.as_slice();
    while !rest.is_empty() {
        let len = take_varint(&mut rest) as usize;
        // A checksum stands before the body.
        let frame = &rest[4..4 + len];
        rest = &rest[4 + len..];
        for series in messages(frame, 1) {
            for chunk in messages(series, 2) {
                out.push(number_of(chunk, 3));
            }
        }
    }
    out
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut v = 0;
    for i in 0.. {
        let b = rest[0];
        *rest = &rest[1..];
        v |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            break;
        }
    }
    v
}

/// Walks the fields of a message: number, and the varint or the bytes.
fn walk(mut rest: &[u8], mut seen: impl FnMut(u64, Result<i64, (usize, usize)>)) {
    let whole = rest.len();
    while !rest.is_empty() {
        let tag = take_varint(&mut rest);
        match tag & 7 {
            0 => seen(tag >> 3, Ok(take_varint(&mut rest) as i64)),
            2 => {
                let len = take_varint(&mut rest) as usize;
                let at = whole - rest.len();
                seen(tag >> 3, Err((at, at + len)));
                rest = &rest[len..];
            }
            kind => panic!("wire type {kind}"),
        }
    }
}

fn messages(message: &[u8], number: u64) -> Vec<&[u8]> {
    let mut out = Vec::new();
    walk(message, |n, value| {
        if let (true, Err((from, to))) = (n == number, value) {
            out.push(&message[from..to]);
        }
    });
    out
}

fn number_of(message: &[u8], number: u64) -> i64 {
    let mut out = 0;
    walk(message, |n, value| {
        if let (true, Ok(v)) = (n == number, value) {
            out = v;
        }
    });
    out
}

const QUERYING: [&str; 2] = [
    "-metrics.querier.start-timestamps",
    "-metrics.querier.parser.experimental-functions",
];

#[test]
fn starts_come_back_from_memory_log_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        QUERYING[0],
        QUERYING[1],
        "-limits.metrics.st-storage-enabled",
    ];
    let mut host = Host::start(dir.path(), &flags);
    // The counters begin anew between two equal values: only the start tells.
    let t_ms = now_ms() / 1000 * 1000 - 60_000;
    push(&host, t_ms, t_ms - 30_000);
    push(&host, t_ms + 15_000, t_ms + 10_000);
    push(&host, t_ms + 30_000, t_ms + 10_000);
    let now = t_ms + 30_000;
    let check = |host: &Host, place: &str| {
        for name in ["c", "h", "otel_total"] {
            let start = value(host, &format!("start_timestamp({name})"), now);
            let want = (t_ms + 10_000) as f64 / 1000.0;
            assert_eq!(start, Some(want), "{name} from {place}");
            let resets = value(host, &format!("resets({name}%5B1m%5D)"), now);
            assert_eq!(resets, Some(1.0), "resets of {name} from {place}");
        }
        let resets = value(host, "resets(plain%5B1m%5D)", now);
        assert_eq!(resets, Some(0.0), "{place}");
        let range = (t_ms - 1000, now + 1000);
        for (name, encoding) in [("c", 1), ("plain", 1), ("otel_total", 1), ("h", 2)] {
            let encodings = streamed_encodings(host, name, range);
            assert!(!encodings.is_empty(), "{name} from {place}");
            assert!(
                encodings.iter().all(|e| *e == encoding),
                "{name} from {place}: {encodings:?}"
            );
        }
    };
    check(&host, "memory");
    host.kill_9();
    host = Host::start(dir.path(), &flags);
    check(&host, "the log");
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    check(&host, "blocks");
}

#[test]
fn starts_are_dropped_where_nobody_asked_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &QUERYING);
    let t_ms = now_ms() / 1000 * 1000 - 60_000;
    push(&host, t_ms, t_ms - 30_000);
    push(&host, t_ms + 15_000, t_ms + 10_000);
    for name in ["c", "h", "otel_total"] {
        let resets = value(&host, &format!("resets({name}%5B1m%5D)"), t_ms + 15_000);
        assert_eq!(resets, Some(0.0), "{name}");
    }
}
