//! Keeping what was expensive to get.
//!
//! A [`Cache`] maps text keys to bytes and never fails: an error is a miss, counted in [`CacheStats`]. [`MemoryCache`] is the reference
//! implementation, bounded in bytes; behind features are `MemcachedCache`, `RedisCache` and `DiskCache`. [`SingleFlight`] lets many who miss
//! the same key wait for one load. Put the tenant into the key always, and a version of the value's encoding.
//!
//! ```text
//! layer -> Instrumented -> Prefixed (layer, version) -> Tiered: MemoryCache, then Compressed -> servers or files
//! ```
//!
//! Wrappers stack in any order; this is the one of [`Caches`], which makes what [`CacheSettings`] say and gives each layer its part.

mod cache;
mod caches;
#[cfg(feature = "compression")]
mod compressed;
mod counts;
#[cfg(feature = "disk-cache")]
mod disk;
mod instrumented;
mod jump;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
mod prefixed;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod remote;
mod settings;
mod shard;
mod single_flight;
mod tiered;

pub use cache::{Cache, CacheExt, CacheStats};
pub use caches::Caches;
#[cfg(feature = "compression")]
pub use compressed::Compressed;
#[cfg(feature = "disk-cache")]
pub use disk::{DiskCache, DiskCacheSettings};
pub use instrumented::Instrumented;
pub use jump::jump_hash;
#[cfg(feature = "memcached")]
pub use memcached::{MemcachedCache, MemcachedSettings, natural_order, picked_server};
pub use memory::{MemoryCache, MemoryCacheSettings};
pub use prefixed::Prefixed;
#[cfg(feature = "redis")]
pub use redis::{RedisCache, RedisSettings};
#[cfg(any(feature = "memcached", feature = "redis"))]
pub use remote::{BreakerSettings, WriteBackSettings};
pub use settings::{CacheBackend, CacheParts, CacheSettings};
pub use single_flight::SingleFlight;
pub use tiered::{CacheTier, Tiered};
