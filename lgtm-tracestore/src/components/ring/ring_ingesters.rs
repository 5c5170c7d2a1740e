//! The ingesters of a ring as one.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::service::Service;
use lgtm_ring::hash::trace_token;
use lgtm_ring::replicas::{
    DepartedIngesters, InstancePool, LocalClients, Pushed, ReplicaParts, Replicas,
    ReplicationSettings,
};
use lgtm_ring::ring::{Operation, ReplicationSet, Ring};
use lgtm_ring::token::Token;
use lgtm_ring::watch::RingHandle;

use super::replicated_traces::{ReplicatedTraces, Reserve};
use crate::bucket::Departures;
use crate::components::clients::{FindTrace, IngesterClient};
use crate::components::requests::{FoundTrace, TraceRequest};
use crate::components::trace_join::TraceJoin;
use crate::limits::{Limits, PushPart, PushReport};
use crate::select::{
    DecodedBatches, RecentRequest, RecentTraces, Select, SpanBatches, SpanRequest,
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
            executor: self.parts.executor.clone(),
            replicas: Arc::new(Replicas::new(self.parts)?),
            limits: self.limits,
        }))
    }
}

/// The ingesters of a ring as one: who writes to it writes to a quorum of the replicas of each trace, who reads from it reads from so many that each
/// write that a quorum took is in the answer, once. The token of a trace is Tempo's: of the tenant and the id.
///
/// * A push goes on when its quorum is reached, and waits a moment for the rest ([`Replicas`]).
/// * Of each trace that any replica finds of interest the answer has what all of them have, each span once. It is decoded here: an ingester leaves
///   out traces of which nothing that it has passes.
/// * A replica that fails is made up for by another one, also in the middle of an answer. Only when too few are left does a call fail; an answer is never
///   short.
#[derive(Debug)]
pub struct RingIngesters {
    replicas: Arc<Replicas<dyn IngesterClient>>,
    limits: Overrides<Limits>,
    executor: Executor,
}

impl RingIngesters {
    /// Begins a builder: the ingesters of `ring`, which `pool` knows. Pushes go on on the runtime of `executor`, and traces are decoded on it.
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

    /// Ingesters that take a tenant's traces; 0: all.
    fn shard_size(&self, tenant: &TenantId) -> u64 {
        u64::from(self.limits.for_tenant(tenant).ingestion.tenant_shard_size)
    }

    /// Those who may hold something of a tenant.
    fn readers(&self, tenant: &TenantId) -> Result<ReplicationSet> {
        let (now_s, size) = (self.replicas.now_s(), self.shard_size(tenant));
        let ring = self.replicas.readers(tenant, size, now_s);
        ring.replication_set(Operation::READ, now_s)
    }

    /// What the replicas have, joined.
    async fn read(&self, tenant: &TenantId, request: RecentRequest) -> Result<ReplicatedTraces> {
        let set = self.readers(tenant)?;
        let asked = &request;
        let begin = |ingester: Arc<dyn IngesterClient>| async move {
            let mut answer = ingester.recent(tenant, asked).await?;
            let first = answer.next_traces().await?;
            Ok((answer, first))
        };
        let begun = self.replicas.begin(&set, begin).await?;
        let reserve = Reserve::new(begun.left, tenant);
        Ok(ReplicatedTraces::new(begun.answers, request, reserve))
    }
}

/// What decides where the traces of a push go.
struct TraceKeys {
    tokens: Vec<Token>,
    /// The numbers of the traces in the batch, by their keys; `None`: one key stands for all, which everybody gets.
    traces: Option<Vec<u32>>,
}

impl TraceKeys {
    fn of(ring: &Ring, tenant: &TenantId, part: &PushPart) -> Self {
        if Replicas::<dyn IngesterClient>::are_all_everywhere(ring) {
            return Self {
                tokens: vec![Token(0)],
                traces: None,
            };
        }
        let token = |id: &[u8]| trace_token(tenant.as_str(), id);
        let tokens = part.traces().map(|t| token(t.id().as_bytes())).collect();
        let traces = match part.numbers() {
            Some(numbers) => numbers.to_vec(),
            None => (0..part.trace_count() as u32).collect(),
        };
        Self {
            tokens,
            traces: Some(traces),
        }
    }

    /// What of a part the keys at some places are.
    fn share(&self, part: &PushPart, places: &[u32]) -> PushPart {
        match &self.traces {
            None => part.clone(),
            Some(traces) => part.only(places.iter().map(|p| traces[*p as usize]).collect()),
        }
    }
}

#[async_trait]
impl IngesterClient for RingIngesters {
    /// The replicas of each trace take it, a quorum of them before this returns.
    ///
    /// # Errors
    /// `Unavailable` when too few replicas are healthy or answer well; those of the ingesters. What a quorum refuses is in the report, once all the rest is
    /// with a quorum.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport> {
        let ring = self.replicas.writers(tenant, self.shard_size(tenant));
        let keys = TraceKeys::of(&ring, tenant, &part);
        let push = |ingester: Arc<dyn IngesterClient>, places: &[u32]| {
            let (share, tenant) = (keys.share(&part, places), tenant.clone());
            async move { ingester.push(&tenant, share).await }
        };
        match self.replicas.push(&ring, &keys.tokens, push).await? {
            Pushed::Whole(mut report) => {
                (report.spans, report.bytes) = (part.span_count(), part.span_bytes());
                Ok(report)
            }
            Pushed::InPart(report) => Ok(report),
        }
    }

    async fn recent(
        &self,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Box<dyn RecentTraces>> {
        Ok(Box::new(self.read(tenant, request.clone()).await?))
    }
}

#[async_trait]
impl Select for RingIngesters {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SpanRequest,
    ) -> Result<Box<dyn SpanBatches>> {
        let traces = self.read(tenant, RecentRequest::of(request)).await?;
        let executor = self.executor.in_line(tenant.as_str());
        Ok(Box::new(DecodedBatches::new(traces, executor, request)))
    }
}

#[async_trait]
impl FindTrace for RingIngesters {
    async fn find_trace(&self, tenant: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        let set = self.readers(tenant)?;
        let ask = |i: Arc<dyn IngesterClient>| async move { i.find_trace(tenant, request).await };
        let executor = self.executor.in_line(tenant.as_str());
        let mut join = TraceJoin::new(executor, request);
        for found in self.replicas.ask(&set, ask).await? {
            join.add(found).await?;
        }
        Ok(join.finish())
    }
}

/// Its pushes that go on are waited for at the stop.
#[async_trait]
impl Service for RingIngesters {
    fn name(&self) -> &str {
        "traces-ring-ingesters"
    }

    async fn stop(&self) -> Result<()> {
        self.replicas.join().await
    }
}
