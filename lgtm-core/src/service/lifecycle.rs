//! Driving one service through its states.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::exec::{CancelToken, panic_message};
use crate::service::service::ServiceState;
use crate::service::status::{Life, ServiceEntry};

/// One service among the others.
pub(super) struct Lifecycle {
    pub(super) entry: ServiceEntry,
    pub(super) dependencies: Vec<watch::Receiver<Life>>,
    pub(super) dependants: Vec<watch::Receiver<Life>>,
    /// Cancelled when all services shall stop, for whatever reason.
    pub(super) stop_all: CancelToken,
}

impl Lifecycle {
    /// Lives the whole life. On return the service is Terminated or Failed, and so are all that depend on it.
    pub(super) async fn live(mut self) {
        let failure = match self.start().await {
            Start::Never => return self.entry.enter(ServiceState::Terminated),
            Start::Failed(error) => {
                self.stop_all.cancel();
                return self.entry.fail(error);
            }
            Start::Interrupted => None,
            Start::Running => self.run().await.err(),
        };
        self.stop_all.cancel();
        self.entry.enter(ServiceState::Stopping);
        self.dependants_ended().await;
        let stopped = guard("stop", self.entry.service.stop()).await;
        match failure.or(stopped.err()) {
            None => self.entry.enter(ServiceState::Terminated),
            Some(error) => self.entry.fail(error),
        }
    }

    async fn start(&mut self) -> Start {
        for dependency in &mut self.dependencies {
            let settled = tokio::select! {
                biased;
                () = self.stop_all.cancelled() => return Start::Never,
                settled = dependency.wait_for(|l| l.state >= ServiceState::Running) => settled,
            };
            if !settled.is_ok_and(|l| l.state == ServiceState::Running) {
                return Start::Never;
            }
        }
        if self.stop_all.is_cancelled() {
            return Start::Never;
        }
        self.entry.enter(ServiceState::Starting);
        let started = tokio::select! {
            biased;
            () = self.stop_all.cancelled() => return Start::Interrupted,
            started = guard("start", self.entry.service.start()) => started,
        };
        match started {
            Err(error) => Start::Failed(error),
            Ok(()) => {
                self.entry.enter(ServiceState::Running);
                Start::Running
            }
        }
    }

    /// Runs until the service ends by itself, or until it has been told to stop and has done so.
    async fn run(&mut self) -> Result<()> {
        let stop = CancelToken::new();
        let entry = self.entry.clone();
        let run = guard("run", entry.service.run(stop.clone()));
        tokio::pin!(run);
        let asked = async {
            self.stop_all.cancelled().await;
            self.entry.enter(ServiceState::Stopping);
            self.dependants_ended().await;
        };
        tokio::select! {
            biased;
            ended = &mut run => return ended,
            () = asked => {}
        }
        stop.cancel();
        run.await
    }

    async fn dependants_ended(&mut self) {
        for dependant in &mut self.dependants {
            // An error means that the entry is gone; the supervisor holds it, so this does not happen.
            let _ = dependant.wait_for(|l| l.state.is_terminal()).await;
        }
    }
}

enum Start {
    /// Stopped before it was this service's turn.
    Never,
    Failed(Error),
    /// Stopped in the middle.
    Interrupted,
    Running,
}

/// A panic of a service is an error of that service.
async fn guard(phase: &str, future: impl Future<Output = Result<()>>) -> Result<()> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result,
        Err(payload) => Err(Error::Internal(format!(
            "{phase} panicked: {}",
            panic_message(&*payload)
        ))),
    }
}
