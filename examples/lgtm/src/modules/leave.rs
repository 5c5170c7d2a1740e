//! How an ingester of this process gives up its place in a ring, and what an operator says about that while it runs.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use lgtm_ring::lifecycle::{Lifecycler, Membership, OnStopping};

use super::parts::Flush;

/// In the folder of a signal: the next stop is for good. The name is Mimir's.
const MARKER: &str = "shutdown-requested.txt";

/// What an ingester does that leaves its ring: all that it has goes into the object store, where that is wanted.
#[derive(Debug)]
pub(super) struct LeavePlan {
    ingester: Arc<dyn Flush>,
    flushes: AtomicBool,
    marker: PathBuf,
}

impl LeavePlan {
    /// `flushes` is what the settings say; `folder` is that of the signal.
    pub(super) fn new(ingester: Arc<dyn Flush>, flushes: bool, folder: &str) -> Arc<Self> {
        Arc::new(Self {
            ingester,
            flushes: AtomicBool::new(flushes),
            marker: PathBuf::from(folder).join(MARKER),
        })
    }
}

#[async_trait]
impl OnStopping for LeavePlan {
    async fn on_stopping(&self) -> Result<()> {
        if !self.flushes.load(Ordering::Acquire) {
            return Ok(());
        }
        self.ingester.flush().await?;
        // It has done what was asked: who starts it again wants it back.
        remove(&self.marker)
    }
}

/// An ingester's place in a ring.
#[derive(Debug)]
pub(crate) struct OwnPlace {
    /// Of the ring, as in `metrics-ingester`.
    pub(crate) name: &'static str,
    plan: Arc<LeavePlan>,
    lifecycler: Arc<Lifecycler>,
    executor: Executor,
    /// Whether it flushes, and leaves the ring, when nobody asks for it.
    by_settings: (bool, bool),
}

impl OwnPlace {
    /// Goes on with what was asked for before a restart.
    pub(super) fn new(
        name: &'static str,
        plan: Arc<LeavePlan>,
        lifecycler: Arc<Lifecycler>,
        executor: Executor,
        registry: &Registry,
    ) -> Arc<Self> {
        let flushes = plan.flushes.load(Ordering::Acquire);
        let by_settings = (flushes, lifecycler.unregisters_on_shutdown());
        let place = Arc::new(Self {
            name,
            plan,
            lifecycler,
            executor,
            by_settings,
        });
        if place.plan.marker.exists() {
            tracing::info!(ring = name, marker = %place.plan.marker.display(), "the next stop is for good, as was asked for before");
            place.leave(true);
        }
        let told = Arc::clone(&place);
        registry.collect(move |c| {
            let labels = [("name", told.name)];
            let value = f64::from(u8::from(told.is_prepared()));
            let help = "Whether an ingester was told that its next stop is for good.";
            c.gauge(
                "cortex_ingester_prepare_shutdown_requested",
                help,
                &labels,
                value,
            );
        });
        place
    }

    fn leave(&self, for_good: bool) {
        let (flushes, unregisters) = self.by_settings;
        let flushes = flushes || for_good;
        self.plan.flushes.store(flushes, Ordering::Release);
        let unregisters = unregisters || for_good;
        self.lifecycler.set_unregister_on_shutdown(unregisters);
    }

    /// Whether the next stop moves all into the object store and ends the place in the ring.
    pub(crate) fn is_prepared(&self) -> bool {
        self.plan.flushes.load(Ordering::Acquire) && self.unregisters()
    }

    /// Says that the next stop is for good, or not so any more. It holds over restarts of the process until it was done; a loss of power may lose it.
    ///
    /// # Errors
    /// `Unavailable` when that cannot be noted on the disk; then nothing changes.
    pub(crate) async fn prepare_shutdown(&self, for_good: bool) -> Result<()> {
        let marker = self.plan.marker.clone();
        let note = move |_: &CancelToken| {
            if !for_good {
                return remove(&marker);
            }
            let written = std::fs::write(&marker, "The next stop of this ingester is for good.\n");
            written.map_err(|e| failed("cannot be written", &marker, &e))
        };
        self.executor.run(note, &CancelToken::new()).await?;
        self.leave(for_good);
        Ok(())
    }

    /// Whether the next stop ends the place in the ring.
    pub(crate) fn unregisters(&self) -> bool {
        self.lifecycler.unregisters_on_shutdown()
    }

    /// Says whether the next stop ends the place in the ring; `None`: as the settings say. It holds until the process ends.
    pub(crate) fn set_unregisters(&self, unregisters: Option<bool>) {
        let unregisters = unregisters.unwrap_or(self.by_settings.1);
        self.lifecycler.set_unregister_on_shutdown(unregisters);
    }

    /// The place as it was last written.
    pub(crate) fn membership(&self) -> Membership {
        self.lifecycler.membership()
    }

    /// Takes no more writes of what others can take, or takes them again; what it has is read all the same. It holds over restarts.
    ///
    /// # Errors
    /// As [`Lifecycler::set_read_only`].
    pub(crate) async fn set_read_only(&self, read_only: bool) -> Result<()> {
        self.lifecycler.set_read_only(read_only).await
    }
}

/// Removes a file, which need not be there.
fn remove(file: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("cannot be removed", file, &e)),
        _ => Ok(()),
    }
}

fn failed(what: &str, file: &std::path::Path, e: &std::io::Error) -> Error {
    Error::Unavailable(format!("{} {what}: {e}", file.display()))
}
