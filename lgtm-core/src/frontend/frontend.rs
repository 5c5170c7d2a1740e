//! The way of a query: coalesced with its like, cut in time, looked up, cut by series, and given its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use crate::cache::{Cache, SingleFlight};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::exec::move_to_pool;
use crate::frontend::empty_ranges::{EmptyRanges, EmptyRangesStats};
use crate::frontend::errors_cache::{ErrorsCache, ErrorsCacheStats};
use crate::frontend::extent::{Cover, Extent, cover, merge_extents, trim_extents};
use crate::frontend::fair_gate::{FairGate, FairGateBounds};
use crate::frontend::results_cache::{ResultsCache, ResultsCacheStats};
use crate::frontend::retry::retry;
use crate::frontend::settings::{FrontendLimits, FrontendSettings, ms};
use crate::frontend::splitter::{Downstream, ShardPlan, Splitter};
use crate::frontend::steps::StepRange;
use crate::model::TenantId;
use crate::timestamp::TimestampMs;

/// Answers queries by asking others, as little and as fairly as it can.
///
/// Memory: the answers to the pieces of the queries that run; these are bounded by the queries' own limits. Dropping the future of
/// a query stops all that it started, unless somebody else asked the same.
#[derive(Debug)]
pub struct Frontend<S: Splitter> {
    splitter: S,
    downstream: Arc<dyn Downstream<S>>,
    clock: Arc<dyn Clock>,
    results: Option<ResultsCache>,
    empty: Option<EmptyRanges>,
    errors: Option<ErrorsCache>,
    settings: FrontendSettings,
    gate: FairGate,
    flights: SingleFlight<S::Answer>,
    stats: FrontendStats,
}

/// What a frontend has done.
#[derive(Debug, Default)]
pub struct FrontendStats {
    /// Queries asked.
    pub queries: AtomicU64,
    /// Pieces that queries were cut into in time.
    pub pieces: AtomicU64,
    /// Requests that went downstream, shards counted singly.
    pub downstream: AtomicU64,
    /// Requests that were sent again.
    pub retries: AtomicU64,
    /// Requests that were looked at for cutting them by series.
    pub shardings_tried: AtomicU64,
    /// Requests that were cut so.
    pub sharded: AtomicU64,
    /// What they became.
    pub legs: AtomicU64,
}

/// Parts of a [`Frontend`].
#[derive(Debug)]
pub struct FrontendBuilder<S: Splitter> {
    splitter: S,
    downstream: Arc<dyn Downstream<S>>,
    clock: Arc<dyn Clock>,
    results: Option<Arc<dyn Cache>>,
    errors: Option<Arc<dyn Cache>>,
    settings: FrontendSettings,
}

impl<S: Splitter> FrontendBuilder<S> {
    /// Keeps answers in a cache.
    #[must_use]
    pub fn results_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.results = Some(cache);
        self
    }

    /// Keeps errors that would be met again; it may be the same cache.
    #[must_use]
    pub fn errors_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.errors = Some(cache);
        self
    }

    /// Other settings than the default.
    #[must_use]
    pub fn settings(mut self, settings: FrontendSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The frontend.
    ///
    /// # Errors
    /// `InvalidInput` for settings with which nothing could run.
    pub fn build(self) -> Result<Frontend<S>> {
        self.settings.validate()?;
        Ok(Frontend {
            gate: FairGate::new(FairGateBounds {
                max_concurrent: self.settings.max_concurrent,
                percent_per_tenant: self.settings.max_concurrent_percent_per_tenant,
                max_waiting_per_tenant: self.settings.max_outstanding_requests_per_tenant,
            }),
            splitter: self.splitter,
            downstream: self.downstream,
            clock: self.clock,
            empty: self.results.clone().map(EmptyRanges::new),
            results: self.results.map(ResultsCache::new),
            errors: self.errors.map(ErrorsCache::new),
            settings: self.settings,
            flights: SingleFlight::new(),
            stats: FrontendStats::default(),
        })
    }
}

/// More pieces than this take longer to join than a thread of the runtime should be held.
const MANY_PIECES: usize = 32;

/// A query under way.
struct Query<'a, S: Splitter> {
    tenant: &'a TenantId,
    limits: &'a FrontendLimits,
    /// Settled.
    request: &'a S::Request,
    /// Its key, printed once for all pieces.
    key: &'a str,
    /// Whether answers are final once their steps are old enough.
    is_cacheable: bool,
    now_ms: TimestampMs,
    /// Bounds what runs at a time, however deep it was cut.
    slots: Semaphore,
    shards: u32,
}

impl<S: Splitter> Frontend<S> {
    /// A frontend of a language over those who answer.
    pub fn builder(
        splitter: S,
        downstream: Arc<dyn Downstream<S>>,
        clock: Arc<dyn Clock>,
    ) -> FrontendBuilder<S> {
        FrontendBuilder {
            splitter,
            downstream,
            clock,
            results: None,
            errors: None,
            settings: FrontendSettings::default(),
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> &FrontendStats {
        &self.stats
    }

    /// How its language is cut.
    pub fn splitter(&self) -> &S {
        &self.splitter
    }

    /// What the results cache has done, if there is one.
    pub fn results_cache_stats(&self) -> Option<&ResultsCacheStats> {
        self.results.as_ref().map(ResultsCache::stats)
    }

    /// What the cache of empty ranges has done, if answers are kept.
    pub fn empty_ranges_stats(&self) -> Option<&EmptyRangesStats> {
        self.empty.as_ref().map(EmptyRanges::stats)
    }

    /// What the errors cache has done, if there is one.
    pub fn errors_cache_stats(&self) -> Option<&ErrorsCacheStats> {
        self.errors.as_ref().map(ErrorsCache::stats)
    }

    /// Requests that wait for a turn.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// Answers a request. Equal requests of a tenant at the same time are answered once. Cancel-safe.
    ///
    /// # Errors
    /// `RateLimited` when too many of the tenant's requests wait, and those of downstream.
    pub async fn run(
        &self,
        tenant: &TenantId,
        request: S::Request,
        limits: &FrontendLimits,
    ) -> Result<S::Answer> {
        self.stats.queries.fetch_add(1, Ordering::Relaxed);
        let ttl = limits.results_cache_ttl_errors;
        let is_on = limits.results_cache_enabled && !ttl.is_zero();
        let Some(errors) = self.errors.as_ref().filter(|_| is_on) else {
            return self.run_new(tenant, request, limits).await;
        };
        let key = self.error_key(tenant, &request);
        if let Some(error) = errors.load(&key).await {
            return Err(error);
        }
        let outcome = self.run_new(tenant, request, limits).await;
        if let Err(error) = &outcome {
            errors.store(&key, error, ttl).await;
        }
        outcome
    }

    /// Tenant, times, whether they are steps, query.
    fn error_key(&self, tenant: &TenantId, request: &S::Request) -> String {
        let key = self.splitter.key(request);
        if let Some(range) = self.splitter.sweep(request) {
            return format!("{tenant}:{range:?}:{key}");
        }
        let StepRange {
            start_ms,
            end_ms,
            step_ms,
        } = self.splitter.times(request);
        let step_ms = match self.splitter.steps(request) {
            Some(_) => step_ms,
            None => 0,
        };
        format!("{tenant}:{start_ms}:{end_ms}:{step_ms}:{key}")
    }

    /// Answers a request whose failure is not known.
    async fn run_new(
        &self,
        tenant: &TenantId,
        request: S::Request,
        limits: &FrontendLimits,
    ) -> Result<S::Answer> {
        if let Some(range) = self.splitter.sweep(&request) {
            return self.run_sweep(tenant, &request, range, limits).await;
        }
        let Some(mut steps) = self.splitter.steps(&request) else {
            return self.run_whole(tenant, &request, limits).await;
        };
        if self.settings.align_queries_with_step {
            steps = steps.aligned();
        }
        // Settled first, so that what is written out are the steps that will be answered.
        let request = self.splitter.with_steps(&request, steps);
        let request = self.splitter.settled(request);
        let StepRange {
            start_ms,
            end_ms,
            step_ms,
        } = steps;
        let key = self.splitter.key(&request);
        let flight = format!("{tenant}:{start_ms}:{end_ms}:{step_ms}:{key}");
        self.flights
            .run(&flight, || {
                self.run_range(tenant, (&request, &key), steps, limits)
            })
            .await
    }

    /// What cannot be cut in time may still be cut by series.
    async fn run_whole(
        &self,
        tenant: &TenantId,
        request: &S::Request,
        limits: &FrontendLimits,
    ) -> Result<S::Answer> {
        let query = self.query(tenant, (request, ""), limits, 1);
        self.ask(&query, request).await
    }

    fn query<'a>(
        &self,
        tenant: &'a TenantId,
        (request, key): (&'a S::Request, &'a str),
        limits: &'a FrontendLimits,
        pieces: usize,
    ) -> Query<'a, S> {
        let now_ms = self.clock.now_ms();
        let fresh_ms = now_ms.saturating_sub(ms(limits.max_cache_freshness));
        Query {
            tenant,
            limits,
            request,
            key,
            is_cacheable: self.splitter.is_cacheable(request, fresh_ms),
            now_ms,
            slots: Semaphore::new(limits.max_query_parallelism.max(1)),
            shards: limits.shards_per_piece(pieces),
        }
    }

    async fn run_range(
        &self,
        tenant: &TenantId,
        (request, key): (&S::Request, &str),
        steps: StepRange,
        limits: &FrontendLimits,
    ) -> Result<S::Answer> {
        let interval_ms = match ms(limits.split_interval) {
            0 => i64::MAX,
            interval_ms => interval_ms,
        };
        let mut pieces: Vec<StepRange> = steps.pieces(interval_ms).collect();
        if pieces.is_empty() {
            pieces.push(steps);
        }
        self.stats
            .pieces
            .fetch_add(pieces.len() as u64, Ordering::Relaxed);
        if pieces.len() > MANY_PIECES {
            move_to_pool().await;
        }
        let query = self.query(tenant, (request, key), limits, pieces.len());
        let query = &query;
        let pieces = pieces.into_iter().map(|piece| {
            let work = async move {
                let answer = self.run_piece(query, piece, interval_ms).await?;
                self.splitter.piece_answered(query.request, &answer);
                Ok(answer)
            };
            work.boxed()
        });
        let parts = all(pieces.collect(), limits).await?;
        self.splitter.merge(parts)
    }

    async fn run_piece(
        &self,
        query: &Query<'_, S>,
        piece: StepRange,
        interval_ms: i64,
    ) -> Result<S::Answer> {
        let Some(results) = self.usable_cache(query, piece) else {
            return self.ask_steps(query, piece).await;
        };
        let key = self.piece_key(query, piece, interval_ms);
        let known = results
            .load(&key, |bytes| self.splitter.decode(bytes))
            .await;
        let known = self.still_valid(query, known);
        let parts = cover(piece, &known, ms(self.settings.min_extent));
        let parts = parts
            .into_iter()
            .map(|part| self.run_part(query, &known, part).boxed());
        let answers = all(parts.collect(), query.limits).await?;
        let whole = answers.iter().map(|(_, _, answer)| answer.clone());
        let whole = self.splitter.merge(whole.collect())?;
        let fresh = answers.into_iter().filter(|(is_new, ..)| *is_new);
        let fresh: Vec<_> = fresh.map(|(_, steps, answer)| (steps, answer)).collect();
        self.keep(results, query, &key, piece, known, fresh).await?;
        Ok(whole)
    }

    async fn run_part(
        &self,
        query: &Query<'_, S>,
        known: &[Extent<S::Answer>],
        part: Cover,
    ) -> Result<(bool, StepRange, S::Answer)> {
        match part {
            Cover::Known(n, steps) => {
                let answer = self.splitter.extract(&known[n].answer, steps);
                Ok((false, steps, answer))
            }
            Cover::Missing(steps) => Ok((true, steps, self.ask_steps(query, steps).await?)),
        }
    }

    /// The cache, if this piece may be looked up and kept.
    fn usable_cache(&self, query: &Query<'_, S>, piece: StepRange) -> Option<&ResultsCache> {
        let results = self.results.as_ref()?;
        let fresh_ms = self.fresh_ms(query);
        let stats = results.stats();
        let reason = if !query.limits.results_cache_enabled {
            return None;
        } else if piece.start_ms > fresh_ms {
            &stats.too_new
        } else if !self.settings.cache_unaligned_requests && !piece.is_aligned() {
            &stats.unaligned
        } else if !query.is_cacheable {
            &stats.has_modifiers
        } else {
            return Some(results);
        };
        reason.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Steps after this may still change.
    fn fresh_ms(&self, query: &Query<'_, S>) -> TimestampMs {
        query
            .now_ms
            .saturating_sub(ms(query.limits.max_cache_freshness))
    }

    /// Tenant, query, step, which interval, and the phase where it is not zero.
    fn piece_key(&self, query: &Query<'_, S>, piece: StepRange, interval_ms: i64) -> String {
        let step = piece.step_ms.max(1);
        let mut key = format!(
            "{}:{}:{step}:{}",
            query.tenant,
            query.key,
            piece.start_ms.get().div_euclid(interval_ms)
        );
        let phase = piece.start_ms.get().rem_euclid(step);
        if phase != 0 {
            key.push_str(&format!(":{phase}"));
        }
        key
    }

    /// Without extents that late samples may have changed since they were computed.
    fn still_valid(
        &self,
        query: &Query<'_, S>,
        mut known: Vec<Extent<S::Answer>>,
    ) -> Vec<Extent<S::Answer>> {
        let window_ms = ms(query.limits.out_of_order_time_window);
        if window_ms > 0 {
            let settled_ms = query.now_ms.saturating_sub(window_ms);
            let ttl_ms = ms(query.limits.results_cache_ttl_out_of_order);
            known.retain(|e| e.end_ms < settled_ms || query.now_ms.since(e.query_ms) <= ttl_ms);
        }
        known
    }

    async fn keep(
        &self,
        results: &ResultsCache,
        query: &Query<'_, S>,
        key: &str,
        piece: StepRange,
        known: Vec<Extent<S::Answer>>,
        fresh: Vec<(StepRange, S::Answer)>,
    ) -> Result<()> {
        let storable = fresh.iter().all(|(_, a)| self.splitter.is_storable(a));
        if fresh.is_empty() || !storable {
            return Ok(());
        }
        let mut extents = known;
        extents.extend(fresh.into_iter().map(|(steps, answer)| Extent {
            start_ms: steps.start_ms,
            end_ms: steps.last_ms(),
            query_ms: query.now_ms,
            answer,
        }));
        let step_ms = piece.step_ms.max(1);
        let extract = |answer: &S::Answer, steps| self.splitter.extract(answer, steps);
        let extents = merge_extents(extents, step_ms, |first, second, after| {
            let second = extract(&second, after);
            self.splitter.merge(vec![first, second])
        })?;
        let extents = trim_extents(extents, step_ms, self.fresh_ms(query), extract);
        let Some(last) = extents.last() else {
            return Ok(());
        };
        let window_ms = ms(query.limits.out_of_order_time_window);
        let ttl = if window_ms > 0 && last.end_ms >= query.now_ms.saturating_sub(window_ms) {
            query.limits.results_cache_ttl_out_of_order
        } else {
            query.limits.results_cache_ttl
        };
        let encode = |answer: &S::Answer| self.splitter.encode(answer);
        results.store(key, &extents, ttl, encode).await;
        Ok(())
    }

    async fn ask_steps(&self, query: &Query<'_, S>, steps: StepRange) -> Result<S::Answer> {
        let request = self.splitter.with_steps(query.request, steps);
        self.ask(query, &request).await
    }

    /// Asks downstream, by shards if there is a way.
    async fn ask(&self, query: &Query<'_, S>, request: &S::Request) -> Result<S::Answer> {
        self.stats.shardings_tried.fetch_add(1, Ordering::Relaxed);
        let joined = match self.splitter.shard(request, query.shards) {
            Some(plan) => self.ask_shards(query, &plan).await?,
            None => None,
        };
        match joined {
            Some(answer) => Ok(answer),
            None => self.ask_once(query, request).await,
        }
    }

    /// `None` if the answers cannot be joined.
    async fn ask_shards(
        &self,
        query: &Query<'_, S>,
        plan: &ShardPlan<S::Request>,
    ) -> Result<Option<S::Answer>> {
        self.stats.sharded.fetch_add(1, Ordering::Relaxed);
        let count = plan.legs.iter().map(Vec::len).sum::<usize>() as u64;
        self.stats.legs.fetch_add(count, Ordering::Relaxed);
        let asked = plan
            .legs
            .iter()
            .flatten()
            .map(|request| self.ask_once(query, request).boxed());
        let mut answers = all(asked.collect(), query.limits).await?.into_iter();
        let legs = plan
            .legs
            .iter()
            .map(|leg| answers.by_ref().take(leg.len()).collect())
            .collect::<Vec<_>>();
        if !self.splitter.can_join(&legs) {
            return Ok(None);
        }
        let joined = self.downstream.join(query.tenant, plan, legs).await?;
        Ok(Some(joined))
    }

    /// One request: with a turn, and again if that may help.
    async fn ask_once(&self, query: &Query<'_, S>, request: &S::Request) -> Result<S::Answer> {
        let _slot = query
            .slots
            .acquire()
            .await
            .map_err(|_| Error::Internal("the slots of a query were closed".into()))?;
        let ask = || async {
            let _turn = self.gate.enter(query.tenant).await?;
            self.stats.downstream.fetch_add(1, Ordering::Relaxed);
            self.downstream.run(query.tenant, request).await
        };
        let on_retry = || {
            self.stats.retries.fetch_add(1, Ordering::Relaxed);
        };
        retry(self.settings.max_attempts, ask, on_retry).await
    }
}

/// The outcomes in order, a number of them worked on at a time; the first failure ends the rest.
async fn all<T>(work: Vec<BoxFuture<'_, Result<T>>>, limits: &FrontendLimits) -> Result<Vec<T>> {
    stream::iter(work)
        .buffered(limits.max_query_parallelism.max(1))
        .try_collect()
        .await
}

mod sweep;

#[cfg(test)]
mod tests;
