//! What of a tenant's entries is to be seen.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, MatchOp, Matcher, TenantId, TextSet, TimeRangeNs, merge_warnings};

use super::delete_requests::{DeleteRequests, KnownDelete};
use super::holders::Holders;
use crate::entry::EntryBlock;
use crate::limits::{DeletionMode, Horizons, Limits};
use crate::select::{
    CountWish, EntryBatch, EntryBatches, Listed, Select, SelectEnd, SelectRequest, StreamBlock,
    StreamCounts,
};

/// Holders whose answers lack what its tenant shall not see any more: what is older than it is kept, and what is to be deleted.
///
/// What is to be deleted is taken out of entries; lists of streams and labels, and volumes, go by the index, and have it until the compactor has
/// written its chunks anew, as in Loki (`docs/format/delete_request.md`).
#[derive(Debug)]
pub(super) struct VisibleEntries {
    holders: Holders,
    limits: Overrides<Limits>,
    deletes: Option<Arc<DeleteRequests>>,
    executor: Executor,
    clock: Arc<dyn Clock>,
}

impl VisibleEntries {
    pub(super) fn new(
        holders: Holders,
        limits: Overrides<Limits>,
        deletes: Option<Arc<DeleteRequests>>,
        executor: Executor,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            holders,
            limits,
            deletes,
            executor,
            clock,
        }
    }

    /// The same request for what is kept at this time.
    pub(super) fn kept(&self, tenant: &TenantId, request: &SelectRequest) -> SelectRequest {
        let horizons = Horizons::of(&self.limits.for_tenant(tenant), self.clock.now_ms());
        let mut request = request.clone();
        if !horizons.is_none() {
            request.range.min_ns = request.range.min_ns.max(horizons.earliest());
            request.horizons = Some(Arc::new(horizons));
        }
        request
    }

    /// What hides entries of a request, and what is to be said of it.
    fn hiding(&self, tenant: &TenantId, request: &SelectRequest) -> Hiding {
        let Some(deletes) = &self.deletes else {
            return Hiding::default();
        };
        if self.limits.for_tenant(tenant).deletion_mode == DeletionMode::Disabled {
            return Hiding::default();
        }
        let mut requests = deletes.hiding(tenant, &request.range);
        requests.retain(|r| !are_disjoint(r.filter.matchers(), &request.matchers));
        let unknown = "the delete requests in the object store are not known yet, deleted entries may be shown";
        Hiding {
            requests,
            warning: (!deletes.is_listed()).then(|| unknown.to_owned()),
        }
    }

    /// What a holder is asked so that entries can be hidden from its answer.
    fn asked(&self, request: &SelectRequest, hiding: &Hiding) -> SelectRequest {
        let mut request = request.clone();
        let reads_metadata = hiding.requests.iter().any(|r| r.filter.reads_metadata());
        request.hints.without_metadata &= !reads_metadata;
        request
    }

    fn without_hidden(
        &self,
        tenant: &TenantId,
        hiding: Hiding,
        rest: Box<dyn EntryBatches>,
    ) -> Box<dyn EntryBatches> {
        if hiding.requests.is_empty() && hiding.warning.is_none() {
            return rest;
        }
        Box::new(WithoutHidden {
            rest,
            requests: hiding.requests.into(),
            warning: hiding.warning,
            executor: self.executor.in_line(tenant.as_str()),
            streams: HashMap::new(),
        })
    }
}

/// What hides entries from an answer.
#[derive(Debug, Default)]
struct Hiding {
    requests: Vec<KnownDelete>,
    warning: Option<String>,
}

/// Whether no stream can pass both lists, as far as equalities tell.
fn are_disjoint(a: &[Matcher], b: &[Matcher]) -> bool {
    let equal = |m: &&Matcher| m.op() == MatchOp::Equal;
    let refuses = |own: &Matcher, others: &[Matcher]| {
        let mut same = others.iter().filter(|m| m.name() == own.name());
        same.any(|m| !m.matches(own.value()))
    };
    a.iter().filter(equal).any(|m| refuses(m, b)) || b.iter().filter(equal).any(|m| refuses(m, a))
}

#[async_trait]
impl Select for VisibleEntries {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let request = self.kept(tenant, request);
        let hiding = self.hiding(tenant, &request);
        let request = self.asked(&request, &hiding);
        let rest = self.holders.select(tenant, &request).await?;
        Ok(self.without_hidden(tenant, hiding, rest))
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        let request = self.kept(tenant, request);
        let hiding = self.hiding(tenant, &request);
        let request = self.asked(&request, &hiding);
        // Nobody has counted what is left without the hidden ones.
        let mut wish = wish.clone();
        let hidden = hiding.requests.iter().map(|r| r.request.range());
        wish.except.extend(hidden);
        let rest = self.holders.select_counted(tenant, &request, &wish).await?;
        Ok(self.without_hidden(tenant, hiding, rest))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let request = self.kept(tenant, request);
        self.holders.series(tenant, &request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let request = self.kept(tenant, request);
        self.holders.label_names(tenant, &request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let request = self.kept(tenant, request);
        self.holders.label_values(tenant, name, &request).await
    }
}

/// An answer without the entries that some requests name.
#[derive(Debug)]
struct WithoutHidden {
    rest: Box<dyn EntryBatches>,
    requests: Arc<[KnownDelete]>,
    warning: Option<String>,
    executor: Executor,
    /// Which of the requests mean a stream.
    streams: HashMap<Labels, Arc<[usize]>>,
}

impl WithoutHidden {
    fn meaning(&mut self, labels: &Labels) -> Arc<[usize]> {
        if let Some(known) = self.streams.get(labels) {
            return Arc::clone(known);
        }
        let all = self.requests.iter().enumerate();
        let meaning: Arc<[usize]> = all
            .filter(|(_, r)| r.filter.takes(labels))
            .map(|(n, _)| n)
            .collect();
        self.streams.insert(labels.clone(), Arc::clone(&meaning));
        meaning
    }
}

#[async_trait]
impl EntryBatches for WithoutHidden {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        let Some(mut batch) = self.rest.next_batch().await? else {
            return Ok(None);
        };
        let mut jobs = Vec::new();
        for (n, block) in batch.blocks.iter().enumerate() {
            let meaning = self.meaning(&block.labels);
            let times = (block.block.min_ns(), block.block.max_ns());
            let is_touched = |r: &usize| match times {
                (Some(min_ns), Some(max_ns)) => {
                    self.requests[*r].overlaps(&TimeRangeNs::new(min_ns, max_ns.saturating_add(1)))
                }
                _ => false,
            };
            if meaning.iter().any(is_touched) {
                jobs.push((n, meaning));
            }
        }
        if jobs.is_empty() {
            return Ok(Some(batch));
        }
        let requests = Arc::clone(&self.requests);
        let work = move |cancel: &CancelToken| {
            for (n, meaning) in jobs {
                let StreamBlock { labels, block } = &batch.blocks[n];
                let meaning = meaning.iter().map(|r| &requests[*r]);
                let left = left_of(labels, block, meaning, cancel)?;
                batch.blocks[n].block = left;
            }
            batch.blocks.retain(|b| !b.block.is_empty());
            Ok::<_, lgtm_core::Error>(batch)
        };
        let batch = self.executor.run(work, &CancelToken::new()).await?;
        Ok(Some(batch))
    }

    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        self.rest.next_counts().await
    }

    fn times(&self) -> Option<TimeRangeNs> {
        self.rest.times()
    }

    fn end(&mut self) -> SelectEnd {
        let mut end = self.rest.end();
        merge_warnings(&mut end.warnings, self.warning.iter().cloned().collect());
        end
    }
}

/// A block of a stream without the entries that some requests, which mean the stream, name.
///
/// # Errors
/// `Cancelled`.
pub(super) fn left_of<'r>(
    labels: &Labels,
    block: &EntryBlock,
    requests: impl Iterator<Item = &'r KnownDelete>,
    cancel: &CancelToken,
) -> Result<EntryBlock> {
    let mut is_gone = vec![false; block.len()];
    let mut any = false;
    for request in requests {
        let range = request.request.range();
        let times = block.times();
        let first = times.partition_point(|t| *t < range.min_ns);
        let behind = times.partition_point(|t| *t < range.max_ns).max(first);
        let part = block.slice(first..behind);
        let mut take = |n: usize| {
            is_gone[first + n] = true;
            any = true;
        };
        let passed = request.filter.each_passed(labels, &part, cancel, &mut take);
        passed.map_err(lgtm_core::Error::from)?;
    }
    Ok(match any {
        true => block.retained(|n| !is_gone[n]),
        false => block.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_disjoint_where_an_equality_tells_so() {
        let of = |text: &str| crate::logql::parse_selector(text).unwrap();
        for (a, b, are) in [
            (r#"{a="1"}"#, r#"{a="1"}"#, false),
            (r#"{a="1"}"#, r#"{a="2"}"#, true),
            (r#"{a="1"}"#, r#"{b="2"}"#, false),
            (r#"{a=~"1|2"}"#, r#"{a="2"}"#, false),
            (r#"{a=~"1|2"}"#, r#"{a="3"}"#, true),
            (r#"{a="1"}"#, r#"{b="2", a!="1"}"#, true),
            (r#"{a=~"1"}"#, r#"{a=~"2"}"#, false),
        ] {
            assert_eq!(are_disjoint(&of(a), &of(b)), are, "{a} {b}");
            assert_eq!(are_disjoint(&of(b), &of(a)), are, "{b} {a}");
        }
    }
}
