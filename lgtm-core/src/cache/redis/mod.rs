//! Redis and what speaks its protocol, over the crate `redis`.
//!
//! One endpoint is a server, several are a cluster; with the name of a master they are sentinels, who know where it is.

mod client;
mod link;
mod settings;

pub use client::RedisCache;
pub use settings::RedisSettings;
