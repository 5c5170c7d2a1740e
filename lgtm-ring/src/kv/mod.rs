//! Small values that the members of a cluster share: the ring, and whatever else is agreed on.
//!
//! ```text
//!  Lifecycler, Watcher ──► dyn Kv ──► MultiKv ──► PrefixedKv ──► MemoryKv      one process
//!                                                            └─► GossipKv      the members themselves
//!                                                            └─► EtcdKv        feature `etcd`
//!                                                            └─► ConsulKv      feature `consul`
//! ```
//!
//! Back ends move bytes. What the bytes mean, and how two of them are merged, a [`ValueCodec`] knows; only the gossip store asks it.
//! `testing::kv_suite` says what every back end promises. Open `kv.rs` first.

mod codec;
pub mod gossip;
mod kv;
mod memory;
mod multi;
mod prefixed;
mod watch;

pub use codec::{MergeKind, Merged, OpenValue, TombstoneCount, Tombstones, ValueCodec};
pub use gossip::GossipKv;
pub use kv::{Kv, MAX_CAS_ATTEMPTS, MAX_KEY_BYTES, check_key};
pub use memory::MemoryKv;
pub use multi::{MultiKv, MultiKvSettings};
pub use prefixed::PrefixedKv;
pub use watch::{KvUpdate, KvWatch, KvWatchSender};
