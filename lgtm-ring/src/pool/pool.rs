//! The pool.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;
use lgtm_core::telemetry::{Counter, Gauge, Registry};
use lgtm_core::{Error, Result};
use parking_lot::RwLock;

use crate::instance::Instance;
use crate::pool::{ClientFactory, ClientPoolSettings, PoolClient};
use crate::watch::RingHandle;

/// Clients by address. As a [`Service`] it checks them now and then; a client that fails its check is dropped, and made anew when asked for.
#[derive(Debug)]
pub struct ClientPool<F: ClientFactory> {
    name: String,
    factory: F,
    ring: RingHandle,
    settings: ClientPoolSettings,
    clients: RwLock<HashMap<String, Arc<F::Client>>>,
    count: Arc<Gauge>,
    removed: Arc<Counter>,
}

impl<F: ClientFactory> ClientPool<F> {
    /// A pool for the instances of `ring`. The service is called `<name>-clients`; `prefix` is the product's prefix of metrics, e.g.
    /// `cortex_`.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong or metrics whose names are taken.
    pub fn new(
        name: &str,
        factory: F,
        ring: RingHandle,
        settings: ClientPoolSettings,
        registry: &Registry,
        prefix: &str,
    ) -> Result<Arc<Self>> {
        settings.validate()?;
        let count = registry.gauge_vec(
            &format!("{prefix}ring_client_pool_clients"),
            "Clients in the pool.",
            &["name"],
        )?;
        let removed = registry.counter_vec(
            &format!("{prefix}ring_client_pool_removed_total"),
            "Clients dropped since their instance was gone or failed its health check.",
            &["name"],
        )?;
        Ok(Arc::new(Self {
            count: count.with(&[name]),
            removed: removed.with(&[name]),
            name: format!("{name}-clients"),
            factory,
            ring,
            settings,
            clients: RwLock::default(),
        }))
    }

    /// The client of an instance, made at first sight. A read lock and a hash.
    ///
    /// # Errors
    /// Those of the factory; `LimitExceeded` when the pool is full.
    pub fn client(&self, instance: &Instance) -> Result<Arc<F::Client>> {
        if let Some(client) = self.clients.read().get(&instance.addr) {
            return Ok(Arc::clone(client));
        }
        let mut clients = self.clients.write();
        if let Some(client) = clients.get(&instance.addr) {
            return Ok(Arc::clone(client));
        }
        if clients.len() >= self.settings.max_clients {
            return Err(Error::LimitExceeded(format!(
                "{}: {} clients, max_clients is {}",
                self.name,
                clients.len(),
                self.settings.max_clients
            )));
        }
        let client = self.factory.client(instance)?;
        clients.insert(instance.addr.clone(), Arc::clone(&client));
        self.count.set(clients.len() as f64);
        Ok(client)
    }

    /// Clients now.
    pub fn len(&self) -> usize {
        self.clients.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clients.read().is_empty()
    }

    /// Drops the clients of instances that left the ring.
    pub fn remove_gone(&self) {
        let ring = self.ring.current();
        let known: HashSet<&str> = ring.instances().map(|i| i.addr.as_str()).collect();
        let gone = |addr: &String, _: &Arc<F::Client>| !known.contains(addr.as_str());
        self.remove_where(gone);
    }

    /// Asks every client for its health and drops those that do not answer well in time.
    pub async fn check_health(&self) {
        let clients: Vec<_> = {
            let clients = self.clients.read();
            clients
                .iter()
                .map(|(a, c)| (a.clone(), Arc::clone(c)))
                .collect()
        };
        let within = self.settings.health_check_timeout;
        let checks = clients.into_iter().map(|(addr, client)| async move {
            let healthy = tokio::time::timeout(within, client.check_health()).await;
            let why = match healthy {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {within:?}"),
            };
            Some((addr, client, why))
        });
        let mut failed =
            stream::iter(checks).buffer_unordered(self.settings.max_concurrent_health_checks);
        while let Some(outcome) = failed.next().await {
            let Some((addr, client, why)) = outcome else {
                continue;
            };
            tracing::warn!(service = %self.name, %addr, %why, "removing a client that failed its health check");
            // Not one that was made anew meanwhile.
            self.remove_where(|a, c| *a == addr && Arc::ptr_eq(c, &client));
        }
    }

    fn remove_where(&self, gone: impl Fn(&String, &Arc<F::Client>) -> bool) {
        let mut clients = self.clients.write();
        let before = clients.len();
        clients.retain(|addr, client| !gone(addr, client));
        self.removed.add((before - clients.len()) as u64);
        self.count.set(clients.len() as f64);
    }
}

#[async_trait]
impl<F: ClientFactory> Service for ClientPool<F> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.settings.check_interval) => {}
            }
            self.remove_gone();
            if self.settings.health_check_enabled {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = self.check_health() => {}
                }
            }
        }
    }
}
