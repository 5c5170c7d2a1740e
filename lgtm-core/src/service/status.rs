//! What `/services` and `/ready` say.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::service::service::{Service, ServiceState};

/// A live view of all services. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct ServicesStatus(Arc<StatusBoard>);

#[derive(Debug, Default)]
struct StatusBoard {
    entries: Mutex<Vec<ServiceEntry>>,
    stopping: AtomicBool,
}

#[derive(Debug, Clone)]
pub(super) struct ServiceEntry {
    pub(super) service: Arc<dyn Service>,
    /// What the host says that it depends on.
    pub(super) after: Vec<String>,
    pub(super) life: Arc<watch::Sender<Life>>,
}

/// A service's state and, once Failed, why.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) state: ServiceState,
    pub(super) failure: Option<Error>,
}

/// One line of `/services`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    /// The service.
    pub name: String,
    /// Its state.
    pub state: ServiceState,
    /// Why it failed.
    pub failure: Option<String>,
}

impl ServicesStatus {
    /// All services, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<ServiceReport> {
        let entries = self.0.entries.lock();
        entries
            .iter()
            .map(|entry| {
                let life = entry.life.borrow();
                ServiceReport {
                    name: entry.service.name().to_owned(),
                    state: life.state,
                    failure: life.failure.as_ref().map(Error::to_string),
                }
            })
            .collect()
    }

    /// The text of `/services`: `name => state` on each line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for report in self.snapshot() {
            let _ = write!(text, "{} => {}", report.name, report.state);
            if let Some(failure) = report.failure {
                let _ = write!(text, ": {failure}");
            }
            text.push('\n');
        }
        text
    }

    /// Whether the process may get requests.
    ///
    /// # Errors
    /// `Unavailable`, whose message is the body for a 503: counts by state until all are Running, then the first component
    /// that is not ready; during shutdown that it stops.
    pub async fn ready(&self) -> Result<()> {
        if self.0.stopping.load(Ordering::Acquire) {
            return Err(Error::Unavailable("process is stopping".into()));
        }
        let mut counts = [0usize; ServiceState::ALL.len()];
        let snapshot = self.snapshot();
        for report in &snapshot {
            counts[report.state as usize] += 1;
        }
        if counts[ServiceState::Running as usize] < snapshot.len() {
            let mut text = "Some services are not Running:".to_owned();
            for (state, count) in ServiceState::ALL.iter().zip(counts) {
                if count > 0 {
                    let _ = write!(text, "\n{state}: {count}");
                }
            }
            return Err(Error::Unavailable(text));
        }
        for entry in self.entries() {
            if let Err(why) = entry.service.check_ready().await {
                let name = entry.service.name();
                return Err(Error::Unavailable(format!("{name} is not ready: {why}")));
            }
        }
        Ok(())
    }

    /// What the services have to tell although they are ready, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let of = |entry: &ServiceEntry| {
            let name = entry.service.name().to_owned();
            let remarks = entry.service.remarks().into_iter();
            remarks.map(move |r| format!("{name}: {r}"))
        };
        self.entries().iter().flat_map(of).collect()
    }

    /// Waits until every service is Running; false if one ended or stops instead.
    pub async fn all_running(&self) -> bool {
        for entry in self.entries() {
            let mut life = entry.life.subscribe();
            let settled = life.wait_for(|l| l.state >= ServiceState::Running).await;
            if !settled.is_ok_and(|l| l.state == ServiceState::Running) {
                return false;
            }
        }
        true
    }

    pub(super) fn add(&self, service: Arc<dyn Service>, after: Vec<String>) {
        let life = Life {
            state: ServiceState::New,
            failure: None,
        };
        self.0.entries.lock().push(ServiceEntry {
            service,
            after,
            life: Arc::new(watch::Sender::new(life)),
        });
    }

    pub(super) fn entries(&self) -> Vec<ServiceEntry> {
        self.0.entries.lock().clone()
    }

    pub(super) fn set_stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }
}

impl ServiceEntry {
    /// What must run before it: by what it says itself, and by what its host says.
    pub(super) fn depends_on(&self) -> Vec<String> {
        let mut names = self.service.depends_on();
        names.extend(self.after.iter().cloned());
        names
    }

    pub(super) fn enter(&self, state: ServiceState) {
        self.life.send_modify(|life| life.state = state);
    }

    pub(super) fn fail(&self, error: Error) {
        self.life.send_modify(|life| {
            life.state = ServiceState::Failed;
            life.failure = Some(error);
        });
    }
}
