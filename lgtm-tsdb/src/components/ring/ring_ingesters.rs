//! The ingesters of a ring as one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{Executor, TaskGroup};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::service::Service;
use lgtm_ring::batch::{Batch, do_batch, is_client_error};
use lgtm_ring::fanout::{ReadOptions, read_quorum};
use lgtm_ring::hash::{metadata_token, series_token};
use lgtm_ring::instance::Instance;
use lgtm_ring::ring::{Operation, ReplicationSet, Ring};
use lgtm_ring::token::Token;
use lgtm_ring::watch::RingHandle;
use parking_lot::Mutex;

use super::pool::IngesterPool;
use super::push_tally::{PushCounts, PushTally};
use super::replaced_series::{ReplacedSeries, Reserve, groups_left, is_terminal};
use super::settings::ReplicationSettings;
use crate::bucket::merge_labels;
use crate::components::clients::IngesterClient;
use crate::head::AppendReport;
use crate::limits::Limits;
use crate::select::{
    MergedSeries, Select, SelectRequest, SeriesBatches, SeriesChunks, TruncatedList,
};
use crate::wire::{PartView, PushPart, RawLabels};

/// Series per batch of a joined answer.
const BATCH: usize = 512;

/// Collects the parts of [`RingIngesters`].
#[derive(Debug)]
pub struct RingIngestersBuilder {
    ring: RingHandle,
    pool: Arc<dyn IngesterPool>,
    limits: Overrides<Limits>,
    executor: Executor,
    clock: Arc<dyn Clock>,
    settings: ReplicationSettings,
}

impl RingIngestersBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: ReplicationSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock by which heartbeats are judged.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn build(self) -> Result<Arc<RingIngesters>> {
        self.settings.validate()?;
        Ok(Arc::new(RingIngesters {
            tasks: self.executor.task_group(),
            reads: AtomicI64::new(self.clock.now_ms().get()),
            late: Arc::default(),
            parts: self,
        }))
    }
}

/// The ingesters of a ring as one: who writes to it writes to a quorum of the replicas of each series, who reads from it reads from so many that each
/// write that a quorum took is in the answer, once.
///
/// * A push goes on in the background when its quorum is reached, so that slower replicas get it too. Dropping the future does not stop it. It returns when
///   all replicas have answered or a moment after the quorum (`straggler_wait`): a sender's next push, which it sends when this one is answered, would
///   overtake this one at a replica that is still at it, and be older than what that one has. Who was late once is not waited for until it is quick again.
/// * A replica that fails is made up for by another one, also in the middle of an answer. Only when too few are left does a call fail; an answer is never
///   short.
/// * Counts are those of all replicas divided by how often each series is held: exact where every ingester holds every series, else near.
#[derive(Debug)]
pub struct RingIngesters {
    parts: RingIngestersBuilder,
    /// Pushes that go on.
    tasks: TaskGroup,
    /// Makes each read ask others first.
    reads: AtomicI64,
    /// Addresses of ingesters that pushes do not wait for, as they were late the last time.
    late: Arc<Mutex<HashSet<String>>>,
}

impl RingIngesters {
    /// Begins a builder: the ingesters of `ring`, which `pool` knows. Pushes go on on the runtime of `executor`.
    pub fn builder(
        ring: RingHandle,
        pool: Arc<dyn IngesterPool>,
        limits: Overrides<Limits>,
        executor: Executor,
    ) -> RingIngestersBuilder {
        RingIngestersBuilder {
            ring,
            pool,
            limits,
            executor,
            clock: Arc::new(SystemClock::new()),
            settings: ReplicationSettings::default(),
        }
    }

    fn now_s(&self) -> i64 {
        self.parts.clock.now_ms().to_seconds()
    }

    /// Ingesters that take a tenant's series, at least as many as take each; 0: all.
    fn shard_size(&self, tenant: &TenantId, ring: &Ring) -> usize {
        let limits = self.parts.limits.for_tenant(tenant);
        match usize::try_from(limits.ingestion_tenant_shard_size).unwrap_or(usize::MAX) {
            0 => 0,
            size => size.max(ring.settings().replication_factor),
        }
    }

    /// Those who may hold something of a tenant.
    pub(super) fn readers(&self, tenant: &TenantId, now_s: i64) -> Ring {
        let ring = self.parts.ring.current();
        match self.shard_size(tenant, &ring) {
            0 => ring,
            size => {
                let lookback = self.parts.settings.shard_lookback;
                ring.shuffle_shard_with_lookback(tenant.as_str(), size, lookback, now_s)
            }
        }
    }

    fn read_options(&self) -> ReadOptions {
        let settings = &self.parts.settings;
        let delay = settings.hedging_delay;
        ReadOptions {
            minimize_requests: settings.minimize_requests,
            hedging_delay: (!delay.is_zero()).then_some(delay),
            preferred_zones: settings.preferred_zones.clone(),
            seed: self.reads.fetch_add(1, Ordering::Relaxed),
            is_terminal,
        }
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
        let call = |instance: Arc<Instance>| {
            let asked = self.parts.pool.ingester(&instance).map(&ask);
            async move { asked?.await }
        };
        read_quorum(set, &self.read_options(), call).await
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
        let now_s = self.now_s();
        let set = self.readers(tenant, now_s);
        let set = set.replication_set(Operation::READ, now_s)?;
        let mut all = Listed::default();
        for answer in self.ask(&set, ask).await? {
            all.merge(answer, &join);
        }
        Ok(all.cut(request.limit))
    }

    pub(super) fn now_and_readers(&self, tenant: &TenantId) -> (i64, Ring) {
        let now_s = self.now_s();
        (now_s, self.readers(tenant, now_s))
    }
}

/// The keys of a part: its series, then its metadata. Where every instance holds every key, one stands for all, and nothing is hashed.
fn keys_of(ring: &Ring, tenant: &str, part: PartView<'_>) -> Keys {
    let settings = ring.settings();
    let is_everywhere = !settings.zone_awareness_enabled
        && ring.instances_with_tokens() <= settings.replication_factor;
    if is_everywhere {
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

fn counts_of(part: PartView<'_>) -> PushCounts {
    let mut counts = PushCounts::default();
    for n in 0..part.series_count() {
        let series = part.series_at(n);
        counts.samples += series.samples.len() as u64;
        counts.histograms += series.histograms.len() as u64;
    }
    counts
}

#[async_trait]
impl IngesterClient for RingIngesters {
    /// The replicas of each series take it, a quorum of them before this returns.
    ///
    /// # Errors
    /// `Unavailable` when too few replicas are healthy or answer well; those of the ingesters. What a quorum refuses is in the report, once all the rest is
    /// with a quorum.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        let ring = self.parts.ring.current();
        let ring = ring.shuffle_shard(tenant.as_str(), self.shard_size(tenant, &ring));
        let keys = keys_of(&ring, tenant.as_str(), part.view());
        let (keys, is_together) = match keys {
            Keys::Together => (vec![Token(0)], true),
            Keys::Each(keys) => (keys, false),
        };
        let needed = ring.settings().replication_factor / 2 + 1;
        let tally = PushTally::new(keys.len(), needed);
        let batch = Batch {
            ring: &ring,
            operation: Operation::WRITE_NO_EXTEND,
            keys: &keys,
            now_s: self.now_s(),
            is_client_error,
        };
        let call = |instance: Arc<Instance>, places: Vec<u32>| {
            let ingester = self.parts.pool.ingester(&instance);
            let share = if is_together {
                part.clone()
            } else {
                part.only(places.clone())
            };
            let (tally, tenant) = (Arc::clone(&tally), tenant.clone());
            let open = tally.open(&instance.addr);
            let (late, moment) = (Arc::clone(&self.late), self.parts.settings.straggler_wait);
            async move {
                let began = tokio::time::Instant::now();
                let answer = match ingester {
                    Ok(ingester) => ingester.push(&tenant, share).await,
                    Err(error) => Err(error),
                };
                let is_quick = answer.is_ok() && began.elapsed() <= moment;
                let noted = tally.note(&places, answer);
                if is_quick {
                    late.lock().remove(&instance.addr);
                }
                drop(open);
                noted
            }
        };
        match do_batch(batch, &self.tasks, call, || ()).await {
            Ok(()) => {
                let moment = self.parts.settings.straggler_wait;
                tally.wait_for_rest(moment, &self.late).await;
                Ok(tally.succeeded(counts_of(part.view())))
            }
            Err(failure) => tally.failed(failure.error).await,
        }
    }
}

/// One ingester's answer to a select, with its first batch.
struct Begun {
    instance: Arc<Instance>,
    first: Option<Vec<SeriesChunks>>,
    answer: Box<dyn SeriesBatches>,
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
        let begin = |instance: Arc<Instance>| {
            let (request, pool) = (&request, &self.parts.pool);
            async move {
                let ingester = pool.ingester(&instance)?;
                let mut answer = ingester.select(tenant, request).await?;
                let first = answer.next_batch().await?;
                Ok(Begun {
                    instance,
                    first,
                    answer,
                })
            }
        };
        let begun: Vec<Begun> = read_quorum(&set, &self.read_options(), begin).await?;
        let answered: Vec<_> = begun.iter().map(|b| Arc::clone(&b.instance)).collect();
        let clients = |group: Vec<Arc<Instance>>| {
            let group = group
                .iter()
                .map(|i| Ok(self.parts.pool.ingester(i)? as Arc<dyn Select>));
            group.collect::<Result<Vec<_>>>().ok()
        };
        let left = groups_left(&set, &answered).into_iter();
        let reserve = Reserve::new(left.filter_map(clients), tenant, request);
        let answers = begun.into_iter().map(|b| {
            let series = ReplacedSeries::new(b.first, b.answer, Arc::clone(&reserve));
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
        self.tasks.join().await
    }
}
