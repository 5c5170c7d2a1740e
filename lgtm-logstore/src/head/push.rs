//! A push's way into memory and log.
//!
//! Piece by piece: room in the log first, then memory, then the record, which cannot be refused any more. What memory has is so never ahead of
//! what the log will write when the disk allows; the sender is answered when it has.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::go::{format_rfc3339, format_time};
use lgtm_core::limits::{RateLimit, RateLimiter};
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::postings::SeriesId;
use lgtm_core::wal::{Lsn, Reservation};
use lgtm_core::{Error, Result};
use smallvec::SmallVec;

use super::head::{Bounds, Head};
use super::heads::Heads;
use super::record::{ENTRY_OVERHEAD, EntriesRecord, PAIR_OVERHEAD, STREAM_OVERHEAD, kind};
use super::stream::{Lane, MemStream, StreamState};
use crate::chunk::Appended;
use crate::limits::{Accepted, IgnoredEntries, Limits, PushReport, PushRule};
use crate::wire::{PushBatch, PushEntry, StreamView};

/// Bytes of the log that one piece takes at most: about a millisecond of work.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces whose buffers are kept.
const MAX_SCRATCHES: usize = 8;

/// Buffers of the write path, kept from push to push.
#[derive(Debug, Default)]
pub(super) struct PushScratch {
    record: EntriesRecord,
}

/// A part of a push that is taken at once.
#[derive(Debug, Default)]
struct Piece {
    /// Numbers of streams, and of their entries.
    runs: Vec<(usize, Range<usize>)>,
    log_bytes: u64,
}

/// A push that is being taken.
struct Push<'a> {
    heads: &'a Heads,
    head: &'a Head,
    batch: &'a PushBatch,
    accepted: &'a Accepted,
    limits: &'a Limits,
    window_ns: i64,
    /// Bytes in the log that one entry may take.
    max_entry_bytes: u64,
    /// Bytes in the log after which a piece ends.
    piece_bytes: u64,
    now_s: u32,
    had_duplicates: bool,
    /// Streams with full blocks or chunks to be put together.
    untidy: Vec<Arc<MemStream>>,
    /// The accepted entries without those that were refused here or known already.
    stored: Accepted,
}

impl Heads {
    /// Takes the accepted entries of a push. When this returns, all that was taken is in the log as its sync policy says. Dropped or failed half
    /// way it may have been taken in part; sent again it is taken whole, as entries that are there are no fault and count once.
    ///
    /// Gives the entries that are there now and were not before. What rules of stream or process refuse stands in the report.
    ///
    /// # Errors
    /// `Unavailable` before replay is done, while the log cannot be written or has no room, and while open chunks take far more memory than they
    /// may.
    pub async fn push(
        &self,
        tenant: &TenantId,
        batch: &PushBatch,
        accepted: &Accepted,
        report: &mut PushReport,
    ) -> Result<Accepted> {
        self.check_open()?;
        self.check_memory().await?;
        let limits = self.limits.for_tenant(tenant);
        let head = self.get_or_create(tenant);
        let max_entry_bytes = self.settings.wal.max_buffered.as_u64() / 2;
        let mut push = Push {
            heads: self,
            head: &head,
            batch,
            accepted,
            limits: &limits,
            window_ns: self.settings.window_ns(),
            max_entry_bytes,
            piece_bytes: PIECE_BYTES.min(max_entry_bytes),
            now_s: self.now_s(),
            had_duplicates: false,
            untidy: Vec::new(),
            stored: accepted.clone(),
        };
        let mut next = (0, 0);
        let mut lsn: Option<Lsn> = None;
        let mut is_first = true;
        loop {
            let piece = push.next_piece(&mut next);
            if piece.runs.is_empty() {
                break;
            }
            if !is_first {
                tokio::task::yield_now().await;
            }
            is_first = false;
            let mut room = self.wal.reserve(piece.log_bytes).await?;
            self.check_open()?;
            let taken = push.take(&piece, &mut room, report);
            drop(room);
            lsn = taken?.or(lsn);
            if !push.untidy.is_empty() {
                self.tidy(std::mem::take(&mut push.untidy)).await?;
            }
            self.relieve().await?;
        }
        if push.had_duplicates {
            // Whoever brought them first may not have logged them yet.
            head.settle();
            lsn = Some(self.wal.end());
        }
        if let Some(lsn) = lsn {
            self.wal.commit(lsn).await?;
        }
        Ok(push.stored)
    }

    async fn check_memory(&self) -> Result<()> {
        if self.parts.capacity.is_exhausted() {
            self.relieve().await?;
            if self.parts.capacity.is_exhausted() {
                return Err(Error::Unavailable(format!(
                    "open chunks take {} bytes, max_open_chunk_bytes is {}",
                    self.parts.capacity.open_bytes(),
                    self.parts.capacity.max_open_bytes()
                )));
            }
        }
        Ok(())
    }
}

impl Push<'_> {
    /// Bytes of an entry in the log; `None` when it is refused anyway, or is so long that the log could not take it.
    fn log_bytes(&self, number: usize, entry: &PushEntry<'_>) -> Option<u64> {
        if !self.accepted.takes(number) {
            return None;
        }
        let (pairs, texts) = entry.metadata_size();
        let size = entry.line.len() + texts + pairs * PAIR_OVERHEAD + ENTRY_OVERHEAD;
        Some(size as u64).filter(|size| *size <= self.max_entry_bytes)
    }

    /// The next piece from `next` (number of the stream, and of its entry) on, which moves behind it; empty at the end.
    fn next_piece(&self, next: &mut (usize, usize)) -> Piece {
        let mut piece = Piece::default();
        while next.0 < self.batch.stream_count() && piece.log_bytes < self.piece_bytes {
            let view = self.batch.stream(next.0);
            let start = next.1;
            let labels = view.labels().as_bytes().len() + self.head.tenant.as_str().len();
            let mut bytes = (labels + 2 * STREAM_OVERHEAD) as u64;
            while next.1 < view.len() {
                let number = view.first_entry() + next.1;
                let size = self.log_bytes(number, &view.entry(next.1)).unwrap_or(0);
                let is_first = piece.runs.is_empty() && next.1 == start;
                if !is_first && piece.log_bytes + bytes + size > self.piece_bytes {
                    break;
                }
                bytes += size;
                next.1 += 1;
            }
            if next.1 > start {
                piece.runs.push((next.0, start..next.1));
                piece.log_bytes += bytes;
            }
            if next.1 < view.len() {
                break;
            }
            *next = (next.0 + 1, 0);
        }
        piece
    }

    /// Memory, then the log's buffer.
    fn take(
        &mut self,
        piece: &Piece,
        room: &mut Reservation<'_>,
        report: &mut PushReport,
    ) -> Result<Option<Lsn>> {
        let mut scratch = self.heads.scratch.lock().pop().unwrap_or_default();
        scratch.record.begin(&self.head.tenant);
        let gate = self.head.enter();
        let before = report.entries;
        let mut guess = 0;
        let mut runs = piece.runs.iter();
        // Whatever was taken before a fault is logged all the same.
        let taken = runs.try_for_each(|(stream, entries)| {
            let view = self.batch.stream(*stream);
            self.take_run(&view, entries.clone(), &mut guess, &mut scratch, report)
        });
        let record = scratch.record.bytes();
        let lsn = (!record.is_empty()).then(|| room.append_all(&[(kind::ENTRIES, record)]));
        drop(gate);
        let count = report.entries - before;
        self.head.appended.fetch_add(count, Ordering::Relaxed);
        self.head.touched_s.store(self.now_s, Ordering::Relaxed);
        let mut kept = self.heads.scratch.lock();
        if kept.len() < MAX_SCRATCHES {
            kept.push(scratch);
        }
        drop(kept);
        taken.map(|()| lsn)
    }

    /// Takes a run of entries of one stream.
    fn take_run(
        &mut self,
        view: &StreamView<'_>,
        entries: Range<usize>,
        guess: &mut SeriesId,
        scratch: &mut PushScratch,
        report: &mut PushReport,
    ) -> Result<()> {
        let first = view.first_entry();
        if !entries.clone().any(|n| self.accepted.takes(first + n)) {
            return Ok(());
        }
        loop {
            let Some(stream) = self.find_or_make(view, entries.clone(), guess, report)? else {
                return Ok(());
            };
            let mut state = stream.lock();
            // Forgotten between the look-up and the lock.
            if state.is_gone {
                continue;
            }
            let before = state.open_bytes();
            let sequence = state.sequence;
            let mut faults = Faults::default();
            (scratch.record).begin_stream(view.labels().as_bytes(), sequence);
            let taken = entries.clone().try_for_each(|n| {
                if self.accepted.takes(first + n) {
                    let record = &mut scratch.record;
                    self.take_entry(&stream, &mut state, view, n, record, &mut faults, report)
                } else {
                    Ok(())
                }
            });
            scratch.record.end_stream();
            state.touched_s = self.now_s;
            (self.head.parts.capacity).open_bytes_changed(before, state.open_bytes());
            let is_untidy = state.wants_tidying();
            drop(state);
            if is_untidy {
                self.untidy.push(stream);
            }
            if let Some(rule) = faults.rule {
                report.ignore(IgnoredEntries {
                    stream: view.labels().to_string(),
                    rule,
                    messages: faults.messages,
                    ignored: faults.count,
                    came: self.accepted_of(view),
                });
            }
            return taken;
        }
    }

    fn accepted_of(&self, view: &StreamView<'_>) -> u64 {
        let numbers = view.first_entry()..view.first_entry() + view.len();
        numbers.filter(|n| self.accepted.takes(*n)).count() as u64
    }

    /// The stream of a run; `None` when it may not be made, which is noted.
    fn find_or_make(
        &mut self,
        view: &StreamView<'_>,
        entries: Range<usize>,
        guess: &mut SeriesId,
        report: &mut PushReport,
    ) -> Result<Option<Arc<MemStream>>> {
        let labels = view.labels();
        if let Some(id) = self.head.find(labels.as_bytes(), *guess)
            && let Some(stream) = self.head.stream(id)
        {
            *guess = id + 1;
            return Ok(Some(stream));
        }
        let made = self.head.get_or_create(labels, Bounds::Kept(self.limits))?;
        let (rule, reason) = match made {
            Ok((id, stream)) => {
                *guess = id + 1;
                return Ok(Some(stream));
            }
            Err(refusal) => refusal,
        };
        let (mut count, mut bytes) = (0, 0);
        let first = view.first_entry();
        for n in entries.filter(|n| self.accepted.takes(first + n)) {
            count += 1;
            bytes += view.entry(n).byte_count();
            self.stored.refuse(first + n, view.entry(n).byte_count());
        }
        report.count(rule, count, bytes);
        let tenant = &self.head.tenant;
        let message = match rule {
            PushRule::StreamLimit => format!(
                "maximum active stream limit exceeded when trying to create stream {labels}, reduce the number of active streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit can be increased, user: '{tenant}'"
            ),
            _ => format!("{reason}: stream {labels} is not taken"),
        };
        report.ignore(IgnoredEntries {
            stream: labels.to_string(),
            rule,
            messages: vec![message],
            ignored: count,
            came: count,
        });
        Ok(None)
    }

    /// Takes an entry, or notes why not.
    #[allow(
        clippy::too_many_arguments,
        reason = "what is kept from entry to entry stands beside what changes with it"
    )]
    fn take_entry(
        &mut self,
        stream: &MemStream,
        state: &mut StreamState,
        view: &StreamView<'_>,
        number: usize,
        record: &mut EntriesRecord,
        faults: &mut Faults,
        report: &mut PushReport,
    ) -> Result<()> {
        let entry = view.entry(number);
        let oldest_ns = state.highest_ns.saturating_sub(self.window_ns);
        let is_late = state.highest_ns != TimestampNs::MIN && entry.t_ns < oldest_ns;
        let broken = if self
            .log_bytes(view.first_entry() + number, &entry)
            .is_none()
        {
            Some(PushRule::LineTooLong)
        } else if is_late && !self.limits.accept_late_entries {
            Some(PushRule::TooFarBehind)
        } else if !self.takes_rate(state, entry.line.len()) {
            Some(PushRule::PerStreamRateLimit)
        } else {
            None
        };
        if let Some(rule) = broken {
            report.count(rule, 1, entry.byte_count());
            (self.stored).refuse(view.first_entry() + number, entry.byte_count());
            let max = self.heads.settings.max_returned_stream_errors;
            faults.add(rule, max, || {
                self.fault_message(rule, view, &entry, oldest_ns)
            });
            return Ok(());
        }
        let metadata: SmallVec<[(&str, &str); 8]> = entry.metadata().collect();
        let lane = if is_late { Lane::Late } else { Lane::Open };
        let plain = (entry.t_ns, entry.line, &metadata[..]);
        match state.append(lane, plain, stream.fingerprint, &self.head.parts)? {
            Appended::Stored => {
                record.push(entry.t_ns, entry.line, &metadata);
                state.sequence += 1;
                report.entries += 1;
                report.bytes += entry.byte_count();
            }
            Appended::Duplicate => {
                report.duplicates += 1;
                self.had_duplicates = true;
                (self.stored).refuse(view.first_entry() + number, entry.byte_count());
            }
        }
        Ok(())
    }

    /// Whether the stream's rate lets a line through.
    fn takes_rate(&self, state: &mut StreamState, line_bytes: usize) -> bool {
        let per_second = self.limits.per_stream_rate_limit.as_u64();
        if per_second == 0 {
            return true;
        }
        let limit = RateLimit {
            per_second: per_second as f64,
            burst: self.limits.per_stream_rate_limit_burst.as_u64() as f64,
        };
        let make = || Box::new(RateLimiter::new(Arc::clone(&self.heads.clock)));
        let limiter = state.rate.get_or_insert_with(make);
        limiter.take("stream", limit, line_bytes as f64).is_ok()
    }

    fn fault_message(
        &self,
        rule: PushRule,
        view: &StreamView<'_>,
        entry: &PushEntry<'_>,
        oldest_ns: TimestampNs,
    ) -> String {
        let (labels, line) = (view.labels(), entry.line.len());
        let reason = match rule {
            PushRule::TooFarBehind => format!(
                "entry too far behind, entry timestamp is: {}, oldest acceptable timestamp is: {}",
                format_rfc3339(entry.t_ns),
                format_rfc3339(oldest_ns)
            ),
            PushRule::PerStreamRateLimit => format!(
                "Per stream rate limit exceeded (limit: {}/sec) while attempting to ingest for stream '{labels}' totaling {}, consider splitting a stream via additional labels or contact your Loki administrator to see if the limit can be increased",
                short_size(self.limits.per_stream_rate_limit.as_u64()),
                short_size(line as u64)
            ),
            _ => {
                return format!(
                    "max entry size '{}' bytes exceeded for stream '{labels}' while adding an entry with length '{line}' bytes",
                    self.max_entry_bytes
                );
            }
        };
        let time = format_time(entry.t_ns);
        format!("entry with timestamp {time} ignored, reason: '{reason}'")
    }
}

/// What is wrong with entries of one run.
#[derive(Debug, Default)]
struct Faults {
    /// The rule of the last one.
    rule: Option<PushRule>,
    messages: Vec<String>,
    count: u64,
}

impl Faults {
    fn add(&mut self, rule: PushRule, max_messages: usize, message: impl FnOnce() -> String) {
        self.rule = Some(rule);
        self.count += 1;
        if self.messages.len() < max_messages {
            self.messages.push(message());
        }
    }
}

/// A size as Loki's messages have it: in the largest unit of 1024s that divides it.
fn short_size(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (bytes, 0);
    while size > 0 && size.is_multiple_of(1024) && unit + 1 < units.len() {
        size /= 1024;
        unit += 1;
    }
    format!("{size}{}", units[unit])
}
