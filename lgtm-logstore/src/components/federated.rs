//! Asks holders for several tenants as for one.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{
    Labels, TENANT_LABEL, TenantId, TextSet, TimeRangeNs, federated_name, labels_with_tenant,
    tenants_asked, tenants_name,
};

use super::joined::merge_sorted;
use super::visible::VisibleEntries;
use crate::select::{
    CountWish, EntryBatch, EntryBatches, Listed, MergedEntries, Select, SelectEnd, SelectRequest,
    StreamCounts, StreamVolume,
};

/// Tenants of one request that are asked at the same time.
const CONCURRENCY: usize = 16;

/// Holders that understand [joined](TenantId::joined) tenants: each is asked for what its matchers on `__tenant_id__` leave, and what it brings
/// bears that label. A request of one tenant passes as it is.
///
/// What a holder may bring it may bring of each tenant, and what it reads ahead it reads ahead of each.
#[derive(Debug)]
pub(super) struct Federated {
    holders: Arc<VisibleEntries>,
}

/// What the tenants of a request are asked.
pub(super) struct TenantsAsked {
    pub(super) tenants: Vec<TenantId>,
    pub(super) request: SelectRequest,
}

impl TenantsAsked {
    pub(super) fn of(tenant: &TenantId, request: &SelectRequest) -> Self {
        let (tenants, matchers) = tenants_asked(tenant, &request.matchers);
        let mut request = request.clone();
        request.matchers = matchers;
        // Holders know no such label, and would leave out all that lacks it.
        let hints = &mut request.hints;
        for needles in [&mut hints.metadata_needles, &mut hints.field_needles] {
            needles.retain(|(name, _)| tenants_name(name) == Some(name));
        }
        Self { tenants, request }
    }

    /// Asks each tenant, some at a time; answers in the order of the tenants.
    pub(super) async fn ask_each<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a TenantId, &'a SelectRequest) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut out = Vec::with_capacity(self.tenants.len());
        for some in self.tenants.chunks(CONCURRENCY) {
            let asked = some.iter().map(|t| ask(t, &self.request));
            out.extend(futures::future::try_join_all(asked).await?);
        }
        Ok(out)
    }

    /// The answers as one.
    fn merged(&self, answers: Vec<Box<dyn EntryBatches>>) -> Box<dyn EntryBatches> {
        let named = self.tenants.iter().zip(answers);
        let named = named.map(|(tenant, rest)| {
            Box::new(TenantEntries {
                rest,
                tenant: tenant.clone(),
                seen: HashMap::new(),
            }) as _
        });
        Box::new(MergedEntries::new(named.collect(), self.request.order))
    }
}

impl Federated {
    pub(super) fn new(holders: Arc<VisibleEntries>) -> Self {
        Self { holders }
    }
}

/// Volumes of a tenant's streams, with the label.
pub(super) fn volumes_with_tenant(
    mut volumes: Vec<StreamVolume>,
    tenant: &TenantId,
) -> Result<Vec<StreamVolume>> {
    for volume in &mut volumes {
        volume.labels = labels_with_tenant(&volume.labels, tenant)?;
    }
    volumes.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(volumes)
}

#[async_trait]
impl Select for Federated {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        if !tenant.is_joined() {
            return self.holders.select(tenant, request).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let answers = asked.ask_each(|t, r| self.holders.select(t, r)).await?;
        Ok(asked.merged(answers))
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        if !tenant.is_joined() {
            return self.holders.select_counted(tenant, request, wish).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let answers = asked.ask_each(|t, r| self.holders.select_counted(t, r, wish));
        Ok(asked.merged(answers.await?))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        if !tenant.is_joined() {
            return self.holders.series(tenant, request).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let answers = asked.ask_each(|t, r| self.holders.series(t, r)).await?;
        let mut all = Listed::default();
        for (tenant, answer) in asked.tenants.iter().zip(answers) {
            let named = answer.items.iter().map(|l| labels_with_tenant(l, tenant));
            let mut named = named.collect::<Result<Vec<Labels>>>()?;
            named.sort();
            let join = |all: &mut _, part| merge_sorted(all, part, Labels::cmp, |_, _| ());
            all.merge(answer.map(|_| named), join);
        }
        Ok(all.cut(request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        if !tenant.is_joined() {
            return self.holders.label_names(tenant, request).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let answers = asked
            .ask_each(|t, r| self.holders.label_names(t, r))
            .await?;
        let mut all = Listed::<TextSet>::default();
        for answer in answers {
            let named = |names: TextSet| names.iter().map(federated_name).collect();
            all.merge(answer.map(named), TextSet::unite);
        }
        if !all.items.is_empty() {
            all.items.unite(TextSet::from_iter([TENANT_LABEL]));
        }
        Ok(all.cut(request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        if !tenant.is_joined() {
            return self.holders.label_values(tenant, name, request).await;
        }
        let asked = TenantsAsked::of(tenant, request);
        let Some(name) = tenants_name(name) else {
            let ids = asked.tenants.iter().map(TenantId::as_str);
            return Ok(Listed::first(ids.collect(), request.limit));
        };
        let answers = asked.ask_each(|t, r| self.holders.label_values(t, name, r));
        let mut all = Listed::default();
        for answer in answers.await? {
            all.merge(answer, TextSet::unite);
        }
        Ok(all.cut(request.limit))
    }
}

/// What one tenant has, with its name among the labels.
#[derive(Debug)]
struct TenantEntries {
    rest: Box<dyn EntryBatches>,
    tenant: TenantId,
    /// Labels that came already, with the name: blocks of one stream share the memory of theirs.
    seen: HashMap<Labels, Labels>,
}

impl TenantEntries {
    fn named(&mut self, labels: &Labels) -> Result<Labels> {
        if let Some(named) = self.seen.get(labels) {
            return Ok(named.clone());
        }
        let named = labels_with_tenant(labels, &self.tenant)?;
        self.seen.insert(labels.clone(), named.clone());
        Ok(named)
    }
}

#[async_trait]
impl EntryBatches for TenantEntries {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        let Some(mut batch) = self.rest.next_batch().await? else {
            return Ok(None);
        };
        for block in &mut batch.blocks {
            block.labels = self.named(&block.labels)?;
        }
        Ok(Some(batch))
    }

    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        let Some(mut counts) = self.rest.next_counts().await? else {
            return Ok(None);
        };
        for stream in &mut counts {
            stream.labels = self.named(&stream.labels)?;
        }
        Ok(Some(counts))
    }

    fn times(&self) -> Option<TimeRangeNs> {
        self.rest.times()
    }

    fn end(&mut self) -> SelectEnd {
        self.rest.end()
    }
}
