//! Stores a process' own metrics, so that there is something to see from the first minute.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::exec::CancelToken;
use crate::model::{Labels, METRIC_NAME, TenantId};
use crate::service::Service;
use crate::sink::{SampleSink, SinkSample};
use crate::telemetry::Registry;

/// Puts the numbers of a registry into a sink at intervals, as if they had been scraped: with `up`, `job` and `instance`.
///
/// ```
/// use std::sync::Arc;
/// use lgtm_core::clock::SystemClock;
/// use lgtm_core::model::TenantId;
/// use lgtm_core::self_monitor::SelfMonitor;
/// use lgtm_core::sink::MemorySink;
/// use lgtm_core::telemetry::Registry;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let registry = Registry::new();
/// registry.counter("requests_total", "Requests served.")?.inc();
/// let sink = Arc::new(MemorySink::default());
/// let monitor = SelfMonitor::builder(&registry, sink.clone(), Arc::new(SystemClock::new()))
///     .instance("127.0.0.1:9009")
///     .build()?;
/// monitor.write().await?; // as a service: every 15 s
/// let samples = sink.take(&TenantId::anonymous());
/// assert!(samples.iter().any(|s| s.labels.get("__name__") == Some("requests_total")));
/// # Ok::<(), lgtm_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct SelfMonitor {
    registry: Registry,
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    job: String,
    instance: String,
    interval: Duration,
    after: Vec<String>,
}

/// Collects the parts of a [`SelfMonitor`].
#[derive(Debug)]
pub struct SelfMonitorBuilder(SelfMonitor);

impl SelfMonitorBuilder {
    /// Sets whose metrics they are. Default: the anonymous tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.0.tenant = tenant;
        self
    }

    /// Sets the label `job`. Default: `lgtm`.
    #[must_use]
    pub fn job(mut self, job: &str) -> Self {
        self.0.job = job.to_owned();
        self
    }

    /// Sets the label `instance`: where the process listens. Default: none.
    #[must_use]
    pub fn instance(mut self, instance: &str) -> Self {
        self.0.instance = instance.to_owned();
        self
    }

    /// Sets how often. Default 15s: a quarter of what rates over a minute need.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.0.interval = interval;
        self
    }

    /// Names services that must run before it starts: those behind the sink.
    #[must_use]
    pub fn after(mut self, services: &[&str]) -> Self {
        self.0.after = services.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// The service.
    ///
    /// # Errors
    /// `InvalidInput` for an interval of nothing.
    pub fn build(self) -> Result<SelfMonitor> {
        if self.0.interval.is_zero() {
            return Err(Error::InvalidInput(
                "the interval of self-monitoring is 0, must be more".into(),
            ));
        }
        Ok(self.0)
    }
}

impl SelfMonitor {
    /// Of the numbers of `registry` into `sink`, at the times of `clock`.
    pub fn builder(
        registry: &Registry,
        sink: Arc<dyn SampleSink>,
        clock: Arc<dyn Clock>,
    ) -> SelfMonitorBuilder {
        SelfMonitorBuilder(Self {
            registry: registry.clone(),
            sink,
            clock,
            tenant: TenantId::anonymous(),
            job: "lgtm".to_owned(),
            instance: String::new(),
            interval: Duration::from_secs(15),
            after: Vec::new(),
        })
    }

    /// Writes all numbers once, as they are now.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn write(&self) -> Result<()> {
        let t_ms = self.clock.now_ms();
        let mut own = vec![("job", self.job.as_str()), ("instance", &self.instance)];
        own.retain(|(_, value)| !value.is_empty());
        let labels = |name: &str, given: &[(String, String)]| {
            let given = given.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let own = own.iter().copied();
            Labels::from_pairs([(METRIC_NAME, name)].into_iter().chain(own).chain(given))
        };
        let mut samples = vec![SinkSample::float(labels("up", &[])?, t_ms, 1.0)];
        for sample in self.registry.samples() {
            let labels = labels(&sample.name, &sample.labels)?;
            samples.push(SinkSample::float(labels, t_ms, sample.value));
        }
        self.sink.write(&self.tenant, &samples).await.map(drop)
    }
}

#[async_trait]
impl Service for SelfMonitor {
    fn name(&self) -> &str {
        "self-monitor"
    }

    fn depends_on(&self) -> Vec<String> {
        self.after.clone()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        loop {
            if let Err(e) = self.write().await {
                tracing::debug!(error = %e, "own metrics are not stored");
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::sink::{MemorySink, SinkValue};

    fn monitor(sink: &Arc<MemorySink>) -> SelfMonitor {
        let registry = Registry::new();
        let requests = registry.counter_vec("requests_total", "Requests.", &["route"]);
        requests.unwrap().with(&["push"]).inc();
        let clock = Arc::new(ManualClock::default());
        SelfMonitor::builder(&registry, Arc::clone(sink) as _, clock)
            .instance("host:1")
            .tenant(TenantId::new("own").unwrap())
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn all_numbers_come_with_job_instance_and_up() {
        let sink = Arc::new(MemorySink::default());
        monitor(&sink).write().await.unwrap();
        let samples = sink.take(&TenantId::new("own").unwrap());
        let mut found: Vec<_> = samples
            .iter()
            .map(|s| {
                let SinkValue::Float(value) = s.value else {
                    panic!("{s:?}");
                };
                let labels: Vec<_> = s.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
                (labels.join(" "), value)
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            found,
            [
                (
                    "__name__=requests_total instance=host:1 job=lgtm route=push".to_owned(),
                    1.0
                ),
                ("__name__=up instance=host:1 job=lgtm".to_owned(), 1.0),
            ]
        );
        assert_eq!(sink.take(&TenantId::new("own").unwrap()).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_writes_at_intervals_until_it_is_stopped() {
        let sink = Arc::new(MemorySink::default());
        let monitor = monitor(&sink);
        let stop = CancelToken::new();
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            stop.cancel();
        };
        let (ran, ()) = tokio::join!(monitor.run(stop.clone()), stopping);
        ran.unwrap();
        let ups = sink.take(&TenantId::new("own").unwrap());
        let ups = ups
            .iter()
            .filter(|s| s.labels.get(METRIC_NAME) == Some("up"));
        assert_eq!(ups.count(), 3);
    }
}
