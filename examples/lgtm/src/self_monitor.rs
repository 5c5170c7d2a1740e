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
use lgtm_tsdb::components::Distributor;
use lgtm_tsdb::wire::WriteBatch;

use crate::metrics::Metrics;

/// Pushes the host's metrics to its own distributor.
#[derive(Debug)]
pub(crate) struct SelfMonitor {
    metrics: Metrics,
    distributor: Arc<Distributor>,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    instance: String,
    interval: Duration,
}

impl SelfMonitor {
    pub(crate) fn new(
        metrics: Metrics,
        distributor: Arc<Distributor>,
        clock: Arc<dyn Clock>,
        tenant: &str,
        address: SocketAddr,
        interval: Duration,
    ) -> Result<Self> {
        let tenant = TenantId::new(tenant)?;
        Ok(Self {
            metrics,
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
        let gathered = self.metrics.gather();
        let up: &[(&'static str, String)] = &[];
        for (name, labels, value) in gathered.samples().chain([("up", up, 1.0)]) {
            let own = [
                (METRIC_NAME, name),
                ("job", "lgtm"),
                ("instance", self.instance.as_str()),
            ];
            let given = labels.iter().map(|(n, v)| (*n, v.as_str()));
            let labels = Labels::from_pairs(own.into_iter().chain(given))?;
            batch.push_series(labels.iter(), &[Sample { t_ms, value }]);
        }
        self.distributor.push(&self.tenant, &batch).await.map(drop)
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
