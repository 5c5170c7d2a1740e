//! The bucket as a holder of spans.
//!
//! Blocks are read one after the other, newest first, and of each those row groups first whose traces are newest. A row group's columns are read as
//! far as the query needs them ([`crate::scan`]), some row groups ahead of whoever asks. A trace that lies in several blocks comes once of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use hashbrown::{HashMap, HashSet};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampNs, merge_warnings};
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::block_caches::BlockCaches;
use super::block_list::{BlockList, TenantBlocks};
use super::departures::Departures;
use super::open_block::OpenBlock;
use super::places::{count_places, whole_trace};
use super::settings::BucketSettings;
use super::skip_cache::SkipCache;
use crate::block::BlockMeta;
use crate::block_id::BlockId;
use crate::scan::{ColumnCache, GroupScan};
use crate::schema::ColumnMemory;
use crate::select::{
    FetchStats, Patterns, Places, Select, SelectEnd, SpanBatch, SpanBatches, SpanFilter,
    SpanRequest, TraceSpot, WantedRows, pick_rows,
};
use crate::skip::GroupSet;
use crate::trace::TraceId;

/// Blocks of which footer and filters are kept.
const MAX_OPEN_BLOCKS: usize = 1000;

/// Answers from the blocks of a bucket.
#[derive(Debug)]
pub struct BucketSelect {
    bucket: Bucket,
    executor: Executor,
    list: Arc<BlockList>,
    max_bytes: usize,
    row_groups_ahead: usize,
    trace_parts_ns: u64,
    /// `None`: side files are not looked at.
    skip: Option<Arc<SkipCache>>,
    open: Mutex<HashMap<(TenantId, BlockId), Arc<OpenBlock>>>,
    /// The list that the open blocks of a tenant were last looked up on.
    seen: Mutex<HashMap<TenantId, Weak<TenantBlocks>>>,
    /// Of all of them.
    memory: Arc<ColumnMemory>,
    columns: Arc<ColumnCache>,
    caches: BlockCaches,
    departures: Option<Arc<dyn Departures>>,
}

impl BucketSelect {
    /// A holder of what `bucket` has, by that list.
    pub fn new(
        bucket: Bucket,
        executor: Executor,
        list: Arc<BlockList>,
        settings: &BucketSettings,
    ) -> Self {
        let memory: Arc<ColumnMemory> = Arc::default();
        let columns = ColumnCache::new(settings.column_cache.as_usize(), Arc::clone(&memory));
        Self {
            bucket,
            executor,
            list,
            max_bytes: settings.max_trace_memory.as_usize(),
            row_groups_ahead: settings.row_groups_ahead.max(1),
            trace_parts_ns: u64::try_from(settings.trace_parts_window.as_nanos())
                .unwrap_or(u64::MAX),
            skip: (settings.side_file_max_percent > 0.0)
                .then(|| Arc::new(SkipCache::new(settings.side_file_cache.as_usize()))),
            open: Mutex::default(),
            seen: Mutex::default(),
            memory,
            columns,
            caches: BlockCaches::default(),
            departures: None,
        }
    }

    /// The same where blocks are written by other processes: who of them has gone for good has the tenant's blocks listed before the next answer, and an
    /// answer by a list that is old says so.
    #[must_use]
    pub fn departures(mut self, departures: Arc<dyn Departures>) -> Self {
        self.departures = Some(departures);
        self
    }

    /// The same, with caches of what is read of blocks.
    #[must_use]
    pub fn caches(mut self, caches: BlockCaches) -> Self {
        self.caches = caches;
        self
    }

    /// Where what is read for a tenant is computed.
    pub(crate) fn executor(&self, tenant: &TenantId) -> Executor {
        self.executor.in_line(tenant.as_str())
    }

    /// What is kept of decoded columns.
    pub fn column_cache(&self) -> &ColumnCache {
        &self.columns
    }

    /// Lists the tenant's blocks after somebody has gone who may have written some; what that means for the answer when it fails.
    async fn list_after_departures(&self, tenant: &TenantId) -> Vec<String> {
        let Some(departures) = &self.departures else {
            return Vec::new();
        };
        match self.list.list_after(tenant, &departures.departed()).await {
            Ok(()) => Vec::new(),
            Err(e) => vec![format!(
                "an ingester has gone, and the blocks in the object store cannot be listed, traces may be missing: {e}"
            )],
        }
    }

    /// The blocks of a tenant that may have spans between two times, newest first, and what is missing from the list.
    ///
    /// # Errors
    /// None at present: a list that cannot be had is something that is missing.
    pub async fn blocks(
        &self,
        tenant: &TenantId,
        range: Option<(u64, u64)>,
    ) -> Result<(Vec<Arc<OpenBlock>>, Vec<String>)> {
        let mut warnings = self.list_after_departures(tenant).await;
        let listed = match self.list.blocks(tenant).await {
            Ok(listed) => listed,
            Err(e) => {
                let lacks = format!("all blocks are missing from the answer: {e}");
                return Ok((Vec::new(), vec![lacks]));
            }
        };
        self.close_gone(tenant, &listed);
        warnings.extend(listed.warnings.iter().cloned());
        let age = self.list.age(tenant).filter(|_| self.departures.is_some());
        if age.is_some_and(|age| age >= self.list.poll()) && warnings.is_empty() {
            warnings.push(
                "the list of blocks cannot be read again, traces that were stored since may be missing"
                    .to_owned(),
            );
        }
        let wanted = listed
            .live
            .iter()
            .filter(|meta| range.is_none_or(|(from, to)| meta.overlaps(time(from), time(to))));
        let mut blocks = Vec::new();
        for meta in wanted {
            match self.open(tenant, meta) {
                Ok(block) => blocks.push(block),
                Err(e) => {
                    let id = meta.block_id;
                    warnings.push(format!("block {id} is missing from the answer: {e}"));
                }
            }
        }
        blocks.sort_by_key(|b| std::cmp::Reverse((b.meta().end, b.meta().block_id)));
        Ok((blocks, warnings))
    }

    /// Blocks that may have parts of the traces of a range, and those of them that may have spans between its ends.
    async fn with_neighbours(
        &self,
        tenant: &TenantId,
        range: Option<(u64, u64)>,
    ) -> Result<(Vec<Arc<OpenBlock>>, Vec<Arc<OpenBlock>>, Vec<String>)> {
        let (all, warnings) = self.blocks(tenant, range.map(|r| self.widened(r))).await?;
        let wanted = all.iter().filter(|block| {
            range.is_none_or(|(from, to)| block.meta().overlaps(time(from), time(to)))
        });
        let wanted = wanted.cloned().collect();
        Ok((all, wanted, warnings))
    }

    /// A range, and what lies close enough to it that it may have other parts of its traces.
    fn widened(&self, (from, to): (u64, u64)) -> (u64, u64) {
        (
            from.saturating_sub(self.trace_parts_ns),
            to.saturating_add(self.trace_parts_ns),
        )
    }

    /// Lets go of blocks that are on the list no more, and of all that is kept of them.
    fn close_gone(&self, tenant: &TenantId, listed: &Arc<TenantBlocks>) {
        let list = Arc::downgrade(listed);
        {
            let mut seen = self.seen.lock();
            if seen.get(tenant).is_some_and(|seen| seen.ptr_eq(&list)) {
                return;
            }
            seen.insert(tenant.clone(), list);
        }
        let live: HashSet<BlockId> = listed.live.iter().map(|meta| meta.block_id).collect();
        let is_gone = |(of, id): &(TenantId, BlockId)| of == tenant && !live.contains(id);
        let mut open = self.open.lock();
        let gone: Vec<_> = open.extract_if(|key, _| is_gone(key)).collect();
        drop(open);
        drop(gone);
    }

    fn open(&self, tenant: &TenantId, meta: &BlockMeta) -> Result<Arc<OpenBlock>> {
        let key = (tenant.clone(), meta.block_id);
        let mut open = self.open.lock();
        if let Some(block) = open.get(&key) {
            return Ok(Arc::clone(block));
        }
        let (bucket, executor) = (self.bucket.clone(), self.executor.clone());
        let block = OpenBlock::new(bucket, executor, tenant, meta.clone(), self.max_bytes)?;
        let block = block.reusing(Arc::clone(&self.memory));
        let block = block.sharing(self.columns.block());
        let block = Arc::new(block.caches(&self.caches));
        if open.len() >= MAX_OPEN_BLOCKS {
            // Those that nobody reads; all others end with their query.
            open.retain(|_, block| Arc::strong_count(block) > 1);
        }
        open.insert(key, Arc::clone(&block));
        Ok(block)
    }

    /// The parts of a trace that the bucket has, each as the protobuf message `Trace`; and what could not be looked at. Blocks of a range are looked
    /// into one after the other: most say no by their filter, which is kept.
    ///
    /// # Errors
    /// As [`BlockList::blocks`].
    pub async fn find(
        &self,
        tenant: &TenantId,
        id: TraceId,
        range: Option<(u64, u64)>,
    ) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
        let (blocks, mut warnings) = self.blocks(tenant, range).await?;
        let mut parts = Vec::new();
        for block in blocks {
            match block.find(id).await {
                Ok(part) => parts.extend(part),
                Err(e) => merge_warnings(&mut warnings, vec![block.missing(&e)]),
            }
        }
        Ok((parts, warnings))
    }
}

fn time(ns: u64) -> TimestampNs {
    TimestampNs::new(i64::try_from(ns).unwrap_or(i64::MAX))
}

#[async_trait]
impl Select for BucketSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        let range = request.traces.map(|r| (r.start_ns, r.end_ns));
        let range = range.or(request.starts.map(|r| (r.after_ns, r.until_ns)));
        let (all, mut blocks, mut warnings) = self.with_neighbours(tenant, range).await?;
        // They come newest first.
        if let Some(max) = request.max_blocks.filter(|max| *max < blocks.len()) {
            warnings.push(format!(
                "only the newest {max} of {} blocks were looked into (max_blocks_per_tag_values_query)",
                blocks.len()
            ));
            blocks.truncate(max);
        }
        let mut stats = FetchStats {
            total_blocks: blocks.len() as u64,
            ..FetchStats::default()
        };
        stats.total_block_bytes = blocks.iter().map(|b| b.meta().size_bytes).sum();
        // The last one is opened next.
        blocks.reverse();
        let request = SpanRequest {
            // Other blocks, or heads, may have other parts of its traces.
            filter: request.filter.of_parts(),
            anchor: request.anchor.of_parts(),
            ..request.clone()
        };
        Ok(Box::new(ColumnBatches {
            patterns: Arc::new(Patterns::of(&request)),
            request: Arc::new(request),
            blocks,
            all,
            came: Vec::new(),
            executor: self.executor.in_line(tenant.as_str()),
            groups: BinaryHeap::new(),
            row_groups_ahead: self.row_groups_ahead,
            wanted_ahead: 1,
            skip: self.skip.clone(),
            told: VecDeque::new(),
            ahead: FuturesOrdered::new(),
            newest_ahead: VecDeque::new(),
            oldest_ns: Arc::default(),
            places: Vec::new(),
            end: SelectEnd { warnings, stats },
        }))
    }
}

/// A row group of a block.
#[derive(Debug, Clone)]
struct GroupPlace {
    block: Arc<OpenBlock>,
    group: usize,
}

impl GroupPlace {
    /// The number of its first row: places are numbered as they are read.
    fn first_row_id(number: usize) -> u64 {
        (number as u64) << 32
    }
}

/// A row group that is to be read: the newest one is the greatest, of equals the one that was found first.
#[derive(Debug)]
struct NextGroup {
    newest_start_ns: u64,
    found: Reverse<u64>,
    place: GroupPlace,
}

impl NextGroup {
    fn key(&self) -> (u64, Reverse<u64>) {
        (self.newest_start_ns, self.found)
    }
}

impl PartialEq for NextGroup {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for NextGroup {}

impl PartialOrd for NextGroup {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NextGroup {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

type Scanned = (GroupPlace, Result<(Option<SpanBatch>, FetchStats)>);

/// Reads row groups, the newest first.
#[derive(Debug)]
struct ColumnBatches {
    request: Arc<SpanRequest>,
    patterns: Arc<Patterns>,
    /// Blocks that are not opened yet; the last one is the newest.
    blocks: Vec<Arc<OpenBlock>>,
    /// All of the range, and those nearby that may have other parts of their traces.
    all: Vec<Arc<OpenBlock>>,
    /// Blocks that batches came of, the last one at the end.
    came: Vec<Arc<OpenBlock>>,
    executor: Executor,
    /// Row groups of the block that is open.
    groups: BinaryHeap<NextGroup>,
    row_groups_ahead: usize,
    /// Row groups to be read ahead for now.
    wanted_ahead: usize,
    skip: Option<Arc<SkipCache>>,
    /// What side files told of whole blocks.
    told: VecDeque<SpanBatch>,
    /// Row groups that are being read.
    ahead: FuturesOrdered<BoxFuture<'static, Scanned>>,
    newest_ahead: VecDeque<u64>,
    /// Traces that began before are of no interest any more.
    oldest_ns: Arc<AtomicU64>,
    /// Row groups that were read: the upper half of a row's id is a place here.
    places: Vec<GroupPlace>,
    end: SelectEnd,
}

fn end_ns(block: &OpenBlock) -> u64 {
    u64::try_from(block.meta().end.get()).unwrap_or(0)
}

impl ColumnBatches {
    fn of(&self, places: Places) -> &[Arc<OpenBlock>] {
        match (places, self.came.split_last()) {
            (Places::All, _) => &self.all,
            (Places::Current, Some((current, _))) => std::slice::from_ref(current),
            (Places::Before, Some((_, before))) => before,
            (_, None) => &[],
        }
    }

    /// The next row group; a block is opened when all of the one before are taken, so that blocks come one after the other.
    async fn next_group(&mut self) -> Option<NextGroup> {
        while self.groups.is_empty()
            && let Some(block) = self.blocks.last().cloned()
        {
            let wanted = self.look_aside(&block).await;
            self.blocks.pop();
            if wanted.as_ref().is_some_and(GroupSet::is_empty) {
                continue;
            }
            let opened = block.scan_block().await;
            match opened {
                Ok(scan_block) => {
                    for group in 0..scan_block.file().row_groups.len() {
                        if wanted
                            .as_ref()
                            .is_some_and(|wanted| !wanted.contains(group))
                        {
                            continue;
                        }
                        let newest = scan_block.newest_start_ns(group);
                        let found = Reverse(group as u64);
                        self.groups.push(NextGroup {
                            newest_start_ns: newest.unwrap_or_else(|| end_ns(&block)),
                            found,
                            place: GroupPlace {
                                block: Arc::clone(&block),
                                group,
                            },
                        });
                    }
                }
                Err(e) => self.pass_over(&block, None, &e),
            }
        }
        self.groups.pop()
    }

    /// What the side file of a block says: the row groups that are to be read, none where it tells all that is asked; `None` where it says nothing.
    async fn look_aside(&mut self, block: &OpenBlock) -> Option<GroupSet> {
        let (request, patterns) = (Arc::clone(&self.request), Arc::clone(&self.patterns));
        if request.filter == SpanFilter::Everything && !request.is_distinct {
            return None;
        }
        let index = self.skip.as_ref()?.get(block).await?;
        // Names and values of a block are told without times.
        let meta = block.meta();
        let is_inside = request.starts.is_none()
            && request.traces.is_none_or(|range| {
                let time = |ns: TimestampNs| u64::try_from(ns.get()).unwrap_or(0);
                range.start_ns <= time(meta.start) && time(meta.end) <= range.end_ns
            });
        let job = move |_: &CancelToken| {
            let told = if request.is_distinct && is_inside {
                index.batches(&request)
            } else {
                None
            };
            let mut groups = index.groups_by(&request.filter, &patterns);
            groups.retain(&index.groups_by(&request.anchor, &patterns));
            Ok::<_, Error>((told, groups))
        };
        let (told, groups) = self.executor.run(job, &CancelToken::new()).await.ok()?;
        match told {
            Some(batches) => {
                self.told.extend(batches);
                Some(GroupSet::default())
            }
            None => Some(groups),
        }
    }

    /// Begins to read a row group.
    fn begin(&mut self, next: NextGroup) {
        let NextGroup {
            newest_start_ns,
            place,
            ..
        } = next;
        let first_row_id = GroupPlace::first_row_id(self.places.len());
        self.places.push(place.clone());
        self.newest_ahead.push_back(newest_start_ns);
        let (request, patterns) = (Arc::clone(&self.request), Arc::clone(&self.patterns));
        let oldest_ns = Arc::clone(&self.oldest_ns);
        self.ahead.push_back(Box::pin(async move {
            let scanned = async {
                let block = place.block.scan_block().await?;
                let scan = GroupScan::new(block, place.group, request, first_row_id);
                let scan = scan.patterns(patterns).newest(newest_start_ns, oldest_ns);
                place.block.scan(scan).await
            };
            let scanned = scanned.await;
            (place, scanned)
        }));
    }

    /// Goes on without a block, or without a row group of it.
    fn pass_over(&mut self, block: &OpenBlock, group: Option<usize>, e: &Error) {
        if e.kind() != ErrorKind::NotFound {
            tracing::error!(block = %block.meta().block_id, row_group = group, error = %e, "a block cannot be read as a whole; queries go on without what is damaged");
        }
        let warning = match group {
            Some(group) if e.kind() != ErrorKind::NotFound => format!(
                "row group {group} of block {} is missing from the answer: {e}",
                block.meta().block_id
            ),
            _ => block.missing(e),
        };
        merge_warnings(&mut self.end.warnings, vec![warning]);
    }
}

#[async_trait]
impl SpanBatches for ColumnBatches {
    async fn next_batch(&mut self) -> Result<Option<SpanBatch>> {
        loop {
            while self.ahead.len() < self.wanted_ahead {
                let Some(next) = self.next_group().await else {
                    break;
                };
                self.begin(next);
            }
            if let Some(batch) = self.told.pop_front() {
                return Ok(Some(batch));
            }
            let Some((place, scanned)) = self.ahead.next().await else {
                return Ok(None);
            };
            self.newest_ahead.pop_front();
            // Who has enough with the first ones has not paid for more of them.
            self.wanted_ahead = (self.wanted_ahead * 2).min(self.row_groups_ahead);
            match scanned {
                Ok((batch, stats)) => {
                    self.end.stats = self.end.stats.plus(stats);
                    if batch.is_some() {
                        let is_next = self
                            .came
                            .last()
                            .is_none_or(|b| !Arc::ptr_eq(b, &place.block));
                        if is_next {
                            self.came.push(place.block);
                        }
                        return Ok(batch);
                    }
                }
                Err(e) => self.pass_over(&place.block, Some(place.group), &e),
            }
        }
    }

    async fn rows(&mut self, wanted: &WantedRows) -> Result<SpanBatch> {
        let mut by_place: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for row in &wanted.row_ids {
            by_place.entry(row >> 32).or_default().push(*row as u32);
        }
        let mut batches = Vec::new();
        for (number, mut spans) in by_place {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            let place = self.places.get(number).cloned().ok_or_else(|| {
                Error::InvalidInput(format!(
                    "a row of row group {number} is in no batch that came"
                ))
            })?;
            spans.sort_unstable();
            spans.dedup();
            let first_row_id = GroupPlace::first_row_id(number);
            let block = place.block.scan_block().await?;
            let columns = wanted.columns.clone();
            let scan = GroupScan::of_spans(block, place.group, columns, spans, first_row_id);
            let (batch, stats) = place.block.scan(scan).await?;
            self.end.stats.backend_reads += stats.backend_reads;
            self.end.stats.backend_bytes += stats.backend_bytes;
            batches.extend(batch);
        }
        pick_rows(&self.executor, batches, wanted).await
    }

    fn leave_out_before(&mut self, start_ns: u64) {
        self.oldest_ns.fetch_max(start_ns, Ordering::Relaxed);
    }

    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>> {
        count_places(&self.executor, self.of(places), traces).await
    }

    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>> {
        let (bytes, warnings) = whole_trace(self.of(places), id).await;
        merge_warnings(&mut self.end.warnings, warnings);
        Ok(bytes)
    }

    fn newest_start_ns(&self) -> Option<u64> {
        let ahead = self.newest_ahead.iter().copied();
        let found = self.groups.iter().map(|g| g.newest_start_ns);
        let closed = self.blocks.iter().map(|b| end_ns(b));
        Some(ahead.chain(found).chain(closed).max().unwrap_or(0))
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
