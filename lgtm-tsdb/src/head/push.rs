//! A request's way into memory and log.
//!
//! Piece by piece: room in the log first, then memory, then the records, which cannot be refused any more. What memory has is so never ahead
//! of what the log will write when the disk allows; the sender is answered when it has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lgtm_core::codec::put_bytes;
use lgtm_core::model::TenantId;
use lgtm_core::postings::SeriesId;
use lgtm_core::wal::{Lsn, Refusal, Reservation, Wal};
use lgtm_core::{Error, Result};

use super::accept::AppendRules;
use super::append::{AppendReport, AppendScratch};
use super::head::Head;
use super::heads::Heads;
use super::metadata::{METADATA_LIMIT, MetadataRoom, Put};
use super::pieces::{Piece, PieceBounds, Pieces};
use super::record::{encode_exemplar, encode_metadata, kind};
use crate::limits::Limits;
use crate::wire::PartView;

/// What one piece adds to the log: kinds and payloads.
type Records = Vec<(u8, Vec<u8>)>;

/// Anchors of a large request that may wait for their second copy.
const MAX_COPIES_BYTES: usize = 1 << 20;

/// Writes that were refused for so long are told of: shorter is a disk that took a breath, and the sender's retry mends it.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// A request that is being taken, and by what.
struct Request<'a> {
    head: &'a Head,
    batch: PartView<'a>,
    limits: &'a Limits,
    /// Of the request as a whole: samples of one piece must not make those of the next one late.
    rules: AppendRules,
}

/// Anchors that stand in the log once.
#[derive(Debug)]
struct AnchorCopy {
    record: Vec<u8>,
    series: Vec<SeriesId>,
    epoch: u32,
}

/// What became of a piece.
#[derive(Debug)]
struct PieceDone {
    /// The place behind the last series that was taken.
    end: usize,
    lsn: Option<Lsn>,
    copy: Option<AnchorCopy>,
}

impl Heads {
    /// Takes what the rules allow of a request. When this returns, all that was taken is in the log as its sync policy says. Dropped or
    /// failed half way it may have been taken in part; sent again it is taken whole, as known samples are no fault.
    ///
    /// # Errors
    /// `Unavailable` before replay is done and while the log cannot be written or has no room. Samples that rules refuse, and series for
    /// which the process has no room, are in the report, not errors.
    pub(crate) async fn append(
        &self,
        tenant: &TenantId,
        batch: impl Into<PartView<'_>>,
    ) -> Result<AppendReport> {
        let batch = batch.into();
        let limits = self.limits_here(tenant);
        let bounds = PieceBounds::new(
            self.settings.wal.max_buffered.as_u64(),
            limits.created_timestamp_zero_ingestion_enabled,
        );
        let mut pieces = Pieces::new(batch, bounds);
        let mut report = AppendReport::default();
        let (mut copies, mut lsn) = (Vec::new(), None);
        self.check_open()?;
        let head = self.get_or_create(tenant);
        let request = Request {
            head: &head,
            batch,
            limits: &limits,
            rules: head.rules(&limits, self.clock.now_ms()),
        };
        let mut is_first = true;
        while let Some(piece) = pieces.next(&mut report) {
            if !is_first {
                tokio::task::yield_now().await;
            }
            is_first = false;
            let mut room = self.wal.reserve(piece.log_bytes).await?;
            self.check_open()?;
            let done = self.append_piece(&request, &piece, &mut room, &mut report)?;
            drop(room);
            if done.end < piece.places.end {
                pieces.resume_at(&piece, done.end);
            }
            lsn = done.lsn.or(lsn);
            copies.extend(done.copy);
            let waiting: usize = copies.iter().map(|c: &AnchorCopy| c.record.len()).sum();
            if let Some(lsn) = lsn
                && waiting > MAX_COPIES_BYTES
            {
                self.wal.commit(lsn).await?;
                self.log_copies(&head, &mut copies).await;
            }
        }
        if let Some(lsn) = lsn {
            self.wal.commit(lsn).await?;
            self.log_copies(&head, &mut copies).await;
        }
        Ok(report)
    }

    fn check_open(&self) -> Result<()> {
        if self.writable.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the head is replaying its write-ahead log, or closed".into(),
            ))
        }
    }

    /// Memory, then the log's buffer.
    fn append_piece(
        &self,
        request: &Request<'_>,
        piece: &Piece,
        room: &mut Reservation<'_>,
        report: &mut AppendReport,
    ) -> Result<PieceDone> {
        let &Request {
            head,
            batch,
            limits,
            rules,
        } = request;
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        let end = head.append(batch, piece, rules, limits, &mut scratch, report);
        // What a piece adds goes into one frame: damage takes all of it or nothing.
        let mut records = self.records(head, batch, &mut scratch);
        if end.as_ref().is_ok_and(|end| *end == piece.places.end) {
            metadata_record(head, batch, piece, limits, &mut records, report);
        }
        let lsn = (!records.is_empty()).then(|| room.append_all(&records));
        let copy = (records.first().is_some_and(|r| r.0 == kind::ANCHORS)).then(|| AnchorCopy {
            record: records.remove(0).1,
            series: std::mem::take(&mut scratch.anchored),
            epoch: scratch.epoch,
        });
        scratch.record = records.pop().map(|r| r.1).unwrap_or_default();
        let mut kept = self.scratch.lock();
        if kept.len() < 16 {
            kept.push(scratch);
        }
        drop(kept);
        Ok(PieceDone {
            end: end?,
            lsn,
            copy,
        })
    }

    /// Logs anchors once more, in a later frame than the one they were committed with, which need not be waited for. Without room they are left
    /// out: their series, not noted as anchored, write them again with their next sample.
    async fn log_copies(&self, head: &Head, copies: &mut Vec<AnchorCopy>) {
        for copy in copies.drain(..) {
            let bytes = copy.record.len() as u64 + Wal::RECORD_OVERHEAD;
            let Ok(mut room) = self.wal.reserve(bytes).await else {
                return;
            };
            room.append_all(&[(kind::ANCHORS, &copy.record)]);
            head.anchored(&copy.series, copy.epoch);
        }
    }

    /// The records of what a head took. The samples record, the largest of most requests, uses the buffer in `scratch`.
    fn records(&self, head: &Head, batch: PartView<'_>, scratch: &mut AppendScratch) -> Records {
        let name = head.tenant.as_str();
        let mut records = Vec::new();
        if !scratch.anchors.is_empty() {
            let mut record = Vec::new();
            scratch.anchors.encode(name, &mut record);
            records.push((kind::ANCHORS, record));
        }
        if !scratch.histograms.is_empty() {
            let mut record = Vec::new();
            let kind = scratch.histograms.encode(name, &mut record);
            records.push((kind, record));
        }
        if !scratch.exemplars.is_empty() {
            let mut record = Vec::new();
            put_bytes(&mut record, name.as_bytes());
            for (place, id) in &scratch.exemplars {
                for e in batch.series_at(*place as usize).exemplars {
                    encode_exemplar(*id, e, &mut record);
                }
            }
            records.push((kind::EXEMPLARS, record));
        }
        if !scratch.columns.is_empty() {
            let mut record = std::mem::take(&mut scratch.record);
            record.clear();
            let kind = scratch.columns.encode(name, &mut record);
            records.push((kind, record));
        }
        records
    }

    /// Why writes are refused, once that has lasted longer than a moment.
    pub(crate) fn write_refusal(&self) -> Option<Refusal> {
        self.wal.refusal().filter(|r| r.lasted >= TOLD_AFTER)
    }
}

fn metadata_record(
    head: &Head,
    batch: PartView<'_>,
    piece: &Piece,
    limits: &Limits,
    records: &mut Records,
    report: &mut AppendReport,
) {
    let mut record = Vec::new();
    for entry in piece.metadata.clone().map(|n| batch.metadata_at(n)) {
        let room = MetadataRoom::of(limits);
        let put = head.metadata.lock().put(&entry.name, &entry.metadata, room);
        match put {
            Put::Known => {}
            Put::NoRoom => {
                let dropped = report.dropped_metadata.entry(METADATA_LIMIT.into());
                *dropped.or_default() += 1;
            }
            Put::New => {
                if record.is_empty() {
                    put_bytes(&mut record, head.tenant.as_str().as_bytes());
                }
                encode_metadata(&entry.name, &entry.metadata, &mut record);
            }
        }
    }
    if !record.is_empty() {
        records.push((kind::METADATA, record));
    }
}
