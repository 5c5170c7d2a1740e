//! An immutable view of a ring: who owns a key, who is asked, and which instances serve a tenant.
//!
//! ```text
//! RingDesc ─► Ring ─┬─ lookup(key, operation)      ─► Replicas       one key, no allocation
//!                   ├─ replication_set(operation)  ─► ReplicationSet  everybody, with a quorum
//!                   └─ shuffle_shard(tenant, size) ─► Ring            a tenant's part, cached
//! ```
//!
//! A [`Ring`] never changes, so readers share it without locks; a watcher puts a new one in its place. All times are arguments, in Unix
//! seconds. Open `ring.rs` first. Rules: `docs/format/ring.md`; vectors: `golden/ring/lookup.json`, `shuffle_shard.json`.

mod circle;
mod lookup;
mod operation;
mod ownership;
mod replication;
mod ring;
mod settings;
mod shard_cache;
mod shuffle;
mod silence;
#[cfg(test)]
mod tests;
mod topology;
mod whole;

pub use lookup::{LookupBuffer, Replicas};
pub use operation::Operation;
pub use ownership::TokenRanges;
pub use replication::{ReplicationSet, ReplicationStrategy};
pub use ring::Ring;
pub use settings::RingSettings;
pub use shuffle::{shuffle_instances_per_zone, shuffle_seed};
