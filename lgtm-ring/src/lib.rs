//! Consistent hash ring, replication and shuffle sharding for clusters of Rust processes.
//!
//! A ring is a value that all members of a cluster share: who they are, how they are, and which points of a circle of 2^32 keys they hold. Whoever
//! has it knows, without asking anybody, who owns a key. This crate has all that a replicated service needs around it:
//!
//! * **Membership** without a service beside you ([gossip](kv::gossip)), or in etcd or Consul; heartbeats, joining, leaving, restarts that move no data.
//! * **Lookups** in 0.1 µs: the replicas of a key, in different zones if you like, and how many of them must answer.
//! * **Quorum writes and reads** that go on while a replica, or a zone, is away: [`do_batch`](batch::do_batch), [`read_quorum`](fanout::read_quorum).
//! * **Shuffle shards**: each tenant on a few instances, so that no tenant takes all others down.
//!
//! It computes what Mimir, Loki and Tempo compute: the same tokens, owners, shards and bytes.
//!
//! ```text
//!   your process                                                    the others
//!  ┌──────────────────────────────────────────────┐
//!  │ Lifecycler ──heartbeats, states──►  Kv  ◄────┼──── gossip, etcd, Consul ────►  …
//!  │ (own record)                        │ values │
//!  │                                RingWatcher   │
//!  │                                     │        │
//!  │                                 RingHandle   │
//!  │                                     │ current()
//!  │     Ring ── lookup, replication_set, shuffle_shard
//!  │      │                                       │
//!  │   do_batch, read_quorum ── ClientPool ───────┼──── your calls, by any protocol ──►  …
//!  └──────────────────────────────────────────────┘
//! ```
//!
//! Three instances, a write and a read; here they share a process, and with another store than [`kv::MemoryKv`] they are three processes:
//!
//! ```
//! use std::sync::Arc;
//! use lgtm_core::{Result, clock::{Clock, SystemClock}, exec::TaskGroup, service::Services};
//! use lgtm_ring::batch::{Batch, do_batch, is_client_error};
//! use lgtm_ring::fanout::{ReadOptions, read_quorum};
//! use lgtm_ring::hash::series_token;
//! use lgtm_ring::kv::MemoryKv;
//! use lgtm_ring::lifecycle::{Identity, Lifecycler, Role};
//! use lgtm_ring::ring::Operation;
//! use lgtm_ring::{store::RingStore, watch::RingWatcher};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<()> {
//!     let store = RingStore::new(Arc::new(MemoryKv::new()), "collectors/ring")?;
//!     let watcher = RingWatcher::builder("ingester", store.clone()).build()?;
//!     let mut ring = watcher.handle();
//!     let mut services = Services::new().add(watcher);
//!     for n in 0..3 {
//!         let (id, addr) = (format!("ingester-{n}"), format!("10.0.0.{n}:9095"));
//!         let me = Identity { id: id.clone(), addr, zone: format!("zone-{n}") };
//!         services = services.add(Lifecycler::builder(&id, store.clone(), me, Role::HoldsData).build()?);
//!     }
//!     let work = async {
//!         while ring.changed().await.writable_instances_with_tokens() < 3 {} // until all have joined
//!         let (ring, now_s) = (ring.current(), SystemClock::new().now_ms().to_seconds());
//!         let key = series_token("tenant", [("__name__", "up")]);
//!
//!         // Two of three must take a write; the third gets it too, in the background.
//!         let tasks = TaskGroup::new(tokio::runtime::Handle::current());
//!         let operation = Operation::WRITE_NO_EXTEND;
//!         let batch = Batch { ring: &ring, operation, keys: &[key], now_s, is_client_error };
//!         let push = |to: Arc<lgtm_ring::instance::Instance>, _| async move {
//!             println!("push to {}", to.addr); // your call
//!             Ok(())
//!         };
//!         do_batch(batch, &tasks, push, || ()).await.expect("a quorum took it");
//!
//!         // Two of three must answer a read, so that one of them has it. The third is asked when one fails or is slow.
//!         let replicas = ring.get(key, Operation::READ, now_s).expect("enough are healthy");
//!         let ask = async |of: Arc<lgtm_ring::instance::Instance>| Ok(of.addr.clone()); // your call
//!         let answers = read_quorum(&replicas, &ReadOptions::default(), ask).await;
//!         assert_eq!(answers.expect("a quorum answered").len(), 2);
//!         tasks.join().await.expect("no call panicked");
//!     };
//!     services.run_until(work).await
//! }
//! ```
//!
//! | store | choose it when | features |
//! |---|---|---|
//! | [`kv::MemoryKv`] | all is one process | |
//! | [`kv::GossipKv`] | there shall be no service beside yours: the usual choice | |
//! | [`kv`]`::EtcdKv`, `ConsulKv` | you run one anyway | `etcd`, `consul` |
//! | [`kv::MultiKv`] | you move from one to another while running | |
//!
//! A process that is the whole cluster needs none of them: [`watch::RingHandle::standalone`].
//!
//! Where to go next:
//!
//! * The lesson `ring_app`: a replicated store of three processes, in 400 lines; `ring_lookup`, `shuffle_sharding`, `three_nodes_gossip`, `custom_kv`.
//! * [`ring`]: the immutable view. Pure, like [`token`], [`hash`], [`prng`] and [`instance`] below it.
//! * [`ring::Operation`]: which writes to choose, and what they survive.
//! * [`kv`]: where the ring's value lives; [`store`]: the same as a map; a store of your own is held to the promises by `testing::kv_suite`.
//! * [`lifecycle`]: joining, heartbeats, leaving; [`watch`]: following.
//! * [`batch`], [`fanout`], [`pool`]: writing to, reading from and dialling replicas.
//! * [`replicas`]: all that as one, for stores.
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
pub mod replicas;
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
