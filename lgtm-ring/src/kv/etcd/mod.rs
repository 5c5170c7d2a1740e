//! Values in etcd, through the JSON gateway of its v3 API.
//!
//! The gateway is part of every etcd server since 3.4, under `/v3`. It spares the user's build the protobuf and gRPC crates; a value costs
//! a third more on the wire. Open `etcd.rs` first; `messages.rs` is the JSON, `watch.rs` the following of keys.

mod etcd;
mod messages;
mod watch;

pub use etcd::{EtcdBuilder, EtcdKv, EtcdSettings};
