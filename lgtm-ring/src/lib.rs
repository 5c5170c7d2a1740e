//! Consistent hash ring, replication and shuffle sharding.
//!
//! A ring is a value that all members of a cluster share: who they are, how they are, and which points of a circle of 2^32 keys they hold. Whoever
//! has it knows, without asking anybody, who owns a key.
//!
//! ```text
//!   Lifecycler ──heartbeats, states──►  Kv  ──values──► RingWatcher ──► RingHandle
//!   (own record)                 memory gossip                             │ current()
//!                                 etcd  Consul                             ▼
//!                                                     Ring ── lookup, replication_set, shuffle_shard
//!                                                      │
//!                                    do_batch ─────────┼───────── read_quorum
//!                                  (quorum writes)  ClientPool   (quorum reads)
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use lgtm_core::service::Services;
//! use lgtm_ring::hash::series_token;
//! use lgtm_ring::kv::MemoryKv;
//! use lgtm_ring::lifecycle::{Identity, Lifecycler, Role};
//! use lgtm_ring::ring::{Operation, RingSettings};
//! use lgtm_ring::store::RingStore;
//! use lgtm_ring::watch::RingWatcher;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = RingStore::new(Arc::new(MemoryKv::new()), "collectors/ring")?;
//! let me = Identity { id: "ingester-0".into(), addr: "10.0.0.1:9095".into(), zone: String::new() };
//! let joiner = Lifecycler::builder("ingester", store.clone(), me, Role::HoldsData).build()?;
//! let settings = RingSettings { replication_factor: 1, ..RingSettings::default() };
//! let watcher = RingWatcher::builder("ingester", store).settings(settings).build()?;
//! let mut ring = watcher.handle();
//! let serve = async move {
//!     while ring.changed().await.token_count() == 0 {} // until this instance has joined
//!     let now_s = ring.current().instances().map(|i| i.timestamp_s).max().unwrap_or(0);
//!     let key = series_token("tenant-1", [("__name__", "up")]);
//!     let set = ring.current().get(key, Operation::WRITE, now_s).unwrap();
//!     assert_eq!(set.instances[0].id, "ingester-0");
//! };
//! Services::new().add(joiner).add(watcher).run_until(serve).await
//! # }).unwrap();
//! ```
//!
//! Where to go next:
//!
//! * [`ring`]: the immutable view. Pure, like [`token`], [`hash`], [`prng`] and [`instance`] below it.
//! * [`kv`]: where the ring's value lives: in memory, gossiped between the members, in etcd or in Consul; [`store`]: the same as a map.
//! * [`lifecycle`]: joining, heartbeats, leaving; [`watch`]: following; [`watch::RingHandle::standalone`] for a process that is alone.
//! * [`batch`], [`fanout`], [`pool`]: writing to, reading from and dialling replicas.
//! * [`status`], and `http` by the feature of that name: what an operator sees.
//! * `testing` (feature): invariants, members driven by hand, conformance suites.

pub mod batch;
pub mod fanout;
pub mod hash;
#[cfg(feature = "http")]
pub mod http;
pub mod instance;
pub mod kv;
pub mod lifecycle;
pub mod pool;
pub mod prng;
pub mod ring;
pub mod status;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod watch;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
