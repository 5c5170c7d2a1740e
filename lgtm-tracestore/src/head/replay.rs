//! Rebuilding the heads from the log.
//!
//! Records are taken one by one, in the log's order; memory holds one frame of the log and what the heads hold, within their bounds. Every
//! span in the log was accepted once, so that none is refused. Records are numbered: those that a checkpoint has are passed over when the
//! segments behind it bring them again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lgtm_core::codec::Reader;
use lgtm_core::model::TimestampMs;
use lgtm_core::wal::{BlobPlace, RecordRef, ReplayReport, WalReplay};
use lgtm_core::{DecodeError, Result};

use super::batch::BatchDirectory;
use super::checkpoint::{BatchSnapshot, SnapshotBytes, decode_batch};
use super::head::{Head, SpansOf};
use super::head_batch::{HeadBatch, PackedBytes};
use super::heads::{Heads, cut_for_room, pack_all};
use super::record::{decode_traces, kind, record_tenant};
use super::run::Run;

/// What a replay found.
#[derive(Debug, Clone, Default)]
pub struct HeadReplayReport {
    /// What the log says of itself: records, torn tail, damaged parts set aside.
    pub log: ReplayReport,
    /// Spans put back, those of batches not counted.
    pub spans: u64,
    /// Records that the checkpoint had already.
    pub known_records: u64,
    /// Records that their checksum passes but that do not decode.
    pub undecodable_records: u64,
    /// Batches that a checkpoint names and that are not in the local files, or that do not decode.
    pub lost_batches: u64,
}

/// Damaged parts that a remark names one by one.
const MAX_NAMED: u64 = 20;

impl HeadReplayReport {
    /// Whether everything that the log ever took was put back.
    pub fn is_whole(&self) -> bool {
        self.log.set_aside.is_empty() && self.undecodable_records + self.lost_batches == 0
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
            (
                self.lost_batches,
                "batches of traces that a checkpoint names are lost",
            ),
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
        let now_ms = self.clock.now_ms();
        let take = |record: RecordRef<'_>| {
            if let Err(e) = self.replay_record(&record, now_ms, &mut report) {
                report.undecodable_records += 1;
                tracing::error!(segment = record.segment, offset = record.offset, error = %e, "record of the write-ahead log does not decode");
            }
            if self.parts.capacity.is_over() {
                let batches = cut_for_room(&self.all(), &self.parts);
                pack_all(&batches, &self.parts)?;
            }
            Ok(())
        };
        let log = log.for_each_with_progress(take, |at| *self.replay_progress.lock() = Some(at))?;
        report.log = log;
        // What of the log cannot be read may have named batches: their files are not thrown away.
        if report.is_whole() {
            self.parts.files.remove(&self.parts.files.unused())
        } else {
            self.parts.files.keep_found()
        }
        self.writable.store(true, Ordering::Release);
        Ok(report)
    }

    fn replay_record(
        &self,
        record: &RecordRef<'_>,
        now_ms: TimestampMs,
        report: &mut HeadReplayReport,
    ) -> Result<(), DecodeError> {
        let mut r = Reader::new("head record", record.payload);
        let head = self.get_or_create(&record_tenant(&mut r)?);
        match record.kind {
            kind::SPANS => {
                let sequence = r.uvarint()?;
                (self.parts.sequence).fetch_max(sequence.saturating_add(1), Ordering::AcqRel);
                if sequence < head.lock().replayed_from {
                    report.known_records += 1;
                    return Ok(());
                }
                self.put_back(&head, &mut r, now_ms, report)
            }
            kind::TRACES => {
                let sequence = r.uvarint()?;
                self.parts.sequence.fetch_max(sequence, Ordering::AcqRel);
                let mut state = head.lock();
                state.replayed_from = state.replayed_from.max(sequence);
                drop(state);
                self.put_back(&head, &mut r, now_ms, report)
            }
            kind::BATCH => {
                let batch = decode_batch(&mut r)?;
                self.restore(&head, batch, report);
                Ok(())
            }
            other => Err(r.error(format!("unknown record kind {other}"))),
        }
    }

    /// Appends what a record has of spans. The limits were kept when they came; lowered ones must not lose them now.
    fn put_back(
        &self,
        head: &Arc<Head>,
        r: &mut Reader<'_>,
        now_ms: TimestampMs,
        report: &mut HeadReplayReport,
    ) -> Result<(), DecodeError> {
        let idle = self.settings.max_trace_idle;
        decode_traces(r, &mut |id, runs, tables| {
            let mut state = head.lock();
            for run in Run::all(runs) {
                let run = run?;
                let (resource, scope) = tables.of(&run)?;
                let spans = SpansOf {
                    resource,
                    scope,
                    span_count: run.span_count,
                    spans: run.spans,
                };
                let (_, grown) = state.append(id, &spans, now_ms, idle);
                self.parts.capacity.took(grown);
                report.spans += u64::from(run.span_count);
            }
            Ok(())
        })
    }

    /// Takes back a batch of a checkpoint. If it is lost, that costs nothing else.
    fn restore(&self, head: &Head, batch: BatchSnapshot<'_>, report: &mut HeadReplayReport) {
        let files = &self.parts.files;
        let bytes = match batch.bytes {
            SnapshotBytes::Inline(bytes) => PackedBytes::Memory(Bytes::copy_from_slice(bytes)),
            SnapshotBytes::File(place) if files.adopt(place) => PackedBytes::File(place),
            SnapshotBytes::File(BlobPlace { file, offset, len }) => {
                report.lost_batches += 1;
                tracing::error!(tenant = %head.tenant, file, offset, len, "a batch of traces that a checkpoint names is not in its file");
                return;
            }
        };
        let directory = bytes.read(files).and_then(|packed| {
            BatchDirectory::read(&packed)
                .map_err(|e| lgtm_core::Error::corrupt("batch of traces", e))
        });
        match directory {
            Ok(directory) => {
                let id = self.parts.next_batch_id();
                let batch =
                    HeadBatch::restored(id, batch.since_ms, (bytes, directory), batch.leaving);
                head.lock().restore_batch(batch);
            }
            Err(e) => {
                if let PackedBytes::File(place) = bytes {
                    files.set_aside(place);
                }
                report.lost_batches += 1;
                tracing::error!(tenant = %head.tenant, error = %e, "a batch of traces that a checkpoint names cannot be read");
            }
        }
    }
}
