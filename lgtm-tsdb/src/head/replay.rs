//! Rebuilding the heads from the log.
//!
//! Records are taken one by one, in the log's order; memory holds one frame of the log and a table from the ids in the log to
//! the series they mean. Every sample in the log was accepted once, so that none is refused: one that comes behind its series'
//! newest goes among the late ones. Afterwards all series write their anchors again, under this run's ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use lgtm_core::codec::Reader;
use lgtm_core::model::{Labels, TenantId, TimestampMs};
use lgtm_core::postings::SeriesId;
use lgtm_core::wal::{ChunkState, RecordRef, ReplayReport, WalReplay};
use lgtm_core::{DecodeError, Result};

use super::accept::AppendRules;
use super::checkpoint::{
    MovedOfSeries, SeriesState, decode_head_state, decode_moved_chunks, decode_series_states,
    record_tenant,
};
use super::head::{Bounds, Head};
use super::head_chunk::HeadChunk;
use super::heads::Heads;
use super::metadata::MetadataRoom;
use super::record::{self, Anchor, anchor_tag, kind};
use super::retained::MovedChunk;
use super::series::{append_histogram, locate};
use super::shard::Shard;
use crate::wire::RawLabels;

/// What a replay found.
#[derive(Debug, Clone, Default)]
pub struct HeadReplayReport {
    /// What the log says of itself: records, torn tail, damaged parts set aside.
    pub log: ReplayReport,
    /// Samples put back.
    pub samples: u64,
    /// Samples whose series the log no longer defines, because the damage took both copies of its anchor.
    pub unknown_series_samples: u64,
    /// Histograms left out because they are larger than what may be in a chunk: logged by a version that took them, they could never be
    /// read.
    pub oversized_histograms: u64,
    /// Records, and series of checkpoints, that their checksum passes but that do not decode.
    pub undecodable_records: u64,
    /// Chunks that a checkpoint names and that are not in the chunk files, or that do not decode. All else of their series is there.
    pub lost_chunks: u64,
}

impl HeadReplayReport {
    /// Whether everything that the log ever took was put back.
    pub fn is_whole(&self) -> bool {
        self.log.set_aside.is_empty()
            && self.unknown_series_samples + self.undecodable_records + self.lost_chunks == 0
    }
}

/// Damaged parts that a remark names one by one.
const MAX_REMARKS: usize = 20;

impl HeadReplayReport {
    /// What of the log could not be read back, in words; empty when all was.
    pub fn remarks(&self) -> Vec<String> {
        let parts = &self.log.set_aside;
        let mut out: Vec<String> = parts
            .iter()
            .take(MAX_REMARKS)
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
                parts.len().saturating_sub(MAX_REMARKS) as u64,
                "more parts of the write-ahead log set aside",
            ),
            (self.lost_chunks, "chunks that a checkpoint names are lost"),
            (
                self.unknown_series_samples,
                "samples lost, as the damage took what their series are",
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

/// Lost chunks that the log names one by one; a missing file costs hundreds of thousands.
const MAX_NAMED: u64 = 100;

/// Bytes of records that may wait for their anchors, per tenant.
const DEFERRED_BYTES: usize = 16 << 20;

/// One tenant's part of a replay.
#[derive(Debug)]
struct Tenant {
    head: Arc<Head>,
    /// What ids in the log mean now.
    meanings: Vec<Option<Anchor>>,
    shards: Arc<Vec<Arc<Shard>>>,
    /// Records whose anchors are missing: damage took the first copy, the second is near.
    deferred: Vec<(u8, Vec<u8>)>,
    deferred_bytes: usize,
    /// How chunks are taken back that blocks have, by the time since when.
    stays: HashMap<TimestampMs, Option<ChunkState>>,
}

/// A replay under way.
#[derive(Debug)]
struct Replay<'a> {
    heads: &'a Heads,
    tenants: HashMap<TenantId, Tenant>,
    report: HeadReplayReport,
}

impl Heads {
    /// Puts the log's records back into memory; reads are served meanwhile, writes only afterwards. Blocks for as long as it
    /// takes: run it on a thread of its own.
    ///
    /// # Errors
    /// `Unavailable` when the log's files cannot be read. Damage is set aside and reported, not an error.
    pub(crate) fn replay(&self, log: WalReplay) -> Result<HeadReplayReport> {
        let mut replay = Replay {
            heads: self,
            tenants: HashMap::new(),
            report: HeadReplayReport::default(),
        };
        let take = |record: RecordRef<'_>| {
            if let Err(e) = replay.take(record.kind, record.payload) {
                replay.report.undecodable_records += 1;
                tracing::error!(segment = record.segment, offset = record.offset, error = %e, "record of the write-ahead log does not decode");
            }
            Ok(())
        };
        let log = log.for_each_with_progress(take, |at| *self.replay_progress.lock() = Some(at))?;
        let Replay {
            mut tenants,
            mut report,
            ..
        } = replay;
        tenants
            .values_mut()
            .for_each(|t| t.give_up_deferred(&mut report));
        report.log = log;
        if report.lost_chunks > MAX_NAMED {
            tracing::error!(
                chunks = report.lost_chunks,
                "chunks that a checkpoint of the log names are lost"
            );
        }
        // What of the log cannot be read may have named chunks: their files are not thrown away.
        if report.is_whole() {
            self.parts.files.remove(&self.parts.files.unused())
        } else {
            self.parts.files.keep_found()
        }
        self.writable
            .store(true, std::sync::atomic::Ordering::Release);
        Ok(report)
    }
}

impl Replay<'_> {
    fn take(&mut self, kind: u8, payload: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new("head record", payload);
        let name = record_tenant(&mut r)?;
        if !self.tenants.contains_key(&name) {
            let head = self.heads.get_or_create(&name);
            self.tenants.insert(
                name.clone(),
                Tenant {
                    head,
                    meanings: Vec::new(),
                    shards: Arc::default(),
                    deferred: Vec::new(),
                    deferred_bytes: 0,
                    stays: HashMap::new(),
                },
            );
        }
        let Some(tenant) = self.tenants.get_mut(&name) else {
            return Ok(());
        };
        let report = &mut self.report;
        match kind {
            kind::ANCHORS => {
                record::decode_anchors(&mut r, |id, labels, base| {
                    tenant.define(id, labels, base).map(|_| ())
                })?;
                for (kind, payload) in std::mem::take(&mut tenant.deferred) {
                    tenant.deferred_bytes -= payload.len();
                    tenant.samples(kind, &payload, report)?;
                }
                Ok(())
            }
            kind::SAMPLES | kind::HISTOGRAMS | kind::STARTED_SAMPLES | kind::STARTED_HISTOGRAMS => {
                tenant.samples(kind, r.rest(), report)
            }
            kind::EXEMPLARS => record::decode_exemplars(&mut r, |id, e| {
                if let Some(m) = tenant.meaning(id) {
                    // The ring's own rules decide; a double is no fault.
                    let _ = tenant.head.exemplars.lock().push(m.id, &e);
                }
            }),
            kind::METADATA => record::decode_metadata(&mut r, |name, m| {
                let room = MetadataRoom::unbounded();
                tenant.head.metadata.lock().put(name, &m, room);
            }),
            kind::SERIES_STATE => {
                decode_series_states(&mut r, |state| tenant.restore(state, report))
            }
            kind::MOVED_CHUNKS => {
                let heads = self.heads;
                decode_moved_chunks(&mut r, |moved| tenant.restore_moved(moved, heads, report))
            }
            kind::HEAD_STATE => {
                let (min_valid_ms, max_ms) = decode_head_state(&mut r)?;
                tenant.head.raise_min_valid_ms(min_valid_ms);
                tenant.head.raise_max_ms(max_ms);
                Ok(())
            }
            other => Err(r.error(format!("unknown record kind {other}"))),
        }
    }
}

impl Tenant {
    fn meaning(&self, id: SeriesId) -> Option<Anchor> {
        self.meanings.get(id as usize).copied().flatten()
    }

    /// An anchor: from here on, `id` in the log means this series.
    fn define(&mut self, id: SeriesId, labels: &[u8], base: f64) -> Result<SeriesId, DecodeError> {
        let broken = |e: String| DecodeError::new("series labels in the log", 0, e);
        let mut pairs = Vec::new();
        for pair in RawLabels::new(labels).iter() {
            pairs.push(pair?);
        }
        let set = Labels::from_pairs(pairs).map_err(|e| broken(e.to_string()))?;
        // The limits were kept when the series was made; lowered ones must not lose its samples now.
        let made = self
            .head
            .maker()
            .get_or_create(labels, &set, base, Bounds::Passed)
            .map_err(|e| broken(e.to_string()))?;
        let series = made.map_err(|reason| broken(reason.message().to_owned()))?;
        // Ids in the log are dense, but a damaged one must not make the table huge.
        let slot = id as usize;
        if slot > self.meanings.len() + (64 << 20) {
            return Err(broken(format!("series id {id} is beyond any id before it")));
        }
        if self.meanings.len() <= slot {
            self.meanings.resize(slot + 1, None);
        }
        self.meanings[slot] = Some(Anchor {
            id: series,
            tag: anchor_tag(&set, base),
            base,
        });
        if locate(series).0 >= self.shards.len() {
            self.shards = self.head.shards();
        }
        Ok(series)
    }

    /// Takes a record of samples or histograms, from behind its tenant; one whose anchors are missing has to wait.
    fn samples(
        &mut self,
        kind: u8,
        payload: &[u8],
        report: &mut HeadReplayReport,
    ) -> Result<(), DecodeError> {
        let mut r = Reader::new("samples in the log", payload);
        let taken = match kind {
            kind::SAMPLES | kind::STARTED_SAMPLES => self.floats(kind, &mut r, report)?,
            _ => self.histograms(kind, &mut r, report)?,
        };
        if taken {
            return Ok(());
        }
        if self.deferred_bytes + payload.len() > DEFERRED_BYTES {
            report.unknown_series_samples +=
                record::sample_count(&mut Reader::new("samples in the log", payload))?;
            return Ok(());
        }
        self.deferred_bytes += payload.len();
        self.deferred.push((kind, payload.to_vec()));
        Ok(())
    }

    /// Counts what has waited in vain.
    fn give_up_deferred(&mut self, report: &mut HeadReplayReport) {
        for (_, payload) in self.deferred.drain(..) {
            let count = record::sample_count(&mut Reader::new("samples in the log", &payload));
            report.unknown_series_samples += count.unwrap_or(0);
        }
    }

    fn floats(
        &self,
        kind: u8,
        r: &mut Reader<'_>,
        report: &mut HeadReplayReport,
    ) -> Result<bool, DecodeError> {
        let Self { head, shards, .. } = self;
        let rules = AppendRules::replay(head.parts.block_range_ms);
        let mut newest_ms = TimestampMs::MIN;
        let mut locked: Option<(usize, super::shard::ShardGuard<'_>)> = None;
        let taken = record::decode_samples(
            kind,
            r,
            |id| self.meaning(id),
            |id, at, value| {
                let (shard, slot) = locate(id);
                if locked.as_ref().is_none_or(|(n, _)| *n != shard) {
                    drop(locked.take());
                    locked = Some((shard, shards[shard].lock()));
                }
                if let Some((_, slots)) = &mut locked
                    && let Some(Some(series)) = slots.get_mut(slot)
                {
                    let taken = series.append_float(at, value, &rules, &head.parts.files);
                    report.samples += u64::from(taken.is_ok());
                    newest_ms = newest_ms.max(at.t_ms);
                }
            },
        )?;
        drop(locked);
        if newest_ms > TimestampMs::MIN {
            head.raise_max_ms(newest_ms);
        }
        Ok(taken)
    }

    fn histograms(
        &self,
        kind: u8,
        r: &mut Reader<'_>,
        report: &mut HeadReplayReport,
    ) -> Result<bool, DecodeError> {
        let head = &self.head;
        let rules = AppendRules::replay(head.parts.block_range_ms);
        record::decode_histograms(
            kind,
            r,
            |id| self.meaning(id),
            |id, at, value| {
                if let Err(fault) = value.check_size() {
                    report.oversized_histograms += 1;
                    tracing::warn!(tenant = %head.tenant, series = id, t_ms = %at.t_ms, fault = %fault.message, "a native histogram of the log is left out");
                    return;
                }
                let (shard, slot) = locate(id);
                if let Some(Some(series)) = self.shards[shard].lock().get_mut(slot) {
                    let taken = append_histogram(series, at, &value, &rules, &head.parts.files);
                    report.samples += u64::from(taken.is_ok());
                    head.raise_max_ms(at.t_ms);
                }
            },
        )
    }

    /// Takes back a series of a checkpoint. What of it is lost costs nothing else.
    fn restore(&mut self, state: SeriesState<'_>, report: &mut HeadReplayReport) {
        let labels = state.labels;
        let id = match self.define(state.id, labels, state.base) {
            Ok(id) => id,
            Err(e) => {
                report.undecodable_records += 1;
                tracing::error!(tenant = %self.head.tenant, id = state.id, error = %e, "series of a checkpoint does not decode");
                return;
            }
        };
        let (shard, slot) = locate(id);
        let lost = match self.shards[shard].lock().get_mut(slot) {
            Some(Some(series)) => series.restore(state, &self.head.parts),
            _ => return,
        };
        for reason in lost {
            report.lost_chunks += 1;
            if report.lost_chunks <= MAX_NAMED {
                let pairs = RawLabels::new(labels).iter().filter_map(Result::ok);
                let series = Labels::from_pairs(pairs).unwrap_or_default();
                tracing::error!(tenant = %self.head.tenant, %series, reason, "chunk of a checkpoint is lost");
            }
        }
    }

    /// Takes back the chunks of a series that blocks have, as far as readers elsewhere may not know these yet.
    fn restore_moved(
        &mut self,
        (id, in_order, late): MovedOfSeries,
        heads: &Heads,
        report: &mut HeadReplayReport,
    ) {
        let Some(series) = self.meaning(id) else {
            // Its series was not read back, which is reported.
            return;
        };
        let mut stays = |moved: Vec<MovedChunk>| {
            let stays = moved.into_iter().filter_map(|m| {
                let known = self.stays.entry(m.moved_ms);
                let state = (*known.or_insert_with(|| heads.retain_again(m.moved_ms)))?;
                Some(HeadChunk { state, ..m.chunk })
            });
            stays.collect::<Vec<_>>()
        };
        let (in_order, late) = (stays(in_order), stays(late));
        if in_order.is_empty() && late.is_empty() {
            return;
        }
        let (shard, slot) = locate(series.id);
        let lost = match self.shards[shard].lock().get_mut(slot) {
            Some(Some(series)) => series.restore_moved(in_order, late, &self.head.parts),
            _ => return,
        };
        self.head.moved_chunks.store(true, Ordering::Release);
        for reason in lost {
            report.lost_chunks += 1;
            if report.lost_chunks <= MAX_NAMED {
                tracing::error!(tenant = %self.head.tenant, id, reason, "chunk of a checkpoint is lost; a block has it");
            }
        }
    }
}
