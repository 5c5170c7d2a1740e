//! Answers out of many blocks.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use lgtm_core::Result;
use lgtm_core::index::{MatchedSeries, matching_series};
use lgtm_core::model::{Labels, Matcher, TenantId, TextSet};

use super::block_entry::BlockEntry;
use super::block_select::BlockBatches;
use super::blocks::BucketBlocks;
use super::known_postings::KnownPostings;
use super::open_blocks::{OpenBlocks, is_of_the_block};
use crate::block::BlockReader;
use crate::select::{
    Listed, MergedSeries, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks,
};

/// Blocks that one query reads in batches of full size.
const FULL_BATCH_BLOCKS: usize = 8;

/// The label sets of a block that match and have data in the range, in order.
async fn labels_of(
    reader: &BlockReader,
    matched: MatchedSeries,
    request: &SelectRequest,
    batch_series: usize,
) -> Result<Vec<Labels>> {
    let index = reader.index();
    let range = request.range;
    let (mut out, mut bytes) = (Vec::new(), 0);
    for batch in matched.refs.chunks(batch_series) {
        // A batch is a millisecond or two of decoding; others run between two.
        tokio::task::yield_now().await;
        let entries = index.series_entries(batch).await?;
        let mut labels = index.labels_of(&entries).await?;
        for entry in entries.iter() {
            let mut chunks = entry.chunks.iter();
            if chunks.any(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms) {
                let labels = labels.of(&entry)?;
                if matched.takes(&labels) && request.takes(&labels) {
                    bytes += labels.size_bytes() as u64;
                    out.push(labels);
                    request.bounds.check_list(bytes)?;
                }
            }
        }
    }
    Ok(out)
}

impl BucketBlocks {
    /// Asks every block that a list needs, one after the other.
    async fn list<T: Default + Send + 'static>(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        asked: impl Fn(Arc<BlockReader>) -> futures::future::BoxFuture<'static, Result<T>>,
        join: impl Fn(&mut T, T),
    ) -> Result<Listed<T>> {
        let late = self.list_after(tenant, &request.departed).await;
        let found = self.overlapping(tenant, request);
        let mut all = Listed::default();
        all.warn(late.into_iter().chain(found.warnings).collect());
        for entry in found.blocks {
            match self.blocks.ask(&entry, &asked).await? {
                Ok(part) => join(&mut all.items, part),
                Err(warning) => all.warn(vec![warning]),
            }
        }
        Ok(all)
    }

    async fn all_series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let batch_series = self.settings.batch_series.max(1);
        let (wanted, known) = (request.clone(), self.known_of(tenant));
        let asked = move |reader: Arc<BlockReader>| {
            let (wanted, known) = (wanted.clone(), known.clone());
            async move {
                let matched = known.matching(&reader, &wanted.matchers).await?;
                labels_of(&reader, matched, &wanted, batch_series).await
            }
            .boxed()
        };
        let bounds = request.bounds;
        let all = self
            .list(tenant, request, asked, |all, part| {
                *all = merge_labels(std::mem::take(all), part);
            })
            .await?;
        let bytes = all.items.iter().map(|l| l.size_bytes() as u64).sum();
        bounds.check_list(bytes)?;
        Ok(all)
    }
}

/// What is known of the series of a tenant's blocks.
#[derive(Debug, Clone)]
struct KnownOf {
    tenant: TenantId,
    postings: Option<KnownPostings>,
}

impl KnownOf {
    async fn matching(&self, reader: &BlockReader, matchers: &[Matcher]) -> Result<MatchedSeries> {
        match &self.postings {
            Some(known) => known.matching(&self.tenant, reader, matchers).await,
            None => matching_series(reader.index(), matchers).await,
        }
    }
}

impl BucketBlocks {
    fn known_of(&self, tenant: &TenantId) -> KnownOf {
        KnownOf {
            tenant: tenant.clone(),
            postings: self.postings.clone(),
        }
    }
}

/// Both sorted lists as one, each label set once.
pub(crate) fn merge_labels(a: Vec<Labels>, b: Vec<Labels>) -> Vec<Labels> {
    if a.is_empty() {
        return b;
    }
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.cmp(y),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return out,
        };
        if order.is_eq() {
            b.next();
        }
        out.extend(if order.is_gt() { b.next() } else { a.next() });
    }
}

/// The series of one block. A batch that is damaged is read once more past all caches; if it stays so the block is set aside and its
/// part of the answer ends, with a warning. The series handed out so far are whole.
#[derive(Debug)]
struct BlockAnswer {
    blocks: Arc<OpenBlocks>,
    entry: Arc<BlockEntry>,
    /// `None` once the block was set aside.
    batches: Option<BlockBatches>,
    end: SelectEnd,
}

impl BlockAnswer {
    async fn read_again(
        &mut self,
        batches: &mut BlockBatches,
    ) -> Result<Option<Vec<SeriesChunks>>> {
        self.entry.reread(self.blocks.now_ms()).await;
        batches.reopened(self.blocks.reader(&self.entry).await?);
        batches.next_batch().await
    }
}

#[async_trait]
impl SeriesBatches for BlockAnswer {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let Some(mut batches) = self.batches.take() else {
            return Ok(None);
        };
        let mut batch = batches.next_batch().await;
        if batch.as_ref().is_err_and(is_of_the_block) {
            batch = self.read_again(&mut batches).await;
        }
        match batch {
            Ok(Some(batch)) => {
                self.batches = Some(batches);
                Ok(Some(batch))
            }
            Ok(None) => {
                self.end.merge(SelectEnd {
                    stats: batches.stats(),
                    blocks: vec![self.entry.block.id],
                    ..SelectEnd::default()
                });
                Ok(None)
            }
            Err(e) if is_of_the_block(&e) => {
                self.end.merge(SelectEnd {
                    warnings: vec![self.blocks.set_aside(&self.entry, &e)],
                    stats: batches.stats(),
                    ..SelectEnd::default()
                });
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}

#[async_trait]
impl Select for BucketBlocks {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let late = self.list_after(tenant, &request.departed).await;
        let found = self.overlapping(tenant, request);
        let mut end = SelectEnd {
            warnings: late.into_iter().chain(found.warnings).collect(),
            ..SelectEnd::default()
        };
        let mut answers: Vec<Box<dyn SeriesBatches>> = Vec::new();
        let batch_series = self.settings.batch_series * FULL_BATCH_BLOCKS
            / found.blocks.len().max(FULL_BATCH_BLOCKS);
        for entry in found.blocks {
            let (request, known) = (request.clone(), self.known_of(tenant));
            let asked = move |reader: Arc<BlockReader>| {
                let (request, known) = (request.clone(), known.clone());
                async move {
                    let matched = known.matching(&reader, &request.matchers).await?;
                    let batches = BlockBatches::new(reader, matched, request, batch_series.max(1));
                    batches.check_bounds()?;
                    Ok(batches)
                }
                .boxed()
            };
            match self.blocks.ask(&entry, asked).await? {
                Ok(batches) => answers.push(Box::new(BlockAnswer {
                    blocks: Arc::clone(&self.blocks),
                    entry,
                    batches: Some(batches),
                    end: SelectEnd::default(),
                })),
                Err(warning) => end.merge(SelectEnd {
                    warnings: vec![warning],
                    ..SelectEnd::default()
                }),
            }
        }
        let merged = MergedSeries::new(answers, self.settings.batch_series);
        Ok(Box::new(merged.ending_with(end)))
    }

    fn may_hold(&self, tenant: &TenantId, request: &SelectRequest) -> bool {
        if !self.is_listed_after(tenant, &request.departed) {
            return true;
        }
        let found = self.overlapping(tenant, request);
        !found.blocks.is_empty() || !found.warnings.is_empty()
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let all = self.all_series(tenant, request).await?;
        Ok(all.cut(request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        if !request.takes_all() {
            let series = self.all_series(tenant, request).await?;
            let names = |all: Vec<Labels>| -> TextSet {
                let names = all.iter().flat_map(|l| l.iter().map(|(n, _)| n));
                names.collect()
            };
            return Ok(series.map(names).cut(request.limit));
        }
        let asked = |reader: Arc<BlockReader>| {
            async move { Ok(reader.index().label_names().collect::<TextSet>()) }.boxed()
        };
        let all = self.list(tenant, request, asked, TextSet::unite).await?;
        Ok(all.cut(request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        if !request.takes_all() {
            let series = self.all_series(tenant, request).await?;
            let values = |all: Vec<Labels>| -> TextSet {
                let values = all.iter().filter_map(|l| l.get(name));
                values.collect()
            };
            return Ok(series.map(values).cut(request.limit));
        }
        let name: Arc<str> = name.into();
        let asked = move |reader: Arc<BlockReader>| {
            let name = Arc::clone(&name);
            async move { reader.index().label_values(&name).await }.boxed()
        };
        let all = self.list(tenant, request, asked, TextSet::unite).await?;
        Ok(all.cut(request.limit))
    }
}
