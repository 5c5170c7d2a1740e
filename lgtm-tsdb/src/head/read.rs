//! Reading the head.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId, TextSet, TimeRange};

use super::batches::{Chosen, HeadBatches, HeadSeries};
use super::head::Head;
use super::heads::Heads;
use crate::select::{
    FetchStats, Listed, ReadyBatches, Select, SelectEnd, SelectRequest, SeriesBatches,
};
use lgtm_core::wal::Snapshot;

impl Head {
    /// Whether some sample may lie in `range`: names and values are told for the head as a whole.
    fn holds(&self, range: TimeRange) -> bool {
        self.max_ms().is_some_and(|newest| newest >= range.min_ms)
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

    /// Runs `ask` on a tenant's head as it is now: here if that `is_quick`, else on the compute pool. Dropping the future stops it.
    async fn ask<T: Default + Send + 'static>(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        is_quick: impl FnOnce(&Head) -> bool,
        ask: impl FnOnce(&Arc<Head>, &SelectRequest, Snapshot, &CancelToken) -> Result<T>
        + Send
        + 'static,
    ) -> Result<T> {
        self.heads.check_readable()?;
        // Before anything else: what a flush moves from here on stays.
        let snapshot = self.heads.snapshot();
        let Some(head) = self.heads.get(tenant) else {
            return Ok(T::default());
        };
        let cancel = CancelToken::new();
        if is_quick(&head) {
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
        let quick = |head: &Head| head.is_quick(request);
        let series = self.ask(
            tenant,
            request,
            quick,
            move |head, request, snapshot, cancel| {
                let chosen = match &request.labels {
                    Some(names) => {
                        let ids = head.matching_ids(request, &snapshot, cancel)?;
                        Chosen::Bare(ids.into_iter(), names.clone())
                    }
                    None => {
                        let series = head.matching(request, &snapshot, cancel)?;
                        Chosen::Labelled(series.into_iter())
                    }
                };
                request.bounds.check(&FetchStats {
                    series: chosen.len() as u64,
                    ..FetchStats::default()
                })?;
                Ok(Some(HeadSeries {
                    heads,
                    head: Arc::clone(head),
                    snapshot,
                    shards: head.shards(),
                    range: request.range,
                    chosen,
                    end: SelectEnd::default(),
                }))
            },
        );
        let Some(series) = series.await? else {
            return Ok(Box::<ReadyBatches>::default());
        };
        let executor = self.executor.in_line(tenant.as_str());
        Ok(Box::new(HeadBatches::new(series, request.bounds, executor)))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let quick = |head: &Head| head.is_quick(request);
        let series = self.ask(tenant, request, quick, |head, request, snapshot, cancel| {
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
        let quick = |head: &Head| head.is_quick_list(None, request);
        let names = self.ask(tenant, request, quick, |head, request, snapshot, cancel| {
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
        let quick = |head: &Head| head.is_quick_list(Some(name), request);
        let owned = name.to_owned();
        let values = self.ask(
            tenant,
            request,
            quick,
            move |head, request, snapshot, cancel| {
                if request.takes_all() && !head.holds(request.range) {
                    return Ok(TextSet::new());
                }
                head.values_of(&owned, request, &snapshot, cancel)
            },
        );
        Ok(Listed::first(values.await?, request.limit))
    }
}
