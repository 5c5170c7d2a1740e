//! The head of one tenant: everything that is not in a block yet.
//!
//! A request is taken in one pass: each series is found by the hash of its label bytes ([`RefCache`]), the samples go into the
//! open chunks of the shards, and one record with all that was taken goes to the log. The caller answers its sender after
//! the log's commit.
//!
//! Order matters in one place: a sample is in memory before its record is in the log. A checkpoint, which cuts the log first
//! and walks memory afterwards, therefore misses nothing; and since replay accepts samples in any order, two requests may
//! write their records in another order than they took the shards' locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::exec::in_place;
use lgtm_core::model::{Labels, METRIC_NAME, TenantId, TimestampMs};
use lgtm_core::postings::{MemPostings, RefCache, SeriesId};
use lgtm_core::wal::BlobFiles;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::accept::{AppendRules, RejectReason};
use super::exemplars::ExemplarRing;
use super::label_order::LabelOrder;
use super::metadata::MetadataStore;
use super::record::anchor_tag;
use super::series::{MemSeries, locate};
use super::shard::{SHARD_LEN, Shard};
use crate::limits::Limits;
use lgtm_core::wal::Generations;

/// Idle series that are forgotten while pushes wait: some ten milliseconds.
const FORGOTTEN_AT_ONCE: usize = 16 << 10;

/// What never changes while a head lives.
#[derive(Debug, Clone)]
pub(super) struct HeadParts {
    pub(super) files: Arc<BlobFiles>,
    pub(super) block_range_ms: i64,
    pub(super) capacity: Arc<SeriesCapacity>,
    pub(super) generations: Arc<Generations>,
}

/// How many series all heads of the process hold, and may hold.
#[derive(Debug)]
pub(super) struct SeriesCapacity {
    pub(super) used: AtomicU64,
    /// 0: no bound.
    pub(super) max: u64,
    /// The part that one tenant may hold of what the others leave of `max`.
    pub(super) tenant_share: f64,
}

impl SeriesCapacity {
    /// Whether a tenant that holds `own` series may have one more.
    fn check(&self, own: u64) -> Result<(), RejectReason> {
        let used = self.used.load(Ordering::Relaxed);
        if self.max == 0 {
            return Ok(());
        }
        if used >= self.max {
            return Err(RejectReason::MaxSeries);
        }
        if own < self.share_of(own) {
            Ok(())
        } else {
            Err(RejectReason::MaxSeriesShare)
        }
    }

    /// The series that a tenant which holds `own` may hold in all: at least one, since who has none is to be let in.
    pub(super) fn share_of(&self, own: u64) -> u64 {
        let others = self.used.load(Ordering::Relaxed).saturating_sub(own);
        let left = self.max.saturating_sub(others);
        ((left as f64 * self.tenant_share) as u64).max(1)
    }
}

/// Whether the bounds of tenant and process count for a new series.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounds<'a> {
    /// They do.
    Kept(&'a Limits),
    /// They do not: in a replay, where each series was taken once.
    Passed,
}

/// The head of one tenant.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) tenant: TenantId,
    pub(super) parts: HeadParts,
    /// Held for reading while a batch is taken, for writing while series are forgotten.
    pub(super) gate: RwLock<()>,
    refs: RwLock<RefCache>,
    pub(super) index: RwLock<MemPostings>,
    pub(super) order: LabelOrder,
    /// The list is copied when a shard is added, once in 512 series; readers share it.
    shards: RwLock<Arc<Vec<Arc<Shard>>>>,
    /// Time of the newest sample; `i64::MIN` while there is none.
    max_ms: AtomicI64,
    /// Samples before this are in blocks: in-order ones are no longer taken.
    min_valid_ms: AtomicI64,
    /// The log epoch: anchors of earlier epochs may be gone from the log.
    pub(super) epoch: AtomicU32,
    /// Whether chunks stay here for readers although blocks have them.
    pub(super) moved_chunks: AtomicBool,
    /// One flush at a time.
    pub(super) flushing: tokio::sync::Mutex<()>,
    pub(super) exemplars: Mutex<ExemplarRing>,
    pub(super) metadata: Mutex<MetadataStore>,
    /// Samples taken since the head was made.
    pub(super) appended: AtomicU64,
    /// Series that got a sample lately, as counted last.
    pub(super) active: AtomicU64,
    /// Seconds on the host's clock when something was last appended.
    pub(super) touched_s: AtomicU32,
}

impl Head {
    pub(super) fn new(tenant: TenantId, parts: HeadParts, seed: u64, max_exemplars: u64) -> Self {
        Self {
            tenant,
            parts,
            moved_chunks: AtomicBool::new(false),
            gate: RwLock::default(),
            refs: RwLock::new(RefCache::new(seed)),
            index: RwLock::default(),
            order: LabelOrder::default(),
            shards: RwLock::default(),
            max_ms: AtomicI64::new(i64::MIN),
            min_valid_ms: AtomicI64::new(i64::MIN),
            epoch: AtomicU32::new(1),
            flushing: tokio::sync::Mutex::default(),
            exemplars: Mutex::new(ExemplarRing::new(max_exemplars)),
            metadata: Mutex::default(),
            appended: AtomicU64::new(0),
            active: AtomicU64::new(0),
            touched_s: AtomicU32::new(0),
        }
    }

    /// Time of the newest sample ever taken.
    pub(super) fn max_ms(&self) -> Option<TimestampMs> {
        let t_ms = TimestampMs::new(self.max_ms.load(Ordering::Acquire));
        (t_ms != TimestampMs::MIN).then_some(t_ms)
    }

    pub(super) fn raise_max_ms(&self, t_ms: TimestampMs) {
        self.max_ms.fetch_max(t_ms.get(), Ordering::AcqRel);
    }

    /// Where in-order samples begin to be taken.
    pub(super) fn min_valid_ms(&self) -> TimestampMs {
        TimestampMs::new(self.min_valid_ms.load(Ordering::Acquire))
    }

    /// Refuses in-order samples before `t_ms` from now on: a block is about to hold what lies before.
    pub(super) fn raise_min_valid_ms(&self, t_ms: TimestampMs) {
        self.min_valid_ms.fetch_max(t_ms.get(), Ordering::AcqRel);
    }

    /// The rules for a batch that begins now.
    pub(super) fn rules(&self, limits: &Limits, now_ms: TimestampMs) -> AppendRules {
        let ms = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let newest = self.max_ms();
        let half_range = self.parts.block_range_ms / 2;
        let window = ms(limits.out_of_order_time_window);
        AppendRules {
            min_valid_ms: newest
                .map_or(TimestampMs::MIN, |m| m.saturating_sub(half_range))
                .max(self.min_valid_ms()),
            max_valid_ms: now_ms.saturating_add(ms(limits.creation_grace_period)),
            min_accepted_ms: match ms(limits.past_grace_period) {
                0 => TimestampMs::MIN,
                past => now_ms.saturating_sub(past),
            },
            ooo_min_ms: (window > 0)
                .then(|| newest.map_or(TimestampMs::MIN, |m| m.saturating_sub(window))),
            block_range_ms: self.parts.block_range_ms,
            now_s: u32::try_from(now_ms.to_seconds()).unwrap_or(0),
        }
    }

    /// Looks up the series of a whole batch under one lock; unknown ones get `None`.
    pub(super) fn find_all<'a>(
        &self,
        labels: impl Iterator<Item = &'a [u8]>,
        ids: &mut Vec<Option<SeriesId>>,
    ) {
        let refs = self.refs.read();
        let mut guess = 0;
        for bytes in labels {
            let key = refs.key(bytes);
            let id = refs.find(key, guess);
            if let Some(id) = id {
                guess = id + 1;
            }
            ids.push(id);
        }
    }

    /// Begins making series. While the maker lives nobody else makes any, so that the series of one request get ids in a row.
    pub(super) fn maker(&self) -> Maker<'_> {
        let index = self.index.try_write();
        Maker {
            head: self,
            index: index.unwrap_or_else(|| in_place(|| self.index.write())),
        }
    }

    /// Keeps ids what they are while the guard lives: no series is forgotten, none gets a dead one's id.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        let gate = self.gate.try_read();
        gate.unwrap_or_else(|| in_place(|| self.gate.read()))
    }

    /// The shards as they stand; series of later ids are not in them.
    pub(super) fn shards(&self) -> Arc<Vec<Arc<Shard>>> {
        Arc::clone(&self.shards.read())
    }

    /// Forgets series that hold nothing and were not written to since `before_s`, and counts those written to since `active_since_s`.
    /// Gives how many were forgotten.
    pub(super) fn collect_idle(&self, before_s: u32, active_since_s: u32) -> usize {
        let is_idle = |s: &MemSeries| s.is_empty() && s.touched_s < before_s;
        let (mut idle, mut active) = (Vec::new(), 0);
        for (n, shard) in self.shards().iter().enumerate() {
            for (slot, series) in shard.lock().iter().enumerate() {
                let Some(s) = series else { continue };
                active += u64::from(s.touched_s >= active_since_s);
                if is_idle(s) {
                    idle.push((n * SHARD_LEN + slot) as SeriesId);
                }
            }
        }
        self.active.store(active, Ordering::Relaxed);
        // Pushes wait while series are forgotten: never for many at a time.
        let parts = idle.chunks(FORGOTTEN_AT_ONCE);
        parts.map(|ids| self.forget(ids, &is_idle)).sum()
    }

    /// Forgets those of `ids`, which ascend, that are still idle. Gives how many.
    fn forget(&self, ids: &[SeriesId], is_idle: &dyn Fn(&MemSeries) -> bool) -> usize {
        let _gate = self.gate.write();
        let mut index = self.index.write();
        let mut labels_of = hashbrown::HashMap::new();
        let mut dead = Vec::new();
        let shards = self.shards();
        for &id in ids {
            let (shard, slot) = locate(id);
            let mut slots = shards[shard].lock();
            let Some(place) = slots.get_mut(slot) else {
                continue;
            };
            if let Some(series) = place.take_if(|s| is_idle(s)) {
                labels_of.insert(id, series.labels);
                dead.push(id);
            }
            if slots.iter().all(Option::is_none) {
                *slots = Vec::new();
            }
        }
        if dead.is_empty() {
            return 0;
        }
        let mut refs = self.refs.write();
        for id in &dead {
            refs.remove(*id);
        }
        drop(refs);
        index.remove(&dead, &labels_of);
        (self.parts.capacity.used).fetch_sub(dead.len() as u64, Ordering::Relaxed);
        self.exemplars.lock().forget(&dead);
        if index.symbols_are_mostly_garbage() {
            self.rebuild_symbols(&mut index);
        }
        dead.len()
    }

    /// Interns the symbols in use anew, after series that used most of them are gone. The caller holds the gate.
    fn rebuild_symbols(&self, index: &mut MemPostings) {
        let moved = match index.rebuild_symbols() {
            Ok(moved) => moved,
            // Fewer symbols than before cannot need more space.
            Err(e) => {
                return tracing::error!(tenant = %self.tenant, error = %e, "symbols cannot be interned anew");
            }
        };
        for shard in self.shards().iter() {
            for series in shard.lock().iter_mut().flatten() {
                series.labels.iter_mut().for_each(|s| *s = moved[&*s]);
            }
        }
    }

    /// Number of series.
    pub(super) fn series_count(&self) -> usize {
        self.index.read().series_count()
    }

    /// Number of chunks in memory and in the chunk files.
    pub(super) fn chunk_count(&self) -> usize {
        self.shards()
            .iter()
            .map(|s| {
                s.lock()
                    .iter()
                    .flatten()
                    .map(|s| s.chunk_count())
                    .sum::<usize>()
            })
            .sum()
    }

    /// Time of the oldest and the newest sample that no block has.
    pub(super) fn held_range(&self) -> Option<(TimestampMs, TimestampMs)> {
        let shards = self.shards();
        let ranges = shards.iter().filter_map(|s| {
            s.lock()
                .iter()
                .flatten()
                .filter_map(|s| s.held_range())
                .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        });
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Heap bytes of index and series lookup, nearly.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.read().heap_bytes() + self.refs.read().heap_bytes() + self.order.heap_bytes()
    }
}

/// Makes series of a head; holds its index.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    head: &'a Head,
    index: parking_lot::RwLockWriteGuard<'a, MemPostings>,
}

impl Maker<'_> {
    /// The series that the head's tenant may hold of the process' capacity.
    pub(super) fn share(&self) -> u64 {
        let own = self.index.series_count() as u64;
        self.head.parts.capacity.share_of(own)
    }

    /// The series of a label set in canonical spelling, made if need be.
    ///
    /// # Errors
    /// `Err(reason)` inside `Ok` when a limit forbids another series; `LimitExceeded` when the head is full.
    pub(super) fn get_or_create(
        &mut self,
        canonical: &[u8],
        labels: &Labels,
        base: f64,
        bounds: Bounds<'_>,
    ) -> Result<Result<SeriesId, RejectReason>> {
        let (key, known) = {
            let refs = self.head.refs.read();
            let key = refs.key(canonical);
            (key, refs.find(key, 0))
        };
        if let Some(id) = known {
            return Ok(Ok(id));
        }
        let capacity = &self.head.parts.capacity;
        if let Bounds::Kept(limits) = bounds {
            if let Err(reason) = check_series_limits(&self.index, labels, limits) {
                return Ok(Err(reason));
            }
            if let Err(reason) = capacity.check(self.index.series_count() as u64) {
                return Ok(Err(reason));
            }
        }
        let (id, symbols) = self.index.add(labels.iter())?;
        let (shard, slot) = locate(id);
        let shard = {
            let mut shards = self.head.shards.write();
            if shards.len() <= shard {
                Arc::make_mut(&mut shards).resize_with(shard + 1, Arc::default);
            }
            Arc::clone(&shards[shard])
        };
        shard.put(
            slot,
            MemSeries::new(symbols, base, anchor_tag(labels, base)),
        );
        self.head.refs.write().insert(key, id);
        capacity.used.fetch_add(1, Ordering::Relaxed);
        Ok(Ok(id))
    }
}

fn check_series_limits(
    index: &MemPostings,
    labels: &Labels,
    limits: &Limits,
) -> Result<(), RejectReason> {
    let max = limits.max_global_series_per_user;
    if max > 0 && index.series_count() as u64 >= max {
        return Err(RejectReason::MaxSeriesPerUser);
    }
    let max = limits.max_global_series_per_metric;
    if max > 0
        && let Some(metric) = labels.get(METRIC_NAME)
        && index.series_with(METRIC_NAME, metric) as u64 >= max
    {
        return Err(RejectReason::MaxSeriesPerMetric);
    }
    Ok(())
}
