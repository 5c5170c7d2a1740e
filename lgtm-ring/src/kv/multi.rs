//! Two stores at once, for moving from one to the other without stopping the cluster.
//!
//! ```text
//!  get, list, watch ──► primary          set_primary(): readers move over, watches start anew there
//!  cas, delete      ──► primary ──ok──► secondary   set_mirroring()
//! ```
//!
//! A migration: start with the old store as primary and mirroring off; switch mirroring on everywhere; make the new store primary
//! everywhere; switch mirroring off; configure the new store alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::exec::TaskGroup;
use lgtm_core::telemetry::{Counter, Registry};
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::kv::kv::Kv;
use crate::kv::watch::{KvWatch, KvWatchSender, Scope};

/// How a [`MultiKv`] mirrors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiKvSettings {
    /// Whether writes go to the secondary too, at the start. Off: a migration switches it on.
    pub mirroring: bool,
    /// How long a mirrored write may take. Two seconds: the caller waits for it.
    #[serde(with = "lgtm_core::units::duration")]
    pub mirror_timeout: Duration,
    /// How long to wait before a watch that ended is opened again. A second, so that a store that is down is not hammered.
    #[serde(with = "lgtm_core::units::duration")]
    pub rewatch_delay: Duration,
}

impl Default for MultiKvSettings {
    fn default() -> Self {
        Self {
            mirroring: false,
            mirror_timeout: Duration::from_secs(2),
            rewatch_delay: Duration::from_secs(1),
        }
    }
}

impl MultiKvSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("mirror_timeout", self.mirror_timeout),
            ("rewatch_delay", self.rewatch_delay),
        ] {
            if value.is_zero() {
                return Err(Error::InvalidInput(format!("{name} is 0, must be more")));
            }
        }
        Ok(())
    }
}

/// A store over two others, of which one is the primary. Clones share the switch.
#[derive(Debug, Clone)]
pub struct MultiKv(Arc<MirroredStores>);

#[derive(Debug)]
struct MirroredStores {
    stores: [(String, Arc<dyn Kv>); 2],
    settings: MultiKvSettings,
    switch: watch::Sender<Switch>,
    mirrored: Arc<Counter>,
    mirror_failures: Arc<Counter>,
    tasks: TaskGroup,
}

#[derive(Debug, Clone, Copy)]
struct Switch {
    primary: usize,
    mirroring: bool,
}

impl MultiKv {
    /// `primary` and `secondary`, each with its name. Watches run as tasks on `runtime`; metrics go into `registry`.
    ///
    /// # Errors
    /// `InvalidInput` when both have the same name, when the settings are not valid, when a metric's name is taken.
    pub fn new(
        primary: (&str, Arc<dyn Kv>),
        secondary: (&str, Arc<dyn Kv>),
        settings: MultiKvSettings,
        runtime: Handle,
        registry: &Registry,
    ) -> Result<Self> {
        settings.validate()?;
        if primary.0 == secondary.0 {
            return Err(Error::InvalidInput(format!(
                "both stores are called {:?}",
                primary.0
            )));
        }
        let switch = Switch {
            primary: 0,
            mirroring: settings.mirroring,
        };
        let inner = MirroredStores {
            stores: [primary, secondary].map(|(name, kv)| (name.to_owned(), kv)),
            settings,
            switch: watch::Sender::new(switch),
            mirrored: registry.counter(
                "lgtm_multikv_mirror_writes_total",
                "Writes to the secondary store.",
            )?,
            mirror_failures: registry.counter(
                "lgtm_multikv_mirror_write_errors_total",
                "Writes to the secondary store that failed.",
            )?,
            tasks: TaskGroup::new(runtime),
        };
        let multi = Self(Arc::new(inner));
        multi.register(registry);
        Ok(multi)
    }

    /// Makes the store of this name the primary. Reads, writes and running watches move over.
    ///
    /// # Errors
    /// `InvalidInput` for a name that neither store has.
    pub fn set_primary(&self, name: &str) -> Result<()> {
        let stores = &self.0.stores;
        let Some(primary) = stores.iter().position(|(own, _)| own == name) else {
            return Err(Error::InvalidInput(format!(
                "no store is called {name:?}; there are {:?} and {:?}",
                stores[0].0, stores[1].0
            )));
        };
        self.0.switch.send_if_modified(|s| {
            let differs = s.primary != primary;
            s.primary = primary;
            differs
        });
        Ok(())
    }

    /// Switches the copying of writes on or off.
    pub fn set_mirroring(&self, mirroring: bool) {
        self.0.switch.send_if_modified(|s| {
            let differs = s.mirroring != mirroring;
            s.mirroring = mirroring;
            differs
        });
    }

    /// The name of the primary.
    pub fn primary(&self) -> &str {
        &self.0.stores[self.switch().primary].0
    }

    fn switch(&self) -> Switch {
        *self.0.switch.borrow()
    }

    fn store(&self) -> Arc<dyn Kv> {
        self.0.stores[self.switch().primary].1.clone()
    }

    fn register(&self, registry: &Registry) {
        let inner = Arc::downgrade(&self.0);
        registry.collect(move |c| {
            let Some(inner) = inner.upgrade() else { return };
            let switch = *inner.switch.borrow();
            for (n, (name, _)) in inner.stores.iter().enumerate() {
                c.gauge(
                    "lgtm_multikv_primary_store",
                    "1 for the store that is read.",
                    &[("store", name)],
                    f64::from(u8::from(n == switch.primary)),
                );
            }
            c.gauge(
                "lgtm_multikv_mirror_enabled",
                "1 while writes go to both stores.",
                &[],
                f64::from(u8::from(switch.mirroring)),
            );
        });
    }

    /// Does the same to the secondary, if that is switched on. Its failure is counted, not the caller's.
    async fn mirror(&self, key: &str, value: Option<Bytes>) {
        let switch = self.switch();
        if !switch.mirroring {
            return;
        }
        let (name, secondary) = &self.0.stores[1 - switch.primary];
        let timeout = self.0.settings.mirror_timeout;
        let write = async {
            match value {
                // The secondary follows: whatever it holds is overwritten with what the primary agreed on.
                Some(value) => {
                    let mut overwrite = |_| Ok(Some(value.clone()));
                    secondary.cas(key, &mut overwrite).await
                }
                None => secondary.delete(key).await,
            }
        };
        let outcome = match tokio::time::timeout(timeout, write).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: "mirrored write".into(),
                after: timeout,
            }),
        };
        self.0.mirrored.inc();
        if let Err(error) = outcome {
            self.0.mirror_failures.inc();
            tracing::warn!(store = name, %error, "a write was not mirrored");
        }
    }

    fn watch(&self, scope: Scope) -> KvWatch {
        let (sender, watch) = KvWatch::channel();
        let follower = Follower {
            multi: Arc::downgrade(&self.0),
            switch: self.0.switch.subscribe(),
            delay: self.0.settings.rewatch_delay,
            scope,
        };
        self.0.tasks.spawn("multi watch", follower.follow(sender));
        watch
    }
}

/// Keeps a watch on whatever store is the primary.
struct Follower {
    multi: std::sync::Weak<MirroredStores>,
    switch: watch::Receiver<Switch>,
    delay: Duration,
    scope: Scope,
}

impl Follower {
    async fn follow(mut self, sender: KvWatchSender) {
        loop {
            let primary = self.switch.borrow_and_update().primary;
            let Some(store) = self.multi.upgrade().map(|m| m.stores[primary].1.clone()) else {
                return;
            };
            let opened = match &self.scope {
                Scope::Key(key) => store.watch_key(key).await,
                Scope::Prefix(prefix) => store.watch_prefix(prefix).await,
            };
            drop(store);
            match opened {
                Ok(watch) => {
                    if !self.pump(watch, primary, &sender).await {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "the watch of the primary store failed"),
            }
            if self.switch.borrow().primary == primary {
                tokio::select! {
                    () = tokio::time::sleep(self.delay) => {}
                    () = sender.closed() => return,
                }
            }
        }
    }

    /// Passes on until the watch ends or the primary changes; false when all is over.
    async fn pump(&mut self, mut watch: KvWatch, primary: usize, sender: &KvWatchSender) -> bool {
        loop {
            tokio::select! {
                update = watch.next() => match update {
                    Some(update) => _ = sender.send(&update.key, update.value),
                    None => return true,
                },
                switched = self.switch.changed() => {
                    if switched.is_err() {
                        return false;
                    }
                    if self.switch.borrow_and_update().primary != primary {
                        return true;
                    }
                }
                () = sender.closed() => return false,
            }
        }
    }
}

#[async_trait]
impl Kv for MultiKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.store().get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.store().list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.store().delete(key).await?;
        self.mirror(key, None).await;
        Ok(())
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        let mut written = None;
        let mut remember = |current| {
            written = change(current)?;
            Ok(written.clone())
        };
        self.store().cas(key, &mut remember).await?;
        if written.is_some() {
            self.mirror(key, written).await;
        }
        Ok(())
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        crate::kv::kv::check_key(key)?;
        Ok(self.watch(Scope::Key(key.to_owned())))
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        Ok(self.watch(Scope::Prefix(prefix.to_owned())))
    }
}
