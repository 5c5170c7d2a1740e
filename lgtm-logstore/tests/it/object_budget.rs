//! Objects and requests for each GB that is pushed, with default settings: no more than the flush rules of Loki's ingester make of the same lines
//! (`formats/loki.md`: chunks of 1.5 MB, 30 minutes idle, 2 hours old, cut at the same hour on all replicas; an index file every 15 minutes).

use std::sync::atomic::Ordering;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::{Compression, Compressor};
use lgtm_core::testing::{Dice, FaultyStore};
use lgtm_logstore::prelude::*;

const T_MS: i64 = 1_700_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;
const MINUTES: i64 = 4 * 60;
const GB: f64 = 1e9;

/// Loki's rules, by their defaults.
const TARGET_BYTES: f64 = 1_572_864.0;
const BLOCK_BYTES: f64 = 262_144.0;
const MAX_AGE_NS: i64 = 120 * MINUTE_NS;
const IDLE_NS: i64 = 30 * MINUTE_NS;
const SYNC_NS: i64 = 60 * MINUTE_NS;
const SYNC_PART: f64 = 0.1;
const INDEX_MINUTES: i64 = 15;

/// A stream, and how it is written to.
struct Source {
    labels: Labels,
    lines_a_minute: u64,
    /// It writes in minutes that leave this when divided by `every`.
    phase: i64,
    every: i64,
    model: LokiStream,
}

/// The chunks that Loki would make of a stream.
#[derive(Default)]
struct LokiStream {
    fingerprint: u64,
    chunks: u64,
    first_ns: i64,
    last_ns: i64,
    /// Compressed blocks, and lines that are in none yet.
    blocks: f64,
    open: f64,
}

impl LokiStream {
    /// Takes an entry whose line has so many bytes, `ratio` of them in a block.
    fn take(&mut self, t_ns: i64, bytes: f64, ratio: f64) {
        let phase = |t_ns: i64| (t_ns as u64).wrapping_add(self.fingerprint) % SYNC_NS as u64;
        let size = self.blocks + self.open;
        let is_synced = phase(t_ns) < phase(self.last_ns) && size > SYNC_PART * TARGET_BYTES;
        let ends = self.chunks == 0
            || self.last_ns - self.first_ns > MAX_AGE_NS
            || t_ns - self.last_ns >= IDLE_NS
            || size + bytes >= TARGET_BYTES
            || is_synced;
        if ends {
            (self.chunks, self.first_ns) = (self.chunks + 1, t_ns);
            (self.blocks, self.open) = (0.0, 0.0);
        }
        self.open += bytes;
        if self.open >= BLOCK_BYTES {
            self.blocks += self.open * ratio;
            self.open = 0.0;
        }
        self.last_ns = t_ns;
    }
}

/// The part of their size that lines have in a block.
fn ratio() -> f64 {
    let mut dice = Dice::seeded(2);
    let mut block = String::new();
    while (block.len() as f64) < BLOCK_BYTES {
        block.push_str(&line(&mut dice));
    }
    let mut packed = Vec::new();
    let mut packer = Compressor::default();
    packer
        .compress(Compression::Zstd, block.as_bytes(), &mut packed)
        .unwrap();
    packed.len() as f64 / block.len() as f64
}

/// A few streams that are large, some that are not, many that say something now and then, and more that spoke once: pods come and go.
fn sources() -> Vec<Source> {
    let mut out = Vec::new();
    let groups = [
        ("busy", 2, 300, 1),
        ("usual", 25, 25, 1),
        ("quiet", 300, 1, 10),
        ("rare", 200, 2, 47),
        ("gone", 1500, 3, MINUTES),
    ];
    for (kind, count, lines_a_minute, every) in groups {
        for n in 0..count {
            let labels = [("kind", kind.to_owned()), ("pod", format!("pod-{n}"))];
            let labels = Labels::from_pairs(labels).unwrap();
            let fingerprint = labels.stable_hash();
            out.push(Source {
                labels,
                lines_a_minute,
                phase: (n * 7919) % every,
                every,
                model: LokiStream {
                    fingerprint,
                    ..LokiStream::default()
                },
            });
        }
    }
    out
}

fn line(dice: &mut Dice) -> String {
    const PATHS: [&str; 5] = ["/cart", "/login", "/api/v1/items", "/health", "/checkout"];
    let mut below = |end: u64| dice.below(end);
    format!(
        "level=info ts={} caller=handler.go:{} method=GET path={} status={} duration={}ms bytes={} trace_id={:016x}{:016x}",
        below(1_000_000),
        below(400),
        PATHS[below(5) as usize],
        200 + below(3),
        below(2000),
        below(100_000),
        below(u64::MAX),
        below(u64::MAX),
    )
}

#[tokio::test]
async fn a_gigabyte_costs_no_more_objects_and_requests_than_it_costs_loki() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 7);
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let limits = Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    let db = LogStore::builder(folder.path(), backend)
        .limits(Overrides::fixed(limits))
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    let at_start = store.all_requests();
    let (mut sources, mut dice) = (sources(), Dice::seeded(1));
    let mut pushed: Vec<(usize, i64, usize)> = Vec::new();
    for minute in 0..MINUTES {
        let begin_ns = T_MS * 1_000_000 + minute * MINUTE_NS;
        let mut streams = Vec::new();
        for (n, s) in sources.iter().enumerate() {
            if minute % s.every != s.phase {
                continue;
            }
            let step = MINUTE_NS / s.lines_a_minute as i64;
            let entries = (0..s.lines_a_minute as i64).map(|i| {
                let (t_ns, line) = (begin_ns + i * step, line(&mut dice));
                pushed.push((n, t_ns, line.len()));
                LogEntry::new(t_ns, line)
            });
            streams.push((s.labels.clone(), entries.collect::<Vec<_>>()));
        }
        let report = db.append(&tenant, &streams).await.unwrap();
        let sent: usize = streams.iter().map(|(_, entries)| entries.len()).sum();
        assert_eq!(report.entries, sent as u64);
        clock.advance(Duration::from_secs(60));
        db.maintain().await.unwrap();
    }
    // All that is left is idle after half an hour.
    for _ in 0..40 {
        clock.advance(Duration::from_secs(60));
        db.maintain().await.unwrap();
    }
    db.flush().await.unwrap();
    let ingester = db.ingester();
    let counts = ingester.flush_counts();
    let chunks: u64 = counts.chunks.lock().values().sum();
    let index_files = counts.index_files.load(Ordering::Relaxed);
    let (requests, puts) = (store.all_requests() - at_start, store.requests("put"));
    let raw: f64 = pushed.iter().map(|p| p.2 as f64).sum();
    assert_eq!(counts.entries.load(Ordering::Relaxed), pushed.len() as u64);
    let ratio = ratio();
    for (n, t_ns, len) in &pushed {
        sources[*n].model.take(*t_ns, *len as f64, ratio);
    }
    let loki_chunks: u64 = sources.iter().map(|s| s.model.chunks).sum();
    // One for each day that its chunks touch; the load touches two.
    let loki_index_files = 2 * (MINUTES + 40) as u64 / INDEX_MINUTES as u64;
    let a_gb = |n: u64| n as f64 * GB / raw;
    println!(
        "{:.0} MB of lines: {chunks} chunks (Loki {loki_chunks}), {index_files} index files, {puts} puts of {requests} requests; {:.0} chunks and {:.0} requests a GB (Loki {:.0} and {:.0}), {:?}",
        raw / 1e6,
        a_gb(chunks),
        a_gb(requests),
        a_gb(loki_chunks),
        a_gb(loki_chunks + loki_index_files),
        counts.chunks.lock(),
    );
    // How far blocks compress differs a little from stream to stream.
    let bound = loki_chunks + loki_chunks / 100;
    assert!(chunks <= bound, "{chunks} of {loki_chunks}");
    assert!(index_files <= loki_index_files, "{index_files}");
    // Index files, and what stands beside chunks, come once for many of them.
    let more = 2 * loki_index_files;
    assert!(requests <= bound + more, "{requests}, {puts} puts");
    db.close().await.unwrap();
}
