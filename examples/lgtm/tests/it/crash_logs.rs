//! As `crash.rs`, for logs: every acknowledged line is there once after the restart, from memory and from the object store, and so are the lines
//! of streams that nobody has pushed to since. Torn writes of the log are tried in `lgtm-logstore/tests/store_suite.rs` (crash points), flipped bytes
//! in `lgtm-logstore/src/head/tests/durable.rs`.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::host::crash::{Dice, Load, WRITERS, rounds, survive};
use crate::host::{Host, now_ms};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Streams of a writer. Each push goes to some of them, so that their chunks are finished at different moments.
const STREAMS: u64 = 40;
const STREAMS_OF_A_PUSH: u64 = 8;
const LINES_OF_A_STREAM: u64 = 6;
/// Streams that got one line at the beginning.
const IDLE: u64 = 1500;
/// Lines of an answer at most: the default limit.
const PAGE: usize = 5000;
/// Lines of a writer are a millisecond apart, in the hour before now.
const STEP_NS: u64 = 1_000_000;
const LINES: u64 = 3_500_000;

/// What one writer has sent: lines bear the number of their millisecond.
#[derive(Default)]
struct Sent {
    next: u64,
    acknowledged: BTreeSet<u64>,
}

/// The lines of one folder.
struct Lines {
    begin_ns: u64,
    sent: [Mutex<Sent>; WRITERS],
}

/// Where the line `number` is pushed to, and what it says.
fn line(writer: usize, stream: u64, number: u64) -> String {
    format!("{writer} {stream} {number} and some text that could be anywhere")
}

fn encoded(query: &str) -> String {
    query.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// An answer without warnings.
fn ask(host: &Host, path: &str) -> Value {
    let answer = host.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["warnings"], Value::Null, "{path}");
    answer["data"]["result"].clone()
}

impl Lines {
    fn new(now_ms: i64) -> Self {
        Self {
            begin_ns: (now_ms as u64 - 3_600_000) * STEP_NS,
            sent: Default::default(),
        }
    }

    /// All lines of the streams that are selected, as `(time, line)`, page by page.
    fn lines(&self, host: &Host, selector: &str) -> Vec<(u64, String)> {
        let (query, end) = (encoded(selector), self.begin_ns + 3_700_000 * STEP_NS);
        let mut out: Vec<(u64, String)> = Vec::new();
        loop {
            let start = out.last().map_or(self.begin_ns, |(t, _)| t + 1);
            let path = format!(
                "/loki/api/v1/query_range?query={query}&direction=forward&limit={PAGE}&start={start}&end={end}"
            );
            let mut page = Vec::new();
            for stream in ask(host, &path).as_array().unwrap() {
                for value in stream["values"].as_array().unwrap() {
                    let t_ns = value[0].as_str().unwrap().parse().unwrap();
                    page.push((t_ns, value[1].as_str().unwrap().to_owned()));
                }
            }
            page.sort();
            let is_last = page.len() < PAGE;
            out.append(&mut page);
            if is_last {
                return out;
            }
        }
    }

    /// How many lines the streams have, counted.
    fn count(&self, host: &Host, selector: &str) -> usize {
        let query = encoded(&format!("sum(count_over_time({selector}[2h]))"));
        let time = self.begin_ns + 3_700_000 * STEP_NS;
        let result = ask(
            host,
            &format!("/loki/api/v1/query?query={query}&time={time}"),
        );
        let value = result[0]["value"][1].as_str();
        value.map_or(0, |v| v.parse().unwrap())
    }
}

impl Load for Lines {
    /// Chunks of a few pushes, index files at once. What is asked must not come out of a cache.
    const FLAGS: &'static [&'static str] = &[
        "-logs.ingester.maintenance-interval=20ms",
        "-logs.ingester.index-interval=100ms",
        "-logs.ingester.head.checkpoint-after=32KiB",
        "-logs.ingester.head.chunk.block-size-bytes=1500",
        "-logs.ingester.head.chunk.target-size-bytes=3000",
        "-logs.query-frontend.cache-results=false",
    ];

    fn begin(&self, host: &Host) {
        let stream = |s: u64| {
            let t_ns = (self.begin_ns + s * STEP_NS).to_string();
            json!({"stream": {"idle": s.to_string()}, "values": [[t_ns, "idle"]]})
        };
        let body = json!({"streams": (0..IDLE).map(stream).collect::<Vec<_>>()}).to_string();
        let answer = host.post("/loki/api/v1/push", &[JSON], body.as_bytes());
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn write(&self, host: &Host, writer: usize, mut dice: Dice) {
        loop {
            let first = dice.below(STREAMS);
            let number = {
                // What is not answered is not sent again: its numbers are left out.
                let mut sent = self.sent[writer].lock().unwrap();
                sent.next += STREAMS_OF_A_PUSH * LINES_OF_A_STREAM;
                sent.next - STREAMS_OF_A_PUSH * LINES_OF_A_STREAM
            };
            assert!(number < LINES, "the hour is over");
            let stream = |i: u64| {
                let stream = (first + i * 3) % STREAMS;
                let numbers = (0..LINES_OF_A_STREAM).map(|n| number + i * LINES_OF_A_STREAM + n);
                let values = numbers.map(|n| {
                    let t_ns = (self.begin_ns + n * STEP_NS).to_string();
                    json!([t_ns, line(writer, stream, n)])
                });
                let labels = json!({"w": writer.to_string(), "s": stream.to_string()});
                json!({"stream": labels, "values": values.collect::<Vec<_>>()})
            };
            let streams: Vec<Value> = (0..STREAMS_OF_A_PUSH).map(stream).collect();
            let body = json!({ "streams": streams }).to_string();
            match host.try_request("POST", "/loki/api/v1/push", &[JSON], body.as_bytes()) {
                Some(a) if a.status == 204 => {
                    let numbers = number..number + STREAMS_OF_A_PUSH * LINES_OF_A_STREAM;
                    self.sent[writer]
                        .lock()
                        .unwrap()
                        .acknowledged
                        .extend(numbers);
                }
                // A host that ends says so.
                Some(a) if a.status == 503 => {}
                Some(a) => panic!("{}: {}", a.status, a.text()),
                None => return,
            }
        }
    }

    fn check(&self, host: &Host) {
        for (writer, sent) in self.sent.iter().enumerate() {
            let selector = format!("{{w=\"{writer}\"}}");
            let all = self.lines(host, &selector);
            let mut found = BTreeSet::new();
            for (t_ns, text) in &all {
                let number = (t_ns - self.begin_ns) / STEP_NS;
                let words: Vec<&str> = text.split(' ').collect();
                let stream = words[1].parse().unwrap();
                assert_eq!(*text, line(writer, stream, number), "at {t_ns}");
                assert!(found.insert(number), "twice: {text}");
            }
            let sent = sent.lock().unwrap();
            let lost: Vec<_> = sent.acknowledged.difference(&found).collect();
            assert!(
                lost.is_empty(),
                "writer {writer}: {} of {} acknowledged lines are lost, the first: {}",
                lost.len(),
                sent.acknowledged.len(),
                lost[0]
            );
            assert_eq!(self.count(host, &selector), all.len(), "writer {writer}");
        }
        let idle = r#"{idle=~".+"}"#;
        assert_eq!(self.lines(host, idle).len() as u64, IDLE, "idle streams");
        assert_eq!(self.count(host, idle) as u64, IDLE, "idle streams");
    }

    fn acknowledged(&self) -> u64 {
        let of_writer = |sent: &Mutex<Sent>| sent.lock().unwrap().acknowledged.len() as u64;
        self.sent.iter().map(of_writer).sum()
    }
}

#[test]
fn acknowledged_lines_survive_kill_9_and_sigterm() {
    let acknowledged = survive(|| Lines::new(now_ms()));
    println!(
        "{} rounds, {acknowledged} lines acknowledged, none lost, none twice",
        rounds()
    );
    assert!(acknowledged > rounds() * 500, "{acknowledged} acknowledged");
}
