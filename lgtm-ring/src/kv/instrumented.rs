//! Any store, its requests timed by outcome.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::telemetry::{Family, Histogram, Registry};

use crate::kv::kv::Kv;
use crate::kv::watch::KvWatch;

/// Seconds of a request: a store in memory takes microseconds, one across a network milliseconds, one that is down its timeout.
const BOUNDS: [f64; 9] = [0.000_1, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What a store is called in metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvLabels {
    /// What it is for, e.g. `ingester-lifecycler`.
    pub name: String,
    /// The kind of store, e.g. `memberlist` or `etcd`.
    pub kind: String,
    /// `primary`, or `secondary` beneath a [`MultiKv`](crate::kv::MultiKv).
    pub role: String,
}

/// A store whose requests are counted and timed in `kv_request_duration_seconds`, by operation and outcome: `status_code` is 200, or 500
/// for one that failed. Of a watch, the time is that of opening it. A dropped request is not counted.
#[derive(Debug, Clone)]
pub struct InstrumentedKv {
    inner: Arc<dyn Kv>,
    labels: KvLabels,
    clock: Arc<dyn Clock>,
    durations: Arc<Family<Histogram, 5>>,
}

impl InstrumentedKv {
    /// `inner` under these labels. `prefix` is the product's, e.g. `cortex_`.
    ///
    /// # Errors
    /// `InvalidInput` when the metric's name is taken.
    pub fn new(
        inner: Arc<dyn Kv>,
        labels: KvLabels,
        clock: Arc<dyn Clock>,
        registry: &Registry,
        prefix: &str,
    ) -> Result<Self> {
        let durations = registry.histogram_vec(
            &format!("{prefix}kv_request_duration_seconds"),
            "Duration of requests to the key-value store.",
            &["operation", "role", "type", "status_code", "kv_name"],
            &BOUNDS,
        )?;
        Ok(Self {
            inner,
            labels,
            clock,
            durations,
        })
    }

    async fn timed<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = self.clock.monotonic();
        let outcome = request.await;
        let status = if outcome.is_ok() { "200" } else { "500" };
        self.observe(
            operation,
            status,
            self.clock.monotonic().saturating_sub(began),
        );
        outcome
    }

    fn observe(&self, operation: &str, status: &str, took: Duration) {
        let KvLabels { name, kind, role } = &self.labels;
        let histogram = self.durations.with(&[operation, role, kind, status, name]);
        histogram.observe_duration(took);
    }
}

#[async_trait]
impl Kv for InstrumentedKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.timed("GET", self.inner.get(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.timed("List", self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.timed("Delete", self.inner.delete(key)).await
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        self.timed("CAS", self.inner.cas(key, change)).await
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        self.timed("WatchKey", self.inner.watch_key(key)).await
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        self.timed("WatchPrefix", self.inner.watch_prefix(prefix))
            .await
    }
}
