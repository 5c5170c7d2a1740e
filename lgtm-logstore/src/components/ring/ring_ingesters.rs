//! The ingesters of a ring as one.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::service::Service;
use lgtm_ring::hash::stream_token;
use lgtm_ring::replicas::{
    DepartedIngesters, InstancePool, LocalClients, Pushed, ReplicaParts, Replicas,
    ReplicationSettings,
};
use lgtm_ring::ring::{Operation, ReplicationSet, Ring};
use lgtm_ring::token::Token;
use lgtm_ring::watch::RingHandle;

use super::replaced_entries::{ReplacedEntries, Reserve};
use super::ring_tail::{RingTail, TailParts};
use crate::components::clients::{
    Departures, IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, Tail, TailFeed,
    TailRequest,
};
use crate::components::joined::merge_sorted;
use crate::components::querier::join_volumes;
use crate::components::recent_patterns::patterns_of_replicas;
use crate::limits::{Limits, PushPart, PushReport};
use crate::logql::QueryError;
use crate::select::{
    EntryBatches, MergedEntries, Select, SelectRequest, StreamVolume, TruncatedList,
};

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
            replicas: Arc::new(Replicas::new(self.parts)?),
            limits: self.limits,
        }))
    }
}

/// The ingesters of a ring as one: who writes to it writes to a quorum of the replicas of each stream, who reads from it reads from so many that each
/// write that a quorum took is in the answer, once. The token of a stream is Loki's: of the tenant and the text of its labels.
///
/// * A push goes on when its quorum is reached, and waits a moment for the rest ([`Replicas`]).
/// * A replica that fails is made up for by another one, also in the middle of an answer. Only when too few are left does a call fail; an answer is never
///   short.
/// * Entries and lists are exact. Volumes are, of each time, those of the replica that has most ([`densest`](crate::select::densest)): exact where one
///   replica has all of it. Patterns of a stream are those of the replica that has seen most of its lines.
#[derive(Debug)]
pub struct RingIngesters {
    replicas: Arc<Replicas<dyn IngesterClient>>,
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

    /// Ingesters that take a tenant's streams; 0: all.
    fn shard_size(&self, tenant: &TenantId) -> u64 {
        self.limits.for_tenant(tenant).ingestion_tenant_shard_size
    }

    /// Those who may hold something of a tenant.
    fn readers(&self, tenant: &TenantId) -> Result<ReplicationSet> {
        let (now_s, size) = (self.replicas.now_s(), self.shard_size(tenant));
        let ring = self.replicas.readers(tenant, size, now_s);
        ring.replication_set(Operation::READ, now_s)
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
        let set = self.readers(tenant)?;
        let mut all = Listed::default();
        for answer in self.replicas.ask(&set, ask).await? {
            all.merge(answer, &join);
        }
        Ok(all.cut(request.limit))
    }
}

/// What decides where the streams of a push go.
struct StreamKeys {
    tokens: Vec<Token>,
    /// The numbers of the streams in the batch, by their keys; `None`: one key stands for all, which everybody gets.
    streams: Option<Vec<u32>>,
}

impl StreamKeys {
    fn of(ring: &Ring, tenant: &TenantId, part: &PushPart) -> Self {
        if Replicas::<dyn IngesterClient>::are_all_everywhere(ring) {
            return Self {
                tokens: vec![Token(0)],
                streams: None,
            };
        }
        let (mut tokens, mut streams) = (Vec::new(), Vec::new());
        let mut text = String::new();
        for (n, view) in part.batch().streams().enumerate() {
            let first = view.first_entry();
            if !(0..view.len()).any(|n| part.accepted().takes(first + n)) {
                continue;
            }
            text.clear();
            // Writing to a text does not fail.
            let _ = write!(text, "{}", view.labels());
            tokens.push(stream_token(tenant.as_str(), &text));
            streams.push(n as u32);
        }
        Self {
            tokens,
            streams: Some(streams),
        }
    }

    /// What of a part the keys at some places are.
    fn share(&self, part: &PushPart, places: &[u32]) -> PushPart {
        match &self.streams {
            None => part.clone(),
            Some(streams) => {
                let own: Vec<u32> = places.iter().map(|p| streams[*p as usize]).collect();
                part.only(&own)
            }
        }
    }
}

#[async_trait]
impl IngesterClient for RingIngesters {
    /// The replicas of each stream take it, a quorum of them before this returns.
    ///
    /// # Errors
    /// `Unavailable` when too few replicas are healthy or answer well; those of the ingesters. What a quorum refuses is in the report, once all the rest is
    /// with a quorum.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        let ring = self.replicas.writers(tenant, self.shard_size(tenant));
        let keys = StreamKeys::of(&ring, tenant, &part);
        let push = |ingester: Arc<dyn IngesterClient>, places: &[u32]| {
            let (share, tenant) = (keys.share(&part, places), tenant.clone());
            async move { ingester.push(&tenant, share).await }
        };
        match self.replicas.push(&ring, &keys.tokens, push).await? {
            Pushed::Whole(mut report) => {
                // Of what was known already replicas may tell differently.
                let accepted = part.accepted();
                report.duplicates = report.duplicates.min(accepted.entries);
                report.entries = accepted.entries - report.duplicates;
                if report.duplicates == 0 {
                    report.bytes = accepted.bytes;
                }
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
    ) -> Result<Box<dyn EntryBatches>> {
        let set = self.readers(tenant)?;
        let begin = |ingester: Arc<dyn IngesterClient>| async move {
            let mut answer = ingester.select(tenant, request).await?;
            let times = answer.times();
            let first = answer.next_batch().await?;
            Ok((first, answer, times))
        };
        let begun = self.replicas.begin(&set, begin).await?;
        let holders = |group: Vec<Arc<dyn IngesterClient>>| {
            group.into_iter().map(|i| i as Arc<dyn Select>).collect()
        };
        let left = begun.left.into_iter().map(holders);
        let reserve = Reserve::new(left, tenant, request.clone());
        let answers = begun.answers.into_iter().map(|(first, answer, times)| {
            let reserve = Arc::clone(&reserve);
            let entries = ReplacedEntries::new(first, answer, times, reserve);
            Box::new(entries) as Box<dyn EntryBatches>
        });
        Ok(Box::new(MergedEntries::new(
            answers.collect(),
            request.order,
        )))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let ask = |i: Arc<dyn IngesterClient>| async move { i.series(tenant, request).await };
        let join = |all: &mut Vec<Labels>, part| merge_sorted(all, part, Labels::cmp, |_, _| ());
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

#[async_trait]
impl Inspect for RingIngesters {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let mut asked = request.clone();
        asked.may_repeat = true;
        let asked = &asked;
        let ask = |i: Arc<dyn IngesterClient>| async move { i.volumes(tenant, asked).await };
        self.list(tenant, request, ask, join_volumes).await
    }
}

#[async_trait]
impl Patterns for RingIngesters {
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        let set = self.readers(tenant)?;
        let apart = &PatternsRequest {
            by_stream: true,
            ..request.clone()
        };
        let ask = |i: Arc<dyn IngesterClient>| async move { i.patterns(tenant, apart).await };
        let answers = self.replicas.ask(&set, ask).await?;
        Ok(patterns_of_replicas(request, answers))
    }
}

/// All ingesters are followed, so that an entry comes from the first of its replicas; whoever joins feeds shows it once.
#[async_trait]
impl Tail for RingIngesters {
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        let parts = TailParts {
            replicas: Arc::clone(&self.replicas),
            limits: self.limits.clone(),
            tenant: tenant.clone(),
            request: request.clone(),
        };
        Ok(Box::new(RingTail::begin(parts).await?))
    }
}

/// Its pushes that go on are waited for at the stop.
#[async_trait]
impl Service for RingIngesters {
    fn name(&self) -> &str {
        "logs-ring-ingesters"
    }

    async fn stop(&self) -> Result<()> {
        self.replicas.join().await
    }
}
