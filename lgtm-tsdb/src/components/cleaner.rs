//! Deletes what uploads that never ended have left in the bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::limits::Overrides;
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, delete_leftovers};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::block::BLOCK_LEFTOVERS;
use crate::limits::Limits;

/// How the bucket is kept clean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanerSettings {
    /// How often the bucket is looked through for uploads that never ended. Each round lists all objects once; uploads that break off are rare.
    #[serde(with = "lgtm_core::units::duration")]
    pub cleanup_interval: Duration,
}

impl Default for CleanerSettings {
    fn default() -> Self {
        Self {
            cleanup_interval: Duration::from_secs(3600),
        }
    }
}

/// Collects the parts of a [`BlocksCleaner`].
#[derive(Debug)]
pub struct BlocksCleanerBuilder {
    bucket: Bucket,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    registry: Option<Registry>,
    settings: CleanerSettings,
}

impl BlocksCleanerBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: CleanerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Has `registry` tell what was deleted.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for an interval below a second.
    pub fn build(self) -> Result<Arc<BlocksCleaner>> {
        if self.settings.cleanup_interval < Duration::from_secs(1) {
            return Err(Error::InvalidInput(format!(
                "cleanup_interval {:?} is less than 1s",
                self.settings.cleanup_interval
            )));
        }
        let cleaner = Arc::new(BlocksCleaner {
            bucket: self.bucket,
            limits: self.limits,
            clock: self.clock,
            settings: self.settings,
            deleted: AtomicU64::new(0),
        });
        if let Some(registry) = &self.registry {
            cleaner.register_metrics(registry);
        }
        Ok(cleaner)
    }
}

/// Deletes partial blocks: folders without `meta.json` to which nothing was added for the tenant's
/// `compactor_partial_block_deletion_delay`. Readers pass them over in the meantime.
#[derive(Debug)]
pub struct BlocksCleaner {
    bucket: Bucket,
    limits: Overrides<Limits>,
    clock: Arc<dyn Clock>,
    settings: CleanerSettings,
    deleted: AtomicU64,
}

impl BlocksCleaner {
    /// Begins a builder: a cleaner of `bucket`.
    pub fn builder(bucket: Bucket, limits: Overrides<Limits>) -> BlocksCleanerBuilder {
        BlocksCleanerBuilder {
            bucket,
            limits,
            clock: Arc::new(SystemClock::new()),
            registry: None,
            settings: CleanerSettings::default(),
        }
    }

    /// Partial blocks deleted so far.
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Looks through the bucket once.
    ///
    /// # Errors
    /// The first error of any tenant; the others are cleaned all the same.
    pub async fn clean(&self) -> Result<()> {
        let mut failed = None;
        for tenant in self.bucket.tenants().await? {
            let delay = self.limits.for_tenant(&tenant);
            let delay = delay.compactor_partial_block_deletion_delay;
            if delay.is_zero() {
                continue;
            }
            let min_age_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let now_ms = self.clock.now_ms();
            let rule = &BLOCK_LEFTOVERS;
            match delete_leftovers(&self.bucket, &tenant, rule, now_ms, min_age_ms).await {
                Ok(blocks) => {
                    for block in &blocks {
                        tracing::info!(%tenant, block = block.folder, objects = block.objects.len(), "partial block deleted");
                    }
                    self.deleted
                        .fetch_add(blocks.len() as u64, Ordering::Relaxed);
                }
                Err(e) => {
                    failed.get_or_insert(e);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Service for BlocksCleaner {
    fn name(&self) -> &str {
        "metrics-blocks-cleaner"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.cleanup_interval) => {
                    if let Err(e) = self.clean().await {
                        tracing::warn!(error = %e, "partial blocks cannot be deleted; it is tried again");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::clock::ManualClock;
    use lgtm_core::model::TenantId;
    use lgtm_core::storage::{DataKind, Layout};
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn each_tenants_own_delay_counts() {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
        let id = "01M81S4Y5HSTNJNYGGEK41NWSC";
        for tenant in ["a", "b", "c"] {
            let path = format!("{tenant}/{id}/index");
            bucket.put(&path, "x").await.unwrap();
        }
        let hours = |n: u64| Limits {
            compactor_partial_block_deletion_delay: Duration::from_secs(n * 3600),
            ..Limits::default()
        };
        let tenant = |t| TenantId::new(t).unwrap();
        let limits = Overrides::new(
            hours(24),
            [(tenant("b"), hours(4)), (tenant("c"), hours(0))].into(),
        );
        let now_ms = SystemClock::new().now_ms();
        let clock = Arc::new(ManualClock::at_ms(now_ms + 5 * 3_600_000));
        let cleaner = BlocksCleaner::builder(bucket.clone(), limits).clock(clock);
        let cleaner = cleaner.build().unwrap();
        cleaner.clean().await.unwrap();
        assert_eq!(cleaner.deleted(), 1);
        for (tenant, left) in [("a", true), ("b", false), ("c", true)] {
            let path = format!("{tenant}/{id}/index");
            assert_eq!(bucket.exists(&path).await.unwrap(), left, "{tenant}");
        }
    }
}
