//! The service that follows a key.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;
use lgtm_core::telemetry::{Counter, Registry};
use tokio::sync::watch;

use crate::instance::{RingCodec, RingDesc};
use crate::kv::KvWatch;
use crate::ring::{Ring, RingSettings};
use crate::store::RingStore;
use crate::watch::{RingHandle, metrics};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Follows the ring under a key and publishes each new view.
///
/// While the store is down, or holds something that is no ring, the last view keeps serving, and so do its instances
/// ([`RingSettings::serve_while_silent`]). `start` returns once the ring was read.
#[derive(Debug)]
pub struct RingWatcher {
    name: String,
    depends_on: Vec<String>,
    store: RingStore,
    views: watch::Sender<Ring>,
    clock: Arc<dyn Clock>,
    invalid: Arc<Counter>,
    update_interval: Duration,
}

/// Collects the parts of a [`RingWatcher`].
#[derive(Debug)]
pub struct RingWatcherBuilder {
    name: String,
    depends_on: Vec<String>,
    store: RingStore,
    settings: RingSettings,
    clock: Arc<dyn Clock>,
    registry: Registry,
    prefix: String,
}

impl RingWatcherBuilder {
    /// Settings of the ring.
    #[must_use]
    pub fn settings(mut self, settings: RingSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock by which heartbeats are judged in metrics, and their absence. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where metrics go, and the product's prefix of their names, e.g. `cortex_`. Default: nowhere.
    #[must_use]
    pub fn metrics(mut self, registry: Registry, prefix: &str) -> Self {
        self.registry = registry;
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Adds a service that must run while this one follows, by name: the store, if it is one (`GossipKv`).
    #[must_use]
    pub fn depends_on(mut self, service: &str) -> Self {
        self.depends_on.push(service.to_owned());
        self
    }

    /// Puts it together; touches nothing. The handle shows an empty ring until the service has started.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong or metrics whose names are taken.
    pub fn build(self) -> Result<Arc<RingWatcher>> {
        self.settings.validate()?;
        let invalid = self.registry.counter_vec(
            &format!("{}ring_invalid_values_total", self.prefix),
            "Values of the ring's key that were no ring and were ignored.",
            &["name"],
        )?;
        let watcher = RingWatcher {
            update_interval: self.settings.min_update_interval,
            views: watch::Sender::new(Ring::new(self.settings, &RingDesc::new())),
            invalid: invalid.with(&[&self.name]),
            name: format!("{}-ring", self.name),
            depends_on: self.depends_on,
            store: self.store,
            clock: Arc::clone(&self.clock),
        };
        let (handle, clock) = (watcher.handle(), self.clock);
        metrics::register(&self.registry, &self.prefix, &self.name, handle, clock);
        Ok(Arc::new(watcher))
    }
}

impl RingWatcher {
    /// A watcher of the ring called `name` (e.g. `ingester`) that `store` holds. The service is called `<name>-ring`.
    pub fn builder(name: &str, store: RingStore) -> RingWatcherBuilder {
        RingWatcherBuilder {
            name: name.to_owned(),
            depends_on: Vec::new(),
            store,
            settings: RingSettings::default(),
            clock: Arc::new(SystemClock::new()),
            registry: Registry::new(),
            prefix: String::new(),
        }
    }

    /// What components hold.
    pub fn handle(&self) -> RingHandle {
        RingHandle::new(self.views.subscribe())
    }

    fn publish(&self, ring: &RingDesc) {
        let now_s = self.clock.now_ms().to_seconds();
        let next = self.views.borrow().updated_at(ring, now_s);
        self.views.send_replace(next);
    }

    fn take(&self, value: Option<Bytes>) {
        // A key that is gone is a store that lost its data: members write it anew with their next heartbeat.
        let Some(value) = value else { return };
        match RingCodec::decode(&value) {
            Ok(ring) => self.publish(&ring),
            Err(error) => {
                self.invalid.inc();
                tracing::error!(service = %self.name, %error, "not a ring; the last one keeps serving");
            }
        }
    }

    async fn follow(&self, mut watch: KvWatch) {
        while let Some(update) = watch.next().await {
            self.take(update.value);
            // The watch keeps the newest value for us meanwhile.
            tokio::time::sleep(self.update_interval).await;
        }
    }
}

/// Waits that double, up to a bound.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_RETRY);
    }
}

#[async_trait]
impl Service for RingWatcher {
    fn name(&self) -> &str {
        &self.name
    }

    fn depends_on(&self) -> Vec<String> {
        self.depends_on.clone()
    }

    async fn start(&self) -> Result<()> {
        let mut backoff = Backoff(FIRST_RETRY);
        loop {
            match self.store.load().await {
                Ok(ring) => {
                    self.publish(&ring);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(service = %self.name, %error, "the ring cannot be read yet");
                }
            }
            backoff.wait().await;
        }
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let follow = async {
            let mut backoff = Backoff(FIRST_RETRY);
            loop {
                match self.store.watch().await {
                    Ok(watch) => {
                        backoff = Backoff(FIRST_RETRY);
                        self.follow(watch).await;
                        tracing::warn!(service = %self.name, "the watch ended, watching again");
                    }
                    Err(error) => {
                        tracing::warn!(service = %self.name, %error, "the ring cannot be watched");
                    }
                }
                backoff.wait().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = follow => Ok(()),
        }
    }
}
