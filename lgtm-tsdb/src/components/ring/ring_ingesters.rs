//! The ingesters of a ring as one.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::service::Service;
use lgtm_ring::hash::{metadata_token, series_token};
use lgtm_ring::replicas::{
    DepartedIngesters, InstancePool, LocalClients, Pushed, ReplicaParts, Replicas,
    ReplicationSettings,
};
use lgtm_ring::ring::{Operation, ReplicationSet, Ring};
use lgtm_ring::token::Token;
use lgtm_ring::watch::RingHandle;

use super::replaced_series::{ReplacedSeries, Reserve};
use crate::bucket::merge_labels;
use crate::components::clients::{Departures, IngesterClient};
use crate::head::AppendReport;
use crate::limits::Limits;
use crate::select::{MergedSeries, Select, SelectRequest, SeriesBatches, TruncatedList};
use crate::wire::{PartView, PushPart, RawLabels};

/// Series per batch of a joined answer.
const BATCH: usize = 512;

/// The ingesters of this process by their addresses, which are asked directly, and whoever knows the others.
pub type LocalIngesters = LocalClients<dyn IngesterClient>;

impl Departures for DepartedIngesters {
    fn departed(&self) -> Vec<String> {
        DepartedIngesters::departed(self)
    }
}

/// Collects the parts of [`RingIngesters`].
#[derive(Debug)]
pub struct RingIngestersBuilder {
    parts: ReplicaParts<dyn IngesterClient>,
    limits: Overrides<Limits>,
}

impl RingIngestersBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: ReplicationSettings) -> Self {
        self.parts.settings = settings;
        self
    }

    /// Sets the clock by which heartbeats are judged.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.parts.clock = clock;
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn build(self) -> Result<Arc<RingIngesters>> {
        Ok(Arc::new(RingIngesters {
            replicas: Replicas::new(self.parts)?,
            limits: self.limits,
        }))
    }
}

/// The ingesters of a ring as one: who writes to it writes to a quorum of the replicas of each series, who reads from it reads from so many that each
/// write that a quorum took is in the answer, once.
///
/// * A push goes on when its quorum is reached, and waits a moment for the rest ([`Replicas`]).
/// * A replica that fails is made up for by another one, also in the middle of an answer. Only when too few are left does a call fail; an answer is never
///   short.
/// * Counts are those of all replicas divided by how often each series is held: exact where every ingester holds every series, else near.
#[derive(Debug)]
pub struct RingIngesters {
    pub(super) replicas: Replicas<dyn IngesterClient>,
    limits: Overrides<Limits>,
}

impl RingIngesters {
    /// Begins a builder: the ingesters of `ring`, which `pool` knows. Pushes go on on the runtime of `executor`.
    pub fn builder(
        ring: RingHandle,
        pool: Arc<dyn InstancePool<dyn IngesterClient>>,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> RingIngestersBuilder {
        RingIngestersBuilder {
            parts: ReplicaParts {
                ring,
                pool,
                executor,
                clock: Arc::new(SystemClock::new()),
                settings: ReplicationSettings::default(),
            },
            limits,
        }
    }

    /// Ingesters that take a tenant's series; 0: all.
    fn shard_size(&self, tenant: &TenantId) -> u64 {
        self.limits.for_tenant(tenant).ingestion_tenant_shard_size
    }

    /// Asks those of a set, until a quorum has answered.
    pub(super) async fn ask<T, F>(
        &self,
        set: &ReplicationSet,
        ask: impl Fn(Arc<dyn IngesterClient>) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        self.replicas.ask(set, ask).await
    }

    /// Asks for a list and joins what comes.
    async fn list<T, F>(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        ask: impl Fn(Arc<dyn IngesterClient>) -> F,
        join: impl Fn(&mut T, T),
    ) -> Result<Listed<T>>
    where
        T: Default + TruncatedList,
        F: Future<Output = Result<Listed<T>>>,
    {
        let (now_s, ring) = self.now_and_readers(tenant);
        let set = ring.replication_set(Operation::READ, now_s)?;
        let mut all = Listed::default();
        for answer in self.ask(&set, ask).await? {
            all.merge(answer, &join);
        }
        Ok(all.cut(request.limit))
    }

    pub(super) fn now_and_readers(&self, tenant: &TenantId) -> (i64, Ring) {
        let now_s = self.replicas.now_s();
        let size = self.shard_size(tenant);
        (now_s, self.replicas.readers(tenant, size, now_s))
    }
}

/// The keys of a part: its series, then its metadata. Where every instance holds every key, one stands for all, and nothing is hashed.
fn keys_of(ring: &Ring, tenant: &str, part: PartView<'_>) -> Keys {
    if Replicas::<dyn IngesterClient>::are_all_everywhere(ring) {
        return Keys::Together;
    }
    let series = (0..part.series_count()).map(|n| token_of(tenant, part.series_at(n).labels));
    let metadata =
        (0..part.metadata_count()).map(|n| metadata_token(tenant, &part.metadata_at(n).name));
    Keys::Each(series.chain(metadata).collect())
}

/// What decides where the series of a part go.
enum Keys {
    /// All of them to everybody.
    Together,
    Each(Vec<Token>),
}

/// The token of a series, by its labels in order and without those that are empty, as a head takes them.
fn token_of(tenant: &str, labels: RawLabels<'_>) -> Token {
    let known = || labels.iter().map_while(Result::ok);
    let known = || known().filter(|(_, value)| !value.is_empty());
    if known().is_sorted_by(|a, b| a.0 <= b.0) {
        return series_token(tenant, known());
    }
    let mut sorted: Vec<_> = known().collect();
    sorted.sort_unstable();
    series_token(tenant, sorted)
}

/// Counts all that was sent.
fn count_all(report: &mut AppendReport, part: PartView<'_>) {
    (report.samples, report.histograms) = (0, 0);
    for n in 0..part.series_count() {
        let series = part.series_at(n);
        report.samples += series.samples.len() as u64;
        report.histograms += series.histograms.len() as u64;
    }
}

#[async_trait]
impl IngesterClient for RingIngesters {
    /// The replicas of each series take it, a quorum of them before this returns.
    ///
    /// # Errors
    /// `Unavailable` when too few replicas are healthy or answer well; those of the ingesters. What a quorum refuses is in the report, once all the rest is
    /// with a quorum.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        let ring = self.replicas.writers(tenant, self.shard_size(tenant));
        let keys = keys_of(&ring, tenant.as_str(), part.view());
        let (keys, is_together) = match keys {
            Keys::Together => (vec![Token(0)], true),
            Keys::Each(keys) => (keys, false),
        };
        let push = |ingester: Arc<dyn IngesterClient>, places: &[u32]| {
            let share = if is_together {
                part.clone()
            } else {
                part.only(places.to_vec())
            };
            let tenant = tenant.clone();
            async move { ingester.push(&tenant, share).await }
        };
        match self.replicas.push(&ring, &keys, push).await? {
            Pushed::Whole(mut report) => {
                count_all(&mut report, part.view());
                Ok(report)
            }
            Pushed::InPart(report) => Ok(report),
        }
    }
}

#[async_trait]
impl Select for RingIngesters {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let (now_s, ring) = self.now_and_readers(tenant);
        let set = ring.replication_set(Operation::READ, now_s)?;
        // Answers are joined by labels, and gone on with by them.
        let request = request.whole_labels();
        let begin = |ingester: Arc<dyn IngesterClient>| {
            let request = &request;
            async move {
                let mut answer = ingester.select(tenant, request).await?;
                let first = answer.next_batch().await?;
                Ok((first, answer))
            }
        };
        let begun = self.replicas.begin(&set, begin).await?;
        let holders = |group: Vec<Arc<dyn IngesterClient>>| {
            group.into_iter().map(|i| i as Arc<dyn Select>).collect()
        };
        let left = begun.left.into_iter().map(holders);
        let reserve = Reserve::new(left, tenant, request.clone());
        let answers = begun.answers.into_iter().map(|(first, answer)| {
            let series = ReplacedSeries::new(first, answer, Arc::clone(&reserve));
            Box::new(series) as Box<dyn SeriesBatches>
        });
        let merged = MergedSeries::new(answers.collect(), BATCH);
        Ok(Box::new(merged.of_replicas()))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.series(tenant, request).await };
        let join = |all: &mut Vec<Labels>, part| *all = merge_labels(std::mem::take(all), part);
        self.list(tenant, request, ask, join).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.label_names(tenant, request).await };
        self.list(tenant, request, ask, TextSet::unite).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let ask =
            |i: Arc<dyn IngesterClient>| async move { i.label_values(tenant, name, request).await };
        self.list(tenant, request, ask, TextSet::unite).await
    }
}

/// Its pushes that go on are waited for at the stop.
#[async_trait]
impl Service for RingIngesters {
    fn name(&self) -> &str {
        "metrics-ring-ingesters"
    }

    async fn stop(&self) -> Result<()> {
        self.replicas.join().await
    }
}
