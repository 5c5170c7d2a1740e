//! From the head to blocks.
//!
//! A flush marks the chunks it will write, writes one block for every aligned range they lie in, and drops them from memory
//! when the block's `meta.json` is in the bucket. What fails stays marked in memory and in the log and is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{TenantId, TimeRange, TimestampMs};
use lgtm_core::postings::{SeriesId, SymbolId};
use lgtm_core::storage::Bucket;
use lgtm_core::wal::ChunkState;
use lgtm_core::{Error, Result};

use super::head::Head;
use super::head_chunk::HeadChunk;
use super::heads::Heads;
use super::series::locate;
use super::shard::SHARD_LEN;
use crate::block::{
    BlockId, BlockMeta, BlockWriter, BlockWriterSettings, ExpectedBlock, MetaInput, ThanosMeta,
};
use crate::chunk::{Chunk, cut, encode_started_run};
use crate::select::started_samples;

/// How much of a head goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushScope {
    /// The ranges that are complete: all but the newest one and a half (Prometheus' rule).
    Complete,
    /// Everything, the open chunks too.
    All,
}

/// Ranges that one round of housekeeping writes for a tenant: who has brought years of old data waits for the next round, and others do
/// not wait for it.
const RANGES_A_ROUND: usize = 16;

impl FlushScope {
    /// How often a flush looks for what is to be written; a look at complete ranges finds the oldest one.
    fn turns(self) -> usize {
        match self {
            Self::Complete => RANGES_A_ROUND,
            Self::All => 1,
        }
    }
}

/// A series in the order of the index: its id, and where its label ordinals stand.
#[derive(Debug, Clone, Copy)]
struct Member {
    id: SeriesId,
    start: u32,
    len: u32,
}

/// The series of a block in index order, with the symbols they use.
#[derive(Debug, Default)]
struct Roster {
    members: Vec<Member>,
    /// (name, value) ordinals of all members, back to back.
    ordinals: Vec<u32>,
    symbols: Vec<String>,
    /// Bytes of the marked chunks.
    chunk_bytes: u64,
}

impl Roster {
    /// About how many bytes the index has: an entry for each series and for each of its pairs, here and in the postings, and the symbols.
    fn index_bytes(&self) -> u64 {
        let texts: usize = self.symbols.iter().map(|s| s.len() + 2).sum();
        let entries = 32 * self.members.len() + 8 * self.ordinals.len();
        (texts + entries) as u64
    }
}

/// Where a flush puts blocks, and what it works with.
pub(crate) struct FlushTo<'a> {
    /// Where blocks go.
    pub(crate) bucket: &'a Bucket,
    /// Computes what takes long: other work on the host's threads goes on meanwhile.
    pub(crate) executor: &'a Executor,
    /// Makes the id of a block.
    pub(crate) new_id: &'a (dyn Fn() -> BlockId + Sync),
    /// Puts a block that is in the bucket on the list of those who read blocks.
    pub(crate) on_block: &'a (dyn Fn(&TenantId, &BlockMeta) + Sync),
}

impl FlushTo<'_> {
    /// Runs `job` on a head.
    async fn compute<T: Send + 'static>(
        &self,
        heads: &Arc<Heads>,
        head: &Arc<Head>,
        job: impl FnOnce(&Heads, &Head) -> T + Send + 'static,
    ) -> Result<T> {
        let (heads, head) = (Arc::clone(heads), Arc::clone(head));
        let cancel = CancelToken::new();
        let run = self.executor.run(move |_| Ok(job(&heads, &head)), &cancel);
        run.await
    }
}

impl Heads {
    /// Writes blocks of one tenant. Gives the metas of the blocks now in the bucket.
    ///
    /// # Errors
    /// Those of the bucket; blocks finished before the error stay.
    pub(super) async fn flush(
        self: &Arc<Self>,
        tenant: &TenantId,
        scope: FlushScope,
        to: &FlushTo<'_>,
    ) -> Result<Vec<BlockMeta>> {
        let Some(head) = self.get(tenant) else {
            return Ok(Vec::new());
        };
        let _one = head.flushing.lock().await;
        let range_ms = self.parts.block_range_ms;
        let mut metas = Vec::new();
        for _ in 0..scope.turns() {
            let begin = to.compute(self, &head, move |_, head| {
                head.begin_flush(scope, range_ms)
            });
            let starts = begin.await?;
            if starts.is_empty() {
                break;
            }
            for start in starts {
                let range = TimeRange::new(start, start.saturating_add(range_ms));
                if let Some(meta) = self.write_block(&head, range, to).await? {
                    // Readers learn of the block before memory forgets its samples.
                    (to.on_block)(tenant, &meta);
                    metas.push(meta);
                }
                let give = to.compute(self, &head, move |heads, head| {
                    heads.give_to_blocks(head, range)
                });
                give.await?;
            }
        }
        Ok(metas)
    }

    /// Lets go of the chunks of a range that a flush has written. The block is on the list of those who read blocks: queries that begin
    /// from now on find the samples there. For those that began before they stay.
    fn give_to_blocks(&self, head: &Head, range: TimeRange) {
        let is_written =
            |c: &HeadChunk| c.state == ChunkState::FLUSHING && range.contains(c.min_ms);
        let retain = self.settings.retain_flushed;
        let stays = (!retain.is_zero()).then(|| self.parts.generations.enter());
        let (generation, oldest) = self.parts.generations.advance();
        if let Some(snapshot) = stays {
            let until = self.clock.monotonic().saturating_add(retain);
            self.retained
                .add(generation, self.clock.now_ms(), until, snapshot);
        }
        if oldest == generation {
            self.drop_chunks(head, is_written);
            return;
        }
        head.moved_chunks.store(true, Ordering::Release);
        for shard in head.shards().iter() {
            for series in shard.lock().iter_mut().flatten() {
                series.mark_moved(generation, is_written);
            }
        }
    }

    /// Drops the chunks that stayed for readers which are gone.
    pub(crate) fn drop_moved(&self) {
        self.retained.end_before(self.clock.monotonic());
        let oldest = self.parts.generations.oldest();
        for head in self.all() {
            if head.moved_chunks.swap(false, Ordering::AcqRel)
                && self.drop_chunks(&head, |c| c.state.is_past(oldest))
            {
                head.moved_chunks.store(true, Ordering::Release);
            }
        }
    }

    /// Drops chunks; gives whether others that have moved are left.
    fn drop_chunks(&self, head: &Head, is_gone: impl Fn(&HeadChunk) -> bool) -> bool {
        let (mut freed, mut are_left) = (Vec::new(), false);
        for shard in head.shards().iter() {
            for series in shard.lock().iter_mut().flatten() {
                let gone = |c: &HeadChunk| {
                    let is_gone = is_gone(c);
                    are_left |= !is_gone && c.state.is_moved();
                    is_gone
                };
                series.drop_moved(gone, &mut freed);
            }
        }
        self.parts.files.release(&freed);
        are_left
    }

    async fn write_block(
        self: &Arc<Self>,
        head: &Arc<Head>,
        range: TimeRange,
        to: &FlushTo<'_>,
    ) -> Result<Option<BlockMeta>> {
        let roster = to.compute(self, head, move |_, head| head.roster(range));
        let roster = roster.await?;
        if roster.members.is_empty() {
            return Ok(None);
        }
        let settings = BlockWriterSettings {
            expected: Some(ExpectedBlock {
                chunk_bytes: roster.chunk_bytes,
                index_bytes: roster.index_bytes(),
                memory: to.bucket.upload_memory(),
            }),
            ..BlockWriterSettings::default()
        };
        let writer = BlockWriter::new(
            to.bucket.clone(),
            &head.tenant,
            (to.new_id)(),
            SymbolTable::from_sorted(&roster.symbols)?,
            settings,
        )?;
        let mut block = RangeBlock {
            writer,
            roster,
            next: 0,
            range,
            min_ms: TimestampMs::MAX,
            max_ms: TimestampMs::MIN,
        };
        while block.next < block.roster.members.len() {
            let fill = to.compute(self, head, move |heads, head| {
                block.fill(heads, head).map(|()| block)
            });
            block = fill.await??;
            if block.writer.wants_flush() {
                block.writer.flush_pending().await?;
            }
        }
        let input = MetaInput {
            min_ms: block.min_ms,
            max_ms: block.max_ms.saturating_add(1),
            level: 1,
            sources: Vec::new(),
            parents: Vec::new(),
            hints: Vec::new(),
            thanos: Some(ThanosMeta::new("receive", BTreeMap::new())),
        };
        block.writer.finish(input).await
    }

    /// The chunks of one series as the block takes them: in order, without overlap, and without those that are damaged.
    fn chunks_to_write(
        &self,
        head: &Head,
        id: SeriesId,
        (in_order, late): (Vec<HeadChunk>, Vec<HeadChunk>),
        range: TimeRange,
    ) -> Result<Vec<Chunk>> {
        let mut loaded = Vec::with_capacity(in_order.len() + late.len());
        let load = |c: &HeadChunk| {
            Some(Chunk {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                encoding: c.encoding,
                data: self.read_chunk(head, id, c)?,
            })
        };
        loaded.extend(in_order.iter().chain(&late).filter_map(load));
        let overlap = !late.is_empty() || loaded.windows(2).any(|w| w[1].min_ms <= w[0].max_ms);
        if overlap {
            let all = TimeRange::inclusive(i64::MIN, i64::MAX - 1);
            let place = |e| Error::corrupt(format!("head chunk in {range:?}"), e);
            let merged = started_samples(&loaded, all).or_else(|_| {
                // One of them passes its checksum and does not decode: it costs itself.
                let sound = in_order.iter().chain(&late).filter_map(|c| {
                    let chunk = [load(c)?];
                    match started_samples(&chunk, all) {
                        Ok(_) => Some(chunk),
                        Err(e) => {
                            self.set_chunk_aside(head, id, c, &place(e));
                            None
                        }
                    }
                });
                started_samples(&sound.flatten().collect::<Vec<_>>(), all)
            });
            return Ok(encode_started_run(merged.map_err(place)?));
        }
        Ok(loaded)
    }

    /// Flushes every tenant, a bounded number at a time, then checkpoints the log.
    ///
    /// # Errors
    /// The first error; the other tenants are flushed all the same.
    pub(crate) async fn flush_all(
        self: &Arc<Self>,
        scope: FlushScope,
        to: &FlushTo<'_>,
    ) -> Result<Vec<(TenantId, BlockMeta)>> {
        use futures::StreamExt;
        let tenants: Vec<TenantId> = self.heads.read().keys().cloned().collect();
        let runs = tenants.into_iter().map(|t| async move {
            let flushed = self.flush(&t, scope, to).await;
            (t, flushed)
        });
        let mut runs =
            futures::stream::iter(runs).buffer_unordered(self.settings.flush_concurrency);
        let (mut metas, mut first_error) = (Vec::new(), None);
        while let Some((tenant, flushed)) = runs.next().await {
            match flushed {
                Ok(blocks) => metas.extend(blocks.into_iter().map(|m| (tenant.clone(), m))),
                Err(e) => {
                    tracing::error!(%tenant, error = %e, "head cannot be flushed; it stays in memory and in the log");
                    first_error.get_or_insert(e);
                }
            }
        }
        drop(runs);
        if !metas.is_empty() {
            self.checkpoint().await?;
        }
        first_error.map_or(Ok(metas), Err)
    }
}

/// Series that are put into a block in one job: a millisecond or two.
const FILL_SERIES: usize = 512;

/// A block of one range being written.
struct RangeBlock {
    writer: BlockWriter,
    roster: Roster,
    /// The member that comes next.
    next: usize,
    range: TimeRange,
    min_ms: TimestampMs,
    max_ms: TimestampMs,
}

impl RangeBlock {
    /// Adds members until enough waits to be sent.
    fn fill(&mut self, heads: &Heads, head: &Head) -> Result<()> {
        let range = self.range;
        let shards = head.shards();
        let mut labels = Vec::new();
        let end = self.roster.members.len().min(self.next + FILL_SERIES);
        while self.next < end && !self.writer.wants_flush() {
            let member = self.roster.members[self.next];
            self.next += 1;
            let (shard, slot) = locate(member.id);
            let mine = |c: &&HeadChunk| c.state == ChunkState::FLUSHING && range.contains(c.min_ms);
            let marked: (Vec<HeadChunk>, Vec<HeadChunk>) = match shards[shard].lock().get(slot) {
                Some(Some(series)) => {
                    let late = series.late_finished().iter().filter(mine);
                    let in_order = series.finished().iter().filter(mine);
                    (in_order.cloned().collect(), late.cloned().collect())
                }
                _ => continue,
            };
            let chunks = heads.chunks_to_write(head, member.id, marked, range)?;
            let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
                continue;
            };
            self.min_ms = self.min_ms.min(first.min_ms);
            self.max_ms = self.max_ms.max(last.max_ms);
            let ordinals = member.start as usize..(member.start + member.len) as usize;
            labels.clear();
            let pairs = self.roster.ordinals[ordinals].chunks_exact(2);
            labels.extend(pairs.map(|p| (p[0], p[1])));
            let chunks: Vec<_> = chunks.iter().map(Chunk::borrowed).collect();
            self.writer.add_series(&labels, &chunks)?;
        }
        Ok(())
    }
}

impl Head {
    /// Marks what a flush is to write. Gives the starts of the ranges it lies in, ascending.
    fn begin_flush(&self, scope: FlushScope, range_ms: i64) -> Vec<TimestampMs> {
        let before_ms = match scope {
            FlushScope::All => TimestampMs::MAX,
            FlushScope::Complete => match self.held_range() {
                Some((min, max)) if max.since(min) > range_ms / 2 * 3 => {
                    cut::range_end(min, range_ms)
                }
                _ => return Vec::new(),
            },
        };
        if scope == FlushScope::Complete {
            self.raise_min_valid_ms(before_ms);
        }
        self.mark_for_flush(before_ms, range_ms)
    }

    /// Finishes what lies before `before_ms` and marks it. Gives the starts of the ranges it lies in, ascending.
    fn mark_for_flush(&self, before_ms: TimestampMs, range_ms: i64) -> Vec<TimestampMs> {
        let mut starts = std::collections::BTreeSet::new();
        for shard in self.shards().iter() {
            for series in shard.lock().iter_mut().flatten() {
                series.mark_for_flush(before_ms, &mut |min_ms| {
                    starts.insert(cut::range_end(min_ms, range_ms).saturating_sub(range_ms));
                });
            }
        }
        starts.into_iter().collect()
    }

    /// The series with marked chunks in `range`, in index order.
    fn roster(&self, range: TimeRange) -> Roster {
        let index = self.index.read();
        let mut roster = Roster::default();
        let mut ordinal_of = vec![u32::MAX; index.symbols().len()];
        let mut pairs: Vec<SymbolId> = Vec::new();
        for (n, shard) in self.shards().iter().enumerate() {
            for (slot, series) in shard.lock().iter().enumerate() {
                let Some(series) = series else { continue };
                let all = series.finished().iter().chain(series.late_finished());
                let marked =
                    all.filter(|c| c.state == ChunkState::FLUSHING && range.contains(c.min_ms));
                let bytes: u64 = marked.map(|c| c.bytes.len() as u64).sum();
                // A chunk has a byte at least.
                if bytes == 0 {
                    continue;
                }
                roster.chunk_bytes += bytes;
                let start = pairs.len() as u32;
                pairs.extend_from_slice(&series.labels);
                series
                    .labels
                    .iter()
                    .for_each(|s| ordinal_of[*s as usize] = 0);
                let id = (n * SHARD_LEN + slot) as SeriesId;
                roster.members.push(Member {
                    id,
                    start,
                    len: series.labels.len() as u32,
                });
            }
        }
        let mut used: Vec<(&str, SymbolId)> = Vec::new();
        for (symbol, ordinal) in ordinal_of.iter().enumerate() {
            if *ordinal == 0 {
                used.push((
                    index.symbols().resolve(symbol as SymbolId),
                    symbol as SymbolId,
                ));
            }
        }
        used.sort_unstable();
        // Every writer of the field puts the empty string first.
        roster.symbols.push(String::new());
        for (text, symbol) in used {
            ordinal_of[symbol as usize] = roster.symbols.len() as u32;
            roster.symbols.push(text.to_owned());
        }
        roster.ordinals = pairs.iter().map(|s| ordinal_of[*s as usize]).collect();
        let Roster {
            members, ordinals, ..
        } = &mut roster;
        // Ordinals are in byte order of their strings, so that comparing them compares label sets.
        let of = |m: &Member| &ordinals[m.start as usize..(m.start + m.len) as usize];
        members.sort_unstable_by(|a, b| of(a).cmp(of(b)));
        roster
    }
}
