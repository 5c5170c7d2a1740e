//! Consistent hash ring, replication and shuffle sharding.
//!
//! * [`kv`]: where the ring's value lives: in memory, gossiped between the members, in etcd or in Consul.

pub mod batch;
pub mod fanout;
pub mod hash;
pub mod instance;
pub mod kv;
pub mod lifecycle;
pub mod pool;
pub mod prng;
pub mod ring;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod watch;
