//! Reading the head.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::exec::{CancelOnDrop, CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId, TextSet, TimeRange};
use lgtm_core::postings::SeriesId;
use lgtm_core::{Error, Result};

use super::generation::Snapshot;
use super::head::Head;
use super::heads::Heads;
use super::series::locate;
use super::shard::Shard;
use crate::select::{
    ChunkList, FetchBounds, FetchStats, Listed, ReadyBatches, Select, SelectEnd, SelectRequest,
    SeriesBatches, SeriesChunk, SeriesChunks,
};

/// Series per batch at most. A query has several batches under way, of some 300 bytes a series beside the chunks.
const BATCH_SERIES: usize = 512;
/// Bytes of chunks after which a batch ends.
const BATCH_BYTES: u64 = 256 << 10;
/// So few series are read where they are asked for: handing them over would take longer.
const FEW_SERIES: usize = 64;

impl Head {
    /// Whether some sample may lie in `range`: names and values are told for the head as a whole.
    fn holds(&self, range: TimeRange) -> bool {
        self.max_ms().is_some_and(|newest| newest >= range.min_ms)
    }
}

/// The head's answer to a select: series were chosen when it was asked, chunks are read batch by batch, as they were then.
#[derive(Debug)]
struct HeadSeries {
    heads: Arc<Heads>,
    head: Arc<Head>,
    /// Keeps what a flush moves meanwhile, and the ids what they are.
    snapshot: Snapshot,
    shards: Arc<Vec<Arc<Shard>>>,
    range: TimeRange,
    series: std::vec::IntoIter<(Labels, SeriesId)>,
    end: SelectEnd,
}

impl HeadSeries {
    /// What a series holds in the range. The bytes are read outside the shard's lock. A chunk that cannot be read is left out, with
    /// a warning.
    fn chunks(&mut self, labels: &Labels, id: SeriesId) -> ChunkList {
        let range = self.range;
        let inside = |min: i64, max: i64| min < range.max_ms && max >= range.min_ms;
        let (shard, slot) = locate(id);
        let (kept, open) = match self.shards[shard].lock().get(slot) {
            Some(Some(series)) => {
                let mut kept = series.late_chunks();
                kept.extend_from_slice(series.finished());
                kept.retain(|c| inside(c.min_ms, c.max_ms) && self.snapshot.sees(c.state));
                (
                    kept,
                    series.open_chunk().filter(|c| inside(c.min_ms, c.max_ms)),
                )
            }
            _ => return ChunkList::new(),
        };
        let mut out = ChunkList::with_capacity(kept.len() + 1);
        for c in kept {
            match self.heads.read_chunk(&self.head, id, &c) {
                Some(data) => out.push(SeriesChunk {
                    min_ms: c.min_ms,
                    max_ms: c.max_ms,
                    encoding: c.encoding,
                    data,
                }),
                None => self.end.merge(SelectEnd {
                    warnings: vec![format!(
                        "samples of {labels} from {} to {} are missing: a damaged chunk of the head was set aside",
                        c.min_ms, c.max_ms
                    )],
                    ..SelectEnd::default()
                }),
            }
        }
        if let Some(c) = open {
            out.push(SeriesChunk {
                min_ms: c.min_ms,
                max_ms: c.max_ms,
                encoding: c.encoding,
                data: c.data.into(),
            });
        }
        out
    }

    fn read_batch(&mut self) -> Option<Vec<SeriesChunks>> {
        if self.series.len() == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(self.series.len().min(BATCH_SERIES));
        let mut bytes = 0;
        while out.len() < BATCH_SERIES
            && bytes < BATCH_BYTES
            && let Some((labels, id)) = self.series.next()
        {
            let chunks = self.chunks(&labels, id);
            if !chunks.is_empty() {
                bytes += chunks.iter().map(|c| c.data.len() as u64).sum::<u64>();
                out.push(SeriesChunks { labels, chunks });
            }
        }
        self.end.stats = self.end.stats.plus(FetchStats::of(&out));
        Some(out)
    }
}

/// Hands out [`HeadSeries`], reading on the compute pool what is more than a few series.
#[derive(Debug)]
struct HeadBatches {
    /// `None` after a failure.
    series: Option<HeadSeries>,
    bounds: FetchBounds,
    executor: Executor,
    cancel: CancelToken,
    _stops: CancelOnDrop,
}

#[async_trait]
impl SeriesBatches for HeadBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let Some(mut series) = self.series.take() else {
            return Ok(None);
        };
        let (series, batch) = if series.series.len() <= FEW_SERIES {
            let batch = series.read_batch();
            (series, batch)
        } else {
            let job = move |_: &CancelToken| {
                let batch = series.read_batch();
                Ok::<_, Error>((series, batch))
            };
            self.executor.run(job, &self.cancel).await?
        };
        self.bounds.check(&series.end.stats)?;
        self.series = Some(series);
        Ok(batch)
    }

    fn end(&mut self) -> SelectEnd {
        let end = self.series.as_mut().map(|s| std::mem::take(&mut s.end));
        end.unwrap_or_default()
    }
}

/// The heads as a holder of metrics.
#[derive(Debug, Clone)]
pub(crate) struct HeadSelect {
    heads: Arc<Heads>,
    executor: Executor,
}

impl HeadSelect {
    /// Asks `heads`, and does on `executor` what takes long.
    pub(crate) fn new(heads: Arc<Heads>, executor: Executor) -> Self {
        Self { heads, executor }
    }

    /// Runs `ask` on a tenant's head as it is now: here if it looks at few series, else on the compute pool. Dropping the future
    /// stops it.
    async fn ask<T: Default + Send + 'static>(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        ask: impl FnOnce(&Arc<Head>, &SelectRequest, Snapshot, &CancelToken) -> Result<T>
        + Send
        + 'static,
    ) -> Result<T> {
        self.heads.check_readable()?;
        // Before anything else: what a flush moves from here on stays.
        let snapshot = self.heads.parts.generations.enter();
        let Some(head) = self.heads.get(tenant) else {
            return Ok(T::default());
        };
        let cancel = CancelToken::new();
        if head.is_quick(request) {
            return ask(&head, request, snapshot, &cancel);
        }
        let request = request.clone();
        let job = move |cancel: &CancelToken| ask(&head, &request, snapshot, cancel);
        let executor = self.executor.in_line(tenant.as_str());
        executor.run(job, &cancel).await
    }
}

#[async_trait]
impl Select for HeadSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let heads = Arc::clone(&self.heads);
        let series = self.ask(tenant, request, move |head, request, snapshot, cancel| {
            let series = head.matching(request, &snapshot, cancel)?;
            request.bounds.check(&FetchStats {
                series: series.len() as u64,
                ..FetchStats::default()
            })?;
            Ok(Some(HeadSeries {
                heads,
                head: Arc::clone(head),
                snapshot,
                shards: head.shards(),
                range: request.range,
                series: series.into_iter(),
                end: SelectEnd::default(),
            }))
        });
        let Some(series) = series.await? else {
            return Ok(Box::<ReadyBatches>::default());
        };
        let cancel = CancelToken::new();
        Ok(Box::new(HeadBatches {
            series: Some(series),
            bounds: request.bounds,
            executor: self.executor.in_line(tenant.as_str()),
            _stops: cancel.cancel_on_drop(),
            cancel,
        }))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let series = self.ask(tenant, request, |head, request, snapshot, cancel| {
            let series = head.matching(request, &snapshot, cancel)?;
            Ok(series.into_iter().map(|(labels, _)| labels).collect())
        });
        Ok(Listed::first(series.await?, request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let names = self.ask(tenant, request, |head, request, snapshot, cancel| {
            if request.takes_all() && !head.holds(request.range) {
                return Ok(TextSet::new());
            }
            head.names_of(request, &snapshot, cancel)
        });
        Ok(Listed::first(names.await?, request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let name = name.to_owned();
        let values = self.ask(tenant, request, move |head, request, snapshot, cancel| {
            if request.takes_all() && !head.holds(request.range) {
                return Ok(TextSet::new());
            }
            head.values_of(&name, request, &snapshot, cancel)
        });
        Ok(Listed::first(values.await?, request.limit))
    }
}
