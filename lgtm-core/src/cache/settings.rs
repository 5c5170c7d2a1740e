//! Which cache it is, as settings say it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::cache::cache::Cache;
#[cfg(feature = "compression")]
use crate::cache::compressed::Compressed;
#[cfg(feature = "disk-cache")]
use crate::cache::disk::{DiskCache, DiskCacheSettings};
#[cfg(feature = "memcached")]
use crate::cache::memcached::{MemcachedCache, MemcachedSettings};
use crate::cache::memory::{MemoryCache, MemoryCacheSettings};
#[cfg(feature = "redis")]
use crate::cache::redis::{RedisCache, RedisSettings};
use crate::cache::tiered::{CacheTier, Tiered};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::telemetry::Registry;
use crate::units::ByteSize;

/// A cache that several layers may share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// Where values are: memory, memcached, redis or disk, of those that the build has.
    pub backend: CacheBackend,
    /// Memory before the back end for values that are asked for again and again. 0: none.
    pub front_size: ByteSize,
    /// How much longer than asked for a value may stay in that memory that was found in the back end. Default 1m: short beside every time that
    /// something is kept for.
    #[serde(with = "crate::units::duration")]
    pub front_ttl: Duration,
    /// Whether values in other places than memory are compressed (snappy); each has a checksum in any case.
    pub compression: bool,
    /// How large it is, with the back end memory.
    pub memory: MemoryCacheSettings,
    /// Where the servers are, with the back end memcached.
    #[cfg(feature = "memcached")]
    pub memcached: MemcachedSettings,
    /// Where the servers are, with the back end redis.
    #[cfg(feature = "redis")]
    pub redis: RedisSettings,
    /// How large the files are, with the back end disk.
    #[cfg(feature = "disk-cache")]
    pub disk: DiskCacheSettings,
}

/// Where a cache keeps its values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheBackend {
    /// Memory of this process.
    #[default]
    Memory,
    /// Memcached servers.
    #[cfg(feature = "memcached")]
    Memcached,
    /// Redis: a server, a cluster, or what sentinels name.
    #[cfg(feature = "redis")]
    Redis,
    /// Files of this machine.
    #[cfg(feature = "disk-cache")]
    Disk,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            backend: CacheBackend::Memory,
            front_size: ByteSize::bytes(0),
            front_ttl: Duration::from_secs(60),
            compression: true,
            memory: MemoryCacheSettings::default(),
            #[cfg(feature = "memcached")]
            memcached: MemcachedSettings::default(),
            #[cfg(feature = "redis")]
            redis: RedisSettings::default(),
            #[cfg(feature = "disk-cache")]
            disk: DiskCacheSettings::default(),
        }
    }
}

/// What caches are made of beside their settings.
#[derive(Debug, Clone)]
pub struct CacheParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where their metrics go.
    pub registry: Registry,
    /// Where their tasks run.
    pub runtime: Handle,
    /// Below which caches on disk have a folder each.
    pub folder: PathBuf,
}

impl CacheSettings {
    /// Checks the settings of the back end that is chosen.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.front_size.as_u64() > 0 {
            let front = MemoryCacheSettings {
                max_bytes: self.front_size,
            };
            front
                .validate()
                .map_err(|e| Error::InvalidInput(format!("front_size: {e}")))?;
        }
        match self.backend {
            CacheBackend::Memory => self.memory.validate(),
            #[cfg(feature = "memcached")]
            CacheBackend::Memcached => self.memcached.validate(),
            #[cfg(feature = "redis")]
            CacheBackend::Redis => self.redis.validate(),
            #[cfg(feature = "disk-cache")]
            CacheBackend::Disk => self.disk.validate(),
        }
    }

    /// The cache, called `name`. Connects to nothing and opens nothing before it is used.
    ///
    /// # Errors
    /// As [`CacheSettings::validate`].
    pub fn build(&self, name: &str, parts: &CacheParts) -> Result<Arc<dyn Cache>> {
        self.validate()?;
        let Some(far) = self.back_end(name, parts)? else {
            let clock = Arc::clone(&parts.clock);
            return Ok(Arc::new(MemoryCache::new(name, &self.memory, clock)?));
        };
        #[cfg(feature = "compression")]
        let far: Arc<dyn Cache> = match self.compression {
            true => Arc::new(Compressed::new(far)),
            false => Arc::new(Compressed::checksum_only(far)),
        };
        if self.front_size.as_u64() == 0 {
            return Ok(far);
        }
        let front = MemoryCacheSettings {
            max_bytes: self.front_size,
        };
        let near = MemoryCache::new(name, &front, Arc::clone(&parts.clock))?;
        let tiers = vec![
            CacheTier {
                cache: Arc::new(near),
                found_ttl: Some(self.front_ttl),
            },
            CacheTier {
                cache: far,
                found_ttl: None,
            },
        ];
        Ok(Arc::new(Tiered::new(name, tiers)))
    }

    /// What is no memory of this process.
    #[allow(unused_variables, reason = "without features there is none")]
    fn back_end(&self, name: &str, parts: &CacheParts) -> Result<Option<Arc<dyn Cache>>> {
        match self.backend {
            CacheBackend::Memory => Ok(None),
            #[cfg(feature = "memcached")]
            CacheBackend::Memcached => {
                let (clock, runtime) = (Arc::clone(&parts.clock), parts.runtime.clone());
                let cache = MemcachedCache::new(name, self.memcached.clone(), clock, runtime)?;
                cache.register_metrics(&parts.registry);
                Ok(Some(Arc::new(cache)))
            }
            #[cfg(feature = "redis")]
            CacheBackend::Redis => {
                let (clock, runtime) = (Arc::clone(&parts.clock), parts.runtime.clone());
                let cache = RedisCache::new(name, self.redis.clone(), clock, runtime)?;
                cache.register_metrics(&parts.registry);
                Ok(Some(Arc::new(cache)))
            }
            #[cfg(feature = "disk-cache")]
            CacheBackend::Disk => {
                let (clock, runtime) = (Arc::clone(&parts.clock), parts.runtime.clone());
                let folder = parts.folder.join(name);
                let cache = DiskCache::new(name, &self.disk, folder, clock, runtime)?;
                Ok(Some(Arc::new(cache)))
            }
        }
    }
}
