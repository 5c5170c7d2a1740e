//! A holder of logs in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet, TimestampNs};
use lgtm_core::{Error, Result};
use parking_lot::RwLock;

use super::end::{FetchStats, SelectEnd};
use super::request::{SelectOrder, SelectRequest};
use super::select::{EntryBatch, EntryBatches, ReadyBatches, Select, StreamBlock};
use crate::entry::{EntryBlock, disjoint, distinct};

/// Blocks that go into one batch.
const BATCH_BLOCKS: usize = 16;

/// All entries of all tenants in memory: small, complete, the reference that other holders are tested against.
///
/// Hints are not used, so that nothing but the request decides what an answer holds.
#[derive(Debug, Default)]
pub struct MemorySelect {
    tenants: RwLock<BTreeMap<TenantId, BTreeMap<Labels, Vec<EntryBlock>>>>,
}

impl MemorySelect {
    /// Adds entries to a stream. Entries that it has already are left out.
    ///
    /// # Errors
    /// `LimitExceeded` when overlapping blocks have more than 4 GiB of lines.
    pub fn push(&self, tenant: &TenantId, labels: &Labels, block: EntryBlock) -> Result<()> {
        let too_long = |e: lgtm_core::DecodeError| Error::LimitExceeded(e.to_string());
        let (block, _) = distinct(&block).map_err(too_long)?;
        let mut tenants = self.tenants.write();
        let streams = tenants.entry(tenant.clone()).or_default();
        let blocks = streams.entry(labels.clone()).or_default();
        blocks.push(block);
        let made = disjoint(std::mem::take(blocks));
        *blocks = made.map_err(too_long)?.blocks;
        Ok(())
    }

    /// The blocks asked for, stream by stream, and what they hold.
    fn found(&self, tenant: &TenantId, request: &SelectRequest) -> (Vec<StreamBlock>, FetchStats) {
        let tenants = self.tenants.read();
        let (mut blocks, mut stats) = (Vec::new(), FetchStats::default());
        for (labels, all) in tenants.get(tenant).into_iter().flatten() {
            if !request.takes(labels) {
                continue;
            }
            let before = blocks.len();
            let range = request.range_of(labels);
            for block in all.iter().map(|b| b.between(range.min_ns, range.max_ns)) {
                if block.is_empty() {
                    continue;
                }
                let metadata = block.metadata_bytes();
                stats.head_lines += block.len() as u64;
                stats.head_bytes += block.line_bytes() + metadata;
                stats.head_metadata_bytes += metadata;
                blocks.push(StreamBlock {
                    labels: labels.clone(),
                    block,
                });
            }
            stats.streams += u64::from(blocks.len() > before);
        }
        (blocks, stats)
    }

    fn labels(&self, tenant: &TenantId, request: &SelectRequest) -> Vec<Labels> {
        let mut labels: Vec<Labels> = self
            .found(tenant, request)
            .0
            .into_iter()
            .map(|b| b.labels)
            .collect();
        labels.dedup();
        labels
    }
}

fn min_ns(b: &StreamBlock) -> TimestampNs {
    b.block.min_ns().unwrap_or(TimestampNs::MAX)
}

fn max_ns(b: &StreamBlock) -> TimestampNs {
    b.block.max_ns().unwrap_or(TimestampNs::MIN)
}

/// Batches in the order asked for.
fn batches(mut blocks: Vec<StreamBlock>, order: SelectOrder) -> Vec<EntryBatch> {
    match order {
        SelectOrder::Streams => {}
        SelectOrder::OldestFirst => blocks.sort_by_key(min_ns),
        SelectOrder::NewestFirst => blocks.sort_by_key(|b| std::cmp::Reverse(max_ns(b))),
    }
    let mut out = Vec::new();
    while !blocks.is_empty() {
        let rest = blocks.split_off(blocks.len().min(BATCH_BLOCKS));
        let horizon_ns = match order {
            SelectOrder::Streams => TimestampNs::EPOCH,
            SelectOrder::OldestFirst => rest.first().map_or(TimestampNs::MAX, min_ns),
            SelectOrder::NewestFirst => rest
                .first()
                .map_or(TimestampNs::MIN, |b| max_ns(b).saturating_add(1)),
        };
        out.push(EntryBatch {
            blocks: std::mem::replace(&mut blocks, rest),
            horizon_ns,
        });
    }
    out
}

#[async_trait]
impl Select for MemorySelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let (blocks, stats) = self.found(tenant, request);
        request.bounds.check(&stats)?;
        let end = SelectEnd {
            warnings: Vec::new(),
            stats,
        };
        let batches = batches(blocks, request.order);
        Ok(Box::new(ReadyBatches::new(batches, end)))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        Ok(Listed::first(self.labels(tenant, request), request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let labels = self.labels(tenant, request);
        let names = labels.iter().flat_map(|l| l.iter().map(|(name, _)| name));
        Ok(Listed::first(TextSet::from_iter(names), request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let labels = self.labels(tenant, request);
        let values = labels.iter().filter_map(|l| l.get(name));
        Ok(Listed::first(TextSet::from_iter(values), request.limit))
    }
}
