//! Rebuilding the heads from the log.
//!
//! Records are taken one by one, in the log's order; memory holds one frame of the log and what the heads hold, within their bounds. Every
//! entry in the log was accepted once, so that none is refused. Entries are numbered in their stream: those that a checkpoint has are passed
//! over when the segments behind it bring them again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::codec::Reader;
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::wal::{BlobPlace, ChunkState, RecordRef, ReplayReport, WalReplay};
use lgtm_core::{DecodeError, Result};

use super::checkpoint::{SnapshotBytes, StreamSnapshot, decode_streams};
use super::head::{Bounds, Head};
use super::head_chunk::{ChunkBytes, FinishReason, HeadChunk};
use super::heads::{Heads, relieve};
use super::open_chunk::OpenChunk;
use super::record::{EntriesSink, decode_entries, kind, record_tenant};
use super::stream::{ChunkTools, Lane, MemStream};
use crate::chunk::ChunkBuilder;
use crate::wire::StreamLabels;

/// What a replay found.
#[derive(Debug, Clone, Default)]
pub struct HeadReplayReport {
    /// What the log says of itself: records, torn tail, damaged parts set aside.
    pub log: ReplayReport,
    /// Entries put back, those of checkpoints not counted.
    pub entries: u64,
    /// Entries that the checkpoint had already.
    pub known_entries: u64,
    /// Records, and streams of checkpoints, that their checksum passes but that do not decode.
    pub undecodable_records: u64,
    /// Chunks that a checkpoint names and that are not in the chunk files, or that do not decode. All else of their stream is there.
    pub lost_chunks: u64,
}

/// Damaged parts that a remark names one by one, and lost chunks that the log names so.
const MAX_NAMED: u64 = 20;

impl HeadReplayReport {
    /// Whether everything that the log ever took was put back.
    pub fn is_whole(&self) -> bool {
        self.log.set_aside.is_empty() && self.undecodable_records + self.lost_chunks == 0
    }

    /// What of the log could not be read back, in words; empty when all was.
    pub fn remarks(&self) -> Vec<String> {
        let parts = &self.log.set_aside;
        let mut out: Vec<String> = (parts.iter().take(MAX_NAMED as usize))
            .map(|p| match p.bytes {
                0 => format!("write-ahead log: {}", p.reason),
                n => format!(
                    "write-ahead log: {n} bytes of {} at byte {} set aside: {}",
                    p.file, p.offset, p.reason
                ),
            })
            .collect();
        for (count, what) in [
            (
                (parts.len() as u64).saturating_sub(MAX_NAMED),
                "more parts of the write-ahead log set aside",
            ),
            (self.lost_chunks, "chunks that a checkpoint names are lost"),
            (
                self.undecodable_records,
                "records of the write-ahead log do not decode",
            ),
        ] {
            if count > 0 {
                out.push(format!("{count} {what}"));
            }
        }
        out
    }
}

impl Heads {
    /// Puts the log's records back into memory; pushes and queries are answered only afterwards. Blocks for as long as it takes: run it on a
    /// thread of its own.
    ///
    /// # Errors
    /// `Unavailable` when the log's files cannot be read. Damage is set aside and reported, not an error.
    pub fn replay(&self, log: WalReplay) -> Result<HeadReplayReport> {
        let mut report = HeadReplayReport::default();
        let mut tools = ChunkTools::new(&self.parts.chunk_settings);
        let take = |record: RecordRef<'_>| {
            if let Err(e) = self.replay_record(&record, &mut tools, &mut report) {
                report.undecodable_records += 1;
                tracing::error!(segment = record.segment, offset = record.offset, error = %e, "record of the write-ahead log does not decode");
            }
            if self.parts.capacity.is_over() {
                relieve(&self.all(), &self.parts)?;
            }
            Ok(())
        };
        let log = log.for_each_with_progress(take, |at| *self.replay_progress.lock() = Some(at))?;
        report.log = log;
        // What of the log cannot be read may have named chunks: their files are not thrown away.
        if report.is_whole() {
            self.parts.files.remove(&self.parts.files.unused())
        } else {
            self.parts.files.keep_found()
        }
        self.parts.is_replaying.store(false, Ordering::Relaxed);
        self.writable.store(true, Ordering::Release);
        Ok(report)
    }

    fn replay_record(
        &self,
        record: &RecordRef<'_>,
        tools: &mut ChunkTools,
        report: &mut HeadReplayReport,
    ) -> Result<(), DecodeError> {
        let mut r = Reader::new("head record", record.payload);
        let tenant: TenantId = record_tenant(&mut r)?;
        let head = self.get_or_create(&tenant);
        let mut replay = Replay {
            heads: self,
            head,
            tools,
            report,
            run: None,
        };
        match record.kind {
            kind::ENTRIES => decode_entries(&mut r, &mut replay),
            kind::STREAM_STATE => decode_streams(&mut r, &mut |stream| replay.restore(stream)),
            other => Err(r.error(format!("unknown record kind {other}"))),
        }
    }
}

/// One record being put back.
struct Replay<'a> {
    heads: &'a Heads,
    head: Arc<Head>,
    tools: &'a mut ChunkTools,
    report: &'a mut HeadReplayReport,
    run: Option<Run>,
}

/// Entries of one stream that are being put back.
struct Run {
    stream: Arc<MemStream>,
    /// The number of the next entry.
    sequence: u64,
    /// Bytes of its open chunks before.
    open_bytes: usize,
}

fn broken(e: &lgtm_core::Error) -> DecodeError {
    DecodeError::new("stream in the log", 0, e.to_string())
}

impl Replay<'_> {
    /// The limits were kept when the stream was made; lowered ones must not lose its entries now.
    fn find_or_make(&self, labels: &[u8]) -> Result<Arc<MemStream>, DecodeError> {
        if let Some(stream) = self
            .head
            .find(labels, 0)
            .and_then(|id| self.head.stream(id))
        {
            return Ok(stream);
        }
        let made = self
            .head
            .get_or_create(StreamLabels::new(labels), Bounds::Passed)
            .map_err(|e| broken(&e))?;
        let (_, stream) = made.map_err(|(_, reason)| DecodeError::new("stream", 0, reason))?;
        stream.lock().touched_s = self.heads.now_s();
        Ok(stream)
    }

    fn tidy(&mut self, stream: &MemStream) -> Result<(), DecodeError> {
        let block_bytes = self.heads.settings.chunk.block_size_bytes as u64;
        let parts = &self.heads.parts;
        if !stream.lock().wants_tidying() {
            return Ok(());
        }
        stream
            .tidy(block_bytes, parts, self.tools)
            .map_err(|e| broken(&e))
    }

    /// Takes back a stream of a checkpoint. What of it is lost costs nothing else.
    fn restore(&mut self, snapshot: StreamSnapshot<'_>) -> Result<(), DecodeError> {
        let parts = &self.heads.parts;
        let stream = self.find_or_make(snapshot.labels)?;
        let mut state = stream.lock();
        let before = state.open_bytes();
        state.sequence = state.sequence.max(snapshot.sequence);
        state.replayed_from = snapshot.sequence;
        state.highest_ns = state.highest_ns.max(snapshot.highest_ns);
        let mut lost = Vec::new();
        for (lane, bytes) in [(Lane::Open, snapshot.open), (Lane::Late, snapshot.late)] {
            let Some(bytes) = bytes else { continue };
            match ChunkBuilder::from_state(bytes, &parts.chunk_settings) {
                Ok(builder) => *state.lane(lane) = Some(Box::new(OpenChunk::alone(builder))),
                Err(e) => lost.push(format!("an open chunk does not decode: {e}")),
            }
        }
        for chunk in snapshot.finished {
            let bytes = match chunk.bytes {
                SnapshotBytes::Inline(bytes) => ChunkBytes::Memory(bytes.to_vec().into()),
                SnapshotBytes::File(place) if parts.files.adopt(place) => ChunkBytes::File(place),
                SnapshotBytes::File(BlobPlace { file, offset, len }) => {
                    lost.push(format!(
                        "chunk file {file:08} has no {len} bytes at byte {offset}, entries from {} to {} ns",
                        chunk.min_ns, chunk.max_ns
                    ));
                    continue;
                }
                SnapshotBytes::Builder(bytes) => {
                    match ChunkBuilder::from_state(bytes, &parts.chunk_settings) {
                        Ok(builder) => ChunkBytes::Builder(Arc::new(builder)),
                        Err(e) => {
                            lost.push(format!("a finished chunk does not decode: {e}"));
                            continue;
                        }
                    }
                }
            };
            state.finished.push(HeadChunk {
                id: parts.next_chunk_id(),
                min_ns: chunk.min_ns,
                max_ns: chunk.max_ns,
                entry_count: chunk.entry_count,
                uncompressed_bytes: chunk.uncompressed_bytes,
                bytes,
                state: ChunkState::HELD,
                reason: FinishReason::Restored,
                draft: None,
                beside: None,
            });
        }
        parts
            .capacity
            .open_bytes_changed(before, state.open_bytes());
        drop(state);
        for reason in lost {
            self.report.lost_chunks += 1;
            if self.report.lost_chunks <= MAX_NAMED {
                let labels = StreamLabels::new(snapshot.labels);
                tracing::error!(tenant = %self.head.tenant, stream = %labels, reason, "chunk of a checkpoint is lost");
            }
        }
        self.tidy(&stream)
    }
}

impl EntriesSink for Replay<'_> {
    fn stream(&mut self, labels: &[u8], sequence: u64) -> Result<(), DecodeError> {
        let stream = self.find_or_make(labels)?;
        let open_bytes = stream.lock().open_bytes();
        self.run = Some(Run {
            stream,
            sequence,
            open_bytes,
        });
        Ok(())
    }

    fn entry(
        &mut self,
        t_ns: TimestampNs,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<(), DecodeError> {
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        let number = run.sequence;
        run.sequence += 1;
        let mut state = run.stream.lock();
        if number < state.replayed_from {
            self.report.known_entries += 1;
            return Ok(());
        }
        let entry = (t_ns, line, metadata);
        let fingerprint = run.stream.fingerprint;
        (state.append(Lane::Open, entry, fingerprint, &self.heads.parts))
            .map_err(|e| broken(&e))?;
        state.sequence = state.sequence.max(run.sequence);
        self.report.entries += 1;
        Ok(())
    }

    fn end_stream(&mut self) -> Result<(), DecodeError> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        let after = run.stream.lock().open_bytes();
        (self.heads.parts.capacity).open_bytes_changed(run.open_bytes, after);
        self.tidy(&run.stream)
    }
}
