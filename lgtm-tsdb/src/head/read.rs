//! Reading the head.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{LabelArena, Labels, Matcher, TenantId, TextSet, TimeRange};

use super::head::Head;
use super::heads::Heads;
use super::postings::SeriesId;
use super::series::{HeadChunk, locate};
use crate::select::{
    ChunkList, Select, SelectRequest, SeriesBatches, SeriesChunk, SeriesChunks, SeriesShard,
};

/// Series per batch: a few hundred kilobytes of chunks.
const BATCH: usize = 512;

impl Head {
    /// The series that match and hold samples in `range`, in label order.
    fn matching(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        part: Option<SeriesShard>,
    ) -> Vec<(Labels, SeriesId)> {
        let index = self.index.read();
        let mut out = Vec::new();
        let mut arena = LabelArena::default();
        let shards = self.shards();
        for id in index.select(matchers) {
            let (shard, slot) = locate(id);
            let Some(shard) = shards.get(shard) else {
                continue;
            };
            if let Some(Some(series)) = shard.lock().get(slot)
                && series
                    .held_range()
                    .is_some_and(|(min, max)| min < range.max_ms && max >= range.min_ms)
            {
                let labels = index.labels(&series.labels, &mut arena);
                if part.is_none_or(|p| p.contains(&labels)) {
                    out.push((labels, id));
                }
            }
        }
        drop(index);
        out.sort_unstable();
        out
    }

    /// Whether some sample may lie in `range`: names and values are told for the head as a whole.
    fn holds(&self, range: TimeRange) -> bool {
        self.max_ms().is_some_and(|newest| newest >= range.min_ms)
    }
}

/// The head's answer to a select: series were chosen when it was asked, chunks are read batch by batch.
#[derive(Debug)]
struct HeadBatches {
    heads: Arc<Heads>,
    head: Arc<Head>,
    request: SelectRequest,
    series: std::vec::IntoIter<(Labels, SeriesId)>,
}

impl HeadBatches {
    /// What a series holds in the range. The bytes are read outside the shard's lock.
    fn chunks(&self, id: SeriesId) -> Result<ChunkList> {
        let range = self.request.range;
        let inside = |min: i64, max: i64| min < range.max_ms && max >= range.min_ms;
        let (shard, slot) = locate(id);
        let shards = self.head.shards();
        let (kept, open) = match shards[shard].lock().get(slot) {
            Some(Some(series)) => {
                let mut kept: Vec<HeadChunk> = series.finished().to_vec();
                kept.extend(series.late_chunks());
                kept.retain(|c| inside(c.min_ms, c.max_ms));
                (
                    kept,
                    series.open_chunk().filter(|c| inside(c.min_ms, c.max_ms)),
                )
            }
            _ => return Ok(ChunkList::new()),
        };
        let mut out = ChunkList::with_capacity(kept.len() + 1);
        for c in kept {
            let data = self.heads.chunk_bytes(&c)?;
            out.push(SeriesChunk {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                encoding: c.encoding,
                data,
            });
        }
        if let Some(c) = open {
            out.push(SeriesChunk {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                encoding: c.encoding,
                data: c.data.into(),
            });
        }
        Ok(out)
    }

    fn read_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let mut out = Vec::new();
        for (labels, id) in self.series.by_ref().take(BATCH).collect::<Vec<_>>() {
            let chunks = self.chunks(id)?;
            if chunks.is_empty() {
                continue;
            }
            let bytes: usize = chunks.iter().map(|c| c.data.len()).sum();
            self.request
                .budget
                .spend(0, chunks.len() as u64, bytes as u64)?;
            out.push(SeriesChunks { labels, chunks });
        }
        Ok((!out.is_empty() || self.series.len() > 0).then_some(out))
    }
}

#[async_trait]
impl SeriesBatches for HeadBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        // A batch is half a millisecond of copying; a pause between batches lets others run.
        tokio::task::yield_now().await;
        self.read_batch()
    }
}

/// The heads as a holder of metrics.
#[derive(Debug, Clone)]
pub(crate) struct HeadSelect(pub(crate) Arc<Heads>);

impl HeadSelect {
    fn matching(&self, tenant: &TenantId, request: &SelectRequest) -> Vec<Labels> {
        let head = self.0.get(tenant);
        head.map_or_else(Vec::new, |h| {
            h.matching(&request.matchers, request.range, request.shard)
                .into_iter()
                .map(|(l, _)| l)
                .collect()
        })
    }
}

#[async_trait]
impl Select for HeadSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let Some(head) = self.0.get(tenant) else {
            return Ok(Box::<crate::select::ReadyBatches>::default());
        };
        let series = head.matching(&request.matchers, request.range, request.shard);
        request.budget.spend(series.len() as u64, 0, 0)?;
        let heads = Arc::clone(&self.0);
        Ok(Box::new(HeadBatches {
            heads,
            head,
            request: request.clone(),
            series: series.into_iter(),
        }))
    }

    async fn series(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>> {
        Ok(self.matching(tenant, request))
    }

    async fn label_names(&self, tenant: &TenantId, request: &SelectRequest) -> Result<TextSet> {
        let Some(head) = self.0.get(tenant) else {
            return Ok(TextSet::new());
        };
        if request.takes_all() {
            if !head.holds(request.range) {
                return Ok(TextSet::new());
            }
            return Ok(head.index.read().names().collect());
        }
        let series = self.matching(tenant, request);
        Ok(series
            .iter()
            .flat_map(|l| l.iter().map(|(n, _)| n))
            .collect())
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<TextSet> {
        let Some(head) = self.0.get(tenant) else {
            return Ok(TextSet::new());
        };
        if request.takes_all() {
            if !head.holds(request.range) {
                return Ok(TextSet::new());
            }
            let index = head.index.read();
            // The index keeps them in no order; a set is quickest made of what is in order.
            let mut values: Vec<&str> = index.values(name).map(|(v, _)| v).collect();
            values.sort_unstable();
            return Ok(values.into_iter().collect());
        }
        let series = self.matching(tenant, request);
        Ok(series.iter().filter_map(|l| l.get(name)).collect())
    }
}

/// Counts over one head, for status pages.
#[derive(Debug, Clone, Default)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Distinct (name, value) pairs.
    pub label_pairs: u64,
    /// Chunks, in memory and in the chunk files.
    pub chunks: u64,
    /// Time of the oldest sample held, milliseconds.
    pub min_ms: Option<i64>,
    /// Time of the newest sample held, milliseconds.
    pub max_ms: Option<i64>,
    /// Series by metric name, most first.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values by label name, most first.
    pub values_by_name: Vec<(String, u64)>,
    /// Bytes of all values by label name, most first.
    pub bytes_by_name: Vec<(String, u64)>,
    /// Series by (name, value) pair, most first.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Heads {
    /// Counts over a tenant's head; the lists have at most `limit` entries.
    pub(crate) fn stats(&self, tenant: &TenantId, limit: usize) -> HeadStats {
        let Some(head) = self.get(tenant) else {
            return HeadStats::default();
        };
        let held = head.held_range();
        let chunks = head.chunk_count() as u64;
        let index = head.index.read();
        let mut stats = HeadStats {
            series: index.series_count() as u64,
            label_pairs: index.pair_count() as u64,
            chunks,
            min_ms: held.map(|h| h.0),
            max_ms: held.map(|h| h.1),
            ..HeadStats::default()
        };
        for name in index.names() {
            let (mut values, mut bytes) = (0, 0);
            for (value, series) in index.values(name) {
                values += 1;
                bytes += (value.len() * series) as u64;
                if name == lgtm_core::model::METRIC_NAME {
                    stats
                        .series_by_metric
                        .push((value.to_owned(), series as u64));
                }
                stats
                    .series_by_pair
                    .push((format!("{name}={value}"), series as u64));
            }
            stats.values_by_name.push((name.to_owned(), values));
            stats.bytes_by_name.push((name.to_owned(), bytes));
        }
        let lists = [
            &mut stats.series_by_metric,
            &mut stats.values_by_name,
            &mut stats.bytes_by_name,
            &mut stats.series_by_pair,
        ];
        for list in lists {
            list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            list.truncate(limit);
        }
        stats
    }
}
