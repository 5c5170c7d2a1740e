//! One component's lifecycle.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::exec::CancelToken;

/// Where a service stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceState {
    /// Not started.
    New,
    /// In [`Service::start`].
    Starting,
    /// In [`Service::run`].
    Running,
    /// Asked to stop, or in [`Service::stop`].
    Stopping,
    /// Ended well.
    Terminated,
    /// Ended with an error.
    Failed,
}

impl ServiceState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::New,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Terminated,
        Self::Failed,
    ];

    /// Whether the service has ended, well or not.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminated | Self::Failed)
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, f)
    }
}

/// Something that a host starts and stops.
///
/// The order of calls is `start`, `run`, `stop`, each once. `stop` follows whenever `start` was called and did not return an error,
/// also when `run` failed. A panic in any of them is that service's failure.
#[async_trait]
pub trait Service: Debug + Send + Sync + 'static {
    /// The name in dependencies, `/services` and logs. Unique in the process.
    fn name(&self) -> &str;

    /// Names of services that must be Running before this one starts, and may end only after it.
    fn depends_on(&self) -> Vec<String> {
        Vec::new()
    }

    /// Does the I/O that must be over before the service is Running: replay, first sync, binding a port.
    ///
    /// Dropped at an await when shutdown comes first; `stop` then tidies up. On an error it leaves nothing behind itself.
    async fn start(&self) -> Result<()> {
        Ok(())
    }

    /// Works until `stop` is cancelled.
    ///
    /// Returning `Ok` earlier means that the service is done and the process may end (a one-shot target); an error stops
    /// all services.
    async fn run(&self, stop: CancelToken) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    /// Puts things in order after `run`: flush, leave the ring, join tasks. All that depend on this service have ended.
    async fn stop(&self) -> Result<()> {
        Ok(())
    }

    /// Whether requests may come, asked by `/ready` while Running. The error says why not.
    async fn check_ready(&self) -> Result<()> {
        Ok(())
    }

    /// What an operator should know although the service is ready, a line each: what was damaged or missing when it started, say. `/ready`
    /// shows it.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl<S: Service + ?Sized> Service for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn depends_on(&self) -> Vec<String> {
        (**self).depends_on()
    }

    async fn start(&self) -> Result<()> {
        (**self).start().await
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        (**self).run(stop).await
    }

    async fn stop(&self) -> Result<()> {
        (**self).stop().await
    }

    async fn check_ready(&self) -> Result<()> {
        (**self).check_ready().await
    }

    fn remarks(&self) -> Vec<String> {
        (**self).remarks()
    }
}
