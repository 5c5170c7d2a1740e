//! Asks everybody who may hold data and joins the answers.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};

use super::joined::merge_sorted;
use crate::select::{
    CountWish, EntryBatches, Listed, MergedEntries, Select, SelectRequest, TruncatedList,
};

/// Holders of logs, taken as one: those of recent data, and those of what has left these.
///
/// Order matters: recent data are asked first. What is flushed after that stays readable for this answer, and what was flushed before
/// is on the list of those who are asked next. So every entry is in the answer, whatever moves meanwhile, and once.
#[derive(Debug)]
pub struct Holders {
    recent: Vec<Arc<dyn Select>>,
    stored: Vec<Arc<dyn Select>>,
}

impl Holders {
    /// Asks `recent` (ingesters), then `stored` (store-gateways).
    pub fn new(recent: Vec<Arc<dyn Select>>, stored: Vec<Arc<dyn Select>>) -> Self {
        Self { recent, stored }
    }

    /// Asks for a list, recent data first, and joins what comes.
    async fn list<'a, T, F>(
        &'a self,
        request: &SelectRequest,
        ask: impl Fn(&'a Arc<dyn Select>) -> F,
        join: impl Fn(&mut T, T),
    ) -> Result<Listed<T>>
    where
        T: Default + TruncatedList,
        F: Future<Output = Result<Listed<T>>>,
    {
        let mut all = Listed::default();
        for holders in [&self.recent, &self.stored] {
            let answers = futures::future::try_join_all(holders.iter().map(&ask)).await?;
            for answer in answers {
                all.merge(answer, &join);
            }
        }
        Ok(all.cut(request.limit))
    }
}

#[async_trait]
impl Select for Holders {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let mut answers = Vec::with_capacity(self.recent.len() + self.stored.len());
        for holders in [&self.recent, &self.stored] {
            let asked = holders.iter().map(|s| s.select(tenant, request));
            answers.extend(futures::future::try_join_all(asked).await?);
        }
        Ok(Box::new(MergedEntries::new(answers, request.order)))
    }

    async fn select_counted(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        wish: &CountWish,
    ) -> Result<Box<dyn EntryBatches>> {
        // Two that know the same chunks would count them twice.
        let [stored] = &self.stored[..] else {
            return self.select(tenant, request).await;
        };
        let asked = self.recent.iter().map(|s| s.select(tenant, request));
        let mut answers = futures::future::try_join_all(asked).await?;
        let mut wish = wish.clone();
        let mut is_known = true;
        for answer in &answers {
            match answer.times() {
                Some(times) if times.is_empty() => {}
                Some(times) => wish.except.push(times),
                None => is_known = false,
            }
        }
        answers.push(if is_known {
            stored.select_counted(tenant, request, &wish).await?
        } else {
            stored.select(tenant, request).await?
        });
        Ok(Box::new(MergedEntries::new(answers, request.order)))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let ask = |s: &'_ Arc<dyn Select>| {
            let s = Arc::clone(s);
            async move { s.series(tenant, request).await }
        };
        let join = |all: &mut Vec<Labels>, part| merge_sorted(all, part, Labels::cmp, |_, _| ());
        self.list(request, ask, join).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |s: &'_ Arc<dyn Select>| {
            let s = Arc::clone(s);
            async move { s.label_names(tenant, request).await }
        };
        self.list(request, ask, TextSet::unite).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |s: &'_ Arc<dyn Select>| {
            let s = Arc::clone(s);
            async move { s.label_values(tenant, name, request).await }
        };
        self.list(request, ask, TextSet::unite).await
    }
}
