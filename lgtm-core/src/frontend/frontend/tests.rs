use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::cache::{MemoryCache, MemoryCacheSettings};
use crate::clock::ManualClock;
use crate::error::DecodeError;
use crate::timestamp::TimestampMs;

/// A language whose queries are names: the answer at a step is the step's time and the name's data version.
#[derive(Debug)]
struct Model;

#[derive(Debug, Clone, PartialEq)]
struct Request {
    name: String,
    steps: StepRange,
    shard: Option<(u32, u32)>,
}

type Answer = BTreeMap<TimestampMs, i64>;

impl Splitter for Model {
    type Request = Request;
    type Answer = Answer;

    fn times(&self, request: &Request) -> StepRange {
        request.steps
    }

    fn steps(&self, request: &Request) -> Option<StepRange> {
        (!request.name.starts_with("whole")).then_some(request.steps)
    }

    fn with_steps(&self, request: &Request, steps: StepRange) -> Request {
        Request {
            steps,
            ..request.clone()
        }
    }

    fn key(&self, request: &Request) -> String {
        request.name.clone()
    }

    fn is_cacheable(&self, request: &Request, _: TimestampMs) -> bool {
        !request.name.contains("future")
    }

    fn is_storable(&self, answer: &Answer) -> bool {
        !answer.values().any(|v| *v < 0)
    }

    fn extract(&self, answer: &Answer, steps: StepRange) -> Answer {
        let range = answer.range(steps.start_ms..=steps.end_ms);
        range.map(|(t, v)| (*t, *v)).collect()
    }

    fn merge(&self, parts: Vec<Answer>) -> Result<Answer> {
        let mut whole = Answer::new();
        for (t, v) in parts.into_iter().flatten() {
            assert!(whole.insert(t, v).is_none(), "step {t} stands in two parts");
        }
        Ok(whole)
    }

    fn encode(&self, answer: &Answer) -> Vec<u8> {
        serde_json::to_vec(&answer.iter().collect::<Vec<_>>()).unwrap()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Answer, DecodeError> {
        let pairs: Vec<(TimestampMs, i64)> = serde_json::from_slice(bytes)
            .map_err(|e| DecodeError::new("answer", 0, e.to_string()))?;
        Ok(pairs.into_iter().collect())
    }

    fn shard(&self, request: &Request, shards: u32) -> Option<ShardPlan<Request>> {
        let leg = |n| Request {
            shard: Some((n, shards)),
            ..request.clone()
        };
        (shards >= 2 && request.name.contains("sum")).then(|| ShardPlan {
            outer: request.clone(),
            legs: vec![(1..=shards).map(leg).collect()],
        })
    }
}

#[derive(Debug, Default)]
struct Data {
    version: Mutex<i64>,
    asked: Mutex<Vec<Request>>,
    down: AtomicBool,
    /// What every request fails with.
    broken: Mutex<Option<Error>>,
    running: AtomicU64,
    most: AtomicU64,
}

#[async_trait]
impl Downstream<Model> for Data {
    async fn run(&self, _: &TenantId, request: &Request) -> Result<Answer> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.asked.lock().push(request.clone());
        if self.down.swap(false, Ordering::SeqCst) {
            return Err(Error::Unavailable("starting".into()));
        }
        if let Some(error) = self.broken.lock().clone() {
            return Err(error);
        }
        let version = *self.version.lock();
        // Each shard has its part of the version.
        let value = match request.shard {
            Some((n, of)) => {
                version / i64::from(of) + if n == 1 { version % i64::from(of) } else { 0 }
            }
            None => version,
        };
        Ok(request.steps.iter().map(|t| (t, t.get() + value)).collect())
    }

    async fn join(
        &self,
        _: &TenantId,
        plan: &ShardPlan<Request>,
        legs: Vec<Vec<Answer>>,
    ) -> Result<Answer> {
        assert_eq!(legs.len(), plan.legs.len());
        let mut sums = Answer::new();
        for answer in &legs[0] {
            for (t, v) in answer {
                *sums.entry(*t).or_insert(t.get()) += v - t.get();
            }
        }
        Ok(sums)
    }
}

struct House {
    data: Arc<Data>,
    clock: Arc<ManualClock>,
    frontend: Frontend<Model>,
    tenant: TenantId,
}

const NOW_MS: i64 = 1_000_000_000;

fn house(settings: FrontendSettings) -> House {
    let data = Arc::new(Data::default());
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    let cache =
        MemoryCache::new("results", &MemoryCacheSettings::default(), clock.clone()).unwrap();
    let cache = Arc::new(cache);
    let frontend = Frontend::builder(Model, data.clone(), clock.clone())
        .results_cache(cache.clone())
        .errors_cache(cache)
        .settings(settings)
        .build()
        .unwrap();
    House {
        data,
        clock,
        frontend,
        tenant: TenantId::new("t").unwrap(),
    }
}

fn limits() -> FrontendLimits {
    FrontendLimits {
        split_interval: Duration::from_secs(3600),
        max_cache_freshness: Duration::from_secs(600),
        ..FrontendLimits::default()
    }
}

fn request(
    name: &str,
    start_ms: impl Into<TimestampMs>,
    end_ms: impl Into<TimestampMs>,
    step_ms: i64,
) -> Request {
    Request {
        name: name.into(),
        steps: StepRange {
            start_ms: start_ms.into(),
            end_ms: end_ms.into(),
            step_ms,
        },
        shard: None,
    }
}

fn wanted(steps: StepRange, version: i64) -> Answer {
    steps.iter().map(|t| (t, t.get() + version)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_query_is_split_cached_and_then_only_its_fresh_end_is_asked_again() {
    let h = house(FrontendSettings::default());
    let ask = request("x", NOW_MS - 3 * 3_600_000, NOW_MS, 60_000);
    let first = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(first, wanted(ask.steps, 0));
    let cold = h.data.asked.lock().drain(..).count();
    assert!(cold >= 3, "{cold}");
    // Old answers come from the cache, so they have the old version; the last ten minutes are asked for again.
    *h.data.version.lock() = 5;
    let second = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(second.len(), first.len());
    for (t, v) in &second {
        let is_fresh = *t > NOW_MS - 600_000;
        assert_eq!(v - t.get(), if is_fresh { 5 } else { 0 }, "{t}");
    }
    let asked = h.data.asked.lock().drain(..).collect::<Vec<_>>();
    assert!(
        asked
            .iter()
            .all(|r| r.steps.start_ms > TimestampMs::new(NOW_MS - 600_000)),
        "{asked:?}"
    );
    // Another tenant sees nothing of it.
    let other = TenantId::new("u").unwrap();
    let theirs = h
        .frontend
        .run(&other, ask.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(theirs, wanted(ask.steps, 5));
}

#[tokio::test(start_paused = true)]
async fn what_may_change_is_not_kept() {
    let h = house(FrontendSettings::default());
    let old = NOW_MS - 7_200_000;
    for (name, version) in [("future", 0), ("x", -5_000_000_000)] {
        *h.data.version.lock() = version;
        let ask = request(name, old, old + 600_000, 60_000);
        h.frontend
            .run(&h.tenant, ask.clone(), &limits())
            .await
            .unwrap();
        *h.data.version.lock() = 7;
        let again = h
            .frontend
            .run(&h.tenant, ask.clone(), &limits())
            .await
            .unwrap();
        assert_eq!(again, wanted(ask.steps, 7), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_samples_are_seen_after_the_short_time() {
    let h = house(FrontendSettings::default());
    let limits = FrontendLimits {
        out_of_order_time_window: Duration::from_secs(86_400),
        ..limits()
    };
    let ask = request("x", NOW_MS - 7_200_000, NOW_MS - 3_600_000, 60_000);
    h.frontend
        .run(&h.tenant, ask.clone(), &limits)
        .await
        .unwrap();
    *h.data.version.lock() = 9;
    h.clock.advance(Duration::from_secs(300));
    let soon = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits)
        .await
        .unwrap();
    assert_eq!(soon, wanted(ask.steps, 0));
    h.clock.advance(Duration::from_secs(301));
    let later = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits)
        .await
        .unwrap();
    assert_eq!(later, wanted(ask.steps, 9));
}

#[tokio::test(start_paused = true)]
async fn equal_queries_at_the_same_time_are_asked_once() {
    let h = house(FrontendSettings::default());
    let ask = request("x", NOW_MS - 60_000, NOW_MS, 1000);
    let limits = limits();
    let runs = (0..10).map(|_| h.frontend.run(&h.tenant, ask.clone(), &limits));
    let answers = futures::future::join_all(runs).await;
    assert!(
        answers
            .into_iter()
            .all(|a| a.unwrap() == wanted(ask.steps, 0))
    );
    assert_eq!(h.data.asked.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shards_are_asked_singly_and_joined() {
    let h = house(FrontendSettings::default());
    *h.data.version.lock() = 1001;
    let ask = request("sum", NOW_MS - 7_200_000, NOW_MS, 60_000);
    let answer = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(answer, wanted(ask.steps, 1001));
    let shards: Vec<_> = h.data.asked.lock().iter().filter_map(|r| r.shard).collect();
    assert!(
        shards.len() >= 32 && shards.contains(&(16, 16)),
        "{shards:?}"
    );
    // So many pieces leave fewer shards to each.
    let few = FrontendLimits {
        max_sharded_queries: 6,
        ..limits()
    };
    h.data.asked.lock().clear();
    let ask = request("sum2", NOW_MS - 7_200_000, NOW_MS - 3_700_000, 60_000);
    h.frontend.run(&h.tenant, ask, &few).await.unwrap();
    assert!(h.data.asked.lock().len() <= 6);
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_a_time_than_allowed_and_failures_pass() {
    let h = house(FrontendSettings {
        max_concurrent: 3,
        max_concurrent_percent_per_tenant: 100,
        ..FrontendSettings::default()
    });
    h.data.down.store(true, Ordering::SeqCst);
    let ask = request("sum", NOW_MS - 86_400_000, NOW_MS, 60_000);
    let answer = h
        .frontend
        .run(&h.tenant, ask.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(answer, wanted(ask.steps, 0));
    assert_eq!(h.data.most.load(Ordering::SeqCst), 3);
    assert_eq!(h.frontend.stats().retries.load(Ordering::Relaxed), 1);
    let whole = request("whole", 5, 5, 1);
    let answer = h
        .frontend
        .run(&h.tenant, whole.clone(), &limits())
        .await
        .unwrap();
    assert_eq!(answer, wanted(whole.steps, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stays_is_known_for_its_tenant_and_its_time() {
    let h = house(FrontendSettings::default());
    let limits = FrontendLimits {
        results_cache_ttl_errors: Duration::from_secs(300),
        ..limits()
    };
    let (whole, range) = (request("whole", 5, 5, 1), request("x", 5, 5, 1));
    let asked = || h.data.asked.lock().len();
    let fail = async |tenant: &TenantId, ask: &Request, limits: &FrontendLimits| {
        let outcome = h.frontend.run(tenant, ask.clone(), limits).await;
        outcome.unwrap_err().to_string()
    };
    *h.data.broken.lock() = Some(Error::LimitExceeded("too much".into()));
    for ask in [&whole, &range] {
        let before = asked();
        let first = fail(&h.tenant, ask, &limits).await;
        assert_eq!(asked(), before + 1);
        assert_eq!(fail(&h.tenant, ask, &limits).await, first);
        assert_eq!(asked(), before + 1, "the second time it is known");
    }
    let hits = &h.frontend.errors_cache_stats().unwrap().hits;
    assert_eq!(hits.load(Ordering::Relaxed), 2);
    // Another tenant, other times, and who wants nothing from a cache are asked for.
    let other = TenantId::new("other").unwrap();
    fail(&other, &whole, &limits).await;
    fail(&h.tenant, &request("whole", 6, 6, 1), &limits).await;
    let none = FrontendLimits {
        results_cache_enabled: false,
        ..limits.clone()
    };
    fail(&h.tenant, &whole, &none).await;
    assert_eq!(asked(), 5);
    // What passes is not kept, and what is kept passes with its time.
    *h.data.broken.lock() = Some(Error::Internal("a fault".into()));
    let new = request("whole", 7, 7, 1);
    fail(&h.tenant, &new, &limits).await;
    *h.data.broken.lock() = None;
    assert!(h.frontend.run(&h.tenant, new, &limits).await.is_ok());
    fail(&h.tenant, &whole, &limits).await;
    h.clock.advance(Duration::from_secs(301));
    assert!(h.frontend.run(&h.tenant, whole, &limits).await.is_ok());
}

#[test]
fn settings_that_run_nothing_are_refused() {
    for percent in [0, 101] {
        let settings = FrontendSettings {
            max_concurrent_percent_per_tenant: percent,
            ..FrontendSettings::default()
        };
        let said = settings.validate().unwrap_err().to_string();
        assert!(said.contains("max_concurrent_percent_per_tenant"), "{said}");
    }
    let settings = FrontendSettings {
        max_concurrent: 0,
        ..FrontendSettings::default()
    };
    assert!(
        settings
            .validate()
            .unwrap_err()
            .to_string()
            .contains("max_concurrent")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn with_the_cache_answers_are_those_without(
        asks in prop::collection::vec((0i64..400, 0i64..200, 0usize..4, any::<bool>()), 1..12),
        split_min in 0u64..120,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let h = house(FrontendSettings::default());
            let limits = FrontendLimits { split_interval: Duration::from_secs(60 * split_min), ..limits() };
            for (back, length, step, sum) in asks {
                let start_ms = NOW_MS - back * 60_000;
                let step_ms = [15_000, 60_000, 61_000, 600_000][step];
                let ask = request(if sum { "sum" } else { "x" }, start_ms, start_ms + length * 60_000, step_ms);
                let answer = h.frontend.run(&h.tenant, ask.clone(), &limits).await.unwrap();
                assert_eq!(answer, wanted(ask.steps, 0), "{ask:?}");
            }
        });
    }
}
