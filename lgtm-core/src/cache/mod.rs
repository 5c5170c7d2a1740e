//! Keeping what was expensive to get.
//!
//! A [`Cache`] maps text keys to bytes and never fails: an error is a miss, counted in [`CacheStats`]. [`MemoryCache`] is the reference
//! implementation, bounded in bytes. [`SingleFlight`] lets many who miss the same key wait for one load. Put the tenant into the
//! key always, and a version of the value's encoding.

mod cache;
mod memory;
mod shard;
mod single_flight;

pub use cache::{Cache, CacheExt, CacheStats};
pub use memory::{MemoryCache, MemoryCacheSettings};
pub use single_flight::SingleFlight;
