//! Consistent hash ring, replication and shuffle sharding.
//!
//! * [`kv`]: where the ring's value lives: in memory, gossiped between the members, in etcd or in Consul.

pub mod kv;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
