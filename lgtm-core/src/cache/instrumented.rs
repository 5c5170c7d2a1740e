//! What a layer of caching does, told to the host's metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::counts::CacheCounts;
use crate::clock::Clock;
use crate::error::Result;
use crate::telemetry::{Collection, Histogram, Registry};

/// From a look-up in memory to one that ran into its deadline.
const SECONDS: [f64; 9] = [
    0.000_025, 0.000_1, 0.000_4, 0.001_6, 0.006_4, 0.025, 0.1, 0.4, 1.6,
];

/// Counts and times what is asked of another cache, under a name of its own: the hit ratio of a layer is
/// `lgtm_cache_hits_total / lgtm_cache_requests_total` of its `name`, whoever else uses the cache below.
#[derive(Debug)]
pub struct Instrumented {
    name: String,
    inner: Arc<dyn Cache>,
    clock: Arc<dyn Clock>,
    counts: Arc<CacheCounts>,
    gets: Arc<Histogram>,
    sets: Arc<Histogram>,
    deletes: Arc<Histogram>,
}

impl Instrumented {
    /// `inner`, told of as `name` in `registry`. A name is used once: of two with the same the second is not told of.
    ///
    /// # Errors
    /// `InvalidInput` if the registry has another kind of metric under one of the names.
    pub fn new(
        name: &str,
        inner: Arc<dyn Cache>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Self> {
        let seconds = registry.histogram_vec(
            "lgtm_cache_request_duration_seconds",
            "How long requests to a cache took, by layer and operation.",
            &["name", "operation"],
            &SECONDS,
        )?;
        let counts = Arc::new(CacheCounts::default());
        let (layer, below) = (name.to_owned(), Arc::downgrade(&inner));
        registry.collect_from(&counts, move |counts: &CacheCounts, e| {
            if let Some(below) = below.upgrade() {
                tell(&layer, counts.over(below.stats()), e);
            }
        });
        Ok(Self {
            name: name.to_owned(),
            inner,
            clock,
            counts,
            gets: seconds.with(&[name, "get"]),
            sets: seconds.with(&[name, "set"]),
            deletes: seconds.with(&[name, "delete"]),
        })
    }

    fn observe(&self, histogram: &Histogram, began: Duration) {
        histogram.observe_duration(self.clock.monotonic().saturating_sub(began));
    }
}

fn tell(name: &str, stats: CacheStats, e: &mut Collection) {
    let labels = [("name", name)];
    for (metric, help, count) in [
        (
            "lgtm_cache_requests_total",
            "Keys asked for, by layer.",
            stats.requests,
        ),
        ("lgtm_cache_hits_total", "Keys found.", stats.hits),
        ("lgtm_cache_stores_total", "Values stored.", stats.stores),
        (
            "lgtm_cache_skipped_total",
            "Values not stored: too large, or a full queue. Of all who share the cache.",
            stats.skipped,
        ),
        (
            "lgtm_cache_failures_total",
            "Operations that failed and were treated as misses. Of all who share the cache.",
            stats.failures,
        ),
        (
            "lgtm_cache_evicted_total",
            "Values dropped for others. Of all who share the cache.",
            stats.evicted,
        ),
    ] {
        e.counter(metric, help, &labels, count as f64);
    }
    e.gauge(
        "lgtm_cache_bytes",
        "Bytes held, where that is known. Of all who share the cache.",
        &labels,
        stats.bytes as f64,
    );
}

#[async_trait]
impl Cache for Instrumented {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let began = self.clock.monotonic();
        let found = self.inner.get_many(keys).await;
        self.observe(&self.gets, began);
        self.counts.answered(&found);
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let began = self.clock.monotonic();
        self.inner.set(key, value, ttl).await;
        self.observe(&self.sets, began);
        self.counts.stored(1);
    }

    async fn delete(&self, key: &str) {
        let began = self.clock.monotonic();
        self.inner.delete(key).await;
        self.observe(&self.deletes, began);
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn stats(&self) -> CacheStats {
        self.counts.over(self.inner.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CacheExt, MemoryCache, MemoryCacheSettings};
    use crate::clock::ManualClock;
    use crate::testing::cache_suite;

    #[tokio::test]
    async fn it_is_a_cache_and_layers_are_told_apart() {
        let clock = Arc::new(ManualClock::default());
        let registry = Registry::new();
        let settings = MemoryCacheSettings::default();
        let shared = Arc::new(MemoryCache::new("shared", &settings, clock.clone()).unwrap());
        let layer =
            |name| Instrumented::new(name, shared.clone(), clock.clone(), &registry).unwrap();
        let (first, second) = (layer("first"), layer("second"));
        cache_suite(&first, async |time| clock.advance(time)).await;
        second.set("k", Bytes::from_static(b"v"), None).await;
        assert!(second.get("k").await.is_some());
        assert!(second.get("other").await.is_none());
        let value = |metric: &str, name: &str| {
            let wanted = ("name".to_owned(), name.to_owned());
            let mut samples = registry.samples();
            let sample = samples.find(|s| s.name == metric && s.labels.contains(&wanted));
            sample.map(|s| s.value)
        };
        assert_eq!(value("lgtm_cache_requests_total", "second"), Some(2.0));
        assert_eq!(value("lgtm_cache_hits_total", "second"), Some(1.0));
        assert!(value("lgtm_cache_requests_total", "first").unwrap() > 300.0);
        let timed = registry.encode();
        let line = r#"lgtm_cache_request_duration_seconds_count{name="second",operation="get"} 2"#;
        assert!(timed.contains(line), "{timed}");
    }
}
