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

#[cfg(any(feature = "etcd", feature = "consul"))]
mod backoff;
mod codec;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "etcd")]
mod etcd;
pub mod gossip;
#[cfg(any(feature = "etcd", feature = "consul"))]
mod http_client;
mod instrumented;
mod kv;
mod memory;
mod multi;
mod prefixed;
mod watch;

pub use codec::{
    MergeKind, MergeOutcome, MergeTime, Merged, OpenValue, TombstoneCount, Tombstones, ValueCodec,
};
#[cfg(feature = "consul")]
pub use consul::{ConsulBuilder, ConsulKv, ConsulSettings};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdBuilder, EtcdKv, EtcdSettings};
pub use gossip::GossipKv;
#[cfg(any(feature = "etcd", feature = "consul"))]
pub use http_client::{Connect, Connection, TcpConnect};
pub use instrumented::{InstrumentedKv, KvLabels};
pub use kv::{Kv, MAX_CAS_ATTEMPTS, MAX_KEY_BYTES, check_key};
pub use memory::MemoryKv;
pub use multi::{MultiKv, MultiKvSettings};
pub use prefixed::PrefixedKv;
pub use watch::{KvUpdate, KvWatch, KvWatchSender};
