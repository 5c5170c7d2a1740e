//! Asks everybody who may hold data and joins the answers.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};

use super::clients::Departures;
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
    departures: Option<Arc<dyn Departures>>,
}

impl Holders {
    /// Asks `recent` (ingesters), then `stored` (store-gateways).
    pub fn new(recent: Vec<Arc<dyn Select>>, stored: Vec<Arc<dyn Select>>) -> Self {
        Self {
            recent,
            stored,
            departures: None,
        }
    }

    /// The same where holders of recent data may go for good: the index files that they wrote last are known before stored data are asked.
    #[must_use]
    pub fn departures(self, departures: Option<Arc<dyn Departures>>) -> Self {
        Self { departures, ..self }
    }

    /// The request to holders of stored data, once those of recent data have answered: who had gone by then is named.
    fn of_stored(&self, request: &SelectRequest) -> SelectRequest {
        let departed = self.departures.as_ref().map(|d| d.departed());
        request.clone().after(departed.unwrap_or_default())
    }

    /// Asks for a list, recent data first, and joins what comes.
    async fn list<'a, T, F>(
        &'a self,
        request: &SelectRequest,
        ask: impl Fn(&'a Arc<dyn Select>, SelectRequest) -> F,
        join: impl Fn(&mut T, T),
    ) -> Result<Listed<T>>
    where
        T: Default + TruncatedList,
        F: Future<Output = Result<Listed<T>>>,
    {
        let mut all = Listed::default();
        for (holders, are_recent) in [(&self.recent, true), (&self.stored, false)] {
            let request = match are_recent {
                true => request.clone(),
                false => self.of_stored(request),
            };
            let asked = holders.iter().map(|h| ask(h, request.clone()));
            for answer in futures::future::try_join_all(asked).await? {
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
        let recent = self.recent.iter().map(|s| s.select(tenant, request));
        answers.extend(futures::future::try_join_all(recent).await?);
        let request = &self.of_stored(request);
        let stored = self.stored.iter().map(|s| s.select(tenant, request));
        answers.extend(futures::future::try_join_all(stored).await?);
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
        let of_stored = self.of_stored(request);
        answers.push(if is_known {
            stored.select_counted(tenant, &of_stored, &wish).await?
        } else {
            stored.select(tenant, &of_stored).await?
        });
        Ok(Box::new(MergedEntries::new(answers, request.order)))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let ask = |s: &'_ Arc<dyn Select>, request| {
            let s = Arc::clone(s);
            async move { s.series(tenant, &request).await }
        };
        let join = |all: &mut Vec<Labels>, part| merge_sorted(all, part, Labels::cmp, |_, _| ());
        self.list(request, ask, join).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |s: &'_ Arc<dyn Select>, request| {
            let s = Arc::clone(s);
            async move { s.label_names(tenant, &request).await }
        };
        self.list(request, ask, TextSet::unite).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |s: &'_ Arc<dyn Select>, request| {
            let s = Arc::clone(s);
            async move { s.label_values(tenant, name, &request).await }
        };
        self.list(request, ask, TextSet::unite).await
    }
}
