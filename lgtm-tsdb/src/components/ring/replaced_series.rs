//! The series of a holder of data, and of another one in its place when it fails.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::model::{Labels, TenantId};
use lgtm_core::{Error, Result};
use lgtm_ring::replicas::is_terminal;
use parking_lot::Mutex;

use crate::select::{MergedSeries, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks};

/// Series per batch of the holders of a group.
const BATCH: usize = 512;

/// Those of a set who were not needed for a quorum: any group of them makes up for one that fails.
#[derive(Debug)]
pub(super) struct Reserve {
    groups: Mutex<VecDeque<Vec<Arc<dyn Select>>>>,
    tenant: TenantId,
    request: SelectRequest,
}

impl Reserve {
    /// Groups of holders, each of which can answer `request` in the place of one that fails.
    pub(super) fn new(
        groups: impl IntoIterator<Item = Vec<Arc<dyn Select>>>,
        tenant: &TenantId,
        request: SelectRequest,
    ) -> Arc<Self> {
        Arc::new(Self {
            groups: Mutex::new(groups.into_iter().collect()),
            tenant: tenant.clone(),
            request,
        })
    }

    /// The answer of the next group that answers.
    ///
    /// # Errors
    /// `why` when nobody is left, or what no holder would answer.
    async fn open(&self, why: Error) -> Result<Box<dyn SeriesBatches>> {
        loop {
            let Some(group) = self.groups.lock().pop_front() else {
                return Err(why);
            };
            let asked = group.iter().map(|h| h.select(&self.tenant, &self.request));
            match futures::future::try_join_all(asked).await {
                Ok(answers) => return Ok(Box::new(MergedSeries::new(answers, BATCH))),
                Err(e) if is_terminal(&e) => return Err(e),
                Err(error) => tracing::debug!(%error, "a holder in reserve does not answer"),
            }
        }
    }
}

/// An answer that another holder goes on with when its own breaks off: what was handed out already is left out then.
#[derive(Debug)]
pub(super) struct ReplacedSeries {
    answer: Box<dyn SeriesBatches>,
    /// The first batch, which came when the holder was asked; `None` in it is the end.
    first: Option<Option<Vec<SeriesChunks>>>,
    /// The last series that was handed out.
    last: Option<Labels>,
    /// Whether series up to `last` come again.
    is_behind: bool,
    reserve: Arc<Reserve>,
}

impl ReplacedSeries {
    /// `answer`, whose first batch is `first`. Its series come in label order.
    pub(super) fn new(
        first: Option<Vec<SeriesChunks>>,
        answer: Box<dyn SeriesBatches>,
        reserve: Arc<Reserve>,
    ) -> Self {
        Self {
            answer,
            first: Some(first),
            last: None,
            is_behind: false,
            reserve,
        }
    }

    /// Leaves out what was handed out before.
    fn forward(&mut self, mut batch: Vec<SeriesChunks>) -> Vec<SeriesChunks> {
        if let Some(last) = self.last.as_ref().filter(|_| self.is_behind) {
            let known = batch.partition_point(|s| s.labels <= *last);
            batch.drain(..known);
            self.is_behind = batch.is_empty();
        }
        batch
    }
}

#[async_trait]
impl SeriesBatches for ReplacedSeries {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        loop {
            let next = match self.first.take() {
                Some(first) => Ok(first),
                None => self.answer.next_batch().await,
            };
            match next {
                Ok(Some(batch)) => {
                    let batch = self.forward(batch);
                    if let Some(last) = batch.last() {
                        self.last = Some(last.labels.clone());
                        return Ok(Some(batch));
                    }
                }
                Ok(None) => return Ok(None),
                Err(e) if is_terminal(&e) => return Err(e),
                Err(error) => {
                    tracing::debug!(%error, "an answer broke off; another holder goes on with it");
                    self.answer = self.reserve.open(error).await?;
                    self.is_behind = true;
                }
            }
        }
    }

    fn end(&mut self) -> SelectEnd {
        self.answer.end()
    }
}
