//! As `crash.rs`, for traces: every acknowledged span is there once after the restart, from memory and from the object store, and so are traces
//! that nobody has sent spans of since. A trace's spans come in many requests, so that its parts lie in several blocks, in the log and in memory.
//! Torn writes of the log are tried in `lgtm-tracestore/tests/store_suite.rs` (crash points).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::host::crash::{Dice, Load, WRITERS, rounds, survive};
use crate::host::{Host, now_ms};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Traces of a writer. Each push has spans of some of them.
const TRACES: u64 = 25;
const TRACES_OF_A_PUSH: u64 = 4;
const SPANS_OF_A_TRACE: u64 = 5;
/// Traces that got one span at the beginning.
const IDLE: u64 = 400;
/// Spans begin a millisecond apart, in the hour before now.
const STEP_NS: u64 = 1_000_000;
const SPANS: u64 = 3_500_000;

/// What one writer has sent: the number of a span is its id and its millisecond.
#[derive(Default)]
struct Sent {
    next: u64,
    /// By trace.
    acknowledged: BTreeMap<u64, BTreeSet<u64>>,
}

/// The spans of one folder.
struct Spans {
    begin_ns: u64,
    sent: [Mutex<Sent>; WRITERS],
}

/// The id of a trace: who sends it, and which one it is.
fn trace_id(sender: &str, trace: u64) -> String {
    format!(
        "{:016x}{:016x}",
        sender.bytes().map(u64::from).sum::<u64>(),
        trace + 1
    )
}

fn sender(writer: usize) -> String {
    format!("writer-{writer}")
}

fn encoded(query: &str) -> String {
    query.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// An answer that is there and whole.
fn ask(host: &Host, path: &str) -> Value {
    let answer = host.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["status"], Value::Null, "{path}: {answer}");
    answer
}

impl Spans {
    fn new(now_ms: i64) -> Self {
        Self {
            begin_ns: (now_ms as u64 - 3_600_000) * STEP_NS,
            sent: Default::default(),
        }
    }

    fn span(&self, trace_id: &str, number: u64) -> Value {
        let start_ns = self.begin_ns + number * STEP_NS;
        json!({
            "traceId": trace_id,
            "spanId": format!("{:016x}", number + 1),
            "name": format!("span {number}"),
            "startTimeUnixNano": start_ns.to_string(),
            "endTimeUnixNano": (start_ns + 5 * STEP_NS).to_string(),
            "attributes": [{"key": "number", "value": {"intValue": number.to_string()}}],
        })
    }

    fn request(&self, sender: &str, spans: Vec<Value>) -> String {
        let service = json!([{"key": "service.name", "value": {"stringValue": sender}}]);
        json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [{"spans": spans}]}]})
            .to_string()
    }

    /// Numbers of the spans of a trace; each must be as it was sent, and come once.
    fn numbers(&self, host: &Host, trace_id: &str) -> BTreeSet<u64> {
        let found = host.get(&format!("/api/v2/traces/{trace_id}"));
        assert_eq!(found.status, 200, "{trace_id}: {}", found.text());
        let found = found.json();
        assert_eq!(found["status"], Value::Null, "{trace_id}");
        let mut numbers = BTreeSet::new();
        let resources = found["trace"]["resourceSpans"].as_array();
        for resource in resources.into_iter().flatten() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                for span in scope["spans"].as_array().unwrap() {
                    let number = span["attributes"][0]["value"]["intValue"].as_str();
                    let number: u64 = number.unwrap().parse().unwrap();
                    assert_eq!(span["name"], format!("span {number}"));
                    let start_ns = (self.begin_ns + number * STEP_NS).to_string();
                    assert_eq!(span["startTimeUnixNano"], start_ns);
                    assert!(numbers.insert(number), "twice: span {number} of {trace_id}");
                }
            }
        }
        numbers
    }

    /// How many spans a sender has, counted.
    fn count(&self, host: &Host, sender: &str) -> u64 {
        let query = format!(r#"{{resource.service.name="{sender}"}} | count_over_time()"#);
        let (start, end) = (self.begin_ns - 1, self.begin_ns + SPANS * STEP_NS);
        let query = encoded(&query);
        let path = format!("/api/metrics/query?q={query}&start={start}&end={end}");
        let answer = ask(host, &path);
        answer["series"][0]["value"].as_f64().unwrap_or(0.0) as u64
    }
}

impl Load for Spans {
    /// Traces are cut after a moment, blocks are made of few, and joined at once.
    const FLAGS: &'static [&'static str] = &[
        "-traces.ingester.maintenance-interval=20ms",
        "-traces.ingester.max-block-duration=200ms",
        "-traces.ingester.head.max-trace-idle=50ms",
        "-traces.ingester.head.max-trace-live=100ms",
        "-traces.ingester.head.checkpoint-after=32KiB",
        "-traces.ingester.head.batch-bytes=4KiB",
        "-traces.compactor.compaction-interval=1s",
        "-limits.traces.global.max-bytes-per-trace=0",
        "-traces.query-frontend.cache-results=false",
        "-otlp.http-listen-port=0",
        "-otlp.grpc-listen-port=0",
    ];

    fn begin(&self, host: &Host) {
        let spans = (0..IDLE).map(|n| self.span(&trace_id("idle", n), n));
        let body = self.request("idle", spans.collect());
        let answer = host.post("/v1/traces", &[JSON], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn write(&self, host: &Host, writer: usize, mut dice: Dice) {
        let sender = sender(writer);
        loop {
            let first = dice.below(TRACES);
            let number = {
                // What is not answered is not sent again: its numbers are left out.
                let mut sent = self.sent[writer].lock().unwrap();
                sent.next += TRACES_OF_A_PUSH * SPANS_OF_A_TRACE;
                sent.next - TRACES_OF_A_PUSH * SPANS_OF_A_TRACE
            };
            assert!(number < SPANS, "the hour is over");
            let of_trace = |i: u64| {
                let first = number + i * SPANS_OF_A_TRACE;
                first..first + SPANS_OF_A_TRACE
            };
            let traces = (0..TRACES_OF_A_PUSH).map(|i| (i, (first + i * 3) % TRACES));
            let traces: Vec<(u64, u64)> = traces.collect();
            let spans = traces.iter().flat_map(|(i, trace)| {
                let id = trace_id(&sender, *trace);
                of_trace(*i).map(move |n| self.span(&id, n))
            });
            let body = self.request(&sender, spans.collect());
            match host.try_request("POST", "/v1/traces", &[JSON], body.as_bytes()) {
                Some(a) if a.status == 200 => {
                    assert_eq!(a.text(), r#"{"partialSuccess":{}}"#);
                    let mut sent = self.sent[writer].lock().unwrap();
                    for (i, trace) in &traces {
                        let acknowledged = sent.acknowledged.entry(*trace).or_default();
                        acknowledged.extend(of_trace(*i));
                    }
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
            let (sender, mut all) = (sender(writer), 0);
            let sent = sent.lock().unwrap();
            for (trace, acknowledged) in &sent.acknowledged {
                let found = self.numbers(host, &trace_id(&sender, *trace));
                let lost: Vec<_> = acknowledged.difference(&found).collect();
                assert!(
                    lost.is_empty(),
                    "writer {writer}, trace {trace}: {} of {} acknowledged spans are lost, the first: {}",
                    lost.len(),
                    acknowledged.len(),
                    lost[0]
                );
                all += found.len() as u64;
            }
            // A trace of which no push was answered may be there too.
            let counted = self.count(host, &sender);
            let never_answered = (0..TRACES).filter(|t| !sent.acknowledged.contains_key(t));
            let more: usize = never_answered
                .map(|t| self.numbers(host, &trace_id(&sender, t)).len())
                .sum();
            assert_eq!(counted, all + more as u64, "writer {writer}");
        }
        for n in (0..IDLE).step_by(7) {
            let found = self.numbers(host, &trace_id("idle", n));
            assert_eq!(found, BTreeSet::from([n]), "idle trace {n}");
        }
        assert_eq!(self.count(host, "idle"), IDLE, "idle traces");
    }

    fn acknowledged(&self) -> u64 {
        let of_writer = |sent: &Mutex<Sent>| {
            let sent = sent.lock().unwrap();
            sent.acknowledged
                .values()
                .map(|t| t.len() as u64)
                .sum::<u64>()
        };
        self.sent.iter().map(of_writer).sum()
    }
}

#[test]
fn acknowledged_spans_survive_kill_9_and_sigterm() {
    let acknowledged = survive(|| Spans::new(now_ms()));
    println!(
        "{} rounds, {acknowledged} spans acknowledged, none lost, none twice",
        rounds()
    );
    assert!(acknowledged > rounds() * 300, "{acknowledged} acknowledged");
}
