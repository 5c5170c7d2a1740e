//! Stores the host's own metrics in the host, so that there is something to see from the first minute.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, METRIC_NAME, Sample, TenantId};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_tsdb::components::Distributor;
use lgtm_tsdb::wire::WriteBatch;

/// Pushes the host's metrics to its own distributor.
#[derive(Debug)]
pub(crate) struct SelfMonitor {
    registry: Registry,
    distributor: Arc<Distributor>,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    instance: String,
    interval: Duration,
}

impl SelfMonitor {
    pub(crate) fn new(
        registry: Registry,
        distributor: Arc<Distributor>,
        clock: Arc<dyn Clock>,
        tenant: &str,
        address: SocketAddr,
        interval: Duration,
    ) -> Result<Self> {
        let tenant = TenantId::new(tenant)?;
        Ok(Self {
            registry,
            distributor,
            clock,
            tenant,
            instance: address.to_string(),
            interval,
        })
    }

    async fn push(&self) -> Result<()> {
        let t_ms = self.clock.now_ms();
        let mut batch = WriteBatch::default();
        let own = [("job", "lgtm"), ("instance", self.instance.as_str())];
        for sample in self.registry.samples() {
            let named = [(METRIC_NAME, sample.name.as_str())];
            let given = sample.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let labels = Labels::from_pairs(named.into_iter().chain(own).chain(given))?;
            let value = sample.value;
            batch.push_series(labels.iter(), &[Sample { t_ms, value }]);
        }
        let up = Labels::from_pairs([(METRIC_NAME, "up")].into_iter().chain(own))?;
        batch.push_series(up.iter(), &[Sample { t_ms, value: 1.0 }]);
        self.distributor.push(&self.tenant, batch).await.map(drop)
    }
}

#[async_trait]
impl Service for SelfMonitor {
    fn name(&self) -> &str {
        "self-monitor"
    }

    fn depends_on(&self) -> Vec<String> {
        vec!["metrics-ingester".into()]
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        loop {
            if let Err(e) = self.push().await {
                tracing::debug!(error = %e, "own metrics are not stored");
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
