//! The cache.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::memcached::address::picked_server;
use crate::cache::memcached::connection::Request;
use crate::cache::memcached::directory::Directory;
use crate::cache::memcached::server::Server;
use crate::cache::memcached::settings::MemcachedSettings;
use crate::cache::remote::{
    Failure, RemoteCache, RemoteCounts, RemoteOperation, RemoteStore, Write,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::exec::TaskGroup;
use crate::telemetry::Registry;

/// Values on memcached servers.
///
/// Reads wait for the servers, each within its timeout; writes and times below a second are as [`MemcachedSettings`] says. A value may be found by
/// readers a moment after it was set. Connections are neither encrypted nor authenticated, as is usual for memcached: keep the servers in a network of
/// their own. Dropping the cache ends its tasks and drops what waits to be written.
#[derive(Debug)]
pub struct MemcachedCache(Arc<RemoteCache<Memcached>>);

impl MemcachedCache {
    /// A cache whose tasks (writers, look-ups of names) run on `runtime`. Connects when it is first asked.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(
        name: &str,
        settings: MemcachedSettings,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self> {
        settings.validate()?;
        let counts = Arc::new(RemoteCounts::default());
        let store = Arc::new(Memcached {
            directory: Directory::new(&settings)?,
            gate: Semaphore::new(settings.max_get_multi_concurrency),
            counts: Arc::clone(&counts),
            clock,
            settings,
        });
        let tasks = TaskGroup::new(runtime);
        if store.directory.has_names() {
            let (part, stop) = (Arc::clone(&store), tasks.cancel_token().clone());
            // The group joins it.
            drop(tasks.spawn("memcached names", async move {
                loop {
                    part.directory.resolve(&part.settings, &part.counts).await;
                    tokio::select! {
                        () = tokio::time::sleep(part.settings.resolve_interval) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }));
        }
        let settings = &store.settings;
        let (max_item_bytes, write_back) = (
            settings.max_item_size.as_usize(),
            settings.write_back.clone(),
        );
        let cache = RemoteCache::new(name, store, counts, max_item_bytes, &write_back, tasks);
        Ok(Self(Arc::new(cache)))
    }

    /// Has `registry` tell what was tried and what failed, under Mimir's names (`thanos_memcached_..`).
    pub fn register_metrics(&self, registry: &Registry) {
        RemoteCache::register_metrics(&self.0, "thanos_memcached", registry);
    }

    /// Waits until everything that was set before is written, or has failed: for tests and tools.
    pub async fn flush(&self) {
        self.0.flush().await;
    }
}

#[async_trait]
impl Cache for MemcachedCache {
    fn name(&self) -> &str {
        &self.0.name
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        self.0.get_many(keys).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        self.0.set(key, value, ttl);
    }

    async fn delete(&self, key: &str) {
        self.0.delete(key).await;
    }

    async fn close(&self) {
        self.0.close().await;
    }

    fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

/// Bytes of values that are written in one request, so that its timeout does.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Memcached {
    directory: Directory,
    gate: Semaphore,
    settings: MemcachedSettings,
    counts: Arc<RemoteCounts>,
    clock: Arc<dyn Clock>,
}

/// What of a request goes to one server at once: numbers of keys.
type Batch<'a> = (&'a Arc<Server>, &'a [usize]);

impl Memcached {
    async fn get_batch(&self, keys: &[&str], (server, numbers): Batch<'_>) -> Vec<(usize, Bytes)> {
        let turn = timeout(self.settings.timeout, self.gate.acquire());
        let Ok(Ok(_turn)) = turn.await else {
            let count = numbers.len() as u64;
            self.failed(RemoteOperation::Get, Failure::RequestTimeout, count, server);
            return Vec::new();
        };
        let request = Request::Get {
            keys,
            numbers,
            max_bytes: self.settings.max_item_size.as_usize(),
        };
        let asked = server.ask(request, &self.settings, &*self.clock).await;
        match asked {
            Ok(outcome) => {
                if outcome.refused > 0 {
                    let (operation, why) = (RemoteOperation::Get, Failure::Server);
                    self.failed(operation, why, outcome.refused, server);
                }
                outcome.found
            }
            Err(why) => {
                let count = numbers.len() as u64;
                self.failed(RemoteOperation::Get, why, count, server);
                Vec::new()
            }
        }
    }

    fn failed(&self, operation: RemoteOperation, why: Failure, keys: u64, server: &Server) {
        tracing::debug!(
            server = server.address,
            ?operation,
            reason = why.as_str(),
            keys,
            "memcached did not serve"
        );
        self.counts.failed(operation, why, keys);
    }

    async fn write_batch(&self, server: &Server, writes: &[Write]) {
        let asked = server.ask(Request::Write(writes), &self.settings, &*self.clock);
        match asked.await {
            Ok(outcome) => {
                for (why, count) in [
                    (Failure::Server, outcome.refused),
                    (Failure::NotStored, outcome.not_stored),
                ] {
                    if count > 0 {
                        self.failed(RemoteOperation::Set, why, count, server);
                    }
                }
            }
            Err(why) => {
                for write in writes {
                    self.failed(write.operation(), why, 1, server);
                }
            }
        }
    }
}

#[async_trait]
impl RemoteStore for Memcached {
    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let mut found = vec![None; keys.len()];
        let servers = self.directory.servers();
        if servers.is_empty() {
            let count = keys.len() as u64;
            self.counts
                .failed(RemoteOperation::Get, Failure::NoServers, count);
            return found;
        }
        let places: Vec<usize> = keys
            .iter()
            .map(|key| picked_server(key, servers.len()))
            .collect();
        let mut numbers: Vec<usize> = (0..keys.len()).collect();
        if servers.len() > 1 {
            numbers.sort_by_key(|&n| places[n]);
        }
        let of_server = numbers.chunk_by(|&a, &b| places[a] == places[b]);
        let batches = of_server.flat_map(|numbers| {
            let server = &servers[places[numbers[0]]];
            let batches = numbers.chunks(self.settings.max_get_multi_batch_size);
            batches.map(move |numbers| (server, numbers))
        });
        let batches: Vec<Batch<'_>> = batches.collect();
        let asked = batches.iter().map(|batch| self.get_batch(keys, *batch));
        let answers = futures::future::join_all(asked).await;
        for ((_, numbers), values) in batches.iter().zip(answers) {
            for (at, value) in values {
                found[numbers[at]] = Some(value);
            }
        }
        found
    }

    async fn write(&self, batch: &[Write]) {
        let servers = self.directory.servers();
        for write in batch {
            self.counts.tried(write.operation(), 1);
            if servers.is_empty() {
                self.counts.failed(write.operation(), Failure::NoServers, 1);
            }
        }
        if servers.is_empty() {
            return;
        }
        let mut by_server: Vec<(usize, &Write)> = batch
            .iter()
            .map(|w| (picked_server(&w.key, servers.len()), w))
            .collect();
        by_server.sort_by_key(|(server, _)| *server);
        let mut rest = &by_server[..];
        while let Some((server, _)) = rest.first() {
            let mut bytes = 0;
            let count = rest.iter().take_while(|(s, write)| {
                let fits = s == server && bytes < WRITE_BYTES;
                bytes += write.value.as_ref().map_or(0, |(value, _)| value.len());
                fits
            });
            let (now, later) = rest.split_at(count.count());
            let writes: Vec<Write> = now.iter().map(|(_, write)| (*write).clone()).collect();
            self.write_batch(&servers[*server], &writes).await;
            rest = later;
        }
    }
}
