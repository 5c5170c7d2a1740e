//! Asks for several tenants as for one.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use super::clients::{FindTrace, Heard, MetricsWindow, Queries, SearchListener};
use super::requests::{
    Answered, FoundTrace, MetricsRequest, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use crate::traceql::{MetricsAnswer, MetricsPartial, TraceHit};

/// Somebody who answers, who understands [joined](TenantId::joined) tenants: each is asked by itself, and the answers are merged as those of parts
/// are. A request of one tenant passes as it is.
#[derive(Debug)]
pub struct Federated {
    inner: Arc<dyn Queries>,
}

impl Federated {
    /// In front of somebody who knows single tenants.
    pub fn new(inner: Arc<dyn Queries>) -> Self {
        Self { inner }
    }

    /// The answers for all tenants made one.
    async fn ask<T, A>(
        &self,
        tenant: &TenantId,
        ask: impl Fn(TenantId) -> A,
        mut merge: impl FnMut(&mut T, T) -> Result<()>,
    ) -> Result<Answered<T>>
    where
        T: Default,
        A: Future<Output = Result<Answered<T>>>,
    {
        let mut answers = try_join_all(tenant.parts().map(ask)).await?.into_iter();
        let mut all = answers.next().unwrap_or_default();
        for answer in answers {
            merge(&mut all.value, answer.value)?;
            all.end.merge(answer.end);
        }
        Ok(all)
    }
}

#[async_trait]
impl FindTrace for Federated {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        let tenants: Vec<TenantId> = tenant.parts().collect();
        let asked = tenants.iter().map(|t| self.inner.find_trace(t, request));
        let mut all = FoundTrace::default();
        for found in try_join_all(asked).await? {
            all.merge(found, request.max_bytes);
        }
        Ok(all)
    }
}

#[async_trait]
impl Queries for Federated {
    async fn search(
        &self,
        tenant: &TenantId,
        request: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        if !tenant.is_joined() {
            return self.inner.search(tenant, request, listener).await;
        }
        // What one tenant's search says stands as it is may not when another's is known.
        let ask = |t: TenantId| async move { self.inner.search(&t, request, None).await };
        let limit = request.settings.limit;
        self.ask(tenant, ask, |all, more| {
            for hit in more {
                match all.iter_mut().find(|known| known.id == hit.id) {
                    Some(known) => known.merge(hit),
                    None => all.push(hit),
                }
            }
            all.sort_by(|a, b| (b.start_ns, a.id).cmp(&(a.start_ns, b.id)));
            all.truncate(limit);
            Ok(())
        })
        .await
    }

    async fn metrics_part(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>> {
        if !tenant.is_joined() {
            return self.inner.metrics_part(tenant, request, listener).await;
        }
        // A window of one tenant is none of the whole.
        let ask = |t: TenantId| async move {
            let part = self.inner.metrics_part(&t, request, None).await?;
            Ok(part.map(Some))
        };
        let all = self.ask(
            tenant,
            ask,
            |all: &mut Option<MetricsPartial>, more| match (all.as_mut(), more) {
                (Some(all), Some(more)) => all.merge(more),
                (Some(_), None) => Ok(()),
                (None, more) => {
                    *all = more;
                    Ok(())
                }
            },
        );
        let Answered { value, end } = all.await?;
        let value = value.unwrap_or(MetricsPartial {
            grid: request.settings.grid,
            legs: Vec::new(),
        });
        Ok(Answered { value, end })
    }

    async fn metrics(
        &self,
        tenant: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsAnswer>> {
        if !tenant.is_joined() {
            return self.inner.metrics(tenant, request, listener).await;
        }
        let part = self.metrics_part(tenant, request, None).await?;
        Ok(part.map(|part| MetricsAnswer::of(&request.query, &request.settings, part)))
    }

    async fn tag_names(
        &self,
        tenant: &TenantId,
        request: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        // Of several tenants more may be told than are wanted.
        let listener = listener.filter(|_| !tenant.is_joined() || request.limit == 0);
        let ask = |t: TenantId| {
            let listener = listener.clone();
            async move { self.inner.tag_names(&t, request, listener).await }
        };
        self.ask(tenant, ask, |all: &mut TagNamesAnswer, more| {
            for (scope, names) in more {
                all.entry(scope).or_default().extend(names);
            }
            if request.limit > 0 {
                for names in all.values_mut() {
                    let kept = std::mem::take(names).into_iter().take(request.limit);
                    *names = kept.collect();
                }
            }
            Ok(())
        })
        .await
    }

    async fn tag_values(
        &self,
        tenant: &TenantId,
        request: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        let listener = listener.filter(|_| !tenant.is_joined() || request.limit == 0);
        let ask = |t: TenantId| {
            let listener = listener.clone();
            async move { self.inner.tag_values(&t, request, listener).await }
        };
        self.ask(tenant, ask, |all: &mut TagValuesAnswer, more| {
            all.extend(more);
            if request.limit > 0 && all.len() > request.limit {
                let kept = std::mem::take(all).into_iter().take(request.limit);
                *all = kept.collect();
            }
            Ok(())
        })
        .await
    }
}
