//! A host that is killed, and one that is asked to end, at random moments among checkpoints and flushes: every acknowledged sample is
//! there after the restart, and series that nobody has written to since are too.

use crate::host;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::host::crash::{Dice, Load, WRITERS, rounds, survive};
use crate::host::{Host, now_ms, write_request};
use serde_json::Value;

/// Series of a writer. Each request goes to some of them, so that their chunks become full at different moments.
const SERIES: usize = 120;
const SERIES_OF_A_REQUEST: usize = 24;
const SAMPLES_OF_A_SERIES: usize = 4;
/// Series that got one sample at the beginning: only checkpoints keep them.
const IDLE: usize = 4000;
const STEP_MS: i64 = 5_000;
const HOUR_MS: i64 = 3_600_000;
/// Samples from the beginning to now: what is newer is refused.
const NUMBERS: i64 = 10 * HOUR_MS / STEP_MS;
/// A series that falls further behind the newest sample leaves some out, or it would be refused as too old.
const BEHIND: i64 = HOUR_MS / 4 / STEP_MS;

/// Samples that the head takes behind the newest: half a block's range.
const HEAD_TAKES: i64 = HOUR_MS / STEP_MS;

/// What one writer has sent: the next number of each series, and the numbers that were acknowledged.
struct Sent {
    next: [i64; SERIES],
    acknowledged: Vec<(usize, i64)>,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            next: [0; SERIES],
            acknowledged: Vec::new(),
        }
    }
}

/// The samples of one folder.
struct Samples {
    begin_ms: i64,
    /// The newest number that any writer has sent.
    newest: AtomicI64,
    sent: [Mutex<Sent>; WRITERS],
}

fn value(number: i64) -> f64 {
    number as f64 * 1.5
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn ask(host: &Host, query: &str, begin_ms: i64) -> Vec<Value> {
    let time = (begin_ms + 10 * HOUR_MS) / 1000;
    let answer = host.get(&format!(
        "/prometheus/api/v1/query?query={query}%5B11h%5D&time={time}"
    ));
    let answer = answer.json();
    assert_eq!(answer["warnings"], Value::Null, "{query}");
    let result = answer["data"]["result"].as_array();
    result.unwrap_or_else(|| panic!("{answer}")).clone()
}

impl Load for Samples {
    /// What is asked must not come out of a cache.
    const FLAGS: &'static [&'static str] = &[
        "-metrics.ingester.maintenance-interval=20ms",
        "-metrics.ingester.head.checkpoint-after=32KiB",
        "-metrics.query-frontend.cache-results=false",
    ];

    fn begin(&self, host: &Host) {
        let names = names(IDLE);
        let labels: Vec<[(&str, &str); 2]> = names
            .iter()
            .map(|s| [("__name__", "crash_idle"), ("s", s.as_str())])
            .collect();
        for part in labels.chunks(1000) {
            let series: Vec<host::Series<'_>> =
                part.iter().map(|l| (&l[..], self.begin_ms, 1.0)).collect();
            assert_eq!(host.push(&series).status, 200);
        }
    }

    fn write(&self, host: &Host, writer: usize, mut dice: Dice) {
        let (begin_ms, sent) = (self.begin_ms, &self.sent[writer]);
        let (writer, names) = (writer.to_string(), names(SERIES));
        let labels: Vec<[(&str, &str); 3]> = names
            .iter()
            .map(|s| [("__name__", "crash"), ("s", s), ("w", &writer)])
            .collect();
        loop {
            let mut numbers = Vec::new();
            {
                // What is not answered is not sent again: its numbers are left out.
                let mut sent = sent.lock().unwrap();
                let first = dice.below(SERIES as u64) as usize;
                let newest = self.newest.load(Ordering::SeqCst);
                if newest + (SERIES_OF_A_REQUEST as i64) >= NUMBERS {
                    return;
                }
                for i in 0..SERIES_OF_A_REQUEST {
                    let n = (first + i * 5) % SERIES;
                    sent.next[n] = sent.next[n].max(newest - BEHIND);
                    for _ in 0..SAMPLES_OF_A_SERIES {
                        numbers.push((n, sent.next[n]));
                        sent.next[n] += 1;
                    }
                    self.newest.fetch_max(sent.next[n], Ordering::SeqCst);
                }
            }
            let sample = |(n, number): &(usize, i64)| {
                let t_ms = begin_ms + number * STEP_MS;
                (&labels[*n][..], t_ms, value(*number))
            };
            let request: Vec<host::Series<'_>> = numbers.iter().map(sample).collect();
            let oldest = numbers.iter().map(|(_, number)| *number).min().unwrap();
            match host.try_request("POST", "/api/v1/push", &[], &write_request(&request)) {
                Some(a) if a.status == 200 => sent.lock().unwrap().acknowledged.extend(numbers),
                // A host that ends says so.
                Some(a) if a.status == 503 => {}
                // Others went on by more than the head takes while this request waited for its turn.
                Some(a)
                    if a.status == 400
                        && self.newest.load(Ordering::SeqCst) - oldest >= HEAD_TAKES => {}
                Some(a) => panic!("{}: {}", a.status, a.text()),
                None => return,
            }
        }
    }

    fn check(&self, host: &Host) {
        let begin_ms = self.begin_ms;
        for (writer, sent) in self.sent.iter().enumerate() {
            let mut found: BTreeMap<(usize, i64), f64> = BTreeMap::new();
            for series in ask(host, &format!("crash%7Bw%3D%22{writer}%22%7D"), begin_ms) {
                let n: usize = series["metric"]["s"].as_str().unwrap().parse().unwrap();
                for v in series["values"].as_array().unwrap() {
                    let t_ms = (v[0].as_f64().unwrap() * 1000.0) as i64;
                    let number = (t_ms - begin_ms) / STEP_MS;
                    let twice = found.insert((n, number), v[1].as_str().unwrap().parse().unwrap());
                    assert_eq!(twice, None, "writer {writer}, series {n}, sample {number}");
                }
            }
            let sent = sent.lock().unwrap();
            let is_lost = |key: &&(usize, i64)| found.get(key) != Some(&value(key.1));
            let lost: Vec<_> = sent.acknowledged.iter().filter(is_lost).collect();
            assert!(
                lost.is_empty(),
                "writer {writer}: {} of {} acknowledged samples are lost, the first (series, number): {:?}",
                lost.len(),
                sent.acknowledged.len(),
                lost[0]
            );
        }
        assert_eq!(ask(host, "crash_idle", begin_ms).len(), IDLE, "idle series");
    }

    fn acknowledged(&self) -> u64 {
        let of_writer = |sent: &Mutex<Sent>| sent.lock().unwrap().acknowledged.len() as u64;
        self.sent.iter().map(of_writer).sum()
    }
}

#[test]
fn acknowledged_samples_survive_kill_9_and_sigterm() {
    let begin_ms = now_ms() / 1000 * 1000 - 10 * HOUR_MS;
    let acknowledged = survive(|| Samples {
        begin_ms,
        newest: AtomicI64::new(0),
        sent: Default::default(),
    });
    println!(
        "{} rounds, {acknowledged} samples acknowledged, none lost",
        rounds()
    );
    assert!(acknowledged > rounds() * 500, "{acknowledged} acknowledged");
}
