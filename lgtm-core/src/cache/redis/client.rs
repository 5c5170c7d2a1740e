//! The cache.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use redis::{Cmd, Pipeline};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::cache::{Cache, CacheStats};
use crate::cache::redis::link::{Link, Links, failure_of};
use crate::cache::redis::settings::RedisSettings;
use crate::cache::remote::{
    Breaker, Failure, RemoteCache, RemoteCounts, RemoteOperation, RemoteStore, Write,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::exec::TaskGroup;
use crate::telemetry::Registry;

/// Values on a Redis server, on the master that sentinels name, or on a cluster.
///
/// Reads wait for the answer, no longer than the timeout; writes are as [`RedisSettings`] says. A value may be found by readers a moment after it was set.
/// A cluster has one breaker for all its servers: what one of them does not answer in time is a miss, and the crate looks for who has its slots now.
/// Connections are not encrypted. Dropping the cache ends its tasks and drops what waits to be written.
#[derive(Debug)]
pub struct RedisCache(Arc<RemoteCache<Redis>>);

impl RedisCache {
    /// A cache whose tasks run on `runtime`. Connects when it is first asked.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(
        name: &str,
        settings: RedisSettings,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self> {
        settings.validate()?;
        let counts = Arc::new(RemoteCounts::default());
        let (max_item_bytes, write_back) = (
            settings.max_item_size.as_usize(),
            settings.write_back.clone(),
        );
        let store = Arc::new(Redis {
            links: Links::new(&settings)?,
            gate: Semaphore::new(settings.max_concurrency),
            breaker: Breaker::default(),
            counts: Arc::clone(&counts),
            clock,
            settings,
        });
        let tasks = TaskGroup::new(runtime);
        let cache = RemoteCache::new(name, store, counts, max_item_bytes, &write_back, tasks);
        Ok(Self(Arc::new(cache)))
    }

    /// Has `registry` tell what was tried and what failed (`lgtm_redis_..`).
    pub fn register_metrics(&self, registry: &Registry) {
        RemoteCache::register_metrics(&self.0, "lgtm_redis", registry);
    }

    /// Waits until everything that was set before is written, or has failed: for tests and tools.
    pub async fn flush(&self) {
        self.0.flush().await;
    }
}

#[async_trait]
impl Cache for RedisCache {
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
        self.0.store.links.close();
    }

    fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

/// Bytes of values that are written in one request, so that its timeout does.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Redis {
    links: Links,
    gate: Semaphore,
    breaker: Breaker,
    settings: RedisSettings,
    counts: Arc<RemoteCounts>,
    clock: Arc<dyn Clock>,
}

type Asked<T> = std::result::Result<T, Failure>;

impl Redis {
    /// Does `work` with a connection, within all bounds. Cancel-safe.
    async fn ask<T, F>(&self, work: impl FnOnce(Link) -> F + Send) -> Asked<T>
    where
        F: Future<Output = std::result::Result<T, redis::RedisError>> + Send,
    {
        let breaker = &self.settings.breaker;
        if !self.breaker.lets_through(self.clock.monotonic(), breaker) {
            return Err(Failure::CircuitOpen);
        }
        // That others use all turns says nothing about the server.
        let turn = timeout(self.settings.timeout, self.gate.acquire());
        let Ok(Ok(_turn)) = turn.await else {
            return Err(Failure::RequestTimeout);
        };
        let outcome = self.ask_linked(work).await;
        match &outcome {
            Err(why) if why.is_silence() => {
                self.links.forget();
                self.breaker.failed(self.clock.monotonic(), breaker);
            }
            _ => self.breaker.answered(),
        }
        outcome
    }

    async fn ask_linked<T, F>(&self, work: impl FnOnce(Link) -> F + Send) -> Asked<T>
    where
        F: Future<Output = std::result::Result<T, redis::RedisError>> + Send,
    {
        let link = timeout(self.settings.connect_timeout, self.links.link());
        let link = link.await.unwrap_or(Err(Failure::ConnectTimeout))?;
        let asked = timeout(self.settings.timeout, work(link));
        let answer = asked.await.map_err(|_| Failure::RequestTimeout)?;
        answer.map_err(|error| {
            tracing::debug!(%error, "redis did not serve");
            failure_of(&error)
        })
    }

    /// Values of keys: on a cluster one request each, since they lie on different servers.
    async fn get_batch(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let per_request = match self.links.is_cluster() {
            true => 1,
            false => keys.len(),
        };
        let asked = keys.chunks(per_request.max(1)).map(|keys| async move {
            let mut command = redis::cmd("MGET");
            keys.iter().for_each(|key| {
                command.arg(*key);
            });
            let asked = self.ask(|mut link| async move {
                let values: Vec<Option<Bytes>> = command.query_async(&mut link).await?;
                Ok(values)
            });
            let max_bytes = self.settings.max_item_size.as_usize();
            match asked.await {
                Ok(mut values) if values.len() == keys.len() => {
                    for value in &mut values {
                        // More than was ever stored.
                        value.take_if(|value| value.len() > max_bytes);
                    }
                    values
                }
                outcome => {
                    let why = outcome.err().unwrap_or(Failure::Protocol);
                    let count = keys.len() as u64;
                    self.counts.failed(RemoteOperation::Get, why, count);
                    vec![None; keys.len()]
                }
            }
        });
        join_all(asked).await.concat()
    }

    async fn write_batch(&self, writes: &[Write]) {
        let done = match self.links.is_cluster() {
            true => {
                for write in writes {
                    let command = command_of(write);
                    let asked = self.ask(|mut link| async move {
                        command.query_async::<redis::Value>(&mut link).await
                    });
                    if let Err(why) = asked.await {
                        self.counts.failed(write.operation(), why, 1);
                    }
                }
                return;
            }
            false => {
                let mut pipeline = Pipeline::with_capacity(writes.len());
                for write in writes {
                    pipeline.add_command(command_of(write)).ignore();
                }
                self.ask(|mut link| async move { pipeline.query_async::<()>(&mut link).await })
                    .await
            }
        };
        if let Err(why) = done {
            for write in writes {
                self.counts.failed(write.operation(), why, 1);
            }
        }
    }
}

fn command_of(write: &Write) -> Cmd {
    match &write.value {
        None => {
            let mut command = redis::cmd("DEL");
            command.arg(&write.key);
            command
        }
        Some((value, ttl)) => {
            let mut command = redis::cmd("SET");
            command.arg(&write.key).arg(&value[..]);
            if let Some(ttl) = ttl {
                let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                command.arg("PX").arg(ms.min(MAX_TTL_MS));
            }
            command
        }
    }
}

/// A hundred years: more is no time for Redis.
const MAX_TTL_MS: u64 = 100 * 365 * 86_400_000;

#[async_trait]
impl RemoteStore for Redis {
    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let batches = keys.chunks(self.settings.max_get_multi_batch_size);
        let asked = batches.map(|keys| self.get_batch(keys));
        join_all(asked).await.concat()
    }

    async fn write(&self, batch: &[Write]) {
        for write in batch {
            self.counts.tried(write.operation(), 1);
        }
        let mut rest = batch;
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest.iter().take_while(|write| {
                let fits = bytes < WRITE_BYTES;
                bytes += write.value.as_ref().map_or(0, |(value, _)| value.len());
                fits
            });
            let (now, later) = rest.split_at(count.count());
            self.write_batch(now).await;
            rest = later;
        }
    }
}
