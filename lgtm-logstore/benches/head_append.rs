//! What does a push cost the heads, and how fast does a log come back? Goals: below 4 CPU-s per GB of lines with snappy chunks and the log on
//! (all of the ingest: 6.5), replay at 200 MB/s a core or more, with 10,000 streams at most 1.3 times the cost of 1,000.
//!
//! A program of its own, as whole processes are measured: `cargo bench -p lgtm-logstore --bench head_append`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::sync::Arc;
use std::time::Instant;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::codec::protobuf::{put_bytes_field, put_varint_field};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_logstore::chunk::ChunkEncoding;
use lgtm_logstore::head::{HeadHost, HeadReplayReport, HeadSettings, Heads};
use lgtm_logstore::limits::{Accepted, Limits, PushReport};
use lgtm_logstore::schema::{SchemaPeriods, SchemaSettings};
use lgtm_logstore::wire::{PushBatch, decode_protobuf};

const START_NS: i64 = 1_795_357_046_000_000_000;
const REQUEST_BYTES: usize = 1 << 20;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// User and system time of the process, seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| {
        let field = fields.get(i).and_then(|f| f.parse::<f64>().ok());
        field.unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn rss_anon_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1000.0
}

fn message(fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fields(&mut out);
    out
}

/// Lines as programs write them: some words that repeat, some that do not.
struct Lines {
    state: u64,
    sent: u64,
}

impl Lines {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn line(&mut self) -> String {
        let (a, b, c) = (self.next(), self.next(), self.next());
        let level = ["INFO", "WARN", "DEBUG", "ERROR"][(a % 4) as usize];
        let verb = [
            "Received block",
            "Deleting block",
            "Verification succeeded for",
            "Served request",
        ][(b % 4) as usize];
        format!(
            "2026-11-22T14:17:{:02}.{:06} {level} dfs.DataNode$PacketResponder: {verb} blk_{b} of size {} from /10.251.{}.{}:{} trace={c:016x}",
            a % 60,
            b % 1_000_000,
            c % 67_108_864,
            a % 256,
            b % 256,
            c % 65_536
        )
    }

    /// A request of about a megabyte; gives the bytes of its lines too.
    fn request(&mut self, streams: u64) -> (Vec<u8>, u64) {
        let (mut body, mut bytes) = (Vec::with_capacity(REQUEST_BYTES + 4096), 0);
        while body.len() < REQUEST_BYTES {
            let number = self.next() % streams;
            let stream = message(|out| {
                let labels = format!(
                    "{{app=\"app-{}\", cluster=\"eu-west-1\", namespace=\"shop\", pod=\"pod-{number:05}\"}}",
                    number % 50
                );
                put_bytes_field(out, 1, labels.as_bytes());
                for _ in 0..20 {
                    let line = self.line();
                    bytes += line.len() as u64;
                    self.sent += 1;
                    let t_ns = START_NS + self.sent as i64 * 40_000;
                    let entry = message(|out| {
                        let time = message(|out| {
                            put_varint_field(out, 1, (t_ns / 1_000_000_000) as u64);
                            put_varint_field(out, 2, (t_ns % 1_000_000_000) as u64);
                        });
                        put_bytes_field(out, 1, &time);
                        put_bytes_field(out, 2, line.as_bytes());
                    });
                    put_bytes_field(out, 2, &entry);
                }
            });
            put_bytes_field(&mut body, 1, &stream);
        }
        (body, bytes)
    }
}

fn open(dir: &std::path::Path, encoding: ChunkEncoding) -> Outcome<(Arc<Heads>, HeadReplayReport)> {
    let host = HeadHost {
        disk: Arc::new(LocalDisk::new(dir)),
        clock: Arc::new(ManualClock::at_ms(START_NS / 1_000_000 + 300_000)),
        executor: Executor::inline(tokio::runtime::Handle::current()),
        seed: 7,
    };
    let mut settings = HeadSettings::default();
    settings.chunk.encoding = encoding;
    let schema = SchemaPeriods::new(&SchemaSettings::default())?;
    let (heads, log) = Heads::open(
        host,
        "logs",
        settings,
        schema,
        Overrides::fixed(Limits::default()),
    )?;
    let report = heads.replay(log)?;
    Ok((Arc::new(heads), report))
}

async fn run(encoding: ChunkEncoding, streams: u64, megabytes: u64) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (heads, _) = open(dir.path(), encoding)?;
    let (tenant, limits) = (TenantId::anonymous(), Limits::default());
    let mut lines = Lines {
        state: 0x9e37_79b9_7f4a_7c15,
        sent: 0,
    };
    let (mut decode_s, mut push_s, mut sent) = (0.0, 0.0, 0u64);
    let mut batch = PushBatch::default();
    let began = Instant::now();
    let mut wall = 0.0;
    let mut peak_mb: f64 = 0.0;
    while sent < megabytes << 20 {
        let mut requests = Vec::new();
        for _ in 0..32 {
            requests.push(lines.request(streams));
        }
        let start = (Instant::now(), cpu_s());
        let mut decoding = 0.0;
        for (body, bytes) in &requests {
            let before = Instant::now();
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(0, &mut grow);
            let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
                out.extend_from_slice(body);
                Ok(())
            };
            decode_protobuf(&mut batch, &limits.push_options(), &mut allowance, fill)?;
            decoding += before.elapsed().as_secs_f64();
            let accepted = Accepted::all(&batch);
            let mut report = PushReport::default();
            heads.push(&tenant, &batch, &accepted, &mut report).await?;
            assert_eq!(report.entries, batch.entry_count() as u64);
            sent += bytes;
        }
        wall += start.0.elapsed().as_secs_f64();
        push_s += cpu_s() - start.1;
        decode_s += decoding;
        peak_mb = peak_mb.max(rss_anon_mb());
    }
    let gb = sent as f64 / 1e9;
    println!(
        "{encoding:?}, {streams} streams, {:.0} MB of lines: {:.2} CPU-s per GB, of these {:.2} decoding ({:.0} MB/s of wall time); open chunks {} MB, peak anonymous memory {peak_mb:.0} MB, log {} MB ({:.1} s in all)",
        gb * 1e3,
        push_s / gb,
        decode_s / gb,
        gb * 1e3 / wall,
        heads.open_chunk_bytes() >> 20,
        heads.wal_stats().size_bytes >> 20,
        began.elapsed().as_secs_f64()
    );
    heads.close();
    drop(heads);
    let start = cpu_s();
    let (heads, report) = open(dir.path(), encoding)?;
    let replay_s = cpu_s() - start;
    assert!(report.is_whole());
    println!(
        "  replay of {} entries: {:.0} MB of lines/s of CPU, anonymous memory {:.0} MB",
        report.entries,
        gb * 1e3 / replay_s,
        rss_anon_mb()
    );
    let start = cpu_s();
    heads.finish_all().await?;
    println!(
        "  finishing all chunks: {:.2} CPU-s per GB",
        (cpu_s() - start) / gb
    );
    Ok(())
}

fn main() -> Outcome {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        run(ChunkEncoding::Snappy, 1_000, 500).await?;
        run(ChunkEncoding::Snappy, 10_000, 500).await?;
        run(ChunkEncoding::Zstd, 1_000, 500).await?;
        run(ChunkEncoding::None, 1_000, 500).await
    })
}
