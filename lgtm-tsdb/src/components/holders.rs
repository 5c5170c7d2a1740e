//! Asks everybody who may hold data and joins the answers.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, TenantId, TextSet};

use crate::bucket::merge_labels;
use crate::components::clients::Departures;
use crate::select::{Listed, MergedSeries, Select, SelectRequest, SeriesBatches, TruncatedList};

/// Series per batch of a joined answer.
const BATCH: usize = 512;

/// Holders of metrics, taken as one: those of recent data, and those of what has left these.
///
/// Order matters: recent data are asked first. What is flushed after that stays readable for this answer, and what was flushed before
/// is on the list of those who are asked next. So every sample is in the answer, whatever moves meanwhile.
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

    /// The same where holders of recent data may go for good: the blocks that they wrote last are known before stored data are asked.
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
    ) -> Result<Box<dyn SeriesBatches>> {
        let is_stored = || {
            let request = self.of_stored(request);
            self.stored.iter().any(|s| s.may_hold(tenant, &request))
        };
        if let [only] = self.recent.as_slice()
            && !is_stored()
        {
            let answer = only.select(tenant, request).await?;
            // Nothing was flushed into a block before the answer was fixed, so it has everything.
            if !is_stored() {
                return Ok(answer);
            }
        }
        let request = &request.whole_labels();
        let mut answers = Vec::with_capacity(self.recent.len() + self.stored.len());
        let recent = self.recent.iter().map(|s| s.select(tenant, request));
        answers.extend(futures::future::try_join_all(recent).await?);
        let request = self.of_stored(request);
        let stored = self.stored.iter().map(|s| s.select(tenant, &request));
        answers.extend(futures::future::try_join_all(stored).await?);
        Ok(Box::new(MergedSeries::new(answers, BATCH)))
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
        let join = |all: &mut Vec<Labels>, part| *all = merge_labels(std::mem::take(all), part);
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
        let ask = |s: &'_ Arc<dyn Select>, request: SelectRequest| {
            let s = Arc::clone(s);
            async move { s.label_values(tenant, name, &request).await }
        };
        self.list(request, ask, TextSet::unite).await
    }
}
