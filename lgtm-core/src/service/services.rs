//! All services of a process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::exec::{CancelToken, TaskGroup};
use crate::service::graph::Graph;
use crate::service::lifecycle::Lifecycle;
use crate::service::service::Service;
use crate::service::status::{ServiceEntry, ServicesStatus};

/// Starts services after what they depend on, and stops them in reverse.
///
/// ```
/// use lgtm_core::service::{Service, Services};
///
/// #[derive(Debug)]
/// struct Ingester;
///
/// #[async_trait::async_trait]
/// impl Service for Ingester {
///     fn name(&self) -> &str {
///         "ingester"
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let services = Services::new().add(Ingester);
/// let status = services.status(); // for /ready and /services
/// let shutdown = async move {
///     assert!(status.all_running().await);
/// };
/// services.run_until(shutdown).await
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct Services {
    status: ServicesStatus,
    shutdown_delay: Duration,
}

impl Services {
    /// No services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service; the order of adding does not matter.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "a host adds services; nobody expects a sum"
    )]
    pub fn add(self, service: impl Service) -> Self {
        self.add_after([], service)
    }

    /// Adds a service that starts after those named, beside what it depends on by itself: for a host that knows which of its parts asks
    /// which.
    #[must_use]
    pub fn add_after<'a>(
        self,
        after: impl IntoIterator<Item = &'a str>,
        service: impl Service,
    ) -> Self {
        let after = after.into_iter().map(str::to_owned).collect();
        self.status.add(Arc::new(service), after);
        self
    }

    /// How long all keep serving after the shutdown signal while `/ready` already says no, so that load balancers notice.
    /// Default: none.
    #[must_use]
    pub fn shutdown_delay(mut self, delay: Duration) -> Self {
        self.shutdown_delay = delay;
        self
    }

    /// The live view for `/services` and `/ready`.
    pub fn status(&self) -> ServicesStatus {
        self.status.clone()
    }

    /// Checks names and dependencies without starting anything.
    ///
    /// # Errors
    /// `InvalidInput` for two services of one name, a dependency that was not added (names the nearest), or a cycle.
    pub fn validate(&self) -> Result<()> {
        let mut graph = Graph::default();
        for entry in self.status.entries() {
            let name = entry.service.name().to_owned();
            if !graph.add(name.clone(), entry.depends_on()) {
                return Err(Error::InvalidInput(format!(
                    "service {name} was added twice"
                )));
            }
        }
        graph.order(graph.names()).map(drop)
    }

    /// Starts everything, then waits for `shutdown`, for a failure, or for a service that is done; stops everything and
    /// returns when all have ended.
    ///
    /// Must be awaited inside a tokio runtime, on which each service gets a task. Dropping this future drops all services where
    /// they stand, without their `stop`.
    ///
    /// # Errors
    /// As [`Services::validate`]; else the error of the service that failed first, with its name in the log and in
    /// [`ServicesStatus::snapshot`].
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        self.validate()?;
        let stop_all = CancelToken::new();
        let tasks = TaskGroup::new(Handle::current());
        let first_failure = Arc::new(parking_lot::Mutex::new(None));
        for lifecycle in self.lifecycles(&stop_all) {
            let entry = lifecycle.entry.clone();
            let first_failure = first_failure.clone();
            tasks.spawn("service", async move {
                lifecycle.live().await;
                let life = entry.life.borrow().clone();
                if let Some(error) = life.failure {
                    tracing::error!(service = entry.service.name(), %error, "service failed");
                    first_failure.lock().get_or_insert(error);
                }
            });
        }
        tokio::select! {
            biased;
            () = stop_all.cancelled() => {}
            ended = tasks.join() => return ended,
            () = shutdown => {
                self.status.set_stopping();
                self.keep_serving(&stop_all).await;
            }
        }
        self.status.set_stopping();
        stop_all.cancel();
        tasks.join().await?;
        first_failure.lock().take().map_or(Ok(()), Err)
    }

    async fn keep_serving(&self, stop_all: &CancelToken) {
        if self.shutdown_delay.is_zero() {
            return;
        }
        tokio::select! {
            () = stop_all.cancelled() => {}
            () = tokio::time::sleep(self.shutdown_delay) => {}
        }
    }

    fn lifecycles(&self, stop_all: &CancelToken) -> Vec<Lifecycle> {
        let entries = self.status.entries();
        let depends = |from: &ServiceEntry, on: &ServiceEntry| {
            let names = from.depends_on();
            names.iter().any(|name| name == on.service.name())
        };
        let others = |keep: &dyn Fn(&ServiceEntry) -> bool| {
            let kept = entries.iter().filter(|other| keep(other));
            kept.map(|other| other.life.subscribe()).collect()
        };
        entries
            .iter()
            .map(|entry| Lifecycle {
                entry: entry.clone(),
                dependencies: others(&|other| depends(entry, other)),
                dependants: others(&|other| depends(other, entry)),
                stop_all: stop_all.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
