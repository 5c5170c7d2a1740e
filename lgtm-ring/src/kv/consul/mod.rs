//! Values in Consul, through its HTTP API. Open `consul.rs` first; `watch.rs` is the following of keys by blocking queries.

mod consul;
mod watch;

pub use consul::{ConsulBuilder, ConsulKv, ConsulSettings};
