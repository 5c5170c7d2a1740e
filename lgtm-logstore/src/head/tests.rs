//! A store of heads on a disk that can crash, and what all tests of it do.

mod durable;
mod limits;
mod model;
mod select;

use std::collections::BTreeSet;
use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::testing::{Crash, CrashDisk};
use lgtm_core::units::ByteSize;

use super::head_chunk::{BLOB_TAG, ChunkBytes, HeadChunk};
use super::*;
use crate::chunk::{Chunk, ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkSettings};
use crate::entry::{EntryBlock, disjoint};
use crate::limits::{Admission, Limits, PushReport};
use crate::schema::{SchemaPeriods, SchemaSettings};
use crate::wire::{PushBatch, decode_json};

/// Seconds of the clock when a test begins.
const NOW_S: i64 = 1_795_357_046;
const SECOND: i64 = 1_000_000_000;
const NOW: i64 = NOW_S * SECOND;

/// Stream, time, line, value of the metadata `m`.
type Row = (String, i64, String, String);

struct Store {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    limits: Limits,
    settings: HeadSettings,
    heads: Arc<Heads>,
    report: HeadReplayReport,
}

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// Small blocks and chunks, so that few entries fill them.
fn small_settings() -> HeadSettings {
    HeadSettings {
        chunk: ChunkSettings {
            encoding: ChunkEncoding::Snappy,
            block_size_bytes: 500,
            target_size_bytes: 3000,
            ..ChunkSettings::default()
        },
        chunk_file_size: ByteSize::mib(1),
        ..HeadSettings::default()
    }
}

fn limits() -> Limits {
    Limits {
        discover_log_levels: false,
        discover_service_name: Vec::new(),
        ..Limits::default()
    }
}

fn open(
    disk: &CrashDisk,
    settings: &HeadSettings,
    limits: &Limits,
    clock: &Arc<ManualClock>,
) -> Result<(Arc<Heads>, HeadReplayReport)> {
    let host = HeadHost {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as _,
        executor: Executor::inline(tokio::runtime::Handle::current()),
        seed: 7,
    };
    let schema = SchemaPeriods::new(&SchemaSettings::default()).unwrap();
    let limits = Overrides::fixed(limits.clone());
    let (heads, log) = Heads::open(host, "logs", settings.clone(), schema, limits)?;
    let report = heads.replay(log)?;
    Ok((Arc::new(heads), report))
}

impl Store {
    fn new(settings: HeadSettings, limits: Limits) -> Self {
        let (disk, clock) = (
            CrashDisk::new(1),
            Arc::new(ManualClock::at_ms(NOW_S * 1000)),
        );
        let (heads, report) = open(&disk, &settings, &limits, &clock).unwrap();
        Self {
            disk,
            clock,
            limits,
            settings,
            heads,
            report,
        }
    }

    /// As the next process finds it.
    fn reopen(&mut self, crash: Crash) {
        self.disk = self.disk.crash(crash);
        let opened = open(&self.disk, &self.settings, &self.limits, &self.clock);
        (self.heads, self.report) = opened.unwrap();
    }

    async fn push(&self, rows: &[(&str, i64, &str, &str)]) -> Result<PushReport> {
        let batch = batch(rows, &self.limits);
        let mut report = PushReport::default();
        let admission = Admission::new(Arc::clone(&self.clock) as _);
        let accepted = admission.admit(&tenant(), &batch, &self.limits, &mut report);
        (self.heads)
            .push(&tenant(), &batch, &accepted, &mut report)
            .await?;
        Ok(report)
    }

    /// Pushes what all is to be taken.
    async fn put(&self, rows: &[(&str, i64, &str, &str)]) {
        assert_eq!(self.push(rows).await.unwrap().refusal("t"), None);
    }

    fn all(&self) -> Vec<Row> {
        rows_of(&self.heads)
    }
}

/// Rows of one stream follow each other.
fn batch(rows: &[(&str, i64, &str, &str)], limits: &Limits) -> PushBatch {
    let streams: Vec<serde_json::Value> = rows
        .chunk_by(|a, b| a.0 == b.0)
        .map(|rows| {
            let values = rows.iter().map(|(_, t, line, m)| {
                if m.is_empty() {
                    serde_json::json!([t.to_string(), line])
                } else {
                    serde_json::json!([t.to_string(), line, {"m": m}])
                }
            });
            let values: Vec<_> = values.collect();
            serde_json::json!({"stream": {"app": rows[0].0}, "values": values})
        })
        .collect();
    let body = serde_json::json!({"streams": streams}).to_string();
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(body.as_bytes());
        Ok(())
    };
    decode_json(&mut batch, &limits.push_options(), &mut allowance, fill).unwrap();
    batch
}

fn blocks_of_builder(builder: &ChunkBuilder, codec: &mut ChunkCodec) -> Vec<EntryBlock> {
    builder.entries(i64::MIN, i64::MAX, codec).unwrap()
}

fn blocks_of_chunk(heads: &Heads, chunk: &HeadChunk, codec: &mut ChunkCodec) -> Vec<EntryBlock> {
    let bytes = match &chunk.bytes {
        ChunkBytes::Builder(builder) => return blocks_of_builder(builder, codec),
        ChunkBytes::Memory(bytes) => bytes.clone(),
        ChunkBytes::File(place) => heads.parts.files.read(*place, BLOB_TAG).unwrap(),
    };
    let chunk = Chunk::open(bytes).unwrap();
    let read = chunk.read(|_| true, codec).unwrap();
    assert_eq!(read.damaged, []);
    read.blocks
}

/// Everything that the heads hold, each entry once, by stream and time.
fn rows_of(heads: &Heads) -> Vec<Row> {
    let mut out = Vec::new();
    let mut codec = ChunkCodec::default();
    for head in heads.all() {
        for (_, stream) in head.streams() {
            let index = head.index.read();
            let state = stream.lock();
            let mut pairs = index.pairs(&state.labels);
            let name = pairs.find(|(n, _)| *n == "app").unwrap().1.to_owned();
            let mut blocks = Vec::new();
            for chunk in &state.finished {
                blocks.extend(blocks_of_chunk(heads, chunk, &mut codec));
            }
            for open in [&state.open, &state.late].into_iter().flatten() {
                blocks.extend(blocks_of_builder(open, &mut codec));
            }
            for entry in disjoint(blocks)
                .unwrap()
                .blocks
                .iter()
                .flat_map(|b| b.iter())
            {
                let line = String::from_utf8(entry.line.to_vec()).unwrap();
                let m = entry.metadata().next().map_or("", |(_, value)| value);
                out.push((name.clone(), entry.t_ns.get(), line, m.to_owned()));
            }
        }
    }
    out.sort();
    out
}

fn sorted(rows: &[(&str, i64, &str, &str)]) -> Vec<Row> {
    let owned = rows
        .iter()
        .map(|(s, t, l, m)| ((*s).to_owned(), *t, (*l).to_owned(), (*m).to_owned()));
    let set: BTreeSet<Row> = owned.collect();
    set.into_iter().collect()
}
